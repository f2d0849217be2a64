//! Operations that look beyond an axis or along windows of it: padding,
//! repeating, convolutions.

use aimodel::PaddingMode;
use candle_core::Tensor;

use super::{arith::wide, operands::Operands};
use crate::{
    error::{OpResult, refuse},
    value::{Ints, Value, row_major},
};

/// The most elements that a result may have. What a program asks for is not
/// bounded by its size here.
const MAX_ELEMENTS: usize = 1 << 28;

/// Where each element along an axis comes from; `None` is the fill value.
type Sources = Vec<Option<usize>>;

pub fn pad(mode: PaddingMode, operands: &Operands<'_>) -> OpResult<Value> {
    let x = operands.at(0)?;
    let padding = operands.ints(1)?.as_usizes()?;
    if padding.len() != 2 * x.dims().len() {
        return refuse(format!("{padding:?} does not pad {x}"));
    }
    let sides = padding.chunks_exact(2).map(|side| (side[0], side[1]));
    let extents = x.dims().iter().zip(sides.clone());
    check_count(
        extents.map(|(extent, (before, after))| extent.checked_add(before)?.checked_add(after)),
    )?;
    let axes = x.dims().iter().zip(sides);
    let axes = axes.map(|(extent, side)| padded(mode, *extent, side));
    take(operands, &axes.collect::<OpResult<Vec<_>>>()?, Some(2))
}

/// Where the elements of a padded axis come from.
fn padded(mode: PaddingMode, extent: usize, (before, after): (usize, usize)) -> OpResult<Sources> {
    // A copy of what is there needs something to be there, and only as much.
    let max = match mode {
        PaddingMode::Constant => usize::MAX,
        PaddingMode::Replicate if extent > 0 => usize::MAX,
        PaddingMode::Circular | PaddingMode::Symmetric => extent,
        PaddingMode::Reflect => extent.saturating_sub(1),
        _ => 0,
    };
    if before.max(after) > max {
        return refuse(format!(
            "padding by {before} and {after} needs more than the {extent} elements of the axis"
        ));
    }
    let from = |at: usize| {
        // How far before the first element or behind the last.
        let (outside, is_before) = match at.checked_sub(before) {
            None => (before - at, true),
            Some(at) if at < extent => return Some(at),
            Some(at) => (at - extent + 1, false),
        };
        match (mode, is_before) {
            (PaddingMode::Replicate, true) => Some(0),
            (PaddingMode::Replicate, false) => Some(extent - 1),
            (PaddingMode::Reflect, true) => Some(outside),
            (PaddingMode::Reflect, false) => Some(extent - 1 - outside),
            (PaddingMode::Symmetric, true) | (PaddingMode::Circular, false) => Some(outside - 1),
            (PaddingMode::Symmetric, false) | (PaddingMode::Circular, true) => {
                Some(extent - outside)
            }
            _ => None,
        }
    };
    Ok((0..before + extent + after).map(from).collect())
}

pub fn tile(operands: &Operands<'_>) -> OpResult<Value> {
    let x = operands.at(0)?;
    let counts = operands.ints(1)?.as_usizes()?;
    let Some(outer) = x.dims().len().checked_sub(counts.len()) else {
        return refuse(format!("{counts:?} repeats more axes than {x} has"));
    };
    let counts = std::iter::repeat_n(1, outer).chain(counts);
    let axes: Vec<(usize, usize)> = x.dims().iter().copied().zip(counts).collect();
    check_count(
        axes.iter()
            .map(|(extent, count)| extent.checked_mul(*count)),
    )?;
    let axes = axes.into_iter();
    let axes = axes.map(|(extent, count)| (0..extent * count).map(move |at| Some(at % extent)));
    take(
        operands,
        &axes.map(Iterator::collect).collect::<Vec<_>>(),
        None,
    )
}

