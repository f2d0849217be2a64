//! Operands and results of each operation.
//!
//! The table has every operation that the `coreai` dialect stores. For those
//! that the graphs of this crate use, the types are checked too, as far as they
//! follow from one another without knowing values.

use crate::{Dim, ElementType, TensorType, Type};

/// The regions of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Regions {
    /// It has none.
    None,
    /// The decomposition of the operation, with an argument for each operand.
    Decomposition,
    /// One that combines two elements.
    Combiner,
    /// Not known.
    Unknown,
}

/// How many operands and results an operation has, and its regions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    /// The minimum and the maximum number of operands.
    pub operands: (usize, usize),
    /// The number of results, where it is known.
    pub results: Option<usize>,
    pub regions: Regions,
}

/// The rule of an operation, named without the namespace.
pub(crate) fn rule(op: &str) -> Option<Rule> {
    let rule = |operands, results, regions| {
        Some(Rule {
            operands,
            results: Some(results),
            regions,
        })
    };
    let primitive = |count| rule((count, count), 1, Regions::None);
    let decomposed = |count| rule((count, count), 1, Regions::Decomposition);
    if let Some(name) = op
        .strip_prefix("broadcasting_")
        .and_then(|name| name.strip_suffix("_v1"))
    {
        return match name {
            "where" => decomposed(3),
            "batch_matmul" => decomposed(2),
            name if BINARY.contains(&name) || COMPARE.contains(&name) => decomposed(2),
            _ => None,
        };
    }
    if let Some(name) = op
        .strip_prefix("primitive.")
        .and_then(|name| name.strip_suffix("_v1"))
    {
        if UNARY.contains(&name) {
            return primitive(1);
        }
        if BINARY.contains(&name) || COMPARE.contains(&name) {
            return primitive(2);
        }
    }
    match op {
        "primitive.constant_v1" => primitive(0),
        "primitive.cast_v1" | "primitive.gelu_v1" => primitive(1),
        "primitive.get_shape_v1" | "primitive.get_shape_v2" => primitive(1),
        "primitive.reshape_v1" | "primitive.reshape_v2" => primitive(2),
        "primitive.transpose_v1" | "primitive.batch_matmul_v1" => primitive(2),
        "primitive.broadcast_to_v1" | "primitive.broadcast_shapes_v1" => primitive(2),
        "primitive.expand_dims_v1" | "primitive.shrink_dims_v1" => primitive(2),
        "primitive.gather_nd_v1" => primitive(2),
        "primitive.gather_along_axis_v1" | "primitive.broadcast_in_dims_v1" => primitive(3),
        "primitive.where_v1" | "primitive.range_v1" => primitive(3),
        "primitive.slice_v1" | "primitive.blockwise_shift_scale_v2" => primitive(4),
        "primitive.slice_update_v1" => primitive(5),
        "primitive.pad_v1" => primitive(3),
        "primitive.conv2d_v1" | "primitive.conv3d_v1" => primitive(5),
        "primitive.concat_v1" => rule((2, usize::MAX), 1, Regions::None),
        "primitive.reduce_v1" => rule((3, 3), 1, Regions::Combiner),
        "silu_v1" => decomposed(1),
        "softmax_v1" | "reduce_mean_v1" | "reduce_sum_v1" | "reduce_product_v1" => decomposed(2),
        "tile_v2" => decomposed(2),
        "dataflow.create_token_v1" => primitive(0),
        "dataflow.read_handle_v1" => rule((2, 2), 2, Regions::None),
        "dataflow.write_handle_v1" => primitive(3),
        "dataflow.yield_v1" | "dataflow.output_v1" => rule((0, usize::MAX), 0, Regions::None),
        "dataflow.invoke_v1" => Some(Rule {
            operands: (0, usize::MAX),
            results: None,
            regions: Regions::None,
        }),
        op if OTHERS.contains(&op) => Some(Rule {
            operands: (0, usize::MAX),
            results: None,
            regions: Regions::Unknown,
        }),
        _ => None,
    }
}

