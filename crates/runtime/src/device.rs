//! Where a program runs.

use candle_core::{Device, Tensor};

use crate::error::Result;

/// An NVIDIA card, by its number.
///
/// All of its work goes through one stream, so that a program may be loaded on
/// one thread and called from another. (`Device::new_cuda` has a stream for
/// each thread, and nothing waits from one to the next.)
///
/// # Errors
/// There is no such card, or the crate was built without the feature `cuda`.
pub fn cuda(number: usize) -> Result<Device> {
    let device = Device::new_cuda_with_stream(number)?;
    #[cfg(feature = "cuda")]
    if let Device::Cuda(cuda) = &device {
        // Events are for several streams, and cost more than small kernels.
        // SAFETY: the one stream runs in order whatever is done on the card.
        unsafe { cuda.disable_event_tracking() };
        keep_memory(cuda);
    }
    Ok(device)
}

/// The index of the greatest of `values`, found where they are; the first of
/// several, and 0 where none is a number. `None` where there is no kernel for
/// it, as on the CPU: copy the values then, and look.
///
/// # Errors
/// The kernel failed.
pub fn argmax(values: &Tensor) -> Result<Option<u32>> {
    #[cfg(feature = "cuda")]
    return crate::cuda::argmax(values).map_err(|problem| crate::Error::Device(problem.0));
    #[cfg(not(feature = "cuda"))]
    {
        let _ = values;
        Ok(None)
    }
}

/// Memory that was freed stays with the process, and the next result has it
/// at once. A card that cannot do so is slower, and nothing else.
#[cfg(feature = "cuda")]
fn keep_memory(cuda: &candle_core::CudaDevice) {
    use candle_core::cuda_backend::cudarc::driver::sys;
    let stream = cuda.cuda_stream();
    let mut pool = std::ptr::null_mut();
    let mut most = u64::MAX;
    let key = sys::CUmemPool_attribute_enum::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    // SAFETY: the pool is that of the device, and the value a u64 as the key
    // asks for.
    unsafe {
        let found = sys::cuDeviceGetDefaultMemPool(&mut pool, stream.context().cu_device());
        if found == sys::CUresult::CUDA_SUCCESS {
            let most = std::ptr::from_mut(&mut most).cast();
            let _ = sys::cuMemPoolSetAttribute(pool, key, most);
        }
    }
}
