//! Tensors of halves on the processor, for which there are kernels. Where an
//! operand lies otherwise there is no result, and the tensor library does it.

use candle_core::{CpuStorage, Device, Layout, Storage, Tensor};
use half::f16;

use crate::{
    error::OpResult,
    kernel::{self, AttentionShape, Cache, Pairwise},
    thread_pool,
    value::broadcast,
};

/// Elements that are worth a piece of work of their own.
const PIECE: usize = 1 << 14;

/// The elements, where they are halves on the processor.
fn elements(storage: &Storage) -> Option<&[f16]> {
    match storage {
        Storage::Cpu(CpuStorage::F16(data)) => Some(data),
        _ => None,
    }
}

/// The elements, where they are halves that lie in one piece.
fn dense<'t>(storage: &'t Storage, layout: &Layout) -> Option<&'t [f16]> {
    let (from, to) = layout.contiguous_offsets()?;
    elements(storage)?.get(from..to)
}

fn tensor(data: Vec<f16>, dims: &[usize]) -> OpResult<Option<Tensor>> {
    Ok(Some(Tensor::from_vec(data, dims, &Device::Cpu)?))
}

/// Rows along the last axis, in which the elements lie side by side or are
/// all the same.
struct Lines<'t> {
    data: &'t [f16],
    start: usize,
    outer: Vec<(usize, usize)>,
    length: usize,
}

impl<'t> Lines<'t> {
    fn new(storage: &'t Storage, layout: &Layout) -> Option<Self> {
        let (&extent, dims) = layout.dims().split_last()?;
        let (&step, strides) = layout.stride().split_last()?;
        let length = match step {
            1 => extent,
            0 => 1,
            _ => return None,
        };
        Some(Self {
            data: elements(storage)?,
            start: layout.start_offset(),
            outer: dims.iter().copied().zip(strides.iter().copied()).collect(),
            length,
        })
    }

    fn line(&self, index: usize) -> &'t [f16] {
        let (mut at, mut rest) = (self.start, index);
        for (extent, stride) in self.outer.iter().rev() {
            at += rest % extent * stride;
            rest /= extent;
        }
        &self.data[at..at + self.length]
    }
}

/// `x op y`, broadcasting.
pub fn binary(op: Pairwise, x: &Tensor, y: &Tensor) -> OpResult<Option<Tensor>> {
    let dims = broadcast(x.dims(), y.dims())?;
    let count: usize = dims.iter().product();
    let same = x.dims() == dims && y.dims() == dims;
    let (x, y) = (x.broadcast_as(&*dims)?, y.broadcast_as(&*dims)?);
    let ((x, x_layout), (y, y_layout)) = (x.storage_and_layout(), y.storage_and_layout());
    if let (true, Some(x), Some(y)) = (same, dense(&x, x_layout), dense(&y, y_layout)) {
        let mut out = vec![f16::ZERO; count];
        thread_pool::split(&mut out, PIECE, |piece, out| {
            let range = piece * PIECE..piece * PIECE + out.len();
            kernel::binary(op, &x[range.clone()], &y[range], out);
        });
        return tensor(out, &dims);
    }
    let (Some(x), Some(y)) = (Lines::new(&x, x_layout), Lines::new(&y, y_layout)) else {
        return Ok(None);
    };
    let width = dims.last().copied().unwrap_or(1);
    // What is the same along `x` would have to be turned around.
    if count == 0 || x.length != width {
        return Ok(None);
    }
    let mut out = vec![f16::ZERO; count];
    lines(&mut out, width, |line, out| {
        kernel::binary(op, x.line(line), y.line(line), out);
    });
    tensor(out, &dims)
}

/// Calls `each` with each row of `width` and its number, some rows a piece.
fn lines(out: &mut [f16], width: usize, each: impl Fn(usize, &mut [f16]) + Sync) {
    let share = PIECE.div_ceil(width);
    thread_pool::split(out, share * width, |piece, out| {
        for (line, out) in out.chunks_exact_mut(width).enumerate() {
            each(piece * share + line, out);
        }
    });
}