/// Primitives that map each element to one of the same type.
const UNARY: &[&str] = &[
    "abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "cos", "cosh", "erf", "exp", "log",
    "not", "round", "rsqrt", "sin", "sinh", "sqrt", "tan", "tanh",
];

/// Operations that combine two elements to one of the same type.
const BINARY: &[&str] = &[
    "add",
    "bitwise_and",
    "bitwise_or",
    "bitwise_xor",
    "divide",
    "floor_divide",
    "logical_and",
    "logical_or",
    "logical_xor",
    "maximum",
    "minimum",
    "modulo",
    "mul",
    "pow",
    "sub",
];

/// Operations that compare two elements.
const COMPARE: &[&str] = &["equal", "greater", "not_equal"];

/// Operations that are known by name only.
const OTHERS: &[&str] = &[
    "all_v1",
    "any_v1",
    "argmax_v1",
    "asymmetric_quantization_statistics_v1",
    "ax.copy_discarding_constraints_v1",
    "ax.copy_with_constraints_v1",
    "controlflow.condition_v1",
    "controlflow.if_v1",
    "controlflow.while_v1",
    "dataflow.isolated_group_v1",
    "dataflow.join_token_v1",
    "debuginfo.record_v1",
    "debuginfo.value_v1",
    "dequantize_v1",
    "dequantize_v2",
    "execution.delegate_v1",
    "execution.delegate_v2",
    "metal.metal4_kernel_v1",
    "primitive.argsort_v1",
    "primitive.blockwise_shift_scale_v1",
    "primitive.build_sparse_with_bitmask_v1",
    "primitive.conv_transpose2d_v1",
    "primitive.conv_transpose3d_v1",
    "primitive.create_complex_v1",
    "primitive.image_to_tensor_v1",
    "primitive.imaginary_part_v1",
    "primitive.interpolate_coordinates_v1",
    "primitive.interpolate_v1",
    "primitive.lut_to_dense_v1",
    "primitive.lut_to_sparse_with_bitmask_v1",
    "primitive.max_pool_2d_v1",
    "primitive.max_pool_3d_v1",
    "primitive.non_zero_v1",
    "primitive.real_part_v1",
    "primitive.reduce_index_v1",
    "primitive.reverse_v1",
    "primitive.scan_v1",
    "primitive.scatter_along_axis_v1",
    "primitive.scatter_nd_v1",
    "primitive.sparse_with_bitmask_blockwise_shift_scale_v1",
    "primitive.sparse_with_bitmask_to_dense_v1",
    "primitive.split_v1",
    "primitive.sum_pool_2d_v1",
    "primitive.sum_pool_3d_v1",
    "primitive.tensor_to_image_v1",
    "quantize_v1",
    "quantize_v2",
    "reduce_max_v1",
    "reduce_min_v1",
    "relu_v1",
    "sigmoid_v1",
    "sort_v1",
    "symmetric_quantization_statistics_v1",
    "tile_v1",
    "udml.call_v1",
    "udml.placeholder_v1",
    "udml.return_v1",
];

type Check = Result<(), String>;

