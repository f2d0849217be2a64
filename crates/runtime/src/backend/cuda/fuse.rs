//! What of a graph is computed in one piece on a card.
//!
//! A step is put together with those before it whose results nothing else
//! takes. What they take is then looked at later than it was, so nothing may
//! write to a state in between.

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
    graph::{Constants, Graph, Source, Step},
    ops::{Binary, Composite, Op},
    value::Value,
};

/// Matrices that are on the card, by the constants that they are made of.
pub(super) type Matrices = HashMap<[usize; 2], Arc<Int8>>;

/// Puts the steps of a graph together.
pub(super) fn fuse(
    graph: &mut Graph,
    constants: &Constants,
    cuda: &CudaContext,
    matrices: &mut Matrices,
) -> OpResult<()> {
    products(graph, constants, cuda, matrices)?;
    ropes(graph);
    chains(graph);
    ends_of_products(graph);
    norms(graph);
    Ok(())
}

/// Who gives each slot, and how often it is taken.
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

    /// The step that a value comes from, if it may be computed at step `at`,
    /// which alone takes it.
    fn before(&self, graph: &Graph, source: Source, at: usize) -> Option<usize> {
        let from = self.producer(source)?;
        let alone = matches!(source, Source::Slot(slot) if self.uses[slot] == 1);
        let writes = |step: &Step| {
            matches!(
                step.op,
                Op::UpdateHandle(_) | Op::WriteHandle | Op::Invoke(_)
            )
        };
        let calm = !graph.steps.get(from + 1..at)?.iter().any(writes);
        (alone && calm).then_some(from)
    }
}