/// `x ÷ (1 + e⁻ˣ)`.
pub fn silu(x: &Tensor) -> OpResult<Option<Tensor>> {
    let (storage, layout) = x.storage_and_layout();
    let Some(data) = dense(&storage, layout) else {
        return Ok(None);
    };
    let mut out = vec![f16::ZERO; data.len()];
    thread_pool::split(&mut out, PIECE, |piece, out| {
        kernel::silu(&data[piece * PIECE..][..out.len()], out);
    });
    tensor(out, x.dims())
}

/// `x ÷ √(mean(x²) + ε) · scale` over the last axis.
pub fn norm(x: &Tensor, scale: &Tensor, eps: f64) -> OpResult<Option<Tensor>> {
    let scale = scale.broadcast_as(x.dims())?;
    let ((x_data, x_layout), (scale, scale_layout)) =
        (x.storage_and_layout(), scale.storage_and_layout());
    let lined = (
        Lines::new(&x_data, x_layout),
        Lines::new(&scale, scale_layout),
    );
    let (Some(rows), Some(scale)) = lined else {
        return Ok(None);
    };
    let width = x.dims().last().copied().unwrap_or(0);
    if width == 0 || rows.length != width || scale.length != width {
        return Ok(None);
    }
    let mut out = vec![f16::ZERO; x.elem_count()];
    lines(&mut out, width, |line, out| {
        kernel::norm(rows.line(line), scale.line(line), eps as f32, out);
    });
    tensor(out, x.dims())
}

/// Turns the rows of `[1, heads, rows, dim]` by the angles of their row.
pub fn rotate(x: &Tensor, sin: &[f32], cos: &[f32]) -> OpResult<Option<Tensor>> {
    let (storage, layout) = x.storage_and_layout();
    let Some(rows) = Lines::new(&storage, layout) else {
        return Ok(None);
    };
    let dim = x.dims().last().copied().unwrap_or(0);
    let half = dim / 2;
    if half == 0 || rows.length != dim {
        return Ok(None);
    }
    let angles = sin.len() / half;
    let mut out = vec![f16::ZERO; x.elem_count()];
    lines(&mut out, dim, |line, out| {
        let angle = line % angles * half..(line % angles + 1) * half;
        let (sin, cos) = (&sin[angle.clone()], &cos[angle]);
        kernel::rotate(rows.line(line), sin, cos, out);
    });
    tensor(out, x.dims())
}

/// Attention of `[1, heads, rows, dim]`; keys and values may be views of a
/// cache. The queries are scaled and rounded first.
pub fn attention(
    shape: AttentionShape,
    scale: f64,
    [query, key, value]: [&Tensor; 3],
) -> OpResult<Option<Tensor>> {
    let dims = query.dims();
    let query = query.contiguous()?;
    let (query, query_layout) = query.storage_and_layout();
    let (key, key_layout) = key.storage_and_layout();
    let (value, value_layout) = value.storage_and_layout();
    let (Some(query), Some(key), Some(value)) = (
        dense(&query, query_layout),
        cache(&key, key_layout),
        cache(&value, value_layout),
    ) else {
        return Ok(None);
    };
    let mut scaled = vec![f16::ZERO; query.len()];
    kernel::binary(Pairwise::Mul, query, &[f16::from_f64(scale)], &mut scaled);
    tensor(kernel::attention(shape, &scaled, key, value), dims)
}

fn cache<'t>(storage: &'t Storage, layout: &Layout) -> Option<Cache<'t>> {
    match *layout.stride() {
        [_, by_head, by_row, 1] => Some(Cache {
            data: elements(storage)?.get(layout.start_offset()..)?,
            strides: [by_head, by_row],
        }),
        _ => None,
    }
}
