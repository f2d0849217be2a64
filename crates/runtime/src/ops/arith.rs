//! Elementwise operations.

use aimodel::{Approximate, ElementType};
use candle_core::{DType, Tensor};

use super::operands::Operands;
use crate::{
    error::{OpResult, refuse},
    kernel::Pairwise,
    value::{Ints, Value, broadcast, float_dtype, is_integer, wrap},
};

/// An operation of two operands, broadcasting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binary {
    Add,
    Sub,
    Mul,
    Divide,
    FloorDivide,
    Maximum,
    Minimum,
    Greater,
}

/// An operation on each float.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unary {
    Rsqrt,
    Exp,
    Sin,
    Cos,
}

pub fn binary(op: Binary, operands: &Operands<'_>) -> OpResult<Value> {
    if !operands.at(0)?.is_float() {
        return Ok(Value::Ints(ints(
            op,
            &operands.ints(0)?,
            &operands.ints(1)?,
        )?));
    }
    let (x, y) = (operands.view(0)?, operands.view(1)?);
    let pairwise = match op {
        Binary::Add => Some(Pairwise::Add),
        Binary::Sub => Some(Pairwise::Sub),
        Binary::Mul => Some(Pairwise::Mul),
        Binary::Divide => Some(Pairwise::Div),
        _ => None,
    };
    if let Some(op) = pairwise
        && let Some(out) = operands.backend.binary(op, &x, &y)?
    {
        return Ok(Value::Float(out));
    }
    let (x, y) = (x.ready()?, y.ready()?);
    Ok(Value::from(match op {
        Binary::Add => x.broadcast_add(&y)?,
        Binary::Sub => x.broadcast_sub(&y)?,
        Binary::Mul => x.broadcast_mul(&y)?,
        Binary::Divide => x.broadcast_div(&y)?,
        Binary::Maximum => x.broadcast_maximum(&y)?,
        Binary::Minimum => x.broadcast_minimum(&y)?,
        Binary::FloorDivide => {
            let dtype = x.dtype();
            let quotient = wide(&x)?.broadcast_div(&wide(&y)?)?;
            quotient.floor()?.to_dtype(dtype)?
        }
        Binary::Greater => {
            let flags = x.broadcast_gt(&y)?;
            let dims = flags.dims().to_vec();
            let flags = flags.flatten_all()?.to_vec1::<u8>()?;
            let flags = flags.into_iter().map(i64::from).collect();
            return Ok(Value::Ints(Ints::new(ElementType::Bool, dims, flags)));
        }
    }))
}

fn ints(op: Binary, x: &Ints, y: &Ints) -> OpResult<Ints> {
    let dims = broadcast(&x.dims, &y.dims)?;
    let element = match op {
        Binary::Greater => ElementType::Bool,
        _ => x.element,
    };
    let (x, y) = (
        x.broadcast_to(&dims)?.dense(),
        y.broadcast_to(&dims)?.dense(),
    );
    let apply = |(x, y): (i64, i64)| {
        if y == 0 && matches!(op, Binary::Divide | Binary::FloorDivide) {
            return refuse(format!("{x} is divided by zero"));
        }
        Ok(wrap(
            element,
            match op {
                Binary::Add => x.wrapping_add(y),
                Binary::Sub => x.wrapping_sub(y),
                Binary::Mul => x.wrapping_mul(y),
                Binary::Divide => x.wrapping_div(y),
                Binary::FloorDivide => {
                    let quotient = x.wrapping_div(y);
                    let inexact = x.wrapping_rem(y) != 0;
                    quotient - i64::from(inexact && (x < 0) != (y < 0))
                }
                Binary::Maximum => x.max(y),
                Binary::Minimum => x.min(y),
                Binary::Greater => i64::from(x > y),
            },
        ))
    };
    let values = x.into_iter().zip(y).map(apply).collect::<OpResult<_>>()?;
    Ok(Ints::new(element, dims, values))
}

/// The floats as at least f32, in which everything is computed.
pub(crate) fn wide(x: &Tensor) -> OpResult<Tensor> {
    match x.dtype() {
        DType::F16 | DType::BF16 => Ok(x.to_dtype(DType::F32)?),
        _ => Ok(x.clone()),
    }
}

