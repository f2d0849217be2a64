//! Composite graphs, computed directly instead of operation by operation.
//!
//! Where their graphs round intermediate values to f16, f32 is kept; the results
//! differ by less than such a rounding.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use candle_core::{DType, Tensor};
use half::f16;

use super::{arith::wide, operands::Operands, reduce};
use crate::{
    backend::DeviceTensor,
    error::{OpResult, refuse},
    kernel,
    value::Value,
};

/// What a composite graph is declared to compute.
#[derive(Debug)]
pub(crate) enum Composite {
    /// `x ÷ √(mean(x²) + ε) · scale` over the last axis.
    RmsNorm { eps: f64 },
    /// `(x − mean) ÷ √(variance + ε) · gamma + beta` over the last axis.
    LayerNorm { eps: f64 },
    /// Rotary embedding: rotates the pairs that the first and the second half of
    /// a head's elements make.
    Rope(Angles),
    /// Attention; where causal, the last query sees all keys.
    Attention { causal: bool },
}

/// The angles of a rotary embedding.
#[derive(Debug)]
pub(crate) struct Angles {
    base: f64,
    /// Those of the last few lists of positions: layers use the same again.
    known: Mutex<VecDeque<Arc<Rotations>>>,
}

/// Sines and cosines, `[positions, half]`, rounded to f16.
#[derive(Debug)]
struct Rotations {
    positions: Vec<i64>,
    half: usize,
    sin: Vec<f32>,
    cos: Vec<f32>,
}

impl Angles {
    /// One for each coordinate of a position in a picture.
    const KNOWN: usize = 3;

    /// Frequencies are powers of `base`.
    pub fn new(base: f64) -> Self {
        Self {
            base,
            known: Mutex::new(VecDeque::new()),
        }
    }

    /// The angle of each pair of a head's elements per position, falling.
    pub fn frequencies(&self, half: usize) -> Vec<f32> {
        (0..half)
            .map(|i| 1.0 / (self.base.powf(f64::from(i as f32 / half as f32)) as f32))
            .collect()
    }

    fn of(&self, positions: &[i64], half: usize) -> Arc<Rotations> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |known: &&Arc<Rotations>| known.half == half && known.positions == positions;
        if let Some(found) = known.iter().find(same) {
            return found.clone();
        }
        let frequencies = self.frequencies(half);
        let angles = positions
            .iter()
            .flat_map(|p| frequencies.iter().map(move |f| *p as f32 * f));
        let rounded = |value| f16::from_f32(value).to_f32();
        let (sin, cos) = angles
            .map(|angle| (rounded(angle.sin()), rounded(angle.cos())))
            .unzip();
        let rotations = Arc::new(Rotations {
            positions: positions.to_vec(),
            half,
            sin,
            cos,
        });
        known.truncate(Self::KNOWN - 1);
        known.push_front(rotations.clone());
        rotations
    }
}

impl Composite {
    pub fn run(&self, operands: &Operands<'_>) -> OpResult<Value> {
        let y = match self {
            Self::RmsNorm { eps } => rms_norm(*eps, operands)?,
            Self::LayerNorm { eps } => layer_norm(*eps, operands)?,
            Self::Rope(angles) => rope(angles, operands)?,
            Self::Attention { causal } => attention(*causal, operands)?,
        };
        Ok(Value::Float(y))
    }
}

fn inverse_root(squares: &Tensor, eps: f64) -> OpResult<Tensor> {
    let mean = reduce::last_mean(squares)?;
    Ok((mean + eps)?.sqrt()?.recip()?)
}

fn rms_norm(eps: f64, operands: &Operands<'_>) -> OpResult<DeviceTensor> {
    let (x, scale) = (operands.view(0)?, operands.view(1)?);
    if let Some(out) = operands.backend.rms_norm(&x, &scale, eps)? {
        return Ok(out);
    }
    let (x, scale) = (x.ready()?, scale.ready()?);
    let w = wide(&x)?;
    let normed = w.broadcast_mul(&inverse_root(&w.sqr()?, eps)?)?;
    let normed = normed.to_dtype(x.dtype())?;
    Ok(normed.broadcast_mul(&scale)?.into())
}

