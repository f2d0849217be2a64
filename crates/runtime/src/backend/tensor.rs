//! Tensors whose elements may still have to be computed.

use candle_core::{DType, Device, Tensor};

use crate::error::OpResult;

/// A tensor of floats. Launches that write it may be collected and not yet on
/// their way to the device, so only views are made of it here, and kernels of
/// the backend read it; for all else it must be made [`ready`](Self::ready).
#[derive(Clone, Debug)]
pub(crate) struct DeviceTensor(Tensor);

impl From<Tensor> for DeviceTensor {
    fn from(tensor: Tensor) -> Self {
        Self(tensor)
    }
}

impl DeviceTensor {
    /// The tensor for the tensor library, whose work comes after all launches
    /// that were collected.
    pub fn ready(&self) -> OpResult<Tensor> {
        super::cuda::flush()?;
        Ok(self.0.clone())
    }

    /// The tensor when a call is over, and nothing is collected any more.
    pub fn after_call(self) -> Tensor {
        self.0
    }

    /// The tensor for a kernel of the backend, or to find out where it is stored.
    pub(super) fn queued(&self) -> &Tensor {
        &self.0
    }

    pub fn dims(&self) -> &[usize] {
        self.0.dims()
    }

    pub fn rank(&self) -> usize {
        self.0.rank()
    }

    pub fn dtype(&self) -> DType {
        self.0.dtype()
    }

    pub fn is_contiguous(&self) -> bool {
        self.0.is_contiguous()
    }

    /// Whether both are one tensor, and not only equal.
    pub fn is_same(&self, other: &Self) -> bool {
        self.0.id() == other.0.id()
    }

    pub fn narrow(&self, axis: usize, start: usize, count: usize) -> OpResult<Self> {
        Ok(Self(self.0.narrow(axis, start, count)?))
    }

    pub fn permute(&self, order: Vec<usize>) -> OpResult<Self> {
        Ok(Self(self.0.permute(order)?))
    }

    pub fn squeeze(&self, axis: usize) -> OpResult<Self> {
        Ok(Self(self.0.squeeze(axis)?))
    }

    pub fn broadcast_as(&self, dims: &[usize]) -> OpResult<Self> {
        Ok(Self(self.0.broadcast_as(dims)?))
    }

    /// The same elements in other extents; where they are not contiguous, a
    /// copy.
    pub fn reshape(&self, dims: &[usize]) -> OpResult<Self> {
        if self.0.is_contiguous() {
            return Ok(Self(self.0.reshape(dims)?));
        }
        Ok(Self(self.ready()?.reshape(dims)?))
    }

    /// A tensor on the device `to`, where it is not on it already a copy.
    pub fn to_device(&self, to: &Device) -> OpResult<Tensor> {
        Ok(self.ready()?.to_device(to)?)
    }
}