pub fn unary(op: Unary, operands: &Operands<'_>) -> OpResult<Value> {
    let x = operands.float(0)?;
    let w = wide(&x)?;
    let y = match op {
        Unary::Rsqrt => w.sqrt()?.recip()?,
        Unary::Exp => w.exp()?,
        Unary::Sin => w.sin()?,
        Unary::Cos => w.cos()?,
    };
    Ok(Value::from(y.to_dtype(x.dtype())?))
}

/// The logical opposite of booleans.
pub fn not(operands: &Operands<'_>) -> OpResult<Value> {
    let mut x = operands.ints(0)?;
    if x.element != ElementType::Bool {
        return refuse(format!("expected booleans, found {}", x.element));
    }
    x.data = x.data.iter().map(|value| i64::from(*value == 0)).collect();
    Ok(Value::Ints(x))
}

pub fn select(operands: &Operands<'_>) -> OpResult<Value> {
    let flags = operands.ints(0)?;
    let dims = broadcast(&flags.dims, operands.at(1)?.dims())?;
    let dims = broadcast(&dims, operands.at(2)?.dims())?;
    let flags = flags.broadcast_to(&dims)?;
    if !operands.at(1)?.is_float() {
        let (x, y) = (operands.ints(1)?, operands.ints(2)?);
        let element = x.element;
        let (x, y) = (
            x.broadcast_to(&dims)?.dense(),
            y.broadcast_to(&dims)?.dense(),
        );
        let pairs = x.into_iter().zip(y);
        let chosen = flags.dense().into_iter().zip(pairs);
        let chosen = chosen.map(|(flag, (x, y))| if flag != 0 { x } else { y });
        return Ok(Value::Ints(Ints::new(element, dims, chosen.collect())));
    }
    // Most often one side is chosen for all elements, and needs no copy.
    let values = flags.dense();
    let side = match (values.iter().all(|f| *f != 0), flags.all_zero()) {
        (true, _) => Some(1),
        (_, true) => Some(2),
        _ => None,
    };
    if let Some(side) = side {
        return Ok(Value::Float(operands.view(side)?.broadcast_as(&dims)?));
    }
    let flags: Vec<u8> = values.into_iter().map(|f| u8::from(f != 0)).collect();
    let flags = Tensor::from_vec(flags, dims.as_slice(), operands.device()?)?;
    let x = operands.float(1)?.broadcast_as(dims.as_slice())?;
    let y = operands.float(2)?.broadcast_as(dims.as_slice())?;
    Ok(Value::from(flags.where_cond(&x, &y)?))
}

pub fn cast(element: ElementType, operands: &Operands<'_>) -> OpResult<Value> {
    let x = operands.at(0)?;
    match (x.is_float(), float_dtype(element)) {
        (true, Some(dtype)) => Ok(Value::from(operands.float(0)?.to_dtype(dtype)?)),
        (false, Some(dtype)) => Ok(Value::from(x.ints()?.to_float(dtype, operands.device()?)?)),
        (_, None) if !is_integer(element) => {
            refuse(format!("casts to {element} are not supported"))
        }
        (true, None) => {
            let x = operands.float(0)?;
            let values = x.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
            let values = values.into_iter().map(|value| match element {
                ElementType::Bool => i64::from(value != 0.0),
                _ => wrap(element, value as i64),
            });
            let values = values.collect();
            Ok(Value::Ints(Ints::new(element, x.dims().to_vec(), values)))
        }
        (false, None) => {
            let mut x = x.ints()?;
            x.data = x.data.iter().map(|value| wrap(element, *value)).collect();
            x.element = element;
            Ok(Value::Ints(x))
        }
    }
}

pub fn gelu(approximate: Approximate, operands: &Operands<'_>) -> OpResult<Value> {
    let x = operands.float(0)?;
    let w = wide(&x)?;
    let y = match approximate {
        Approximate::None => w.gelu_erf()?,
        Approximate::Tanh => w.gelu()?,
        Approximate::Sigmoid => {
            let gate = ((w.affine(-1.702, 0.0)?.exp()? + 1.0)?).recip()?;
            (w * gate)?
        }
        other => return refuse(format!("GELU as {other:?} is not known")),
    };
    Ok(Value::from(y.to_dtype(x.dtype())?))
}

/// `x ÷ (1 + e⁻ˣ)`.
pub fn silu(operands: &Operands<'_>) -> OpResult<Value> {
    let x = operands.view(0)?;
    if let Some(out) = operands.backend.silu(&x)? {
        return Ok(Value::Float(out));
    }
    let x = x.ready()?;
    Ok(Value::from(wide(&x)?.silu()?.to_dtype(x.dtype())?))
}