fn layer_norm(eps: f64, operands: &Operands<'_>) -> OpResult<DeviceTensor> {
    let (x, gamma, beta) = (operands.view(0)?, operands.view(1)?, operands.view(2)?);
    if let Some(out) = operands.backend.layer_norm(&x, &gamma, &beta, eps)? {
        return Ok(out);
    }
    let (x, gamma, beta) = (x.ready()?, gamma.ready()?, beta.ready()?);
    let w = wide(&x)?;
    let centred = w.broadcast_sub(&reduce::last_mean(&w)?)?;
    let normed = centred.broadcast_mul(&inverse_root(&centred.sqr()?, eps)?)?;
    let normed = normed.to_dtype(x.dtype())?;
    Ok(normed.broadcast_mul(&gamma)?.broadcast_add(&beta)?.into())
}

fn rope(angles: &Angles, operands: &Operands<'_>) -> OpResult<DeviceTensor> {
    let x = operands.view(0)?;
    let positions = operands.ints(1)?.dense();
    let (rows, dim) = match x.dims()[..] {
        [1, _, rows, dim] if rows == positions.len() && dim % 2 == 0 => (rows, dim),
        _ => {
            return refuse(format!(
                "{} positions do not fit {:?}",
                positions.len(),
                x.dims()
            ));
        }
    };
    let half = dim / 2;
    let angles = angles.of(&positions, half);
    if let Some(out) = operands.backend.rotate(&x, &angles.sin, &angles.cos)? {
        return Ok(out);
    }
    let (x, device) = (x.ready()?, operands.device()?);
    let table = |values: &[f32]| Tensor::from_slice(values, (1, 1, rows, half), device);
    let (sin, cos) = (table(&angles.sin)?, table(&angles.cos)?);
    let w = wide(&x)?;
    let (a, b) = (w.narrow(3, 0, half)?, w.narrow(3, half, half)?);
    let real = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
    let imaginary = (a.broadcast_mul(&sin)? + b.broadcast_mul(&cos)?)?;
    let rotated = Tensor::cat(&[real, imaginary], 3)?;
    Ok(rotated.to_dtype(x.dtype())?.into())
}

fn attention(causal: bool, operands: &Operands<'_>) -> OpResult<DeviceTensor> {
    let (query, key, value) = (operands.view(0)?, operands.view(1)?, operands.view(2)?);
    let shape = kernel::AttentionShape::new(query.dims(), key.dims(), value.dims(), causal)?;
    let dtype = query.dtype();
    let scale = 1.0 / (shape.dim as f64).sqrt();
    // The graph's scale and scaled queries are f16.
    let scale = match dtype {
        DType::F16 => f16::from_f64(scale).to_f64(),
        _ => scale,
    };
    let operands_of_kernel = [&query, &key, &value];
    if let Some(out) = operands
        .backend
        .attention(shape, scale, operands_of_kernel)?
    {
        return Ok(out);
    }
    let (query, key, value) = (query.ready()?, key.ready()?, value.ready()?);
    let query = wide(&wide(&query)?.affine(scale, 0.0)?.to_dtype(dtype)?)?;
    let (kv, group) = (shape.kv_heads, shape.heads / shape.kv_heads);
    let grouped = |x: &Tensor, rows: usize| -> OpResult<Tensor> {
        Ok(wide(x)?.contiguous()?.reshape((kv, rows, shape.dim))?)
    };
    let query = grouped(&query, group * shape.rows)?;
    let (key, value) = (grouped(&key, shape.keys)?, grouped(&value, shape.keys)?);
    let mut scores = query.matmul(&key.t()?)?;
    if causal && shape.rows > 1 {
        let bias = (0..shape.rows).flat_map(|row| {
            let visible = shape.visible(row);
            (0..shape.keys).map(move |key| if key < visible { 0.0 } else { -1e4_f32 })
        });
        let bias = bias.collect::<Vec<f32>>();
        let bias = Tensor::from_vec(bias, (1, 1, shape.rows, shape.keys), operands.device()?)?;
        let by_row = (kv, group, shape.rows, shape.keys);
        scores = scores.reshape(by_row)?.broadcast_add(&bias)?;
        scores = scores.reshape((kv, group * shape.rows, shape.keys))?;
    }
    let mixed = reduce::along(&scores, 2)?.matmul(&value)?;
    let mixed = mixed.reshape((1, shape.heads, shape.rows, shape.dim))?;
    Ok(mixed.to_dtype(dtype)?.into())
}
