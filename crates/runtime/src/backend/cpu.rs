//! Kernels for tensors of f16 on the CPU. Where an operand is stored otherwise
//! there is no result, and the tensor library computes it.

use std::sync::Arc;

use candle_core::{CpuStorage, DType, Device, Layout, Storage, Tensor};
use half::f16;

use super::{Backend, DeviceTensor, FusedOp};
use crate::{
    error::{OpResult, Result, refuse},
    fuse,
    graph::{Constants, Graph},
    kernel::{self, AttentionShape, Cache, Pairwise, WeightMatrix},
    ops::{Op, Operands},
    thread_pool,
    value::{Value, broadcast},
};

#[derive(Debug)]
pub(crate) struct Cpu;

impl Backend for Cpu {
    fn device(&self) -> &Device {
        &Device::Cpu
    }

    fn fuse(&self, graphs: &mut [Graph], constants: &mut Constants, fuse: bool) -> Result<()> {
        if !fuse {
            return Ok(());
        }
        for graph in graphs {
            let matrices = fuse::weight_matrices(graph, constants)
                .map_err(|problem| graph.fusion_error(problem))?;
            for (at, matrix) in matrices {
                let step = &mut graph.steps[at];
                step.op = Op::Fused(Arc::new(matrix));
                step.operands.truncate(1);
            }
        }
        Ok(())
    }
}

/// `x · weightᵀ`, with a matrix that stays as it is stored in the file.
impl FusedOp for WeightMatrix {
    fn run(&self, operands: &Operands<'_>) -> OpResult<Value> {
        let x = operands.float(0)?;
        let dtype = x.dtype();
        let Some((&cols, batch)) = x.dims().split_last() else {
            return refuse("a scalar is not a matrix");
        };
        if cols != self.cols() {
            return refuse(format!(
                "{:?} and {:?}ᵀ cannot be multiplied",
                x.dims(),
                [self.rows(), self.cols()]
            ));
        }
        let dims = [batch, &[self.rows()]].concat();
        let count: usize = batch.iter().product();
        let wide = match dtype {
            DType::F16 => kernel::to_f32(&x.flatten_all()?.to_vec1()?),
            _ => x.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?,
        };
        let out = self.multiply(&wide, count)?;
        let device = operands.device()?;
        Ok(Value::from(match dtype {
            DType::F16 => Tensor::from_vec(kernel::to_f16(&out), dims, device)?,
            _ => Tensor::from_vec(out, dims, device)?.to_dtype(dtype)?,
        }))
    }

    fn by_rows(&self) -> bool {
        true
    }
}

/// Elements that are worth a piece of work of their own.
const PIECE: usize = 1 << 14;

/// The elements, where they are f16 on the CPU.
fn elements(storage: &Storage) -> Option<&[f16]> {
    match storage {
        Storage::Cpu(CpuStorage::F16(data)) => Some(data),
        _ => None,
    }
}

/// The elements, where they are f16 on the CPU and contiguous.
fn contiguous<'t>(storage: &'t Storage, layout: &Layout) -> Option<&'t [f16]> {
    let (from, to) = layout.contiguous_offsets()?;
    elements(storage)?.get(from..to)
}

fn tensor(data: Vec<f16>, dims: &[usize]) -> OpResult<Option<DeviceTensor>> {
    Ok(Some(Tensor::from_vec(data, dims, &Device::Cpu)?.into()))
}

/// Rows along the last axis, whose elements are contiguous or all the same.
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
pub fn binary(op: Pairwise, x: &DeviceTensor, y: &DeviceTensor) -> OpResult<Option<DeviceTensor>> {
    let dims = broadcast(x.dims(), y.dims())?;
    let count: usize = dims.iter().product();
    let same = x.dims() == dims && y.dims() == dims;
    let (x, y) = (x.broadcast_as(&dims)?, y.broadcast_as(&dims)?);
    let (x, y) = (x.queued(), y.queued());
    let ((x, x_layout), (y, y_layout)) = (x.storage_and_layout(), y.storage_and_layout());
    if let (true, Some(x), Some(y)) = (same, contiguous(&x, x_layout), contiguous(&y, y_layout)) {
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
    // Only `y` may be one element that is the same along a row.
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
pub fn silu(x: &DeviceTensor) -> OpResult<Option<DeviceTensor>> {
    let (storage, layout) = x.queued().storage_and_layout();
    let Some(data) = contiguous(&storage, layout) else {
        return Ok(None);
    };
    let mut out = vec![f16::ZERO; data.len()];
    thread_pool::split(&mut out, PIECE, |piece, out| {
        kernel::silu(&data[piece * PIECE..][..out.len()], out);
    });
    tensor(out, x.dims())
}

/// `x ÷ √(mean(x²) + ε) · scale` over the last axis.
pub fn rms_norm(
    x: &DeviceTensor,
    scale: &DeviceTensor,
    eps: f64,
) -> OpResult<Option<DeviceTensor>> {
    let scale = scale.broadcast_as(x.dims())?;
    let ((x_data, x_layout), (scale, scale_layout)) = (
        x.queued().storage_and_layout(),
        scale.queued().storage_and_layout(),
    );
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
    let mut out = vec![f16::ZERO; x.dims().iter().product()];
    lines(&mut out, width, |line, out| {
        kernel::norm(rows.line(line), scale.line(line), eps as f32, out);
    });
    tensor(out, x.dims())
}

/// Rotates the rows of `[1, heads, rows, dim]` by the angles of their row.
pub fn rotate(x: &DeviceTensor, sin: &[f32], cos: &[f32]) -> OpResult<Option<DeviceTensor>> {
    let (storage, layout) = x.queued().storage_and_layout();
    let Some(rows) = Lines::new(&storage, layout) else {
        return Ok(None);
    };
    let dim = x.dims().last().copied().unwrap_or(0);
    let half = dim / 2;
    if half == 0 || rows.length != dim {
        return Ok(None);
    }
    let angles = sin.len() / half;
    let mut out = vec![f16::ZERO; x.dims().iter().product()];
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
    [query, key, value]: [&DeviceTensor; 3],
) -> OpResult<Option<DeviceTensor>> {
    let dims = query.dims();
    if !query.queued().device().is_cpu() {
        return Ok(None);
    }
    let query = query.ready()?.contiguous()?;
    let (query, query_layout) = query.storage_and_layout();
    let (key, key_layout) = key.queued().storage_and_layout();
    let (value, value_layout) = value.queued().storage_and_layout();
    let (Some(query), Some(key), Some(value)) = (
        contiguous(&query, query_layout),
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
