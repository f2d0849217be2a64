//! Copies of f16 between views.

use candle_core::Tensor;

use super::{
    BLOCKS, CudaContext, DeviceView, Kernel, RANK, THREADS, axes, axis_args, by_eight, flush,
};
use crate::error::OpResult;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::NoUninit)]
struct CopyArgs {
    from: u64,
    to: u64,
    extents: [i32; RANK],
    strides: [[i32; RANK]; 2],
    count: i32,
}

/// The same elements in row-major order.
pub(super) fn contiguous(x: &Tensor) -> OpResult<Tensor> {
    if x.is_contiguous() {
        return Ok(x.clone());
    }
    if let Some(cuda) = CudaContext::of(x.device())?
        && let Some(from) = cuda.f16_view(x)
    {
        let (out, _) = cuda.alloc_output(x.dims())?;
        if let Some(to) = cuda.f16_view(&out)
            && copy(&cuda, &from, &to)?
        {
            return Ok(out);
        }
    }
    flush()?;
    Ok(x.contiguous()?)
}

/// Writes `x` into the memory of a view of the same extents; gives false where
/// the tensor library must do it.
pub(super) fn write(to: &Tensor, x: &Tensor) -> OpResult<bool> {
    let Some(cuda) = CudaContext::of(to.device())? else {
        return Ok(false);
    };
    match (cuda.f16_view(x), cuda.f16_view(to)) {
        (Some(from), Some(to)) => copy(&cuda, &from, &to),
        _ => Ok(false),
    }
}

fn copy(cuda: &CudaContext, from: &DeviceView, to: &DeviceView) -> OpResult<bool> {
    let strides = [from.strides.clone(), to.strides.clone()];
    let mut axes = axes(&from.dims, &strides);
    let wide = by_eight(&mut axes, &[from.pointer, to.pointer]);
    let count: usize = axes.iter().map(|(extent, _)| extent).product();
    let fits = from.dims == to.dims && !from.dims.contains(&0);
    let (true, Some((extents, strides)), Ok(int)) = (fits, axis_args(&axes), i32::try_from(count))
    else {
        return Ok(false);
    };
    let args = CopyArgs {
        from: from.pointer,
        to: to.pointer,
        extents,
        strides,
        count: int,
    };
    let kernel = if wide { Kernel::Copy8 } else { Kernel::Copy1 };
    let blocks = count.div_ceil(THREADS).min(BLOCKS * cuda.multiprocessors);
    // SAFETY: both views have these extents, as was checked, and are memory of
    // this GPU.
    unsafe { cuda.launch(kernel, [blocks, 1, 1], THREADS, 0, &args)? };
    Ok(true)
}
