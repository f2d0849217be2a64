//! Graphs, compiled to flat lists of steps.

use std::collections::HashMap;

use aimodel::{
    AttrId, Attribute, ElementType, GraphView, Operation, ResourceValue, Type, TypeId,
    Value as Operand,
};
use candle_core::{Device, Tensor};

use crate::{
    error::{Error, OpResult, Problem, Result, refuse},
    ops::Op,
    options::Accumulate,
    value::{Ints, Mapped, Value, float_dtype, is_integer},
};

/// Where an operand comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// A value of this graph.
    Slot(usize),
    /// A constant of the program.
    Constant(usize),
}

/// One operation in its place.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub op: Op,
    /// Its position in the graph, for messages.
    pub index: usize,
    /// Its stored name, for messages.
    pub name: String,
    pub operands: Vec<Source>,
    pub results: Vec<usize>,
    /// Slots that no later step takes.
    pub last_uses: Vec<usize>,
}

/// A graph that can be run.
#[derive(Clone, Debug)]
pub(crate) struct Graph {
    pub name: String,
    /// The number of values; the arguments come first.
    pub slots: usize,
    /// The element types of those that are tensors.
    #[cfg_attr(not(feature = "cuda"), expect(dead_code))]
    pub elements: Vec<Option<ElementType>>,
    /// Whether each argument is a state.
    pub arguments: Vec<bool>,
    pub steps: Vec<Step>,
    pub outputs: Vec<Source>,
    /// Whether each output may be a view of a state, which later calls change.
    pub shared: Vec<bool>,
}

/// The constants of a program; equal ones are stored once.
#[derive(Default)]
pub(crate) struct Constants {
    pub values: Vec<Value>,
    known: HashMap<(AttrId, usize), usize>,
}

impl Constants {
    pub fn push(&mut self, value: Value) -> usize {
        self.values.push(value);
        self.values.len() - 1
    }

    fn read(&mut self, view: &GraphView<'_>, op: &Operation) -> OpResult<usize> {
        let module = view.module;
        let (Some(attr), [result]) = (view.property(op, "value"), &op.results[..]) else {
            return refuse("it has no value");
        };
        let Some(type_id) = module.value_type(*result) else {
            return refuse("its value is of another module");
        };
        if let Some(found) = self.known.get(&(attr, type_id.index())) {
            return Ok(*found);
        }
        let Ok(Type::Tensor(ty)) = Type::read(module, type_id) else {
            return refuse("it is not a tensor");
        };
        let Some(dims) = ty.static_dims() else {
            return refuse(format!("a constant cannot be a {ty}"));
        };
        let dims = dims.into_iter().map(|d| d as usize).collect();
        let attribute = Attribute::read(module, attr).map_err(|e| Problem(e.to_string()))?;
        let value = match attribute {
            Attribute::DenseElements { bytes, .. } => small(ty.element, dims, &bytes)?,
            Attribute::DenseResource(id) => match module.resources.get(id.index()) {
                Some((_, resource)) => match &resource.value {
                    ResourceValue::Blob { data, .. } => large(ty.element, dims, data)?,
                    _ => return refuse(format!("{} is not a blob", resource.key)),
                },
                None => return refuse("its resource is missing"),
            },
            _ => return refuse("its value is of an unknown kind"),
        };
        let index = self.push(value);
        self.known.insert((attr, type_id.index()), index);
        Ok(index)
    }
}

fn small(element: ElementType, dims: Vec<usize>, bytes: &[u8]) -> OpResult<Value> {
    if is_integer(element) {
        return Ok(Value::Ints(Ints::from_bytes(element, dims, bytes)?));
    }
    let Some(dtype) = float_dtype(element) else {
        return refuse(format!("constants of {element} are not supported"));
    };
    let count: usize = dims.iter().product();
    let size = dtype.size_in_bytes();
    let tensor = match bytes.len() {
        n if n == count * size => {
            Tensor::from_raw_buffer(bytes, dtype, dims.as_slice(), &Device::Cpu)?
        }
        n if n == size => {
            Tensor::from_raw_buffer(bytes, dtype, &[], &Device::Cpu)?.broadcast_as(dims)?
        }
        n => return refuse(format!("{n} bytes for {dims:?} of {element}")),
    };
    Ok(Value::from(tensor))
}

fn large(element: ElementType, dims: Vec<usize>, data: &aimodel::Blob) -> OpResult<Value> {
    let data = match data.as_slice() {
        Some(_) => data.clone(),
        None => aimodel::Blob::new(data.to_vec().map_err(|e| Problem(e.to_string()))?),
    };
    let mapped = Mapped {
        element,
        dims,
        data,
    };
    let count: usize = mapped.dims.iter().product();
    let bytes = mapped.bytes()?;
    if bytes.len() as u64 * 8 != count as u64 * element.bits() {
        return refuse(format!("{} bytes for {:?}", bytes.len(), mapped.dims));
    }
    match element {
        ElementType::F16 | ElementType::Si8 => Ok(Value::Mapped(mapped)),
        _ => small(element, mapped.dims.clone(), bytes),
    }
}

