//! Finds composites and products with constant matrices, which are computed as
//! one operation.

use std::{collections::HashMap, sync::Arc};

use aimodel::{Attribute, ElementType, GraphView};
use candle_core::{DType, Device};

use crate::{
    error::{OpResult, Result},
    graph::{Constants, Graph, Source, Step},
    kernel::WeightMatrix,
    ops::{Angles, Composite, Op, dequantize},
    value::Value,
};

/// The operation that a composite graph declares, where this runtime can compute
/// it directly.
pub(crate) fn composite(view: &GraphView<'_>) -> Option<Composite> {
    let declaration = Attribute::read(view.module, view.composite?).ok()?;
    let Attribute::Opaque(name, parts) = declaration else {
        return None;
    };
    let attributes = parts.iter().find_map(|part| match part {
        Attribute::Opaque(name, value) if name.as_ref() == "op_attrs" => value.first(),
        _ => None,
    })?;
    let Attribute::Dictionary(attributes) = attributes else {
        return None;
    };
    let get = |name: &str| {
        let found = attributes.iter().find(|(key, _)| key.as_ref() == name);
        found.map(|(_, value)| value)
    };
    let float = |name: &str| match get(name)? {
        Attribute::Float { width: 32, bits } => Some(f64::from(f32::from_bits(*bits as u32))),
        _ => None,
    };
    let integer = |name: &str| match get(name)? {
        Attribute::Integer { bits, .. } => Some(*bits as i64),
        _ => None,
    };
    if integer("version") != Some(1) {
        return None;
    }
    match name.as_ref() {
        "rms_norm" if integer("axes") == Some(-1) => {
            Some(Composite::RmsNorm { eps: float("eps")? })
        }
        "layer_norm" => match get("axes")? {
            Attribute::Array(axes) => match &axes[..] {
                // Over the last axis of a matrix.
                [Attribute::Integer { bits: 1, .. }] => {
                    Some(Composite::LayerNorm { eps: float("eps")? })
                }
                _ => None,
            },
            _ => None,
        },
        "rope" if integer("interleaved") == Some(0) && float("scale") == Some(1.0) => {
            Some(Composite::Rope(Angles::new(float("base")?)))
        }
        "scaled_dot_product_attention" if integer("window_size") == Some(0) => {
            Some(Composite::Attention {
                causal: integer("is_causal")? != 0,
            })
        }
        _ => None,
    }
}

/// Replaces calls of composites by operations.
pub(crate) fn calls(graph: &mut Graph, composites: &[Option<Arc<Composite>>]) {
    for step in &mut graph.steps {
        if let Op::Invoke(callee) = step.op
            && let Some(Some(composite)) = composites.get(callee)
        {
            step.op = Op::Composite(composite.clone());
        }
    }
}

/// The steps that multiply by the transpose of a constant matrix of f16 or of
/// scaled si8, and the matrix as it is stored in the file.
pub(crate) fn weight_matrices(
    graph: &Graph,
    constants: &Constants,
) -> OpResult<Vec<(usize, WeightMatrix)>> {
    let mut found = Vec::new();
    for TransposedWeight { at, parts, .. } in transposed_weights(graph, constants) {
        let matrix = match parts[..] {
            [f16] => f16_matrix(&constants.values[f16])?,
            [data, scale, zero, offset] => int8_matrix([data, scale, zero, offset], constants)?,
            _ => None,
        };
        found.extend(matrix.map(|matrix| (at, matrix)));
    }
    Ok(found)
}

/// A product with the transpose of a constant matrix.
pub(crate) struct TransposedWeight {
    /// The step.
    pub at: usize,
    /// The constant, or the four of the `blockwise_shift_scale` that computes it.
    pub parts: Vec<usize>,
    /// Whether the graph casts the transpose to f32, which is exact: the product is
    /// one of f32.
    #[cfg_attr(not(feature = "cuda"), expect(dead_code))]
    pub is_widened: bool,
}

