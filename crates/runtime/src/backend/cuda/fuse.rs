//! Fuses steps of a graph that a kernel computes as one.
//!
//! A step is fused with earlier ones whose results no other step takes. Their
//! operands are then read later than before, so no step in between may write to
//! a state.

use std::{any::Any, collections::HashMap, sync::Arc};

use aimodel::ElementType;
use candle_core::DType;

use super::{
    CudaContext, Fused, FusedElementwise, MixedRope, Product,
    fused_elementwise::{self, ElementwiseOp, MAX_INPUTS, MAX_OPS},
    product::{BLOCK, Int8, Weight},
    rope::MAX_ROPES,
};
use crate::{
    error::OpResult,
    fuse::{TransposedWeight, transposed_weights},
    graph::{Constants, Graph, Source, Step},
    ops::{Binary, Composite, Op},
    value::Value,
};

/// Matrices on the GPU, by the constants that they are made of.
pub(super) type Matrices = HashMap<[usize; 2], Arc<Int8>>;

/// Fuses the steps of a graph.
pub(super) fn fuse(
    graph: &mut Graph,
    constants: &Constants,
    cuda: &CudaContext,
    matrices: &mut Matrices,
) -> OpResult<()> {
    products(graph, constants, cuda, matrices)?;
    mixed_ropes(graph);
    elementwise(graph);
    product_epilogues(graph);
    norm_prologues(graph);
    Ok(())
}

/// The step that computes each slot, and how often the slot is taken.
struct Flow {
    producers: HashMap<usize, usize>,
    uses: Vec<usize>,
}

impl Flow {
    fn new(graph: &Graph) -> Self {
        let mut uses = vec![0; graph.slots];
        let steps = graph.steps.iter().flat_map(|step| &step.operands);
        for source in steps.chain(&graph.outputs) {
            if let Source::Slot(slot) = source {
                uses[*slot] += 1;
            }
        }
        Self {
            producers: graph.producers(),
            uses,
        }
    }

    fn producer(&self, source: Source) -> Option<usize> {
        match source {
            Source::Slot(slot) => self.producers.get(&slot).copied(),
            Source::Constant(_) => None,
        }
    }

    /// The step that computes a value, if only step `at` takes the value and it
    /// may as well be computed there.
    fn fusible_producer(&self, graph: &Graph, source: Source, at: usize) -> Option<usize> {
        let from = self.producer(source)?;
        let only_use = matches!(source, Source::Slot(slot) if self.uses[slot] == 1);
        let writes = |step: &Step| {
            matches!(
                step.op,
                Op::UpdateHandle(_) | Op::WriteHandle | Op::Invoke(_)
            )
        };
        let no_write_between = !graph.steps.get(from + 1..at)?.iter().any(writes);
        (only_use && no_write_between).then_some(from)
    }
}

/// Takes the operands of a step that became a part of another one. No step takes
/// its result any more, and `Graph::tidy` drops it.
fn take_operands(graph: &mut Graph, at: usize) -> Vec<Source> {
    std::mem::take(&mut graph.steps[at].operands)
}

fn fused(graph: &Graph, at: usize) -> Option<&Fused> {
    match &graph.steps[at].op {
        Op::Fused(op) => (&**op as &dyn Any).downcast_ref(),
        _ => None,
    }
}

/// Products with the transpose of a constant matrix.
fn products(
    graph: &mut Graph,
    constants: &Constants,
    cuda: &CudaContext,
    matrices: &mut Matrices,
) -> OpResult<()> {
    for TransposedWeight {
        at,
        parts,
        is_widened,
    } in transposed_weights(graph, constants)
    {
        // The kernels take f16.
        if is_widened {
            continue;
        }
        let weight = match parts[..] {
            [half] => match &constants.values[half] {
                Value::Mapped(mapped)
                    if mapped.element == ElementType::F16 && mapped.dims.len() == 2 =>
                {
                    (Weight::F16, Some(Source::Constant(half)))
                }
                _ => continue,
            },
            [data, scale, zero, offset] => {
                match int8(constants, cuda, matrices, [data, scale], [zero, offset])? {
                    Some(matrix) => (Weight::Int8(matrix), None),
                    None => continue,
                }
            }
            _ => continue,
        };
        let (weight, operand) = weight;
        let step = &mut graph.steps[at];
        step.operands.truncate(1);
        step.operands.extend(operand);
        step.op = Op::Fused(Arc::new(Fused::Product(Product {
            weights: vec![weight],
            norm: None,
            add: false,
        })));
    }
    Ok(())
}

