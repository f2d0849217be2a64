//! What a device computes by itself, and how it is called.
//!
//! A [`Backend`] is the seam between the operations, which are the same for all
//! devices, and the kernels of one device. An operation asks the backend first;
//! where that has no kernel for the operands, it is left to the tensor library.
//!
//! A backend may collect launches and send them to the device later. So values
//! are [`DeviceTensor`]s, which the tensor library cannot take: what an
//! operation gets from [`DeviceTensor::ready`] or from `Operands::device` comes
//! after all launches that were collected.

#[cfg_attr(not(feature = "cuda"), path = "no_cuda.rs")]
pub(crate) mod cuda;

pub(crate) mod cpu;
mod library;
mod tensor;

use std::{any::Any, fmt::Debug, sync::Arc};

use candle_core::{Device, Tensor};

use crate::{
    error::{Error, OpResult, Problem, Result},
    graph::{Constants, Graph},
    kernel::{AttentionShape, Pairwise},
    ops::Operands,
    value::Value,
};

pub(crate) use tensor::DeviceTensor;

/// The kernels of a device. Each gives `None` where there is none for the
/// operands; what it gives may still have to be computed. Unless a backend says
/// otherwise, tensors on the CPU are computed there.
pub(crate) trait Backend: Debug + Send + Sync {
    fn device(&self) -> &Device;

    /// Puts steps of graphs together. Composites are single steps already.
    fn fuse(&self, graphs: &mut [Graph], constants: &mut Constants, fuse: bool) -> Result<()>;

    /// Begins a call on this thread.
    fn begin(&self) -> OpResult<Box<dyn Call>> {
        Ok(Box::new(Immediate))
    }

    /// `x op y`, broadcasting.
    fn binary(
        &self,
        op: Pairwise,
        x: &DeviceTensor,
        y: &DeviceTensor,
    ) -> OpResult<Option<DeviceTensor>> {
        cpu::binary(op, x, y)
    }

    /// `x ÷ (1 + e⁻ˣ)`.
    fn silu(&self, x: &DeviceTensor) -> OpResult<Option<DeviceTensor>> {
        cpu::silu(x)
    }

    /// `x ÷ √(mean(x²) + ε) · scale` over the last axis.
    fn rms_norm(
        &self,
        x: &DeviceTensor,
        scale: &DeviceTensor,
        eps: f64,
    ) -> OpResult<Option<DeviceTensor>> {
        cpu::rms_norm(x, scale, eps)
    }

    /// `(x − mean) ÷ √(variance + ε) · gamma + beta` over the last axis.
    fn layer_norm(
        &self,
        _x: &DeviceTensor,
        _gamma: &DeviceTensor,
        _beta: &DeviceTensor,
        _eps: f64,
    ) -> OpResult<Option<DeviceTensor>> {
        Ok(None)
    }

    /// Rotates rows of `[1, heads, rows, dim]` by sines and cosines
    /// `[rows, dim / 2]`.
    fn rotate(&self, x: &DeviceTensor, sin: &[f32], cos: &[f32]) -> OpResult<Option<DeviceTensor>> {
        cpu::rotate(x, sin, cos)
    }

    /// Attention of `[1, heads, rows, dim]`; keys and values may be views of a
    /// cache. The queries are scaled and rounded first.
    fn attention(
        &self,
        shape: AttentionShape,
        scale: f64,
        [query, key, value]: [&DeviceTensor; 3],
    ) -> OpResult<Option<DeviceTensor>> {
        cpu::attention(shape, scale, [query, key, value])
    }

    /// Rows of a table of `width` columns, to `[rows.len(), width]`.
    fn gather_rows(
        &self,
        _table: &DeviceTensor,
        _width: usize,
        _rows: &[usize],
    ) -> OpResult<Option<DeviceTensor>> {
        Ok(None)
    }

    /// The same elements in row-major order.
    fn contiguous(&self, x: &DeviceTensor) -> OpResult<DeviceTensor> {
        if x.is_contiguous() {
            return Ok(x.clone());
        }
        Ok(x.ready()?.contiguous()?.into())
    }

    /// Writes `x` into the memory of a view of the same extents; gives whether
    /// it did.
    fn write(&self, _view: &DeviceTensor, _x: &DeviceTensor) -> OpResult<bool> {
        Ok(false)
    }
}

/// A call of a function, from its first step to its outputs.
pub(crate) trait Call {
    /// Drops a value when no collected launch needs it any more.
    fn retire(&self, value: Value);

    /// Sends all launches that were collected to the device.
    fn finish(&self) -> OpResult<()>;

    /// A tensor that may outlive the call.
    fn detach(&self, tensor: DeviceTensor) -> OpResult<Tensor>;
}

/// A call in which nothing is collected.
struct Immediate;

impl Call for Immediate {
    fn retire(&self, value: Value) {
        drop(value);
    }

    fn finish(&self) -> OpResult<()> {
        Ok(())
    }

    fn detach(&self, tensor: DeviceTensor) -> OpResult<Tensor> {
        tensor.ready()
    }
}

/// Several operations that a backend computes as one.
pub(crate) trait FusedOp: Any + Debug + Send + Sync {
    fn run(&self, operands: &Operands<'_>) -> OpResult<Value>;

    /// Whether it is a product whose rows are those of its first operand.
    fn by_rows(&self) -> bool;
}

/// The backend of a device.
pub(crate) fn of(device: &Device) -> OpResult<Arc<dyn Backend>> {
    if let Some(cuda) = cuda::backend(device)? {
        return Ok(cuda);
    }
    Ok(match device {
        Device::Cpu => Arc::new(cpu::Cpu),
        other => Arc::new(library::Library::new(other.clone())),
    })
}

/// An NVIDIA GPU, by its number.
///
/// All of its work goes through one stream, so that a program may be loaded on
/// one thread and called from another. (`Device::new_cuda` has a stream for
/// each thread, and nothing waits from one to the next.)
///
/// # Errors
/// There is no such GPU, or the crate was built without the feature `cuda`.
pub fn cuda(number: usize) -> Result<Device> {
    let device = Device::new_cuda_with_stream(number)?;
    cuda::prepare(&device);
    Ok(device)
}

/// The index of the largest of `values`, found on their device; the first of
/// several, and 0 where all are NaN. `None` where there is no kernel for it, as
/// on the CPU: copy the values then, and look.
///
/// # Errors
/// The kernel failed.
pub fn argmax(values: &Tensor) -> Result<Option<u32>> {
    cuda::argmax(values).map_err(|Problem(problem)| Error::Device(problem))
}