/// The products with the transpose of a constant matrix.
pub(crate) fn transposed_weights(graph: &Graph, constants: &Constants) -> Vec<TransposedWeight> {
    let producers = graph.producers();
    let step_of = |source: &Source| match source {
        Source::Slot(slot) => producers.get(slot).map(|at| &graph.steps[*at]),
        Source::Constant(_) => None,
    };
    let weight = |step: &Step| {
        let mut transpose = step_of(step.operands.get(1)?)?;
        let is_widened = matches!(transpose.op, Op::Cast(ElementType::F32));
        if is_widened {
            transpose = step_of(transpose.operands.first()?)?;
        }
        let order = match (&step.op, &transpose.op, &transpose.operands[..]) {
            (Op::MatMul(_), Op::Transpose, [_, Source::Constant(order)]) => order,
            _ => return None,
        };
        let swaps =
            matches!(&constants.values[*order], Value::Ints(order) if order.dense() == [1, 0]);
        let sources = match (&transpose.operands[0], step_of(&transpose.operands[0])) {
            (Source::Constant(weight), _) => {
                return swaps.then(|| (vec![*weight], is_widened));
            }
            (_, Some(scaled)) if matches!(scaled.op, Op::BlockwiseShiftScale) => &scaled.operands,
            _ => return None,
        };
        let parts = sources.iter().map(|source| match source {
            Source::Constant(index) => Some(*index),
            Source::Slot(_) => None,
        });
        let parts = parts.collect::<Option<Vec<_>>>().filter(|_| swaps)?;
        Some((parts, is_widened))
    };
    let steps = graph.steps.iter().enumerate();
    let found = steps.filter_map(|(at, step)| {
        let (parts, is_widened) = weight(step)?;
        Some(TransposedWeight {
            at,
            parts,
            is_widened,
        })
    });
    found.collect()
}

fn f16_matrix(weight: &Value) -> OpResult<Option<WeightMatrix>> {
    match weight {
        Value::Mapped(weight) if weight.element == ElementType::F16 => match weight.dims[..] {
            [rows, cols] => Ok(Some(WeightMatrix::f16([rows, cols], weight.data.clone())?)),
            _ => Ok(None),
        },
        _ => Ok(None),
    }
}

fn int8_matrix(parts: [usize; 4], constants: &Constants) -> OpResult<Option<WeightMatrix>> {
    let [data, scale, zero, offset] = parts.map(|index| &constants.values[index]);
    let (Value::Mapped(data), Value::Mapped(scale)) = (data, scale) else {
        return Ok(None);
    };
    let no_shift = match offset {
        Value::Float(offset) => {
            let values = offset.ready()?.to_dtype(DType::F32)?.flatten_all()?;
            values.to_vec1::<f32>()?.iter().all(|value| *value == 0.0)
        }
        _ => false,
    };
    let no_shift = no_shift && zero.ints()?.all_zero();
    let types = (data.element, scale.element);
    if !no_shift || types != (ElementType::Si8, ElementType::F16) {
        return Ok(None);
    }
    match (&data.dims[..], &scale.dims[..]) {
        (&[rows, cols], &[scale_rows, blocks])
            if rows == scale_rows && blocks > 0 && cols % blocks == 0 =>
        {
            let (data, scale) = (data.data.clone(), scale.data.clone());
            let rows = WeightMatrix::int8([rows, cols], cols / blocks, data, scale)?;
            Ok(Some(rows))
        }
        _ => Ok(None),
    }
}

/// Replaces scaled si8 constants by constants of floats, for devices on which
/// that is done at loading and not at each call. `done` maps the operands of
/// those that were replaced to the new constants.
pub(crate) fn fold_scales(
    graph: &mut Graph,
    constants: &mut Constants,
    done: &mut HashMap<Vec<Source>, usize>,
) -> Result<()> {
    let mut folded = HashMap::new();
    for step in &graph.steps {
        let constant = |source: &Source| matches!(source, Source::Constant(_));
        if !matches!(step.op, Op::BlockwiseShiftScale) || !step.operands.iter().all(constant) {
            continue;
        }
        let index = match done.get(&step.operands) {
            Some(index) => *index,
            None => {
                let value = |i: usize| match step.operands[i] {
                    Source::Constant(index) => &constants.values[index],
                    Source::Slot(_) => &Value::Token,
                };
                let parts = [value(0), value(1), value(2), value(3)];
                let tensor = dequantize(parts, &Device::Cpu)
                    .map_err(|problem| graph.error(step, &parts, problem))?;
                let index = constants.push(Value::from(tensor));
                done.insert(step.operands.clone(), index);
                index
            }
        };
        folded.insert(step.results[0], index);
    }
    let replace = |source: &mut Source| {
        if let Source::Slot(slot) = source
            && let Some(index) = folded.get(slot)
        {
            *source = Source::Constant(*index);
        }
    };
    for step in &mut graph.steps {
        step.operands.iter_mut().for_each(replace);
    }
    graph.outputs.iter_mut().for_each(replace);
    Ok(())
}
