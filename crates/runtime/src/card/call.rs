//! What belongs to one call: memory for its results, one after the other,
//! without asking for it each time, and the launches that go to the card
//! together. The next call has the memory again.
//!
//! A launch that waits for others must see its operands as they are: whatever
//! else is done on the card comes after [`flush`], and what a graph no longer
//! needs is kept by [`hold`] until then.

use std::{
    cell::RefCell,
    sync::{Arc, PoisonError},
};

use candle_core::{DType, Device, Tensor};

use super::{Card, record::Launch};
use crate::{error::OpResult, value::Value};

/// Halves of a slab, and the most of a result that lies in one.
const SLAB: usize = 8 << 20;
const MOST: usize = 1 << 16;
/// Launches that go to the card together.
const TOGETHER: usize = 32;
/// Results begin at multiples of so many halves.
const ALIGNED: usize = 128;

struct Call {
    card: Arc<Card>,
    memory: Tensor,
    pointer: u64,
    used: usize,
    launches: Vec<Launch>,
    /// How often launches went to the card together.
    sent: usize,
    held: Vec<Value>,
}

thread_local! {
    static CALL: RefCell<Option<Call>> = const { RefCell::new(None) };
}

/// A call, whose results lie in a slab as long as it lasts. What outlives it
/// goes through [`keep`].
pub(crate) struct Scope {
    active: bool,
}

impl Scope {
    /// Begins a call on a device.
    pub fn new(device: &Device) -> OpResult<Self> {
        let Some(card) = Card::of(device)? else {
            return Ok(Self { active: false });
        };
        let free = card
            .slabs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let memory = match free {
            Some(memory) => memory,
            None => Tensor::zeros(SLAB, DType::F16, device)?,
        };
        let Some(place) = card.place(&memory) else {
            return Ok(Self { active: false });
        };
        let call = Call {
            card,
            memory,
            pointer: place.pointer,
            used: 0,
            launches: Vec::new(),
            sent: 0,
            held: Vec::new(),
        };
        let active = CALL.with_borrow_mut(|current| {
            let free = current.is_none();
            if free {
                *current = Some(call);
            }
            free
        });
        Ok(Self { active })
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        if !self.active {
            return;
        }
        if let Some(call) = CALL.take() {
            let mut slabs = call
                .card
                .slabs
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            slabs.push(call.memory);
        }
    }
}

/// Room for a result in the slab of the call, if there is one.
pub(super) fn result(card: &Card, dims: &[usize]) -> OpResult<Option<(Tensor, u64)>> {
    let count: usize = dims.iter().product();
    CALL.with_borrow_mut(|call| {
        let Some(call) = call.as_mut() else {
            return Ok(None);
        };
        let fits = call.card.device.id() == card.device.id()
            && (1..=MOST).contains(&count)
            && call.used + count <= SLAB;
        if !fits {
            return Ok(None);
        }
        let at = call.used;
        call.used = (at + count).next_multiple_of(ALIGNED);
        let tensor = call.memory.narrow(0, at, count)?.reshape(dims)?;
        Ok(Some((tensor, call.pointer + 2 * at as u64)))
    })
}

/// A tensor that outlives the call, whose launches are in the stream: a copy,
/// if it lies in the slab.
pub(crate) fn keep(tensor: Tensor) -> OpResult<Tensor> {
    let inside = CALL.with_borrow(|call| {
        let call = call.as_ref()?;
        let place = call.card.place(&tensor)?;
        let slab = call.pointer..call.pointer + 2 * SLAB as u64;
        Some(slab.contains(&place.pointer))
    });
    match inside {
        Some(true) => Ok(tensor.force_contiguous()?),
        _ => Ok(tensor),
    }
}

impl Call {
    fn send(&mut self) -> OpResult<()> {
        let launches = std::mem::take(&mut self.launches);
        let done = match launches.is_empty() {
            true => Ok(()),
            false => self.card.submit(self.sent, launches),
        };
        self.sent += 1;
        self.held.clear();
        done
    }
}

/// Takes a launch to the others of the call; gives it back if there is none.
/// They go to the card some at a time, so that it need not wait for the last.
pub(super) fn collect(card: &Card, launch: Launch) -> OpResult<Option<Launch>> {
    CALL.with_borrow_mut(|call| match call {
        Some(call) if call.card.device.id() == card.device.id() => {
            call.launches.push(launch);
            if call.launches.len() == TOGETHER {
                call.send()?;
            }
            Ok(None)
        }
        _ => Ok(Some(launch)),
    })
}

/// Puts the launches of the call into the stream.
pub(crate) fn flush() -> OpResult<()> {
    CALL.with_borrow_mut(|call| match call {
        Some(call) => call.send(),
        None => Ok(()),
    })
}

/// Keeps a value until the launches of the call are in the stream.
pub(crate) fn hold(value: Option<Value>) {
    CALL.with_borrow_mut(|call| {
        if let (Some(call), Some(value)) = (call, value) {
            call.held.push(value);
        }
    });
}