/// Refuses extents of more elements than there can be.
fn check_count(mut extents: impl Iterator<Item = Option<usize>>) -> OpResult<()> {
    let count = extents.try_fold(1_usize, |count, extent| {
        // Axes are listed element by element before one of none empties the list.
        count.checked_mul(extent?.max(1))
    });
    match count {
        Some(..=MAX_ELEMENTS) => Ok(()),
        _ => refuse(format!("the result has more than {MAX_ELEMENTS} elements")),
    }
}

/// The elements of the first operand that the sources of its axes name, with
/// the operand `fill` between them.
fn take(operands: &Operands<'_>, axes: &[Sources], fill: Option<usize>) -> OpResult<Value> {
    let fills = fill.filter(|_| axes.iter().flatten().any(Option::is_none));
    if !operands.at(0)?.is_float() {
        let fill = match fills {
            Some(index) => operands.ints(index)?.scalar()?,
            None => 0,
        };
        return Ok(Value::Ints(take_ints(&operands.ints(0)?, axes, fill)));
    }
    let mut x = operands.float(0)?.contiguous()?;
    for (axis, sources) in axes.iter().enumerate() {
        let extent = x.dims()[axis];
        if sources.len() == extent && sources.iter().enumerate().all(|(i, s)| *s == Some(i)) {
            continue;
        }
        x = match fills {
            Some(fill) => {
                let before = sources.iter().take_while(|source| source.is_none()).count();
                let after = sources.len().saturating_sub(before + extent);
                let block = |extent: usize| -> OpResult<Tensor> {
                    let mut dims = x.dims().to_vec();
                    dims[axis] = extent;
                    Ok(operands.float(fill)?.broadcast_as(dims)?.contiguous()?)
                };
                let parts = [block(before)?, x.clone(), block(after)?];
                // CUDA cannot allocate 0 bytes.
                let full = parts.iter().filter(|part| part.dims()[axis] > 0);
                Tensor::cat(&full.collect::<Vec<_>>(), axis)?
            }
            None => {
                let sources = sources.iter().flatten().map(|source| *source as u32);
                let sources: Vec<u32> = sources.collect();
                let index = Tensor::new(sources, x.device())?;
                x.index_select(&index, axis)?
            }
        };
    }
    Ok(Value::from(x))
}

fn take_ints(x: &Ints, axes: &[Sources], fill: i64) -> Ints {
    let dims: Vec<usize> = axes.iter().map(Vec::len).collect();
    let (data, steps) = (x.dense(), row_major(&x.dims));
    let mut places = vec![Some(0)];
    for (sources, step) in axes.iter().zip(steps) {
        let along = |place: &Option<usize>| {
            let place = *place;
            sources.iter().map(move |at| Some(place? + (*at)? * step))
        };
        places = places.iter().flat_map(along).collect();
    }
    let of = |place: Option<usize>| place.map_or(fill, |place| data[place]);
    Ints::new(x.element, dims, places.into_iter().map(of).collect())
}