/// Compiles a graph. `graphs` has the positions of all graphs by name.
pub(crate) fn compile(
    view: &GraphView<'_>,
    graphs: &HashMap<String, usize>,
    constants: &mut Constants,
) -> Result<Graph> {
    let module = view.module;
    let mut sources = HashMap::new();
    let mut elements = Vec::new();
    let mut slot = |sources: &mut HashMap<usize, Source>, value: Operand| {
        sources.insert(value.index(), Source::Slot(elements.len()));
        elements.push(match Type::of(module, value) {
            Ok(Type::Tensor(ty)) => Some(ty.element),
            _ => None,
        });
        elements.len() - 1
    };
    for argument in view.arguments() {
        slot(&mut sources, argument.value);
    }
    let (mut steps, mut outputs) = (Vec::new(), Vec::new());
    for (index, op) in view.operations().iter().enumerate() {
        let full = module.full_op_name(op.name);
        let name = full.strip_prefix("aicode.").unwrap_or(&full).to_owned();
        let place = |problem: Problem| Error::Graph {
            graph: view.name.to_string(),
            index,
            op: name.clone(),
            problem: problem.0,
        };
        let operands = op
            .operands
            .iter()
            .map(|value| match sources.get(&value.index()) {
                Some(source) => Ok(*source),
                None => refuse("an operand is not defined"),
            });
        let operands: Vec<Source> = operands.collect::<OpResult<_>>().map_err(place)?;
        let parsed = match name.as_str() {
            "primitive.constant_v1" => {
                let constant = constants.read(view, op).map_err(place)?;
                for value in &op.results {
                    sources.insert(value.index(), Source::Constant(constant));
                }
                continue;
            }
            "dataflow.output_v1" => {
                outputs = operands;
                continue;
            }
            _ => parse(view, op, &name, graphs).map_err(place)?,
        };
        let Some(parsed) = parsed else {
            return Err(Error::UnknownOperation {
                graph: view.name.to_string(),
                index,
                name,
            });
        };
        let results = op.results.iter();
        steps.push(Step {
            op: parsed,
            index,
            operands,
            results: results.map(|v| slot(&mut sources, *v)).collect(),
            last_uses: Vec::new(),
            name,
        });
    }
    let is_state = |id: &TypeId| Ok(matches!(Type::read(module, *id)?, Type::Handle(_)));
    let mut graph = Graph {
        name: view.name.to_string(),
        slots: elements.len(),
        elements,
        arguments: view.inputs.iter().map(is_state).collect::<Result<_>>()?,
        steps,
        shared: vec![false; outputs.len()],
        outputs,
    };
    graph.write_in_place();
    graph.find_shared();
    Ok(graph)
}

fn parse(
    view: &GraphView<'_>,
    op: &Operation,
    name: &str,
    graphs: &HashMap<String, usize>,
) -> OpResult<Option<Op>> {
    Ok(Some(match name {
        "primitive.cast_v1" => {
            let ty = op.results.first();
            let ty = ty.map(|value| Type::of(view.module, *value));
            match ty {
                Some(Ok(Type::Tensor(ty))) => Op::Cast(ty.element),
                _ => return refuse("its result is not a tensor"),
            }
        }
        "primitive.gelu_v1" => {
            let attribute = view.property(op, "approximate");
            match attribute.map(|id| Attribute::read(view.module, id)) {
                Some(Ok(Attribute::Approximate(how))) => Op::Gelu(how),
                _ => return refuse("it has no attribute for the approximation"),
            }
        }
        "primitive.pad_v1" => {
            let attribute = view.property(op, "padding_mode");
            match attribute.map(|id| Attribute::read(view.module, id)) {
                Some(Ok(Attribute::PaddingMode(mode))) => Op::Pad(mode),
                _ => return refuse("it has no attribute for what the padding is filled with"),
            }
        }
        "dataflow.invoke_v1" => match view.callee(op) {
            Some(callee) => match graphs.get(callee.as_ref()) {
                Some(index) => Op::Invoke(*index),
                None => return refuse(format!("there is no graph @{callee}")),
            },
            None => return refuse("it has no name of a graph to call"),
        },
        _ => return Ok(Op::by_name(name)),
    }))
}

impl Graph {
    /// The step that computes each slot.
    pub fn producers(&self) -> HashMap<usize, usize> {
        let steps = self.steps.iter().enumerate();
        steps
            .flat_map(|(at, step)| step.results.iter().map(move |slot| (*slot, at)))
            .collect()
    }

