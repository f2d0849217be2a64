//! Checking that a module is what the AICode dialect allows.

use std::collections::{HashMap, HashSet};

use mlir_bytecode::{Block, MAX_DEPTH, Module, Operation, Region, ResourceValue, TypeId, Value};

use crate::{
    ElementType, Error, GraphView, Result, TensorType, Type, graphs,
    rules::{self, Regions, Rule},
    view::{self, Content, op_name},
};

/// Checks a whole asset: graphs, calls, operations, types, constants, states.
///
/// Core AI's own library loads what this accepts. Whether the numbers are right
/// is not checked.
///
/// ```
/// use aimodel::{AssetBuilder, ElementType, TensorType, verify};
///
/// let mut asset = AssetBuilder::new();
/// for _ in 0..2 {
///     let mut graph = asset.graph("main");
///     let x = graph.input("x", TensorType::fixed([4], ElementType::F16))?;
///     graph.finish(&[("y", x)])?;
/// }
/// let problem = verify(&asset.finish()?).unwrap_err().to_string();
/// assert_eq!(problem, "there are two graphs @main");
/// # Ok::<(), aimodel::Error>(())
/// ```
///
/// # Errors
/// The first problem, with the graph and the operation that it is in.
pub fn verify(module: &Module) -> Result<()> {
    let graphs = graphs(module)?;
    let mut by_name = HashMap::new();
    for (index, graph) in graphs.iter().enumerate() {
        if by_name.insert(graph.name.as_ref(), index).is_some() {
            return Err(Error::Invalid(format!(
                "there are two graphs @{}",
                graph.name
            )));
        }
    }
    let mut verifier = Verifier {
        module,
        graphs: &graphs,
        by_name,
        types: HashMap::new(),
        defined: vec![0; module.value_count()],
        open: Vec::new(),
        floor: 0,
        regions: 0,
        calls: vec![Vec::new(); graphs.len()],
    };
    for index in 0..graphs.len() {
        verifier.graph(index)?;
    }
    refuse_recursion(&graphs, &verifier.calls)
}

struct Verifier<'m> {
    module: &'m Module,
    graphs: &'m [GraphView<'m>],
    by_name: HashMap<&'m str, usize>,
    /// Types that were read.
    types: HashMap<TypeId, Type>,
    /// The region in which each value is defined, counted from 1; 0 is none.
    defined: Vec<u32>,
    /// The enclosing regions, the innermost last.
    open: Vec<u32>,
    /// The first of `open` whose values are visible.
    floor: usize,
    /// How many regions were entered.
    regions: u32,
    /// The graphs that each graph calls.
    calls: Vec<Vec<usize>>,
}

/// Where something is wrong.
struct Place<'p> {
    graph: &'p str,
    /// The position among the operations of the graph.
    index: usize,
    op: &'p str,
}

impl Place<'_> {
    fn error(&self, problem: impl std::fmt::Display) -> Error {
        Error::Invalid(format!(
            "graph @{}, operation {}, `{}`: {problem}",
            self.graph, self.index, self.op
        ))
    }
}

impl<'m> Verifier<'m> {
    fn graph(&mut self, index: usize) -> Result<()> {
        let graphs = self.graphs;
        let graph = &graphs[index];
        let invalid = |problem: String| Error::Invalid(format!("graph @{}: {problem}", graph.name));
        check_names(graph)?;
        if graph.composite.is_some() && !(graph.private && graph.no_inline) {
            return Err(invalid(
                "is a composite, which must be private and must not be inlined".to_owned(),
            ));
        }
        let outer = self.enter(true);
        let arguments: Vec<Value> = graph.arguments().iter().map(|a| a.value).collect();
        self.arguments(&arguments).map_err(invalid)?;
        self.same_types("arguments", &graph.inputs, &arguments)
            .map_err(invalid)?;
        let ops = graph.operations();
        for (position, op) in ops.iter().enumerate() {
            let mut place = Place {
                graph: &graph.name,
                index: position,
                op: "",
            };
            self.operation(op, index, &mut place)?;
            let last = position + 1 == ops.len();
            if last != (place.op == "dataflow.output_v1") {
                return Err(place.error("an output must be the last operation, and nothing else"));
            }
        }
        let Some(output) = ops.last() else {
            return Err(invalid("has no operations".to_owned()));
        };
        self.same_types("results", &graph.outputs, &output.operands)
            .map_err(invalid)?;
        self.states(graph)?;
        self.leave(outer);
        Ok(())
    }

    /// Opens a region; what `leave` needs to close it.
    fn enter(&mut self, isolated: bool) -> usize {
        let outer = self.floor;
        if isolated {
            self.floor = self.open.len();
        }
        self.regions += 1;
        self.open.push(self.regions);
        outer
    }

