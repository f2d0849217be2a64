//! Rotary embeddings by several positions at once, mixed by masks (M-RoPE).

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::Tensor;

use super::{CudaContext, INLINE, Kernel, flush};
use crate::{
    error::{OpResult, refuse},
    ops::{Binary, Composite, Op, Operands},
    value::Value,
};

/// The maximum number of coordinates of a position; the same as in `kernels/`.
pub(super) const MAX_ROPES: usize = 4;
/// The maximum number of elements of a head: a block has a thread for each pair of them.
const MAX_DIM: usize = 2048;

/// `Σ rope(norm(x), positions) · mask`. Operands are x, the norm's scale if
/// there is one, and positions and mask of each rotary embedding.
#[derive(Debug)]
pub(crate) struct MixedRope {
    pub norm: Option<Arc<Composite>>,
    pub ropes: Vec<Arc<Composite>>,
    tables: Mutex<Option<(usize, Vec<Tensor>)>>,
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::NoUninit)]
struct RopeArgs {
    x: u64,
    head_stride: i64,
    row_stride: i64,
    norm: u64,
    eps: f32,
    padding: u32,
    frequencies: [u64; MAX_ROPES],
    masks: [u64; MAX_ROPES],
    positions: u64,
    few: [i32; INLINE],
    out: u64,
    ropes: i32,
    heads: i32,
    rows: i32,
    dim: i32,
}

impl MixedRope {
    pub fn new(ropes: Vec<Arc<Composite>>) -> Self {
        Self {
            norm: None,
            ropes,
            tables: Mutex::new(None),
        }
    }

    pub fn run(&self, operands: &Operands<'_>) -> OpResult<Value> {
        match self.run_fused(operands)? {
            Some(out) => Ok(Value::from(out)),
            None => self.run_unfused(operands),
        }
    }

    /// The position of the first positions among the operands.
    fn first_positions(&self) -> usize {
        1 + usize::from(self.norm.is_some())
    }

    fn run_fused(&self, operands: &Operands<'_>) -> OpResult<Option<Tensor>> {
        let Some(cuda) = CudaContext::of(operands.backend.device())? else {
            return Ok(None);
        };
        let x = operands.view(0)?;
        let x = x.queued();
        let Some(view) = cuda.f16_view(x) else {
            return Ok(None);
        };
        let (&[1, heads, rows, dim], &[_, head_stride, row_stride, 1]) =
            (&view.dims[..], &view.strides[..])
        else {
            return Ok(None);
        };
        if dim % 2 != 0 || dim > MAX_DIM || x.elem_count() == 0 {
            return Ok(None);
        }
        let dense = |index: usize, count: usize| -> OpResult<Option<u64>> {
            let tensor = operands.view(index)?;
            let tensor = tensor.queued();
            let view = cuda.f16_view(tensor);
            let fits = view.filter(|view| view.contiguous && tensor.elem_count() == count);
            Ok(fits.map(|view| view.pointer))
        };
        let (norm, eps) = match self.norm.as_deref() {
            Some(Composite::RmsNorm { eps }) => match dense(1, heads * dim)? {
                Some(scale) => (scale, *eps),
                None => return Ok(None),
            },
            None => (0, 0.0),
            _ => return Ok(None),
        };
        let (mut masks, mut frequencies) = ([0; MAX_ROPES], [0; MAX_ROPES]);
        let tables = self.tables(dim / 2, operands)?;
        let mut positions = Vec::new();
        for (index, table) in tables.iter().enumerate() {
            let at = self.first_positions() + 2 * index;
            let own = operands.ints(at)?.dense();
            if own.len() != rows {
                return Ok(None);
            }
            positions.extend(own.iter().map(|position| *position as i32));
            match (dense(at + 1, dim)?, cuda.float_view(table)) {
                (Some(mask), Some(table)) => {
                    (masks[index], frequencies[index]) = (mask, table.pointer);
                }
                _ => return Ok(None),
            }
        }
        let positions = cuda.integers(&positions)?;
        let (out, pointer) = cuda.alloc_output(&[1, heads, rows, dim])?;
        let args = RopeArgs {
            x: view.pointer,
            head_stride: head_stride as i64,
            row_stride: row_stride as i64,
            norm,
            eps: eps as f32,
            padding: 0,
            frequencies,
            masks,
            positions: positions.pointer,
            few: positions.few,
            out: pointer,
            ropes: tables.len() as i32,
            heads: heads as i32,
            rows: rows as i32,
            dim: dim as i32,
        };
        let threads = (dim / 2).next_multiple_of(32);
        // SAFETY: the extents of all operands were checked against those of `x`,
        // whose strides the kernel gets, and the result has its extents.
        unsafe { cuda.launch(Kernel::Rope, [heads * rows, 1, 1], threads, 0, &args)? };
        Ok(Some(out))
    }

    /// The frequencies of the pairs, `[half]` for each rotary embedding.
    fn tables(&self, half: usize, operands: &Operands<'_>) -> OpResult<Vec<Tensor>> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, tables)) = &*tables
            && *known == half
        {
            return Ok(tables.clone());
        }
        let device = operands.device()?;
        let made = self.ropes.iter().map(|rope| match &**rope {
            Composite::Rope(angles) => {
                Ok(Tensor::from_vec(angles.frequencies(half), half, device)?)
            }
            _ => refuse("it is not a rotary embedding"),
        });
        let made = made.collect::<OpResult<Vec<_>>>()?;
        *tables = Some((half, made.clone()));
        Ok(made)
    }

    fn run_unfused(&self, operands: &Operands<'_>) -> OpResult<Value> {
        flush()?;
        let backend = operands.backend;
        let run = |composite: &Composite, operands: &[&Value]| {
            composite.run(&Operands { backend, operands })
        };
        let x = match &self.norm {
            Some(norm) => &run(norm, &[operands.at(0)?, operands.at(1)?])?,
            None => operands.at(0)?,
        };
        let mut sum = None;
        for (index, rope) in self.ropes.iter().enumerate() {
            let at = self.first_positions() + 2 * index;
            let rotated = run(rope, &[x, operands.at(at)?])?;
            let mixed = Op::Binary(Binary::Mul).run(backend, &[&rotated, operands.at(at + 1)?])?;
            sum = Some(match sum {
                Some(sum) => Op::Binary(Binary::Add).run(backend, &[&sum, &mixed])?,
                None => mixed,
            });
        }
        // What is only needed here may go once its launches are in the stream.
        flush()?;
        match sum {
            Some(sum) => Ok(sum),
            None => refuse("there is no rotary embedding"),
        }
    }
}
