//! Operations along axes.

use candle_core::{D, DType, Tensor};

use super::{
    arith::wide,
    operands::{Operands, axis},
};
use crate::{
    error::OpResult,
    value::{Ints, Value, row_major, wrap},
};

/// How elements are combined. Reduced axes stay, with an extent of 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reduce {
    Sum,
    Mean,
    Product,
}

pub fn reduce(op: Reduce, operands: &Operands<'_>) -> OpResult<Value> {
    let x = operands.at(0)?;
    let axes = operands.axes(1, x.dims().len())?;
    if !x.is_float() {
        return Ok(Value::Ints(ints(op, &x.ints()?, &axes)));
    }
    let x = operands.float(0)?;
    let w = wide(&x)?;
    let y = match op {
        Reduce::Sum => w.sum_keepdim(axes)?,
        Reduce::Mean => w.mean_keepdim(axes)?,
        Reduce::Product => product(&w, &axes)?,
    };
    Ok(Value::from(y.to_dtype(x.dtype())?))
}

fn product(x: &Tensor, axes: &[usize]) -> OpResult<Tensor> {
    let mut y = x.clone();
    for &axis in axes {
        let mut parts = y.chunk(y.dim(axis)?.max(1), axis)?.into_iter();
        let Some(first) = parts.next() else { continue };
        y = parts.try_fold(first, |product, part| product * part)?;
    }
    Ok(y)
}

fn ints(op: Reduce, x: &Ints, axes: &[usize]) -> Ints {
    let mut dims = x.dims.clone();
    let mut count = 1;
    for &axis in axes {
        count *= dims[axis] as i64;
        dims[axis] = 1;
    }
    let start = i64::from(op == Reduce::Product);
    let mut out = vec![start; dims.iter().product()];
    let (from, to) = (row_major(&x.dims), row_major(&dims));
    for (index, value) in x.dense().into_iter().enumerate() {
        let place = (0..dims.len())
            .map(|i| (index / from[i] % x.dims[i]).min(dims[i] - 1) * to[i])
            .sum::<usize>();
        out[place] = match op {
            Reduce::Product => out[place].wrapping_mul(value),
            _ => out[place].wrapping_add(value),
        };
    }
    for value in &mut out {
        if op == Reduce::Mean && count != 0 {
            *value /= count;
        }
        *value = wrap(x.element, *value);
    }
    Ints::new(x.element, dims, out)
}

pub fn softmax(operands: &Operands<'_>) -> OpResult<Value> {
    let x = operands.float(0)?;
    let axis = axis(operands.ints(1)?.scalar()?, x.rank())?;
    Ok(Value::from(along(&wide(&x)?, axis)?.to_dtype(x.dtype())?))
}

/// Softmax along an axis of f32.
pub(crate) fn along(x: &Tensor, axis: usize) -> OpResult<Tensor> {
    let above = x.broadcast_sub(&x.max_keepdim(axis)?)?;
    let powers = above.exp()?;
    Ok(powers.broadcast_div(&powers.sum_keepdim(axis)?)?)
}

/// The mean over the last axis of f32.
pub(crate) fn last_mean(x: &Tensor) -> OpResult<Tensor> {
    debug_assert_eq!(x.dtype(), DType::F32);
    Ok(x.mean_keepdim(D::Minus1)?)
}