    /// The steps that take each slot; outputs count as a step after the last.
    fn users(&self) -> HashMap<usize, Vec<usize>> {
        let mut users: HashMap<usize, Vec<usize>> = HashMap::new();
        let outputs = (self.steps.len(), &self.outputs);
        let steps = self.steps.iter().map(|step| &step.operands).enumerate();
        for (at, operands) in steps.chain([outputs]) {
            for source in operands {
                if let Source::Slot(slot) = source {
                    users.entry(*slot).or_default().push(at);
                }
            }
        }
        users
    }

    /// Finds slice updates of a state's content whose result is written back to
    /// the same state. Where no later step sees the old content, they change the
    /// state in place.
    fn write_in_place(&mut self) {
        let (producers, users) = (self.producers(), self.users());
        let last_looks = self.last_looks(&users);
        for at in 0..self.steps.len() {
            let step = &self.steps[at];
            let (Op::SliceUpdate, Some(Source::Slot(read))) = (&step.op, step.operands.first())
            else {
                continue;
            };
            let reader = producers.get(read).map(|at| &self.steps[*at]);
            let handle = match reader {
                Some(reader) if matches!(reader.op, Op::ReadHandle) => reader.operands[0],
                _ => continue,
            };
            let writer = match users.get(&step.results[0]).map(Vec::as_slice) {
                Some([only]) => self.steps.get(*only),
                _ => None,
            };
            let back = matches!(writer, Some(writer) if matches!(writer.op, Op::WriteHandle)
                && writer.operands[0] == handle);
            let mut reads = self.steps[..at].iter().filter(|step| {
                matches!(step.op, Op::ReadHandle) && step.operands.first() == Some(&handle)
            });
            let unseen = reads.all(|step| last_looks[step.results[0]] <= at);
            if let (true, true, Source::Slot(handle)) = (back, unseen, handle) {
                self.steps[at].op = Op::UpdateHandle(handle);
            }
        }
    }

    /// The last step that takes each slot, or a view of it. A slice update makes
    /// a new value, not a view.
    fn last_looks(&self, users: &HashMap<usize, Vec<usize>>) -> Vec<usize> {
        let mut last = vec![0; self.slots];
        // Steps come after those they take from, so their own views are known.
        for (slot, users) in users {
            last[*slot] = users.iter().copied().max().unwrap_or(0);
        }
        for step in self.steps.iter().rev() {
            if !step.op.may_share() {
                continue;
            }
            let views = step.results.iter().map(|slot| last[*slot]).max();
            for source in &step.operands {
                if let Source::Slot(slot) = source {
                    last[*slot] = last[*slot].max(views.unwrap_or(0));
                }
            }
        }
        last
    }

    /// Sets how products are summed.
    pub fn set_accumulate(&mut self, accumulate: Accumulate) {
        for step in &mut self.steps {
            if let Op::MatMul(how) = &mut step.op {
                *how = accumulate;
            }
        }
    }

    fn find_shared(&mut self) {
        let mut views = vec![false; self.slots];
        for step in &self.steps {
            let of_view = |source: &Source| matches!(source, Source::Slot(slot) if views[*slot]);
            let shares = match &step.op {
                Op::ReadHandle | Op::UpdateHandle(_) => true,
                op if op.may_share() => step.operands.iter().any(of_view),
                _ => false,
            };
            for slot in &step.results {
                views[*slot] = shares;
            }
        }
        for (source, shared) in self.outputs.iter().zip(&mut self.shared) {
            *shared = matches!(source, Source::Slot(slot) if views[*slot]);
        }
    }

    /// Drops steps whose results no step takes, and notes where each value is
    /// taken for the last time.
    pub fn tidy(&mut self) {
        let mut needed = vec![false; self.slots];
        let need = |needed: &mut Vec<bool>, sources: &[Source]| {
            for source in sources {
                if let Source::Slot(slot) = source {
                    needed[*slot] = true;
                }
            }
        };
        need(&mut needed, &self.outputs);
        let mut keep = vec![false; self.steps.len()];
        for (at, step) in self.steps.iter().enumerate().rev() {
            let acts = matches!(
                step.op,
                Op::WriteHandle | Op::UpdateHandle(_) | Op::Invoke(_)
            );
            if acts || step.results.iter().any(|slot| needed[*slot]) {
                keep[at] = true;
                need(&mut needed, &step.operands);
            }
        }
        let mut keep = keep.into_iter();
        self.steps.retain(|_| keep.next().unwrap_or(true));
        let mut seen = vec![false; self.slots];
        for source in &self.outputs {
            if let Source::Slot(slot) = source {
                seen[*slot] = true;
            }
        }
        for step in self.steps.iter_mut().rev() {
            step.last_uses.clear();
            let taken = step.operands.iter().filter_map(|source| match source {
                Source::Slot(slot) => Some(*slot),
                Source::Constant(_) => None,
            });
            for slot in taken.chain(step.results.iter().copied()) {
                if !std::mem::replace(&mut seen[slot], true) {
                    step.last_uses.push(slot);
                }
            }
        }
    }
}