fn int8(
    constants: &Constants,
    cuda: &CudaContext,
    matrices: &mut Matrices,
    [data, scale]: [usize; 2],
    [zero, offset]: [usize; 2],
) -> OpResult<Option<Arc<Int8>>> {
    if let Some(matrix) = matrices.get(&[data, scale]) {
        return Ok(Some(matrix.clone()));
    }
    let at = |index: usize| &constants.values[index];
    let (Value::Mapped(weight), Value::Mapped(scales)) = (at(data), at(scale)) else {
        return Ok(None);
    };
    let types = (weight.element, scales.element);
    let fits = types == (ElementType::Si8, ElementType::F16)
        && matches!((&weight.dims[..], &scales.dims[..]), (&[rows, cols], &[own, blocks])
            if rows == own && cols == blocks * BLOCK && rows * cols > 0);
    if !fits || !no_shift(at(zero), at(offset))? {
        return Ok(None);
    }
    let matrix = Arc::new(Int8::new(cuda, weight, scales)?);
    matrices.insert([data, scale], matrix.clone());
    Ok(Some(matrix))
}

/// Whether a zero point and an offset are all zeros.
fn no_shift(zero: &Value, offset: &Value) -> OpResult<bool> {
    let Value::Float(offset) = offset else {
        return Ok(false);
    };
    let offset = offset.ready()?.to_dtype(DType::F32)?.flatten_all()?;
    let mut offset = offset.to_vec1::<f32>()?.into_iter();
    Ok(offset.all(|value| value == 0.0) && zero.ints()?.all_zero())
}

/// Sums of rotary embeddings by masks: `rope(x, p) · m + rope(x, q) · n + …`.
fn mixed_ropes(graph: &mut Graph) {
    let flow = Flow::new(graph);
    for at in (0..graph.steps.len()).rev() {
        let mut terms = Vec::new();
        let mut steps = Vec::new();
        let Some(x) = rope_terms(graph, &flow, at, &mut terms, &mut steps) else {
            continue;
        };
        if terms.len() < 2 || terms.len() > MAX_ROPES {
            continue;
        }
        let mut operands = vec![x];
        let mut composites = Vec::new();
        for (composite, positions, mask) in terms {
            composites.push(composite);
            operands.extend([positions, mask]);
        }
        for step in steps {
            take_operands(graph, step);
        }
        graph.steps[at].op = Op::Fused(Arc::new(Fused::Rope(MixedRope::new(composites))));
        graph.steps[at].operands = operands;
    }
}

type Term = (Arc<Composite>, Source, Source);