/// A convolution over all axes but the first two, which are those of the batch
/// and of the channels.
pub fn convolve(operands: &Operands<'_>) -> OpResult<Value> {
    let (x, weight) = (operands.float(0)?, operands.float(1)?);
    let (stride, dilation) = (
        operands.ints(2)?.as_usizes()?,
        operands.ints(3)?.as_usizes()?,
    );
    let groups = operands.ints(4)?.scalar()?;
    let wrong = || {
        refuse(format!(
            "{:?} is not convolved with {:?} in {groups} groups, strides of {stride:?} and \
             dilations of {dilation:?}",
            x.dims(),
            weight.dims()
        ))
    };
    let ([batch, channels, space @ ..], [filters, depth, kernel @ ..]) = (x.dims(), weight.dims())
    else {
        return wrong();
    };
    let (batch, channels, filters, depth) = (*batch, *channels, *filters, *depth);
    let rank = space.len();
    let groups = match usize::try_from(groups) {
        Ok(groups) if groups > 0 && filters % groups == 0 => groups,
        _ => return wrong(),
    };
    if [kernel.len(), stride.len(), dilation.len()] != [rank; 3]
        || depth.checked_mul(groups) != Some(channels)
        || stride.contains(&0)
    {
        return wrong();
    }
    let windows = (0..rank).map(|axis| {
        let reach = dilation[axis].checked_mul(kernel[axis].checked_sub(1)?)?;
        let room = space[axis].checked_sub(reach)?.checked_sub(1)?;
        Some(room / stride[axis] + 1)
    });
    let Some(windows) = windows.collect::<Option<Vec<usize>>>() else {
        return wrong();
    };
    for extents in [
        [&[batch, channels][..], space, &[]],
        [&[filters, depth], kernel, &[]],
        [&[batch, channels], &windows, kernel],
        [&[batch, filters], &windows, &[]],
    ] {
        check_count(extents.concat().into_iter().map(Some))?;
    }
    let [points, taps, area]: [usize; 3] =
        [&windows[..], kernel, space].map(|extents| extents.iter().product());
    // The place of each tap of each window.
    let mut places = vec![0_u32];
    for (extents, steps) in [(kernel, &dilation), (&windows[..], &stride)] {
        for (axis, step) in row_major(space).into_iter().enumerate() {
            let along = |place: &u32| {
                // Of one window there is no step, however far it would be.
                let steps = if extents[axis] > 1 { steps[axis] } else { 0 };
                let (place, step) = (*place, (steps * step) as u32);
                (0..extents[axis] as u32).map(move |at| place + at * step)
            };
            places = places.iter().flat_map(along).collect();
        }
    }
    let index = Tensor::from_vec(places, taps * points, x.device())?;
    let dtype = x.dtype();
    let x = wide(&x)?.contiguous()?.reshape((batch * channels, area))?;
    let columns = x.index_select(&index, 1)?;
    let columns = columns.reshape((batch, groups, depth * taps, points))?;
    let weight = wide(&weight)?.contiguous()?;
    let weight = weight.reshape((1, groups, filters / groups, depth * taps))?;
    let y = match points {
        // Windows that cover everything: one product for the whole batch.
        1 => {
            let columns = columns.squeeze(3)?.transpose(0, 1)?.contiguous()?;
            let y = columns.matmul(&weight.squeeze(0)?.t()?.contiguous()?)?;
            y.transpose(0, 1)?.contiguous()?
        }
        _ => weight.broadcast_matmul(&columns)?,
    };
    let dims = [&[batch, filters][..], &windows].concat();
    Ok(Value::from(y.reshape(dims)?.to_dtype(dtype)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_that_an_axis_cannot_give_is_refused() {
        let is_refused = |mode, extent, side| padded(mode, extent, side).is_err();
        assert!(is_refused(PaddingMode::Reflect, 3, (3, 0)));
        assert!(is_refused(PaddingMode::Reflect, 0, (0, 1)));
        assert!(is_refused(PaddingMode::Symmetric, 3, (0, 4)));
        assert!(is_refused(PaddingMode::Circular, 3, (4, 0)));
        assert!(is_refused(PaddingMode::Replicate, 0, (1, 0)));
        assert!(!is_refused(PaddingMode::Constant, 0, (1, 0)));
        assert!(!is_refused(PaddingMode::Reflect, 3, (2, 2)));
    }

    #[test]
    fn results_that_no_machine_holds_are_refused() {
        let huge = [1 << 20; 3].into_iter();
        assert!(check_count(huge.map(Some)).is_err());
        assert!(check_count([0, usize::MAX].into_iter().map(Some)).is_err());
        assert!(check_count([4, 0].into_iter().map(Some)).is_ok());
        assert!(check_count([1 << 20, 1 << 20, 0].into_iter().map(Some)).is_err());
        assert!(check_count([Some(1), None].into_iter()).is_err());
    }
}
