//! What a host keeps between calls.

use std::collections::BTreeMap;

use aimodel::{Dim, TensorType};
use candle_core::{Device, Tensor};

use crate::{
    backend::{Backend, DeviceTensor},
    error::{Error, OpResult, Result, refuse},
    ops::{Bounds, write_slice},
    value::float_dtype,
};

/// The least capacity of a dimension that grows.
const FIRST_CAPACITY: usize = 64;

/// The states of a session, by their names. Functions of a program that name
/// the same state share it.
///
/// A state starts as zeros. Where the program leaves an extent open, the
/// state holds as much as was ever written, and room for more.
#[derive(Clone, Debug, Default)]
pub struct States {
    tensors: BTreeMap<String, Tensor>,
}

impl States {
    /// States that hold nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What a state holds, with the room for more; `None` before it was used.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// Replaces what a state holds. Where an extent is open, the content's is
    /// the capacity that it starts with.
    ///
    /// # Errors
    /// A tensor that cannot be copied.
    pub fn set(&mut self, name: &str, content: &Tensor) -> Result<()> {
        // Calls write in place: nobody else may see that.
        let own = content.force_contiguous()?;
        self.tensors.insert(name.to_owned(), own);
        Ok(())
    }

    /// States that hold the same, and are changed by themselves.
    ///
    /// # Errors
    /// No room for a copy.
    pub fn copy(&self) -> Result<Self> {
        let mut copy = Self::new();
        for (name, content) in &self.tensors {
            copy.set(name, content)?;
        }
        Ok(copy)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.tensors.clear();
    }

    /// Takes a state out for a call, which puts it back.
    pub(crate) fn take(&mut self, name: &str, ty: &TensorType, device: &Device) -> Result<Cell> {
        let mismatch = |found: String| Error::State {
            name: name.to_owned(),
            expected: ty.clone(),
            found,
        };
        let Some(dtype) = float_dtype(ty.element) else {
            return Err(mismatch("a type that no state can have here".to_owned()));
        };
        let tensor = match self.tensors.remove(name) {
            Some(tensor) => tensor,
            None => {
                let dims = ty.dims.iter().map(|dim| match dim {
                    Dim::Static(extent) => *extent as usize,
                    Dim::Dynamic => FIRST_CAPACITY,
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
    /// Replaces what it holds.
    pub fn write(&mut self, content: &DeviceTensor) -> OpResult<()> {
        let fits = content.rank() == self.open.len()
            && (0..self.open.len())
                .all(|i| self.open[i] || content.dims()[i] == self.tensor.dims()[i]);
        if !fits {
            return refuse(format!(
                "{:?} does not fit into a state of {:?}",
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

    /// Writes a slice in place, after the state was made large enough.
    pub fn update(
        &mut self,
        backend: &dyn Backend,
        parts: &[Bounds],
        update: &DeviceTensor,
    ) -> OpResult<()> {
        let counts: Vec<usize> = parts.iter().map(|part| part.count).collect();
        if counts != update.dims() || parts.iter().any(|part| part.stride != 1) {
            return refuse(format!(
                "the slice is {counts:?}, and {:?} shall go there",
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
                return refuse(format!("{need} does not fit into {have} of a state"));
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
