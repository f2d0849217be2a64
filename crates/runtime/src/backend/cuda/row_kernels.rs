//! Kernels along rows: norms, gathered rows of a table, and the argmax.

use candle_core::{DType, Tensor};

use super::{CudaContext, INLINE, Kernel, THREADS};
use crate::error::OpResult;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::NoUninit)]
struct NormArgs {
    x: u64,
    stride: i64,
    gamma: u64,
    beta: u64,
    out: u64,
    width: i32,
    eps: f32,
}

/// `x ÷ √(mean(x²) + ε) · gamma` over the last axis; with `beta`, the mean is
/// subtracted first, and `beta` added at the end.
pub(super) fn norm(
    x: &Tensor,
    gamma: &Tensor,
    beta: Option<&Tensor>,
    eps: f64,
) -> OpResult<Option<Tensor>> {
    let Some(cuda) = CudaContext::of(x.device())? else {
        return Ok(None);
    };
    let width = x.dims().last().copied().unwrap_or(0);
    let vector = |tensor: &Tensor| {
        let view = cuda.f16_view(tensor)?;
        (view.contiguous && tensor.elem_count() == width).then_some(view.pointer)
    };
    let places = (cuda.f16_view(x), vector(gamma), beta.map(vector));
    let (Some(view), Some(gamma), beta @ (None | Some(Some(_)))) = places else {
        return Ok(None);
    };
    if width == 0 || x.elem_count() == 0 || !view.contiguous {
        return Ok(None);
    }
    let (out, pointer) = cuda.alloc_output(x.dims())?;
    let args = NormArgs {
        x: view.pointer,
        stride: width as i64,
        gamma,
        beta: beta.flatten().unwrap_or(0),
        out: pointer,
        width: width as i32,
        eps: eps as f32,
    };
    let rows = x.elem_count() / width;
    // SAFETY: `x` is contiguous, gamma and beta have `width` elements, and the
    // result has the extents of `x`.
    unsafe { cuda.launch(Kernel::NormRows, [rows, 1, 1], THREADS, 0, &args)? };
    Ok(Some(out))
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::NoUninit)]
struct GatherRowsArgs {
    table: u64,
    rows: u64,
    few: [i32; INLINE],
    out: u64,
    width: i32,
    padding: u32,
}

/// The rows of a table `[n, width]` with these indices.
pub(super) fn gather_rows(
    table: &Tensor,
    width: usize,
    rows: &[usize],
) -> OpResult<Option<Tensor>> {
    let Some(cuda) = CudaContext::of(table.device())? else {
        return Ok(None);
    };
    let Some(view) = cuda.f16_view(table).filter(|view| view.contiguous) else {
        return Ok(None);
    };
    let inside = |at: &usize| (at + 1) * width <= table.elem_count();
    if width == 0 || rows.is_empty() || rows.len() > 1 << 15 || !rows.iter().all(inside) {
        return Ok(None);
    }
    let indices: Vec<i32> = rows.iter().map(|at| *at as i32).collect();
    let indices = cuda.integers(&indices)?;
    let (out, pointer) = cuda.alloc_output(&[rows.len(), width])?;
    let args = GatherRowsArgs {
        table: view.pointer,
        rows: indices.pointer,
        few: indices.few,
        out: pointer,
        width: width as i32,
        padding: 0,
    };
    let grid = [width.div_ceil(THREADS), rows.len(), 1];
    // SAFETY: each row was checked to be in the table, which is contiguous.
    unsafe { cuda.launch(Kernel::GatherRows, grid, THREADS, 0, &args)? };
    Ok(Some(out))
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::NoUninit)]
struct ArgmaxArgs {
    x: u64,
    out: u64,
    count: i32,
    padding: u32,
}

/// The index of the largest element, the first of them if there are several.
pub(crate) fn argmax(x: &Tensor) -> OpResult<Option<u32>> {
    let Some(cuda) = CudaContext::of(x.device())? else {
        return Ok(None);
    };
    let count = x.elem_count();
    let view = cuda.f16_view(x).filter(|view| view.contiguous);
    let Some(view) = view.filter(|view| view.pointer.is_multiple_of(16)) else {
        return Ok(None);
    };
    if count == 0 || count > i32::MAX as usize {
        return Ok(None);
    }
    let out = cuda.alloc_uninit::<u32>(1)?;
    let args = ArgmaxArgs {
        x: view.pointer,
        out: cuda.pointer(&out),
        count: count as i32,
        padding: 0,
    };
    // SAFETY: the row is contiguous and aligned, and the result has one element.
    unsafe { cuda.launch(Kernel::Argmax, [1, 1, 1], 1024, 0, &args)? };
    super::flush()?;
    let found = cuda.stream.clone_dtoh(&out)?;
    debug_assert_eq!(x.dtype(), DType::F16);
    Ok(found.first().copied())
}