/// The `x` that all terms of the sum at step `at` have; the terms, and the steps
/// that compute them, go to `terms` and `steps`.
fn rope_terms(
    graph: &Graph,
    flow: &Flow,
    at: usize,
    terms: &mut Vec<Term>,
    steps: &mut Vec<usize>,
) -> Option<Source> {
    let step = &graph.steps[at];
    let &[a, b] = &step.operands[..] else {
        return None;
    };
    match step.op {
        Op::Binary(Binary::Add) => {
            let (left, right) = (
                flow.fusible_producer(graph, a, at)?,
                flow.fusible_producer(graph, b, at)?,
            );
            let x = rope_terms(graph, flow, left, terms, steps)?;
            // Summed from the right, the roundings would be others.
            let single = matches!(graph.steps[right].op, Op::Binary(Binary::Mul));
            let same = single && rope_terms(graph, flow, right, terms, steps)? == x;
            steps.extend([left, right]);
            same.then_some(x)
        }
        Op::Binary(Binary::Mul) => {
            let rope = flow.fusible_producer(graph, a, at)?;
            match (&graph.steps[rope].op, &graph.steps[rope].operands[..]) {
                (Op::Composite(composite), &[x, positions])
                    if matches!(**composite, Composite::Rope(_))
                        && matches!(b, Source::Constant(_)) =>
                {
                    terms.push((composite.clone(), positions, b));
                    steps.push(rope);
                    Some(x)
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// Elementwise operations, together with those that they follow.
fn elementwise(graph: &mut Graph) {
    let flow = Flow::new(graph);
    for at in 0..graph.steps.len() {
        let step = &graph.steps[at];
        let (Some(_), &[result]) = (fused_elementwise::code(&step.op), &step.results[..]) else {
            continue;
        };
        let element = graph.elements[result];
        let single = |element| matches!(element, Some(ElementType::F16 | ElementType::F32));
        let of_floats = step.operands.iter().all(|source| match source {
            Source::Slot(slot) => single(graph.elements[*slot]),
            // Its type is that of the result.
            Source::Constant(_) => !matches!(step.op, Op::Cast(_)),
        });
        let (Some(element), true, true) = (element, single(element), of_floats) else {
            continue;
        };
        let operands = step.operands.clone();
        let operation = |other: Option<usize>, reversed: bool| ElementwiseOp {
            op: step.op.clone(),
            other,
            reversed,
            element,
        };
        // Goes on with what is fused already.
        let longer = operands.iter().enumerate().find_map(|(index, source)| {
            let from = flow.fusible_producer(graph, *source, at)?;
            let Some(Fused::Elementwise(sequence)) = fused(graph, from) else {
                return None;
            };
            let inputs = &graph.steps[from].operands;
            let room =
                sequence.ops.len() < MAX_OPS && inputs.len() + operands.len() - 1 <= MAX_INPUTS;
            room.then_some((index, from, sequence.clone(), inputs.clone()))
        });
        let (sequence, inputs) = match longer {
            Some((index, from, mut sequence, mut inputs)) => {
                let other = operands.iter().enumerate().find(|(i, _)| *i != index);
                sequence
                    .ops
                    .push(operation(other.map(|_| inputs.len()), index == 1));
                inputs.extend(other.map(|(_, source)| *source));
                take_operands(graph, from);
                (sequence, inputs)
            }
            None => {
                let other = (operands.len() == 2).then_some(1);
                let ops = vec![operation(other, false)];
                (FusedElementwise { ops }, operands)
            }
        };
        graph.steps[at].op = Op::Fused(Arc::new(Fused::Elementwise(sequence)));
        graph.steps[at].operands = inputs;
    }
}

/// Products, together with an addition or a gate at their end.
fn product_epilogues(graph: &mut Graph) {
    let flow = Flow::new(graph);
    for at in 0..graph.steps.len() {
        let Some(Fused::Elementwise(sequence)) = fused(graph, at) else {
            continue;
        };
        let inputs = &graph.steps[at].operands;
        let plain = |index: usize| {
            let from = flow.fusible_producer(graph, inputs[index], at)?;
            match fused(graph, from)? {
                Fused::Product(product) if product.weights.len() == 1 && !product.add => {
                    Some((from, product.weights[0].clone()))
                }
                _ => None,
            }
        };
        let ops: Vec<&Op> = sequence.ops.iter().map(|operation| &operation.op).collect();
        match (&ops[..], inputs.len()) {
            ([Op::Binary(Binary::Add)], 2) => {
                let Some((index, (from, weight))) =
                    (0..2).find_map(|index| Some((index, plain(index)?)))
                else {
                    continue;
                };
                let other = inputs[1 - index];
                let mut operands = take_operands(graph, from);
                operands.push(other);
                become_product(graph, at, vec![weight], true, operands);
            }
            ([Op::Silu, Op::Binary(Binary::Mul)], 2) => {
                let (Some((gate, gate_weight)), Some((up, up_weight))) = (plain(0), plain(1))
                else {
                    continue;
                };
                let first = |at: usize| graph.steps[at].operands.first();
                if gate == up || first(gate) != first(up) {
                    continue;
                }
                let mut operands = take_operands(graph, up);
                operands.extend(take_operands(graph, gate).into_iter().skip(1));
                become_product(graph, at, vec![up_weight, gate_weight], false, operands);
            }
            _ => {}
        }
    }
}

fn become_product(
    graph: &mut Graph,
    at: usize,
    weights: Vec<Weight>,
    add: bool,
    operands: Vec<Source>,
) {
    graph.steps[at].op = Op::Fused(Arc::new(Fused::Product(Product {
        weights,
        norm: None,
        add,
    })));
    graph.steps[at].operands = operands;
}

/// Products and rotary embeddings, together with an RMS norm before them.
fn norm_prologues(graph: &mut Graph) {
    let flow = Flow::new(graph);
    for at in 0..graph.steps.len() {
        let Some(&first) = graph.steps[at].operands.first() else {
            continue;
        };
        if fused(graph, at).is_none() {
            continue;
        }
        let Some(from) = flow.fusible_producer(graph, first, at) else {
            continue;
        };
        let (Op::Composite(norm), &[x, scale]) =
            (&graph.steps[from].op, &graph.steps[from].operands[..])
        else {
            continue;
        };
        // The kernels read the scale before their other operands are ready.
        let constant = matches!(scale, Source::Constant(_));
        if !constant || !matches!(**norm, Composite::RmsNorm { .. }) {
            continue;
        }
        let norm = Some(norm.clone());
        let (fused, at_operand) = match fused(graph, at) {
            Some(Fused::Product(product)) => {
                let (weights, add) = (product.weights.clone(), product.add);
                let at_operand = product.norm_operand();
                (Fused::Product(Product { weights, norm, add }), at_operand)
            }
            Some(Fused::Rope(rope)) => {
                let mut rope = MixedRope::new(rope.ropes.clone());
                rope.norm = norm;
                (Fused::Rope(rope), 1)
            }
            _ => continue,
        };
        take_operands(graph, from);
        let step = &mut graph.steps[at];
        step.op = Op::Fused(Arc::new(fused));
        step.operands[0] = x;
        step.operands.insert(at_operand, scale);
    }
}