    fn leave(&mut self, outer: usize) {
        self.open.pop();
        self.floor = outer;
    }

    fn arguments(&mut self, arguments: &[Value]) -> Result<(), String> {
        for value in arguments {
            self.define(*value)?;
        }
        Ok(())
    }

    /// Defines a value in the innermost region, and reads its type.
    fn define(&mut self, value: Value) -> Result<(), String> {
        let region = self.open.last().copied().unwrap_or_default();
        let defined = self.defined.get_mut(value.index());
        let id = match defined.zip(self.module.value_type(value)) {
            Some((defined @ 0, id)) => {
                *defined = region;
                id
            }
            Some(_) => return Err(format!("value {} is defined twice", value.index())),
            None => return Err(format!("value {} is of another module", value.index())),
        };
        if !self.types.contains_key(&id) {
            let ty = Type::of_value(self.module, id).map_err(|error| error.to_string())?;
            self.types.insert(id, ty);
        }
        Ok(())
    }

    fn sees(&self, value: Value) -> bool {
        match self.defined.get(value.index()) {
            Some(region) => self.open[self.floor..].contains(region),
            None => false,
        }
    }

    /// The types of values that are defined.
    fn types(&self, values: &[Value]) -> Result<Vec<&Type>, String> {
        let types = values.iter().map(|value| {
            let id = self.module.value_type(*value);
            let ty = id.and_then(|id| self.types.get(&id));
            ty.ok_or_else(|| format!("value {} has no type", value.index()))
        });
        types.collect()
    }

    /// Whether values have declared types, which may stand in the file twice.
    fn same_types(&self, what: &str, declared: &[TypeId], values: &[Value]) -> Result<(), String> {
        if declared.len() != values.len() {
            return Err(format!(
                "{what}: {} are declared, found {}",
                declared.len(),
                values.len()
            ));
        }
        for (index, (declared, ty)) in declared.iter().zip(self.types(values)?).enumerate() {
            let same = match self.types.get(declared) {
                Some(declared) => declared == ty,
                // No value has that type; it may have one that is equal.
                None => {
                    Type::of_value(self.module, *declared).is_ok_and(|declared| declared == *ty)
                }
            };
            if !same {
                return Err(format!(
                    "{what}: number {index} is {ty}, which is not what its function type declares"
                ));
            }
        }
        Ok(())
    }

    fn operation(&mut self, op: &'m Operation, graph: usize, place: &mut Place<'m>) -> Result<()> {
        let module = self.module;
        let Some(name) = op_name(module, op) else {
            return Err(place.error(format!(
                "`{}` is not an operation of AICode",
                module.full_op_name(op.name)
            )));
        };
        place.op = name;
        let Some(rule) = rules::rule(name) else {
            return Err(place.error(
                "is not known; a newer version of this tool may know it. In this project, an \
                 operation is made known by a rule in aimodel/src/rules.rs",
            ));
        };
        self.values(op, rule)
            .map_err(|problem| place.error(problem))?;
        match name {
            "primitive.constant_v1" => self
                .types(&op.results)
                .and_then(|types| constant(module, op, &types)),
            "dataflow.invoke_v1" => self.invoke(op, graph),
            _ => Ok(()),
        }
        .map_err(|problem| place.error(problem))?;
        self.op_regions(op, rule.regions, graph, place)
    }

    /// Checks operands and results.
    fn values(&mut self, op: &Operation, rule: Rule) -> Result<(), String> {
        let (min, max) = rule.operands;
        let found = op.operands.len();
        if found < min || found > max {
            let expected = if min == max {
                min.to_string()
            } else {
                format!("{min} or more")
            };
            return Err(format!("takes {expected} operands, found {found}"));
        }
        if let Some(expected) = rule.results
            && op.results.len() != expected
        {
            let found = op.results.len();
            return Err(format!("gives {expected} results, found {found}"));
        }
        if !op.successors.is_empty() {
            return Err("has successors, expected none".to_owned());
        }
        if let Some(index) = op.operands.iter().position(|value| !self.sees(*value)) {
            return Err(format!("operand {index} is not defined before it"));
        }
        for result in &op.results {
            self.define(*result)?;
        }
        let (operands, results) = (self.types(&op.operands)?, self.types(&op.results)?);
        let name = op_name(self.module, op).unwrap_or_default();
        rules::check_types(name, &operands, &results)?;
        let on_states = matches!(name, "dataflow.read_handle_v1" | "dataflow.write_handle_v1");
        let takes_state = operands.iter().any(|ty| matches!(ty, Type::Handle(_)));
        if takes_state && !on_states && rule.regions != Regions::Unknown {
            return Err("takes a state, which only reads and writes do".to_owned());
        }
        Ok(())
    }

