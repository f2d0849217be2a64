//! Norms along rows, rows of a table, and the best of a row.

use candle_core::{DType, Tensor};

use super::{Card, INLINE, Kernel, THREADS, parameters};
use crate::error::OpResult;

#[repr(C)]
#[derive(Clone, Copy)]
struct NormArgs {
    x: u64,
    stride: i64,
    gamma: u64,
    beta: u64,
    out: u64,
    width: i32,
    eps: f32,
}

parameters!(NormArgs, TakeArgs, BestArgs);

/// `x ÷ √(mean(x²) + ε) · gamma` over the last axis; with `beta`, the mean is
/// taken away first, and `beta` added.
pub(crate) fn norm(
    x: &Tensor,
    gamma: &Tensor,
    beta: Option<&Tensor>,
    eps: f64,
) -> OpResult<Option<Tensor>> {
    let Some(card) = Card::of(x.device())? else {
        return Ok(None);
    };
    let width = x.dims().last().copied().unwrap_or(0);
    let vector = |tensor: &Tensor| {
        let place = card.place(tensor)?;
        (place.dense && tensor.elem_count() == width).then_some(place.pointer)
    };
    let places = (card.place(x), vector(gamma), beta.map(vector));
    let (Some(place), Some(gamma), beta @ (None | Some(Some(_)))) = places else {
        return Ok(None);
    };
    if width == 0 || x.elem_count() == 0 || !place.dense {
        return Ok(None);
    }
    let (out, pointer) = card.result(x.dims())?;
    let args = NormArgs {
        x: place.pointer,
        stride: width as i64,
        gamma,
        beta: beta.flatten().unwrap_or(0),
        out: pointer,
        width: width as i32,
        eps: eps as f32,
    };
    let rows = x.elem_count() / width;
    // SAFETY: all of them are dense and as large as the kernel expects.
    unsafe { card.launch(Kernel::NormRows, [rows, 1, 1], THREADS, 0, &args)? };
    Ok(Some(out))
}

#[repr(C)]
#[derive(Clone, Copy)]
struct TakeArgs {
    table: u64,
    places: u64,
    few: [i32; INLINE],
    out: u64,
    width: i32,
    gap: u32,
}

/// Rows of a table `[n, width]`, one for each of `places`, which are below n.
pub(crate) fn take(table: &Tensor, width: usize, places: &[usize]) -> OpResult<Option<Tensor>> {
    let Some(card) = Card::of(table.device())? else {
        return Ok(None);
    };
    let Some(place) = card.place(table).filter(|place| place.dense) else {
        return Ok(None);
    };
    let inside = |at: &usize| (at + 1) * width <= table.elem_count();
    if width == 0 || places.is_empty() || places.len() > 1 << 15 || !places.iter().all(inside) {
        return Ok(None);
    }
    let rows: Vec<i32> = places.iter().map(|at| *at as i32).collect();
    let rows = card.integers(&rows)?;
    let (out, pointer) = card.result(&[places.len(), width])?;
    let args = TakeArgs {
        table: place.pointer,
        places: rows.pointer,
        few: rows.few,
        out: pointer,
        width: width as i32,
        gap: 0,
    };
    let grid = [width.div_ceil(THREADS), places.len(), 1];
    // SAFETY: each place was found to be in the table.
    unsafe { card.launch(Kernel::Take, grid, THREADS, 0, &args)? };
    Ok(Some(out))
}

#[repr(C)]
#[derive(Clone, Copy)]
struct BestArgs {
    x: u64,
    out: u64,
    count: i32,
    gap: u32,
}

/// The place of the greatest element, the first of them if there are several.
pub(crate) fn best(x: &Tensor) -> OpResult<Option<u32>> {
    let Some(card) = Card::of(x.device())? else {
        return Ok(None);
    };
    let count = x.elem_count();
    let place = card.place(x).filter(|place| place.dense);
    let Some(place) = place.filter(|place| place.pointer % 16 == 0) else {
        return Ok(None);
    };
    if count == 0 || count > i32::MAX as usize {
        return Ok(None);
    }
    let out = card.room::<u32>(1)?;
    let args = BestArgs {
        x: place.pointer,
        out: card.pointer(&out),
        count: count as i32,
        gap: 0,
    };
    // SAFETY: the row is dense, and the result has room.
    unsafe { card.launch(Kernel::Best, [1, 1, 1], 1024, 0, &args)? };
    super::flush()?;
    let found = card.stream.clone_dtoh(&out)?;
    debug_assert_eq!(x.dtype(), DType::F16);
    Ok(found.first().copied())
}