/// Takes the operands of a step that became a part of another one; nothing
/// takes its result, and `Graph::tidy` drops it.
fn take(graph: &mut Graph, at: usize) -> Vec<Source> {
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
    for (at, weight) in crate::fuse::transposed_weights(graph, constants) {
        let weight = match weight[..] {
            [half] => match &constants.values[half] {
                Value::Mapped(mapped)
                    if mapped.element == ElementType::F16 && mapped.dims.len() == 2 =>
                {
                    (Weight::Half, Some(Source::Constant(half)))
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

/// Whether a zero point and an offset are zeros throughout.
fn no_shift(zero: &Value, offset: &Value) -> OpResult<bool> {
    let Value::Float(offset) = offset else {
        return Ok(false);
    };
    let offset = offset.ready()?.to_dtype(DType::F32)?.flatten_all()?;
    let mut offset = offset.to_vec1::<f32>()?.into_iter();
    Ok(offset.all(|value| value == 0.0) && zero.ints()?.all_zero())
}

/// Sums of turned rows by masks: `rope(x, p) · m + rope(x, q) · n + …`.
fn ropes(graph: &mut Graph) {
    let flow = Flow::new(graph);
    for at in (0..graph.steps.len()).rev() {
        let mut terms = Vec::new();
        let mut steps = Vec::new();
        let Some(x) = turned(graph, &flow, at, &mut terms, &mut steps) else {
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
            take(graph, step);
        }
        graph.steps[at].op = Op::Fused(Arc::new(Fused::Rope(MixedRope::new(composites))));
        graph.steps[at].operands = operands;
    }
}

type Term = (Arc<Composite>, Source, Source);

/// The one x of the terms that step `at` sums, and the steps that they take.
fn turned(
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
            let (left, right) = (flow.before(graph, a, at)?, flow.before(graph, b, at)?);
            let x = turned(graph, flow, left, terms, steps)?;
            // A sum on the right would be rounded elsewhere.
            let single = matches!(graph.steps[right].op, Op::Binary(Binary::Mul));
            let same = single && turned(graph, flow, right, terms, steps)? == x;
            steps.extend([left, right]);
            same.then_some(x)
        }
        Op::Binary(Binary::Mul) => {
            let rope = flow.before(graph, a, at)?;
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

/// Operations element by element become chains.
fn chains(graph: &mut Graph) {
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
        let link = |other: Option<usize>, reversed: bool| ElementwiseOp {
            op: step.op.clone(),
            other,
            reversed,
            element,
        };
        // A chain that comes first goes on here.
        let longer = operands.iter().enumerate().find_map(|(index, source)| {
            let from = flow.before(graph, *source, at)?;
            let Some(Fused::Elementwise(chain)) = fused(graph, from) else {
                return None;
            };
            let inputs = &graph.steps[from].operands;
            let room =
                chain.links.len() < MAX_OPS && inputs.len() + operands.len() - 1 <= MAX_INPUTS;
            room.then_some((index, from, chain.clone(), inputs.clone()))
        });
        let (chain, inputs) = match longer {
            Some((index, from, mut chain, mut inputs)) => {
                let other = operands.iter().enumerate().find(|(i, _)| *i != index);
                chain
                    .links
                    .push(link(other.map(|_| inputs.len()), index == 1));
                inputs.extend(other.map(|(_, source)| *source));
                take(graph, from);
                (chain, inputs)
            }
            None => {
                let other = (operands.len() == 2).then_some(1);
                let links = vec![link(other, false)];
                (FusedElementwise { links }, operands)
            }
        };
        graph.steps[at].op = Op::Fused(Arc::new(Fused::Elementwise(chain)));
        graph.steps[at].operands = inputs;
    }
}

/// Products end with what is added to them, or with what gates them.
fn ends_of_products(graph: &mut Graph) {
    let flow = Flow::new(graph);
    for at in 0..graph.steps.len() {
        let Some(Fused::Elementwise(chain)) = fused(graph, at) else {
            continue;
        };
        let inputs = &graph.steps[at].operands;
        let plain = |index: usize| {
            let from = flow.before(graph, inputs[index], at)?;
            match fused(graph, from)? {
                Fused::Product(product) if product.weights.len() == 1 && !product.add => {
                    Some((from, product.weights[0].clone()))
                }
                _ => None,
            }
        };
        let ops: Vec<&Op> = chain.links.iter().map(|link| &link.op).collect();
        match (&ops[..], inputs.len()) {
            ([Op::Binary(Binary::Add)], 2) => {
                let Some((index, (from, weight))) =
                    (0..2).find_map(|index| Some((index, plain(index)?)))
                else {
                    continue;
                };
                let other = inputs[1 - index];
                let mut operands = take(graph, from);
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
                let mut operands = take(graph, up);
                operands.extend(take(graph, gate).into_iter().skip(1));
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

/// Products and turns begin with the RMS norm that only they look at.
fn norms(graph: &mut Graph) {
    let flow = Flow::new(graph);
    for at in 0..graph.steps.len() {
        let Some(&first) = graph.steps[at].operands.first() else {
            continue;
        };
        if fused(graph, at).is_none() {
            continue;
        }
        let Some(from) = flow.before(graph, first, at) else {
            continue;
        };
        let (Op::Composite(norm), &[x, scale]) =
            (&graph.steps[from].op, &graph.steps[from].operands[..])
        else {
            continue;
        };
        // A kernel reads constants before all else is there.
        let constant = matches!(scale, Source::Constant(_));
        if !constant || !matches!(**norm, Composite::RmsNorm { .. }) {
            continue;
        }
        let norm = Some(norm.clone());
        let (fused, place) = match fused(graph, at) {
            Some(Fused::Product(product)) => {
                let (weights, add) = (product.weights.clone(), product.add);
                let place = product.first();
                (Fused::Product(Product { weights, norm, add }), place)
            }
            Some(Fused::Rope(turn)) => {
                let mut turn = MixedRope::new(turn.ropes.clone());
                turn.norm = norm;
                (Fused::Rope(turn), 1)
            }
            _ => continue,
        };
        take(graph, from);
        let step = &mut graph.steps[at];
        step.op = Op::Fused(Arc::new(fused));
        step.operands[0] = x;
        step.operands.insert(place, scale);
    }
}