    /// Checks the regions of an operation.
    fn op_regions(
        &mut self,
        op: &'m Operation,
        expected: Regions,
        graph: usize,
        place: &mut Place<'m>,
    ) -> Result<()> {
        let known = expected != Regions::Unknown;
        let one_block =
            |regions: &[Region]| matches!(regions, [region] if region.blocks.len() == 1);
        match expected {
            Regions::Unknown => {}
            Regions::None if op.regions.is_empty() => {}
            Regions::None => return Err(place.error("has regions, expected none")),
            _ if !one_block(&op.regions) => {
                return Err(place.error("must have one region with one block"));
            }
            _ => {}
        }
        if self.open.len() > MAX_DEPTH {
            return Err(place.error(format!("regions nest deeper than {MAX_DEPTH}")));
        }
        let name = place.op;
        for region in &op.regions {
            let outer = self.enter(op.isolated || known);
            for block in &region.blocks {
                let arguments: Vec<Value> = block.arguments.iter().map(|a| a.value).collect();
                self.arguments(&arguments)
                    .map_err(|problem| place.error(problem))?;
                for inner in &block.operations {
                    self.operation(inner, graph, place)?;
                }
                if known {
                    place.op = name;
                    self.region_types(op, block, expected)
                        .map_err(|problem| place.error(problem))?;
                }
            }
            self.leave(outer);
        }
        place.op = name;
        Ok(())
    }

    /// Checks the arguments and the result of a region against its operation.
    fn region_types(&self, op: &Operation, block: &Block, kind: Regions) -> Result<(), String> {
        let ends = |op: &Operation| op_name(self.module, op) == Some("dataflow.yield_v1");
        let last = match block.operations.split_last() {
            Some((last, rest)) if ends(last) && !rest.iter().any(ends) => last,
            _ => return Err("its region must end with a yield".to_owned()),
        };
        let [yielded] = self.types(&last.operands)?[..] else {
            return Err("its region must yield one value".to_owned());
        };
        let arguments: Vec<Value> = block.arguments.iter().map(|a| a.value).collect();
        let (arguments, operands) = (self.types(&arguments)?, self.types(&op.operands)?);
        let results = self.types(&op.results)?;
        if kind == Regions::Decomposition {
            if arguments != operands {
                return Err("the arguments of its region are not its operands' types".to_owned());
            }
            return match (yielded, results.as_slice()) {
                (Type::Tensor(yielded), [Type::Tensor(result)])
                    if rules::compatible(yielded, result) =>
                {
                    Ok(())
                }
                _ => Err(format!(
                    "its region yields {yielded}, which is not its result"
                )),
            };
        }
        let scalar = |ty: &Type| {
            ty.tensor()
                .map(|ty| TensorType::fixed([], ty.element).into())
        };
        let [x, _, start] = operands.as_slice() else {
            return Err("takes an operand, axes and a start".to_owned());
        };
        let expected: [Option<Type>; 2] = [scalar(start), scalar(x)];
        let fits = arguments.iter().map(|ty| Some((*ty).clone())).eq(expected) && yielded == *start;
        if fits {
            Ok(())
        } else {
            Err("its region does not combine the start with an element".to_owned())
        }
    }

    /// Checks a call.
    fn invoke(&mut self, op: &Operation, graph: usize) -> Result<(), String> {
        let Some(name) = view::callee(self.module, op) else {
            return Err("does not name a graph".to_owned());
        };
        let Some(&callee) = self.by_name.get(name.as_ref()) else {
            return Err(format!("there is no graph @{name}"));
        };
        let graphs = self.graphs;
        let view = &graphs[callee];
        self.same_types(&format!("arguments of @{name}"), &view.inputs, &op.operands)?;
        self.same_types(&format!("results of @{name}"), &view.outputs, &op.results)?;
        if self.calls[graph].last() != Some(&callee) {
            self.calls[graph].push(callee);
        }
        Ok(())
    }

