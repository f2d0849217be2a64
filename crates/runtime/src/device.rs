//! Where a program runs.

use candle_core::Device;

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
    if let Device::Cuda(card) = &device {
        // Events are for several streams, and cost more than small kernels.
        // SAFETY: the one stream runs in order whatever is done on the card.
        unsafe { card.disable_event_tracking() };
    }
    Ok(device)
}
