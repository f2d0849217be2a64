//! Inference of result shapes.

use crate::{
    Dim, Result,
    build::{operands, show},
};

/// The extents of two tensors that are broadcast against each other: aligned
/// at the last dimension, where 1 fits everything and `?` is as much as is
/// known.
pub(crate) fn broadcast(op: &str, a: &[Dim], b: &[Dim]) -> Result<Vec<Dim>> {
    let rank = a.len().max(b.len());
    let from_end = |dims: &[Dim], i: usize| match (dims.len() + i).checked_sub(rank) {
        Some(index) => dims[index],
        None => Dim::Static(1),
    };
    (0..rank)
        .map(|i| match (from_end(a, i), from_end(b, i)) {
            (Dim::Static(1), other) | (other, Dim::Static(1)) => Ok(other),
            (Dim::Dynamic, other) | (other, Dim::Dynamic) => Ok(other),
            (x, y) if x == y => Ok(x),
            _ => Err(operands(
                op,
                format!("{} and {} do not broadcast", show(a), show(b)),
            )),
        })
        .collect()
}

/// Extents from the elements of a shape vector, of which some are unknown.
pub(crate) fn from_elements(op: &str, elements: &[Option<i64>]) -> Result<Vec<Dim>> {
    elements
        .iter()
        .map(|element| match element {
            None => Ok(Dim::Dynamic),
            Some(extent) => u64::try_from(*extent)
                .map(Dim::Static)
                .map_err(|_| operands(op, format!("{extent} is not an extent"))),
        })
        .collect()
}

/// An axis that may count from the end.
pub(crate) fn axis(op: &str, axis: i64, rank: usize) -> Result<usize> {
    let from_end = if axis < 0 { axis + rank as i64 } else { axis };
    match usize::try_from(from_end) {
        Ok(index) if index < rank => Ok(index),
        _ => Err(operands(
            op,
            format!("there is no axis {axis} among {rank}"),
        )),
    }
}

/// The extent of `begin..end` in steps of `stride`, with what is known.
pub(crate) fn slice(dim: Dim, begin: Option<i64>, end: Option<i64>, stride: Option<i64>) -> Dim {
    let (Some(begin), Some(end), Some(stride)) = (begin, end, stride) else {
        return Dim::Dynamic;
    };
    if stride < 1 {
        return Dim::Dynamic;
    }
    let Some(extent) = dim.known() else {
        // A slice to the end has the extent of its operand. A slice to `end`
        // may be shorter than `end`, because the extent is not known.
        return Dim::Dynamic;
    };
    let clamp = |index: i64| {
        let extent = extent as i64;
        (if index < 0 { index + extent } else { index }).clamp(0, extent)
    };
    let length = (clamp(end) - clamp(begin)).max(0);
    Dim::Static((length as u64).div_ceil(stride as u64))
}