/// Checks the types of an operation whose numbers of operands and results fit
/// its rule.
pub(crate) fn check_types(op: &str, operands: &[&Type], results: &[&Type]) -> Check {
    let Some(name) = op.strip_suffix("_v1").or_else(|| op.strip_suffix("_v2")) else {
        return Ok(());
    };
    if let Some(name) = name.strip_prefix("dataflow.") {
        return check_dataflow(name, operands, results);
    }
    if OTHERS.contains(&op) {
        return Ok(());
    }
    let x = operands
        .iter()
        .map(|ty| tensor(ty))
        .collect::<Result<Vec<_>, _>>()?;
    let [result] = results else { return Ok(()) };
    let result = tensor(result)?;
    if let Some(name) = name.strip_prefix("broadcasting_") {
        return check_broadcasting(name, &x, result);
    }
    let name = name.strip_prefix("primitive.").unwrap_or(name);
    match (name, x.as_slice()) {
        (name, &[x]) if UNARY.contains(&name) || matches!(name, "gelu" | "silu") => {
            same_element(x, result)?;
            same_dims(x, result)
        }
        (name, &[x, y]) if BINARY.contains(&name) => {
            same_element(x, y)?;
            same_element(x, result)?;
            same_dims(x, y)?;
            same_dims(x, result)
        }
        (name, &[x, y]) if COMPARE.contains(&name) => {
            same_element(x, y)?;
            boolean(result)?;
            same_dims(x, y)?;
            same_dims(x, result)
        }
        ("cast", &[x]) => same_dims(x, result),
        ("where", &[condition, x, y]) => {
            boolean(condition)?;
            same_element(x, y)?;
            same_element(x, result)?;
            same_dims(x, result)?;
            same_dims(y, result)?;
            same_dims(condition, result)
        }
        ("get_shape", &[x]) => {
            integers(result)?;
            match result.dims[..] {
                [Dim::Static(rank)] if rank == x.rank() as u64 => Ok(()),
                _ => Err(format!("{result} does not hold the extents of {x}")),
            }
        }
        ("reshape", &[x, shape]) => {
            same_element(x, result)?;
            integers(shape)?;
            same_count(x, result)?;
            holds(shape, result.rank())
        }
        ("transpose", &[x, order]) => {
            same_element(x, result)?;
            integers(order)?;
            same_count(x, result)?;
            same_rank(x, result)?;
            holds(order, x.rank())
        }
        ("expand_dims", &[x, axes]) => {
            same_element(x, result)?;
            integers(axes)?;
            same_count(x, result)?;
            match result.rank().checked_sub(x.rank()) {
                Some(new) => holds(axes, new),
                None => Err(format!("{result} has fewer dimensions than {x}")),
            }
        }
        ("shrink_dims", &[x, axes]) => {
            same_element(x, result)?;
            integers(axes)?;
            same_count(x, result)?;
            match x.rank().checked_sub(result.rank()) {
                Some(gone) => holds(axes, gone),
                None => Err(format!("{result} has more dimensions than {x}")),
            }
        }
        ("broadcast_to", &[x, shape]) => {
            same_element(x, result)?;
            extents(shape)?;
            stretches(x, result)?;
            holds(shape, result.rank())
        }
        ("broadcast_shapes", &[x, y]) => {
            integers(x)?;
            integers(y)?;
            integers(result)?;
            vector(x).and(vector(y)).and(vector(result))
        }
        ("broadcast_in_dims", &[x, extents, axes]) => {
            same_element(x, result)?;
            integers(extents)?;
            integers(axes)?;
            same_dims(extents, axes)?;
            same_rank(x, result)
        }
        ("slice", &[x, begin, end, stride]) => {
            same_element(x, result)?;
            same_rank(x, result)?;
            bounds(&[begin, end, stride], x.rank())
        }
        ("slice_update", &[x, begin, end, stride, update]) => {
            same_element(x, update)?;
            same_element(x, result)?;
            same_dims(x, result)?;
            same_rank(x, update)?;
            bounds(&[begin, end, stride], x.rank())
        }
        ("pad", &[x, padding, value]) => {
            same_element(x, result)?;
            same_element(x, value)?;
            same_rank(x, result)?;
            integers(padding)?;
            scalar(value)?;
            holds(padding, 2 * x.rank())
        }
        ("tile", &[x, counts]) => {
            same_element(x, result)?;
            same_rank(x, result)?;
            integers(counts)?;
            vector(counts)
        }
        ("conv2d", &[x, weight, stride, dilation, groups]) => {
            convolves(2, [x, weight, stride, dilation, groups], result)
        }
        ("conv3d", &[x, weight, stride, dilation, groups]) => {
            convolves(3, [x, weight, stride, dilation, groups], result)
        }
        ("concat", &[axis, ref parts @ ..]) => {
            integers(axis)?;
            scalar(axis)?;
            parts.iter().try_for_each(|part| match part.rank() {
                0 => vector(result),
                _ => same_rank(part, result),
            })
        }
        ("gather_nd", &[x, indices]) => {
            same_element(x, result)?;
            integers(indices)
        }
        ("gather_along_axis", &[x, indices, axis]) => {
            same_element(x, result)?;
            integers(indices)?;
            integers(axis)?;
            scalar(axis)?;
            same_rank(x, indices)?;
            same_dims(indices, result)
        }
        ("range", &[begin, end, step]) => {
            for bound in [begin, end, step] {
                scalar(bound)?;
                same_element(bound, result)?;
            }
            vector(result)
        }
        ("blockwise_shift_scale", &[data, scale, zero_point, offset]) => {
            same_element(scale, result)?;
            same_element(data, zero_point)?;
            same_element(scale, offset)?;
            same_rank(data, scale)?;
            same_dims(data, result)
        }
        ("batch_matmul", &[x, y]) => {
            same_element(x, y)?;
            same_element(x, result)?;
            multiplies(x, y)
        }
        ("softmax", &[x, axis]) => {
            same_element(x, result)?;
            same_dims(x, result)?;
            integers(axis)
        }
        ("reduce_mean" | "reduce_sum" | "reduce_product", &[x, axes]) => {
            same_element(x, result)?;
            same_rank(x, result)?;
            integers(axes)
        }
        ("reduce", &[x, axes, start]) => {
            integers(axes)?;
            scalar(start)?;
            same_rank(x, result)
        }
        _ => Ok(()),
    }
}

