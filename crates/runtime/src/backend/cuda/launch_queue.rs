//! The launches of one call, which are sent to the GPU in batches, and a slab of
//! memory for its small results, so that they need no allocation each. The next
//! call uses the slab again.
//!
//! A launch that waits in the queue must find its operands unchanged: all other
//! work on the GPU comes after [`flush`], which [`DeviceTensor::ready`] sees to,
//! and values that the call no longer needs are held until then.

use std::{
    cell::RefCell,
    sync::{Arc, PoisonError},
};

use candle_core::{DType, Device, Tensor};

use super::{CudaContext, graph_capture::Launch};
use crate::{
    backend::{Call, DeviceTensor},
    error::OpResult,
    value::Value,
};

/// Elements of a slab, f16, and the most of a result that is put there.
const SLAB: usize = 8 << 20;
const MAX_OUTPUT: usize = 1 << 16;
/// Launches that are sent together.
const BATCH: usize = 32;
/// Results in a slab begin at multiples of so many elements.
const ALIGNED: usize = 128;

struct LaunchQueue {
    cuda: Arc<CudaContext>,
    memory: Tensor,
    pointer: u64,
    used: usize,
    launches: Vec<Launch>,
    /// How many batches were sent.
    sent: usize,
    held: Vec<Value>,
}

thread_local! {
    static QUEUE: RefCell<Option<LaunchQueue>> = const { RefCell::new(None) };
}

/// A call. Its results may be in the slab as long as it lasts; those that
/// outlive it go through [`Call::detach`].
pub(crate) struct Scope {
    active: bool,
}

impl Scope {
    /// Begins a call on a device.
    pub fn new(device: &Device) -> OpResult<Self> {
        let Some(cuda) = CudaContext::of(device)? else {
            return Ok(Self { active: false });
        };
        let free = cuda
            .slabs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let memory = match free {
            Some(memory) => memory,
            None => Tensor::zeros(SLAB, DType::F16, device)?,
        };
        let Some(view) = cuda.f16_view(&memory) else {
            return Ok(Self { active: false });
        };
        let call = LaunchQueue {
            cuda,
            memory,
            pointer: view.pointer,
            used: 0,
            launches: Vec::new(),
            sent: 0,
            held: Vec::new(),
        };
        let active = QUEUE.with_borrow_mut(|current| {
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
        if let Some(call) = QUEUE.take() {
            let mut slabs = call
                .cuda
                .slabs
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            slabs.push(call.memory);
        }
    }
}

/// A result in the slab of the call, if there is a call and room.
pub(super) fn alloc_output(cuda: &CudaContext, dims: &[usize]) -> OpResult<Option<(Tensor, u64)>> {
    let count: usize = dims.iter().product();
    QUEUE.with_borrow_mut(|call| {
        let Some(call) = call.as_mut() else {
            return Ok(None);
        };
        let fits = call.cuda.device.id() == cuda.device.id()
            && (1..=MAX_OUTPUT).contains(&count)
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

impl LaunchQueue {
    fn submit(&mut self) -> OpResult<()> {
        let launches = std::mem::take(&mut self.launches);
        let done = if launches.is_empty() {
            Ok(())
        } else {
            self.cuda.submit(self.sent, launches)
        };
        self.sent += 1;
        self.held.clear();
        done
    }
}

/// Adds a launch to those of the call; gives it back if there is no call. They
/// are sent in batches, so that the GPU starts before the last is known.
pub(super) fn enqueue(cuda: &CudaContext, launch: Launch) -> OpResult<Option<Launch>> {
    QUEUE.with_borrow_mut(|call| match call {
        Some(call) if call.cuda.device.id() == cuda.device.id() => {
            call.launches.push(launch);
            if call.launches.len() == BATCH {
                call.submit()?;
            }
            Ok(None)
        }
        _ => Ok(Some(launch)),
    })
}

/// Puts the launches of this thread's call into the stream.
pub(crate) fn flush() -> OpResult<()> {
    QUEUE.with_borrow_mut(|call| match call {
        Some(call) => call.submit(),
        None => Ok(()),
    })
}

impl Call for Scope {
    /// Keeps the value until the launches of the call are in the stream.
    fn retire(&self, value: Value) {
        QUEUE.with_borrow_mut(|queue| {
            if let Some(queue) = queue {
                queue.held.push(value);
            }
        });
    }

    fn finish(&self) -> OpResult<()> {
        flush()
    }

    /// A copy of what is in the slab, which the next call has again.
    fn detach(&self, tensor: DeviceTensor) -> OpResult<Tensor> {
        let tensor = tensor.ready()?;
        let inside = QUEUE.with_borrow(|queue| {
            let queue = queue.as_ref()?;
            let view = queue.cuda.f16_view(&tensor)?;
            let slab = queue.pointer..queue.pointer + 2 * SLAB as u64;
            Some(slab.contains(&view.pointer))
        });
        match inside {
            Some(true) => Ok(tensor.force_contiguous()?),
            _ => Ok(tensor),
        }
    }
}
