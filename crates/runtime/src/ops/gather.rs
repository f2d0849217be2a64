//! Operations that gather elements by indices.

use aimodel::ElementType;
use candle_core::Tensor;
use half::f16;

use super::operands::{Operands, axis};
use crate::{
    error::{OpResult, refuse},
    value::{Ints, Mapped, Value, read_f16, row_major},
};

/// The row-major position that each row of indices has among the first
/// dimensions of `dims`, and how many dimensions those are.
fn places(dims: &[usize], indices: &Ints) -> OpResult<(Vec<usize>, usize)> {
    let depth = indices.dims.last().copied().unwrap_or(0);
    if depth == 0 || depth > dims.len() {
        return refuse(format!("indices {:?} do not fit {dims:?}", indices.dims));
    }
    let strides = row_major(&dims[..depth]);
    let rows = indices.dense();
    let rows = rows.chunks_exact(depth).map(|row| {
        let mut place = 0;
        for ((&index, &extent), stride) in row.iter().zip(dims).zip(&strides) {
            let wrapped = if index < 0 {
                index + extent as i64
            } else {
                index
            };
            match usize::try_from(wrapped) {
                Ok(index) if index < extent => place += index * stride,
                _ => return refuse(format!("index {index} is out of range for {extent}")),
            }
        }
        Ok(place)
    });
    Ok((rows.collect::<OpResult<_>>()?, depth))
}

pub fn gather_nd(operands: &Operands<'_>) -> OpResult<Value> {
    let (x, indices) = (operands.at(0)?, operands.ints(1)?);
    let (places, depth) = places(x.dims(), &indices)?;
    let rest = &x.dims()[depth..];
    let width: usize = rest.iter().product();
    let dims = [&indices.dims[..indices.dims.len() - 1], rest].concat();
    Ok(match x {
        Value::Ints(x) => {
            let data = x.dense();
            let rows = places.iter().map(|at| &data[at * width..(at + 1) * width]);
            Value::Ints(Ints::new(
                x.element,
                dims,
                rows.flatten().copied().collect(),
            ))
        }
        // A table in the mapped file is read there.
        Value::Mapped(table) if table.element == ElementType::F16 => {
            let rows = rows_of(table, &places, width)?;
            Value::from(Tensor::from_vec(rows, dims, operands.device()?)?)
        }
        _ => {
            let x = operands.view(0)?;
            if let Some(rows) = operands.backend.gather_rows(&x, width, &places)? {
                return Ok(Value::Float(rows.reshape(&dims)?));
            }
            let x = x.ready()?;
            let count: usize = x.dims()[..depth].iter().product();
            let at = places.iter().map(|at| *at as i64).collect();
            let at = Ints::vector(ElementType::Si32, at).to_index(operands.device()?)?;
            let rows = x.reshape((count, width))?.index_select(&at, 0)?;
            Value::from(rows.reshape(dims)?)
        }
    })
}

fn rows_of(table: &Mapped, places: &[usize], width: usize) -> OpResult<Vec<f16>> {
    let bytes = table.bytes()?;
    let mut rows = Vec::with_capacity(places.len() * width);
    for at in places {
        match bytes.get(2 * at * width..2 * (at + 1) * width) {
            Some(row) => rows.extend(read_f16(row)),
            None => return refuse("a constant is shorter than its type says"),
        }
    }
    Ok(rows)
}

pub fn gather_along_axis(operands: &Operands<'_>) -> OpResult<Value> {
    let (x, indices) = (operands.at(0)?, operands.ints(1)?);
    let axis = axis(operands.ints(2)?.scalar()?, x.dims().len())?;
    let dims = x.dims().to_vec();
    let fits = dims.len() == indices.dims.len()
        && (0..dims.len()).all(|i| i == axis || indices.dims[i] == dims[i]);
    if !fits {
        return refuse(format!("indices {:?} do not fit {x}", indices.dims));
    }
    let mut indices = indices;
    let extent = dims[axis] as i64;
    if let Some(out) = indices
        .data
        .iter()
        .find(|v| !(-extent..extent).contains(*v))
    {
        return refuse(format!("index {out} is out of range for {extent}"));
    }
    let wrapped = |v: &i64| if *v < 0 { v + extent } else { *v };
    indices.data = indices.data.iter().map(wrapped).collect();
    if let Value::Ints(x) = x {
        return Ok(Value::Ints(take_ints(x, &indices, axis)));
    }
    let x = operands.view(0)?;
    // One index for a whole slice: whole slices are copied.
    let whole =
        (0..dims.len()).all(|i| i == axis || indices.strides[i] == 0 || indices.dims[i] == 1);
    if whole {
        let stride = indices.strides[axis];
        let at = (0..indices.dims[axis]).map(|i| indices.data[i * stride]);
        if axis == 0 {
            let width: usize = dims[1..].iter().product();
            let places: Vec<usize> = at.clone().map(|at| at as usize).collect();
            if let Some(rows) = operands.backend.gather_rows(&x, width, &places)? {
                return Ok(Value::Float(rows.reshape(&indices.dims)?));
            }
        }
        let x = x.ready()?.contiguous()?;
        let at = Ints::vector(ElementType::Si32, at.collect());
        let at = at.to_index(operands.device()?)?;
        return Ok(Value::from(x.index_select(&at, axis)?));
    }
    let x = x.ready()?;
    let at = indices.to_index(operands.device()?)?.contiguous()?;
    Ok(Value::from(x.contiguous()?.gather(&at, axis)?))
}

fn take_ints(x: &Ints, indices: &Ints, axis: usize) -> Ints {
    let (data, strides) = (x.dense(), row_major(&x.dims));
    let own = row_major(&indices.dims);
    let taken = indices.dense().into_iter().enumerate().map(|(at, index)| {
        let place = (0..own.len()).map(|i| {
            let position = if i == axis {
                index as usize
            } else {
                at / own[i] % indices.dims[i]
            };
            position * strides[i]
        });
        data[place.sum::<usize>()]
    });
    Ints::new(x.element, indices.dims.clone(), taken.collect())
}
