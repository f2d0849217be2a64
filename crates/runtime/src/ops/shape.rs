//! Operations that move elements, and operations on extents.

use aimodel::ElementType;
use candle_core::Tensor;

use super::operands::{Operands, axis};
use crate::{
    backend::{Backend, DeviceTensor},
    error::{OpResult, refuse},
    value::{Ints, Value, broadcast, gather_strided},
};

pub fn get_shape(operands: &Operands<'_>) -> OpResult<Value> {
    let dims = operands.at(0)?.dims().iter().map(|d| *d as i64).collect();
    Ok(Value::Ints(Ints::vector(ElementType::Ui32, dims)))
}

pub fn reshape(operands: &Operands<'_>) -> OpResult<Value> {
    let x = operands.at(0)?;
    let mut dims = operands.ints(1)?.dense();
    let count: usize = x.dims().iter().product();
    if let Some(open) = dims.iter().position(|d| *d == -1) {
        let rest: i64 =
            dims.iter().enumerate().fold(
                1,
                |product, (i, extent)| {
                    if i == open { product } else { product * extent }
                },
            );
        if rest <= 0 || count as i64 % rest != 0 {
            return refuse(format!("{count} elements cannot be reshaped to {dims:?}"));
        }
        dims[open] = count as i64 / rest;
    }
    let dims = Ints::vector(ElementType::Si32, dims).as_usizes()?;
    reshape_to(x, dims, operands)
}

fn reshape_to(x: &Value, dims: Vec<usize>, operands: &Operands<'_>) -> OpResult<Value> {
    Ok(match x {
        Value::Ints(ints) => Value::Ints(ints.reshape(dims)?),
        other => {
            let x = other.float(operands.backend.device())?;
            Value::Float(operands.backend.contiguous(&x)?.reshape(&dims)?)
        }
    })
}

pub fn transpose(operands: &Operands<'_>) -> OpResult<Value> {
    let x = operands.at(0)?;
    let order = operands.axes(1, x.dims().len())?;
    if order.len() != x.dims().len() {
        return refuse(format!("{order:?} does not order the axes of {x}"));
    }
    Ok(match x {
        Value::Ints(ints) => {
            let mut out = ints.clone();
            out.dims = order.iter().map(|axis| ints.dims[*axis]).collect();
            out.strides = order.iter().map(|axis| ints.strides[*axis]).collect();
            Value::Ints(out)
        }
        _ => Value::Float(operands.view(0)?.permute(order)?),
    })
}

/// The part of one axis that a slice covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub begin: usize,
    pub count: usize,
    pub stride: usize,
}

/// The bounds of a slice. A negative begin or end counts from the end of the
/// axis, and one beyond the end is the end; with `grow`, one beyond the end
/// stays as it is.
pub(crate) fn bounds(
    dims: &[usize],
    begin: &Ints,
    end: &Ints,
    stride: &Ints,
    grow: bool,
) -> OpResult<Vec<Bounds>> {
    let (begin, end, stride) = (begin.dense(), end.dense(), stride.dense());
    if [begin.len(), end.len(), stride.len()] != [dims.len(); 3] {
        return refuse(format!(
            "{begin:?}, {end:?} and {stride:?} do not slice {dims:?}"
        ));
    }
    let clamp = |value: i64, extent: i64, grow: bool| {
        let value = if value < 0 { value + extent } else { value };
        // The largest i32 means the end, never an extent.
        if grow && value < i64::from(i32::MAX) {
            value.max(0)
        } else {
            value.clamp(0, extent)
        }
    };
    let one = |i: usize| {
        let extent = dims[i] as i64;
        if stride[i] < 1 {
            return refuse(format!("a stride of {} is not supported", stride[i]));
        }
        let from = clamp(begin[i], extent, grow);
        let to = clamp(end[i], extent, grow).max(from);
        Ok(Bounds {
            begin: from as usize,
            count: ((to - from) as usize).div_ceil(stride[i] as usize),
            stride: stride[i] as usize,
        })
    };
    (0..dims.len()).map(one).collect()
}

pub fn slice(operands: &Operands<'_>) -> OpResult<Value> {
    let x = operands.at(0)?;
    let parts = bounds(
        x.dims(),
        &operands.ints(1)?,
        &operands.ints(2)?,
        &operands.ints(3)?,
        false,
    )?;
    match x {
        Value::Ints(ints) => Ok(Value::Ints(slice_ints(ints, &parts))),
        _ => {
            let mut y = operands.view(0)?;
            for (axis, part) in parts.iter().enumerate() {
                if part.stride == 1 {
                    y = y.narrow(axis, part.begin, part.count)?;
                } else {
                    let places = (0..part.count).map(|i| (part.begin + i * part.stride) as i64);
                    let places = Ints::vector(ElementType::Si32, places.collect());
                    let places = places.to_index(operands.device()?)?;
                    let from = y.ready()?.contiguous()?;
                    y = from.index_select(&places, axis)?.into();
                }
            }
            Ok(Value::Float(y))
        }
    }
}

