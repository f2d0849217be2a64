//! The tensors that a program keeps between calls, such as a KV cache.

use std::collections::BTreeMap;

use aimodel::{Dim, TensorType};
use candle_core::{Device, Tensor};

use crate::{
    backend::{Backend, DeviceTensor},
    error::{Error, OpResult, Result, refuse},
    ops::{Bounds, write_slice},
    value::float_dtype,
};

/// The capacity that an open extent starts with.
const MIN_CAPACITY: usize = 64;

/// The states of a session, by their names. Functions of a program that name
/// the same state share it.
///
/// A state starts as zeros. Where the program leaves an extent open, the state's
/// extent is a capacity, which grows as more is written.
#[derive(Clone, Debug, Default)]
pub struct States {
    tensors: BTreeMap<String, Tensor>,
}

impl States {
    /// States that hold nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The content of a state, up to its capacity; `None` before it was used.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// Replaces the content of a state. Where an extent is open, that of
    /// `content` is the capacity to start with.
    ///
    /// # Errors
    /// A tensor that cannot be copied.
    pub fn set(&mut self, name: &str, content: &Tensor) -> Result<()> {
        // Calls write in place, which must not change `content`.
        let own = content.force_contiguous()?;
        self.tensors.insert(name.to_owned(), own);
        Ok(())
    }

    /// A copy, which later calls change by itself.
    ///
    /// # Errors
    /// There is no memory for a copy.
    pub fn copy(&self) -> Result<Self> {
        let mut copy = Self::new();
        for (name, content) in &self.tensors {
            copy.set(name, content)?;
        }
        Ok(copy)
    }

    /// Drops all states.
    pub fn clear(&mut self) {
        self.tensors.clear();
    }

    /// Takes a state for a call, which puts it back.
    pub(crate) fn take(&mut self, name: &str, ty: &TensorType, device: &Device) -> Result<Cell> {
        let mismatch = |found: String| Error::State {
            name: name.to_owned(),
            expected: ty.clone(),
            found,
        };
        let Some(dtype) = float_dtype(ty.element) else {
            return Err(mismatch(
                "a type that a state cannot have in this runtime".to_owned(),
            ));
        };
        let tensor = match self.tensors.remove(name) {
            Some(tensor) => tensor,
            None => {
                let dims = ty.dims.iter().map(|dim| match dim {
                    Dim::Static(extent) => *extent as usize,
                    Dim::Dynamic => MIN_CAPACITY,
                });
                Tensor::zeros(dims.collect::<Vec<_>>(), dtype, device)?
            }
        };
        let fits = tensor.dtype() == dtype
            && tensor.rank() == ty.rank()
            && tensor
                .dims()
                .iter()
                .zip(&ty.dims)
                .all(|(have, dim)| dim.known().is_none_or(|extent| extent == *have as u64));
        if !fits {
            let found = format!("{:?} of {}", tensor.dims(), tensor.dtype().as_str());
            self.tensors.insert(name.to_owned(), tensor);
            return Err(mismatch(found));
        }
        let tensor = tensor.to_device(device)?.into();
        let open = ty.dims.iter().map(|dim| dim.known().is_none()).collect();
        Ok(Cell { tensor, open })
    }

    pub(crate) fn put(&mut self, name: &str, cell: Cell) {
        self.tensors
            .insert(name.to_owned(), cell.tensor.after_call());
    }
}

/// A state during a call.
#[derive(Debug)]
pub(crate) struct Cell {
    pub tensor: DeviceTensor,
    /// Which extents may grow.
    open: Vec<bool>,
}

impl Cell {
    /// Replaces the content.
    pub fn write(&mut self, content: &DeviceTensor) -> OpResult<()> {
        let fits = content.rank() == self.open.len()
            && (0..self.open.len())
                .all(|i| self.open[i] || content.dims()[i] == self.tensor.dims()[i]);
        if !fits {
            return refuse(format!(
                "{:?} does not fit a state of {:?}",
                content.dims(),
                self.tensor.dims()
            ));
        }
        // An update in place comes back as the state itself.
        if !content.is_same(&self.tensor) {
            self.tensor = content.ready()?.force_contiguous()?.into();
        }
        Ok(())
    }

    /// Writes a slice in place; makes the state larger first where it must.
    pub fn update(
        &mut self,
        backend: &dyn Backend,
        parts: &[Bounds],
        update: &DeviceTensor,
    ) -> OpResult<()> {
        let counts: Vec<usize> = parts.iter().map(|part| part.count).collect();
        if counts != update.dims() || parts.iter().any(|part| part.stride != 1) {
            return refuse(format!(
                "the slice is {counts:?}, and the update is {:?}",
                update.dims()
            ));
        }
        if counts.contains(&0) {
            return Ok(());
        }
        for (axis, part) in parts.iter().enumerate() {
            let (have, need) = (self.tensor.dims()[axis], part.begin + part.count);
            if need <= have {
                continue;
            }
            if !self.open[axis] {
                return refuse(format!("{need} does not fit a fixed extent of {have}"));
            }
            let mut dims = self.tensor.dims().to_vec();
            dims[axis] = need.max(2 * have);
            let before = self.tensor.ready()?;
            let larger = Tensor::zeros(dims, before.dtype(), before.device())?;
            if have > 0 {
                larger.slice_set(&before, axis, 0)?;
            }
            self.tensor = larger.into();
        }
        let update = backend.contiguous(update)?;
        write_slice(backend, &self.tensor, &update, parts)
    }
}