    /// Checks that reads and writes of each state are ordered by their tokens,
    /// and that the token of the last write is a result.
    fn states(&self, graph: &GraphView<'_>) -> Result<()> {
        let mut last: HashMap<Value, (Value, bool)> = HashMap::new();
        let (mut created, mut joined) = (HashSet::<Value>::new(), HashSet::<Value>::new());
        for (index, op) in graph.operations().iter().enumerate() {
            let name = op_name(self.module, op).unwrap_or_default();
            match name {
                "dataflow.create_token_v1" => created.extend(&op.results),
                "dataflow.join_token_v1" => joined.extend(&op.results),
                _ => {}
            }
            let written = name == "dataflow.write_handle_v1";
            if !written && name != "dataflow.read_handle_v1" {
                continue;
            }
            // Both were found to have a handle first and tokens last.
            let [handle, .., token] = op.operands[..] else {
                continue;
            };
            let before = last.get(&handle).copied();
            let follows = match before {
                Some((latest, _)) => latest == token,
                None => created.contains(&token),
            };
            if !follows && !joined.contains(&token) {
                let place = Place {
                    graph: &graph.name,
                    index,
                    op: name,
                };
                return Err(place.error("does not follow what was done to its state before"));
            }
            let written = written || before.is_some_and(|(_, written)| written);
            last.extend(op.results.last().map(|next| (handle, (*next, written))));
        }
        let given: HashSet<&Value> = graph.results().iter().collect();
        let lost = graph.arguments().iter().position(|argument| {
            last.get(&argument.value)
                .is_some_and(|(token, written)| *written && !given.contains(token))
        });
        match lost {
            None => Ok(()),
            Some(index) => Err(Error::Invalid(format!(
                "graph @{}: argument {index} is a state whose last token is not a result, so that \
                 what was written is lost",
                graph.name
            ))),
        }
    }
}

/// Checks that a graph that a host calls names its arguments and results.
fn check_names(graph: &GraphView<'_>) -> Result<()> {
    let names = [
        (graph.argument_names()?, "arguments"),
        (graph.result_names()?, "results"),
    ];
    for (names, what) in names.iter().filter(|_| !graph.private) {
        let mut seen = HashSet::new();
        for name in names {
            let problem = match name {
                Some(name) if seen.insert(name) => continue,
                Some(name) => format!("two {what} are named {name}"),
                None => format!("its {what} are not all named"),
            };
            return Err(Error::Invalid(format!("graph @{}: {problem}", graph.name)));
        }
    }
    Ok(())
}

/// Checks that a constant holds as many bytes as its type asks for.
fn constant(module: &Module, op: &Operation, types: &[&Type]) -> Result<(), String> {
    let [Type::Tensor(ty)] = types else {
        return Err("its result is not a tensor".to_owned());
    };
    let Some(content) = view::content(module, op) else {
        return Err("has no elements and no resource".to_owned());
    };
    let Some(count) = ty.element_count() else {
        return Err(format!("the extents of {ty} are not all known"));
    };
    // An element smaller than a byte takes a byte.
    let size = ty.element.bits().div_ceil(8);
    let Some(all) = count.checked_mul(size) else {
        return Err(format!("{ty} is too large"));
    };
    let (expected, found, source) = match content {
        Content::Elements(splat, bytes) => {
            // A splat of booleans may be stored in full nevertheless.
            let full = splat && ty.element == ElementType::Bool && bytes.len() as u64 == all;
            let expected = if splat && !full { size } else { all };
            (expected, bytes.len() as u64, "its elements".to_owned())
        }
        Content::Resource(id) => match module.resources.get(id.index()) {
            Some((_, resource)) => match &resource.value {
                ResourceValue::Blob { data, .. } => {
                    (all, data.len(), format!("resource `{}`", resource.key))
                }
                _ => return Err(format!("resource `{}` holds no bytes", resource.key)),
            },
            None => return Err(format!("there is no resource {}", id.index())),
        },
    };
    if expected == found {
        Ok(())
    } else {
        Err(format!(
            "{ty} takes {expected} bytes, but {source} has {found}"
        ))
    }
}

/// Checks that no graph calls itself, directly or through others.
fn refuse_recursion(graphs: &[GraphView<'_>], calls: &[Vec<usize>]) -> Result<()> {
    #[derive(Clone, Copy, PartialEq)]
    enum State {
        New,
        Open,
        Done,
    }
    let mut states = vec![State::New; graphs.len()];
    for start in 0..graphs.len() {
        // Graphs whose calls are being followed, and how many were.
        let mut path = vec![(start, 0)];
        while let Some((graph, followed)) = path.last_mut() {
            let graph = *graph;
            if states[graph] == State::Done {
                path.pop();
                continue;
            }
            states[graph] = State::Open;
            match calls[graph].get(*followed) {
                None => {
                    states[graph] = State::Done;
                    path.pop();
                }
                Some(&callee) if states[callee] == State::Open => {
                    return Err(Error::Invalid(format!(
                        "graph @{} calls itself, by way of @{}",
                        graphs[callee].name, graphs[graph].name
                    )));
                }
                Some(&callee) => {
                    *followed += 1;
                    path.push((callee, 0));
                }
            }
        }
    }
    Ok(())
}