fn slice_ints(x: &Ints, parts: &[Bounds]) -> Ints {
    let dims: Vec<usize> = parts.iter().map(|part| part.count).collect();
    let start = parts.iter().zip(&x.strides).map(|(p, s)| p.begin * s).sum();
    let strides: Vec<usize> = parts
        .iter()
        .zip(&x.strides)
        .map(|(part, stride)| part.stride * stride)
        .collect();
    let mut out = Vec::new();
    gather_strided(&dims, &strides, start, &mut |at| out.push(x.data[at]));
    Ints::new(x.element, dims, out)
}

pub fn slice_update(operands: &Operands<'_>) -> OpResult<Value> {
    let (x, update) = (operands.at(0)?, operands.at(4)?);
    let parts = bounds(
        x.dims(),
        &operands.ints(1)?,
        &operands.ints(2)?,
        &operands.ints(3)?,
        false,
    )?;
    let counts: Vec<usize> = parts.iter().map(|part| part.count).collect();
    if counts != update.dims() {
        return refuse(format!(
            "the slice is {counts:?}, and the update is {update}"
        ));
    }
    if counts.contains(&0) {
        return Ok(x.clone());
    }
    if let Value::Ints(ints) = x {
        return Ok(Value::Ints(update_ints(ints, &parts, &update.ints()?)));
    }
    let (x, update) = (operands.float(0)?, operands.float(4)?.contiguous()?);
    if parts.iter().any(|part| part.stride != 1) {
        return refuse("a stride in a slice update of floats is not supported");
    }
    let x = DeviceTensor::from(x.force_contiguous()?);
    write_slice(operands.backend, &x, &update.into(), &parts)?;
    Ok(Value::Float(x))
}

/// Writes a contiguous `update` into the storage of `x`, at strides of 1.
pub(crate) fn write_slice(
    backend: &dyn Backend,
    x: &DeviceTensor,
    update: &DeviceTensor,
    parts: &[Bounds],
) -> OpResult<()> {
    let mut view = x.clone();
    for (axis, part) in parts.iter().enumerate() {
        view = view.narrow(axis, part.begin, part.count)?;
    }
    if backend.write(&view, update)? {
        return Ok(());
    }
    let (x, update) = (x.ready()?, update.ready()?);
    let dims = x.dims();
    let partial: Vec<usize> = (0..dims.len())
        .filter(|&i| parts[i].count != dims[i])
        .collect();
    match partial[..] {
        [] => Ok(x.slice_set(&update, 0, 0)?),
        [axis] => Ok(x.slice_set(&update, axis, parts[axis].begin)?),
        [first, ..] => match (0..first).find(|&i| dims[i] > 1) {
            None => {
                let part = parts[first];
                let inner = x.narrow(first, part.begin, part.count)?;
                let mut parts = parts.to_vec();
                parts[first].begin = 0;
                write_slice(backend, &inner.into(), &update.into(), &parts)
            }
            // Only contiguous parts can be written.
            Some(axis) => {
                for i in 0..dims[axis] {
                    let mut parts = parts.to_vec();
                    (parts[axis].begin, parts[axis].count) = (0, 1);
                    let update = update.narrow(axis, i, 1)?.contiguous()?;
                    let x = x.narrow(axis, i, 1)?;
                    write_slice(backend, &x.into(), &update.into(), &parts)?;
                }
                Ok(())
            }
        },
    }
}

fn update_ints(x: &Ints, parts: &[Bounds], update: &Ints) -> Ints {
    let mut out = Ints::new(x.element, x.dims.clone(), x.dense());
    let mut data = out.data.to_vec();
    let start = parts
        .iter()
        .zip(&out.strides)
        .map(|(p, s)| p.begin * s)
        .sum();
    let strides: Vec<usize> = parts
        .iter()
        .zip(&out.strides)
        .map(|(part, stride)| part.stride * stride)
        .collect();
    let mut values = update.dense().into_iter();
    gather_strided(&update.dims, &strides, start, &mut |at| {
        if let Some(value) = values.next() {
            data[at] = value;
        }
    });
    out.data = data.into();
    out
}

pub fn concat(operands: &Operands<'_>) -> OpResult<Value> {
    let parts = &operands.operands[1..];
    let along = operands.ints(0)?.scalar()?;
    let Some(first) = parts.first() else {
        return refuse("there are no tensors to concatenate");
    };
    if first.is_float() {
        let parts = (0..parts.len())
            .map(|i| {
                let part = operands.float(i + 1)?;
                Ok(if part.rank() == 0 {
                    part.reshape(1)?
                } else {
                    part
                })
            })
            .collect::<OpResult<Vec<_>>>()?;
        let axis = axis(along, parts[0].rank())?;
        // CUDA cannot allocate 0 bytes, and such a part adds nothing.
        let adds = |part: &Tensor| part.dims().get(axis).is_none_or(|extent| *extent > 0);
        let full: Vec<Tensor> = parts.iter().filter(|part| adds(part)).cloned().collect();
        return Ok(Value::from(match (&full[..], &parts[..]) {
            ([one], _) | ([], [one, ..]) => one.clone(),
            _ => Tensor::cat(&full, axis)?,
        }));
    }
    let parts = parts
        .iter()
        .map(|part| {
            let part = part.ints()?;
            if part.dims.is_empty() {
                return part.reshape(vec![1]);
            }
            Ok(part)
        })
        .collect::<OpResult<Vec<_>>>()?;
    Ok(Value::Ints(concat_ints(
        axis(along, parts[0].dims.len())?,
        &parts,
    )?))
}

