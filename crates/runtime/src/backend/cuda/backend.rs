//! The seam's CUDA side.

use std::{collections::HashMap, sync::Arc};

use candle_core::{Device, Tensor};

use super::{CudaContext, attention, copy, fuse, launch_queue, row_kernels};
use crate::{
    backend::{Backend, Call, DeviceTensor, cpu},
    error::{OpResult, Result},
    fuse::fold_scales,
    graph::{Constants, Graph},
    kernel::AttentionShape,
};

struct Cuda {
    device: Device,
    context: Arc<CudaContext>,
}

impl std::fmt::Debug for Cuda {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cuda({:?})", self.device.location())
    }
}

/// The backend of an NVIDIA GPU; `None` for another device.
pub(crate) fn backend(device: &Device) -> OpResult<Option<Arc<dyn Backend>>> {
    let context = CudaContext::of(device)?;
    Ok(context.map(|context| {
        let device = device.clone();
        Arc::new(Cuda { device, context }) as Arc<dyn Backend>
    }))
}

impl Backend for Cuda {
    fn device(&self) -> &Device {
        &self.device
    }

    fn fuse(&self, graphs: &mut [Graph], constants: &mut Constants, fuse: bool) -> Result<()> {
        let (mut matrices, mut folded) = (HashMap::new(), HashMap::new());
        for graph in graphs {
            if fuse {
                fuse::fuse(graph, constants, &self.context, &mut matrices)
                    .map_err(|problem| graph.fusion_error(problem))?;
                graph.tidy();
            }
            fold_scales(graph, constants, &mut folded)?;
        }
        Ok(())
    }

    fn begin(&self) -> OpResult<Box<dyn Call>> {
        Ok(Box::new(launch_queue::Scope::new(&self.device)?))
    }

    fn rms_norm(
        &self,
        x: &DeviceTensor,
        scale: &DeviceTensor,
        eps: f64,
    ) -> OpResult<Option<DeviceTensor>> {
        match cpu::rms_norm(x, scale, eps)? {
            None => own(row_kernels::norm(x.queued(), scale.queued(), None, eps)),
            found => Ok(found),
        }
    }

    fn layer_norm(
        &self,
        x: &DeviceTensor,
        gamma: &DeviceTensor,
        beta: &DeviceTensor,
        eps: f64,
    ) -> OpResult<Option<DeviceTensor>> {
        let beta = Some(beta.queued());
        own(row_kernels::norm(x.queued(), gamma.queued(), beta, eps))
    }

    fn attention(
        &self,
        shape: AttentionShape,
        scale: f64,
        operands: [&DeviceTensor; 3],
    ) -> OpResult<Option<DeviceTensor>> {
        match cpu::attention(shape, scale, operands)? {
            None => own(attention::attention(
                shape,
                scale,
                operands.map(DeviceTensor::queued),
            )),
            found => Ok(found),
        }
    }

    fn gather_rows(
        &self,
        table: &DeviceTensor,
        width: usize,
        rows: &[usize],
    ) -> OpResult<Option<DeviceTensor>> {
        own(row_kernels::gather_rows(table.queued(), width, rows))
    }

    fn contiguous(&self, x: &DeviceTensor) -> OpResult<DeviceTensor> {
        Ok(copy::contiguous(x.queued())?.into())
    }

    fn write(&self, view: &DeviceTensor, x: &DeviceTensor) -> OpResult<bool> {
        copy::write(view.queued(), x.queued())
    }
}

fn own(found: OpResult<Option<Tensor>>) -> OpResult<Option<DeviceTensor>> {
    Ok(found?.map(DeviceTensor::from))
}

/// Prepares a device whose work goes through one stream.
pub(crate) fn prepare(device: &Device) {
    if let Device::Cuda(cuda) = device {
        // Events are for several streams, and cost more than small kernels.
        // SAFETY: the one stream runs in order whatever is done on the GPU, so
        // that nothing has to wait for an event.
        unsafe { cuda.disable_event_tracking() };
        keep_memory(cuda);
    }
}

/// Keeps memory that was freed in the process, so that the next result has it
/// at once. A GPU that cannot do so is only slower.
fn keep_memory(cuda: &candle_core::CudaDevice) {
    use candle_core::cuda_backend::cudarc::driver::sys;
    let stream = cuda.cuda_stream();
    let mut pool = std::ptr::null_mut();
    let mut threshold = u64::MAX;
    let key = sys::CUmemPool_attribute_enum::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    // SAFETY: `pool` is a place for the pool of the stream's device, and the
    // value is a u64, as the key asks for; both outlive the calls.
    unsafe {
        let found = sys::cuDeviceGetDefaultMemPool(&mut pool, stream.context().cu_device());
        if found == sys::CUresult::CUDA_SUCCESS {
            let threshold = std::ptr::from_mut(&mut threshold).cast();
            let _ = sys::cuMemPoolSetAttribute(pool, key, threshold);
        }
    }
}