fn check_dataflow(name: &str, operands: &[&Type], results: &[&Type]) -> Check {
    let fits = match (name, operands, results) {
        ("create_token", [], [Type::Token]) => true,
        ("read_handle", [Type::Handle(held), Type::Token], [Type::Tensor(read), Type::Token]) => {
            held == read
        }
        (
            "write_handle",
            [Type::Handle(held), Type::Tensor(written), Type::Token],
            [Type::Token],
        ) => return same_element(held, written).and(same_dims(held, written)),
        ("create_token" | "read_handle" | "write_handle", ..) => false,
        _ => true,
    };
    if fits {
        Ok(())
    } else {
        Err(format!(
            "does not take {} to {}",
            list(operands),
            list(results)
        ))
    }
}

fn check_broadcasting(name: &str, x: &[&TensorType], result: &TensorType) -> Check {
    match (name, x) {
        ("where", &[condition, x, y]) => {
            boolean(condition)?;
            same_element(x, y)?;
            same_element(x, result)?;
            [condition, x, y]
                .iter()
                .try_for_each(|from| stretches(from, result))
        }
        ("batch_matmul", &[x, y]) => {
            same_element(x, y)?;
            same_element(x, result)?;
            multiplies(x, y)
        }
        (name, &[x, y]) => {
            same_element(x, y)?;
            if COMPARE.contains(&name) {
                boolean(result)?
            } else {
                same_element(x, result)?
            }
            stretches(x, result)?;
            stretches(y, result)
        }
        _ => Ok(()),
    }
}

fn list(types: &[&Type]) -> String {
    const SHOWN: usize = 8;
    let mut types: Vec<String> = types
        .iter()
        .take(SHOWN + 1)
        .map(|ty| ty.to_string())
        .collect();
    if types.len() > SHOWN {
        types[SHOWN] = "...".to_owned();
    }
    format!("({})", types.join(", "))
}

fn tensor(ty: &Type) -> Result<&TensorType, String> {
    ty.tensor()
        .ok_or_else(|| format!("expected a tensor, found {ty}"))
}

fn same_element(x: &TensorType, y: &TensorType) -> Check {
    if x.element == y.element {
        Ok(())
    } else {
        Err(format!("{x} and {y} differ in their elements"))
    }
}

fn same_rank(x: &TensorType, y: &TensorType) -> Check {
    if x.rank() == y.rank() {
        Ok(())
    } else {
        Err(format!("{x} and {y} differ in their rank"))
    }
}

/// The same extents, as far as both are known.
fn same_dims(x: &TensorType, y: &TensorType) -> Check {
    let fits = |(a, b): (&Dim, &Dim)| a == b || *a == Dim::Dynamic || *b == Dim::Dynamic;
    if x.rank() == y.rank() && x.dims.iter().zip(&y.dims).all(fits) {
        Ok(())
    } else {
        Err(format!("{x} and {y} differ in their extents"))
    }
}