fn concat_ints(axis: usize, parts: &[Ints]) -> OpResult<Ints> {
    let mut dims = parts[0].dims.clone();
    dims[axis] = 0;
    for part in parts {
        let same = part.dims.len() == dims.len()
            && (0..dims.len()).all(|i| i == axis || part.dims[i] == dims[i]);
        if !same {
            return refuse(format!(
                "{:?} and {:?} cannot be concatenated along axis {axis}",
                part.dims, parts[0].dims
            ));
        }
        dims[axis] += part.dims[axis];
    }
    let outer: usize = dims[..axis].iter().product();
    let mut data = Vec::with_capacity(dims.iter().product());
    let pieces: Vec<(Vec<i64>, usize)> = parts
        .iter()
        .map(|part| (part.dense(), part.dims[axis..].iter().product()))
        .collect();
    for row in 0..outer {
        for (piece, width) in &pieces {
            data.extend_from_slice(&piece[row * width..(row + 1) * width]);
        }
    }
    Ok(Ints::new(parts[0].element, dims, data))
}

pub fn expand_dims(operands: &Operands<'_>) -> OpResult<Value> {
    let x = operands.at(0)?;
    let count = operands.ints(1)?.count();
    let mut axes = operands.axes(1, x.dims().len() + count)?;
    axes.sort_unstable();
    let mut dims = x.dims().to_vec();
    for axis in axes {
        dims.insert(axis, 1);
    }
    reshape_to(x, dims, operands)
}

pub fn shrink_dims(operands: &Operands<'_>) -> OpResult<Value> {
    let x = operands.at(0)?;
    let mut axes = operands.axes(1, x.dims().len())?;
    axes.sort_unstable();
    let mut dims = x.dims().to_vec();
    for axis in axes.into_iter().rev() {
        if dims.remove(axis) != 1 {
            return refuse(format!("dimension {axis} of {x} is not 1"));
        }
    }
    match x {
        Value::Float(tensor) => {
            // A reshape could copy a view of a cache.
            let mut y = tensor.clone();
            let mut axes = operands.axes(1, x.dims().len())?;
            axes.sort_unstable();
            for axis in axes.into_iter().rev() {
                y = y.squeeze(axis)?;
            }
            Ok(Value::Float(y))
        }
        other => reshape_to(other, dims, operands),
    }
}

fn broadcast_value(x: &Value, dims: &[usize], operands: &Operands<'_>) -> OpResult<Value> {
    Ok(match x {
        Value::Ints(ints) => Value::Ints(ints.broadcast_to(dims)?),
        other => Value::Float(other.float(operands.backend.device())?.broadcast_as(dims)?),
    })
}

pub fn broadcast_to(operands: &Operands<'_>) -> OpResult<Value> {
    let dims = operands.ints(1)?.as_usizes()?;
    broadcast_value(operands.at(0)?, &dims, operands)
}

pub fn broadcast_in_dims(operands: &Operands<'_>) -> OpResult<Value> {
    let x = operands.at(0)?;
    let mut dims = x.dims().to_vec();
    let extents = operands.ints(1)?.as_usizes()?;
    let axes = operands.axes(2, dims.len())?;
    if extents.len() != axes.len() {
        return refuse(format!("{} extents for {} axes", extents.len(), axes.len()));
    }
    for (axis, extent) in axes.into_iter().zip(extents) {
        dims[axis] = extent;
    }
    broadcast_value(x, &dims, operands)
}

pub fn broadcast_shapes(operands: &Operands<'_>) -> OpResult<Value> {
    let (a, b) = (operands.ints(0)?, operands.ints(1)?);
    let dims = broadcast(&a.as_usizes()?, &b.as_usizes()?)?;
    let dims = dims.into_iter().map(|d| d as i64).collect();
    Ok(Value::Ints(Ints::vector(a.element, dims)))
}

/// The maximum number of numbers that a range may have.
const MAX_RANGE: i128 = 1 << 28;

pub fn range(operands: &Operands<'_>) -> OpResult<Value> {
    let first = operands.ints(0)?;
    let (begin, end, step) = (
        first.scalar()?,
        operands.ints(1)?.scalar()?,
        operands.ints(2)?.scalar()?,
    );
    let span = i128::from(end) - i128::from(begin);
    // As if forward: the steps that begin before the end.
    let (span, length) = (span * i128::from(step.signum()), i128::from(step).abs());
    if length == 0 {
        return refuse("the step is 0");
    }
    let count = span.div_euclid(length) + i128::from(span.rem_euclid(length) != 0);
    if count > MAX_RANGE {
        return refuse(format!("a range of {count} numbers is too long"));
    }
    let values = (0..count.max(0)).map(|i| begin + i as i64 * step).collect();
    Ok(Value::Ints(Ints::vector(first.element, values)))
}
