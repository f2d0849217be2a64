//! What an operation is given.

use candle_core::{Device, Tensor};

use crate::{
    backend::{Backend, DeviceTensor},
    error::{OpResult, refuse},
    value::Value,
};

/// The operands of one operation.
pub(crate) struct Operands<'v> {
    pub backend: &'v dyn Backend,
    pub operands: &'v [&'v Value],
}

impl Operands<'_> {
    /// The operand at a position.
    pub fn at(&self, index: usize) -> OpResult<&Value> {
        match self.operands.get(index) {
            Some(value) => Ok(value),
            None => refuse(format!(
                "operand {index} is missing; there are {}",
                self.operands.len()
            )),
        }
    }

    /// The operand as floats, for the tensor library.
    pub fn float(&self, index: usize) -> OpResult<Tensor> {
        self.view(index)?.ready()
    }

    /// The operand as floats, for a kernel of the backend and for views.
    pub fn view(&self, index: usize) -> OpResult<DeviceTensor> {
        self.at(index)?.float(self.backend.device())
    }

    /// The device, for work of the tensor library on it. It comes after all
    /// launches that the backend has collected.
    pub fn device(&self) -> OpResult<&Device> {
        crate::backend::cuda::flush()?;
        Ok(self.backend.device())
    }

    /// The operand as integers.
    pub fn ints(&self, index: usize) -> OpResult<crate::value::Ints> {
        self.at(index)?.ints()
    }

    /// The operand as positions of axes of `rank`, negative ones from the end.
    pub fn axes(&self, index: usize, rank: usize) -> OpResult<Vec<usize>> {
        let axes = self.ints(index)?.dense();
        axes.into_iter().map(|value| axis(value, rank)).collect()
    }
}

/// The position of an axis; negative ones count from the end.
pub(crate) fn axis(value: i64, rank: usize) -> OpResult<usize> {
    let at = if value < 0 {
        value + rank as i64
    } else {
        value
    };
    match usize::try_from(at) {
        Ok(at) if at < rank => Ok(at),
        _ => refuse(format!("axis {value} is out of range for rank {rank}")),
    }
}