/// Whether a value of the one type may be labelled with the other.
pub(crate) fn compatible(x: &TensorType, y: &TensorType) -> bool {
    same_element(x, y).is_ok() && same_dims(x, y).is_ok()
}

/// As many elements, where both numbers are known.
fn same_count(x: &TensorType, y: &TensorType) -> Check {
    match (x.element_count(), y.element_count()) {
        (Some(a), Some(b)) if a != b => Err(format!("{x} does not have as many elements as {y}")),
        _ => Ok(()),
    }
}

fn stretches(x: &TensorType, to: &TensorType) -> Check {
    let fits = |(a, b): (&Dim, &Dim)| match (a, b) {
        (Dim::Static(a), Dim::Static(b)) => a == b || *a == 1,
        _ => true,
    };
    let mut last = x.dims.iter().rev().zip(to.dims.iter().rev());
    if x.rank() <= to.rank() && last.all(fits) {
        Ok(())
    } else {
        Err(format!("{x} does not broadcast to {to}"))
    }
}

fn multiplies(x: &TensorType, y: &TensorType) -> Check {
    let (Some(columns), Some(row)) = (x.dims.last(), y.rank().checked_sub(2)) else {
        return Err(format!("{x} and {y} are not matrices"));
    };
    match (columns.known(), y.dims[row].known()) {
        (Some(a), Some(b)) if a != b => Err(format!("{x} and {y} do not multiply")),
        _ if x.rank() < 2 => Err(format!("{x} is not a matrix")),
        _ => Ok(()),
    }
}

/// A convolution over the last `axes` dimensions.
fn convolves(axes: usize, operands: [&TensorType; 5], result: &TensorType) -> Check {
    let [x, weight, stride, dilation, groups] = operands;
    for other in [weight, result] {
        same_element(x, other)?;
        same_rank(x, other)?;
    }
    if x.rank() != axes + 2 {
        return Err(format!("expected {} dimensions, found {x}", axes + 2));
    }
    for steps in [stride, dilation] {
        integers(steps)?;
        holds(steps, axes)?;
    }
    integers(groups)?;
    scalar(groups)
}

/// What Core AI's library takes as a shape to broadcast to; it does not parse a
/// program with another.
fn extents(ty: &TensorType) -> Check {
    match ty.element {
        ElementType::Ui16 | ElementType::Ui32 => Ok(()),
        _ => Err(format!("{ty} is not of ui16 or ui32")),
    }
}

fn integers(x: &TensorType) -> Check {
    use ElementType::{Si2, Si4, Si8, Si16, Si32, Si64, Ui2, Ui4, Ui8, Ui16, Ui32, Ui64};
    match x.element {
        Si2 | Si4 | Si8 | Si16 | Si32 | Si64 | Ui2 | Ui4 | Ui8 | Ui16 | Ui32 | Ui64 => Ok(()),
        _ => Err(format!("expected integers, found {x}")),
    }
}

fn boolean(x: &TensorType) -> Check {
    match x.element {
        ElementType::Bool => Ok(()),
        _ => Err(format!("expected booleans, found {x}")),
    }
}

fn scalar(x: &TensorType) -> Check {
    match x.rank() {
        0 => Ok(()),
        _ => Err(format!("expected a scalar, found {x}")),
    }
}

fn vector(x: &TensorType) -> Check {
    match x.rank() {
        1 => Ok(()),
        _ => Err(format!("expected a vector, found {x}")),
    }
}

/// A vector of one element for each dimension.
fn holds(x: &TensorType, rank: usize) -> Check {
    match x.dims[..] {
        [Dim::Dynamic] => Ok(()),
        [Dim::Static(length)] if length == rank as u64 => Ok(()),
        _ => Err(format!("expected a vector of {rank}, found {x}")),
    }
}

fn bounds(bounds: &[&TensorType], rank: usize) -> Check {
    bounds.iter().try_for_each(|bound| {
        integers(bound)?;
        holds(bound, rank)
    })
}
