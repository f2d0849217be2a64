//! Differences between two programs in meaning.
//!
//! The order of operations that do not use each other's results, the names of
//! private graphs and of resources, and source locations do not count. The
//! values that each function returns do, and with them the operations,
//! attributes and constants that they are computed from, to the bit.

mod bytes;
mod same;

use std::collections::{HashMap, HashSet};

use mlir_bytecode::{AttrId, Blob, Module, Operation, ResourceId, ResourceValue, TypeId, Value};

use crate::{
    GraphView, Result, Type, graphs,
    view::{Content, callee, content, op_name},
};

use bytes::{Compare, Mismatch};

/// How many differences are reported at most.
const MAX_DIFFERENCES: usize = 200;

/// A difference between two programs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// Its kind: `function`, `operation`, `attribute`, `constant`, `extra`.
    pub kind: &'static str,
    /// Where: a graph, and an operation or a constant of it.
    pub place: String,
    /// What was found, and what was expected.
    pub message: String,
}

impl Difference {
    /// A difference that the caller found beside those of [`diff`].
    #[must_use]
    pub fn new(kind: &'static str, place: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            kind,
            place: place.into(),
            message: message.into(),
        }
    }
}

/// Compares a program with the one that it should be. The data of constants
/// are made and compared one after the other, and never held whole.
///
/// ```
/// use aimodel::{AssetBuilder, ElementType, Module, TensorType, diff};
///
/// fn program(addend: u8) -> aimodel::Result<Module> {
///     let mut asset = AssetBuilder::new();
///     let mut graph = asset.graph("main");
///     let ty = TensorType::fixed([2], ElementType::Si8);
///     let x = graph.input("x", ty.clone())?;
///     let constant = graph.dense(ty, &[1, addend])?;
///     let y = graph.add(x, constant)?;
///     graph.finish(&[("y", y)])?;
///     asset.finish()
/// }
/// assert!(diff(&program(2)?, &program(2)?)?.is_empty());
/// let found = diff(&program(2)?, &program(3)?)?;
/// assert_eq!(found[0].kind, "constant");
/// # Ok::<(), aimodel::Error>(())
/// ```
///
/// # Errors
/// A module whose root is not an asset of graphs, or data of a constant that
/// cannot be made.
pub fn diff(found: &Module, expected: &Module) -> Result<Vec<Difference>> {
    let mut differ = Differ {
        found: Side::new(found)?,
        expected: Side::new(expected)?,
        attrs: HashMap::new(),
        types: HashMap::new(),
        graphs: HashSet::new(),
        compared: HashSet::new(),
        resources: HashMap::new(),
        seen: [HashSet::new(), HashSet::new()],
        list: Vec::new(),
    };
    differ.run()?;
    Ok(differ.list)
}

/// Where a value comes from.
#[derive(Clone, Copy)]
enum Origin {
    Argument(usize),
    Result(usize, usize),
}

struct Side<'m> {
    module: &'m Module,
    graphs: Vec<GraphView<'m>>,
    /// By graph.
    origins: Vec<HashMap<Value, Origin>>,
}

impl<'m> Side<'m> {
    fn new(module: &'m Module) -> Result<Self> {
        let graphs = graphs(module)?;
        let origins = graphs.iter().map(|graph| {
            let arguments = graph.arguments().iter().enumerate();
            let arguments = arguments.map(|(at, one)| (one.value, Origin::Argument(at)));
            let results = graph.operations().iter().enumerate();
            let results = results.flat_map(|(op, one)| {
                let results = one.results.iter().enumerate();
                results.map(move |(at, value)| (*value, Origin::Result(op, at)))
            });
            arguments.chain(results).collect()
        });
        Ok(Self {
            module,
            origins: origins.collect(),
            graphs,
        })
    }

    fn graph(&self, name: &str) -> Option<usize> {
        self.graphs.iter().position(|g| g.name.as_ref() == name)
    }

    fn text(&self, ty: TypeId) -> String {
        match Type::read(self.module, ty) {
            Ok(ty) => ty.to_string(),
            Err(_) => "a malformed type".to_owned(),
        }
    }

    fn blob(&self, id: ResourceId) -> Option<(&str, &Blob)> {
        let (_, resource) = self.module.resources.get(id.index())?;
        match &resource.value {
            ResourceValue::Blob { data, .. } => Some((&resource.key, data)),
            _ => None,
        }
    }
}

struct Differ<'m> {
    found: Side<'m>,
    expected: Side<'m>,
    attrs: HashMap<(AttrId, AttrId), bool>,
    types: HashMap<(TypeId, TypeId), bool>,
    /// Pairs of graphs that were compared, or are being so.
    graphs: HashSet<(usize, usize)>,
    /// Pairs of operations that were compared: graph and place, twice.
    compared: HashSet<(usize, usize, usize, usize)>,
    /// Pairs of blobs: what differs, if something does.
    resources: HashMap<(ResourceId, ResourceId), Option<Mismatch>>,
    /// Operations of graphs' bodies that were reached, by graph and place.
    seen: [HashSet<(usize, usize)>; 2],
    list: Vec<Difference>,
}

impl<'m> Differ<'m> {
    fn run(&mut self) -> Result<()> {
        let mut pairs = Vec::new();
        for (index, graph) in self.expected.graphs.iter().enumerate() {
            if graph.private {
                continue;
            }
            match self.found.graph(&graph.name) {
                Some(found) => pairs.push((found, index)),
                None => self.list.push(Difference {
                    kind: "function",
                    place: format!("@{}", graph.name),
                    message: "is missing".to_owned(),
                }),
            }
        }
        for graph in &self.found.graphs {
            if !graph.private && self.expected.graph(&graph.name).is_none() {
                self.list.push(Difference {
                    kind: "function",
                    place: format!("@{}", graph.name),
                    message: "is not expected".to_owned(),
                });
            }
        }
        // Graphs that are called are appended.
        let mut next = 0;
        while let Some(&(found, expected)) = pairs.get(next) {
            next += 1;
            if self.list.len() >= MAX_DIFFERENCES {
                return Ok(());
            }
            if self.graphs.insert((found, expected)) {
                self.graph(found, expected, &mut pairs)?;
            }
        }
        if self.list.is_empty() {
            self.unreached();
        }
        Ok(())
    }

    fn report(&mut self, kind: &'static str, place: String, message: String) {
        if self.list.len() < MAX_DIFFERENCES {
            self.list.push(Difference {
                kind,
                place,
                message,
            });
        }
    }

    /// Reports operations that no result depends on, on either side.
    fn unreached(&mut self) {
        let left = |side: &Side<'_>, seen: &HashSet<(usize, usize)>| {
            let graphs = side.graphs.iter().enumerate();
            let ops = graphs.flat_map(|(index, graph)| {
                let ops = graph.operations().iter().enumerate();
                ops.filter(move |(at, _)| !seen.contains(&(index, *at)))
                    .map(move |(at, op)| (graph, at, op))
            });
            let places = ops.map(|(graph, at, op)| {
                let name = side.module.full_op_name(op.name);
                format!("@{} operation {at}, {name}", graph.name)
            });
            places.collect::<Vec<_>>()
        };
        let found = left(&self.found, &self.seen[0]);
        let expected = left(&self.expected, &self.seen[1]);
        for place in found {
            let message = "is there, and nothing expected depends on it".to_owned();
            self.report("extra", place, message);
        }
        for place in expected {
            let message = "is expected, and nothing found depends on it".to_owned();
            self.report("extra", place, message);
        }
        let used: HashSet<usize> = self.resources.keys().map(|pair| pair.0.index()).collect();
        for (index, (_, resource)) in self.found.module.resources.iter().enumerate() {
            if !used.contains(&index) && self.list.len() < MAX_DIFFERENCES {
                self.list.push(Difference {
                    kind: "extra",
                    place: format!("resource {}", resource.key),
                    message: "is there, and no constant of the graphs uses it".to_owned(),
                });
            }
        }
    }

    fn graph(
        &mut self,
        found_graph: usize,
        expected_graph: usize,
        calls: &mut Vec<(usize, usize)>,
    ) -> Result<()> {
        let actual = self.found.graphs[found_graph].clone();
        let expected = self.expected.graphs[expected_graph].clone();
        let (actual, expected) = (&actual, &expected);
        let place = format!("@{}", actual.name);
        let names = [actual, expected].map(|g| (g.argument_names(), g.result_names()));
        let flags = [actual, expected].map(|g| (g.private, g.no_inline));
        let types = [
            (&actual.inputs, &expected.inputs),
            (&actual.outputs, &expected.outputs),
        ];
        let types = types.map(|(a, b)| (a.clone(), b.clone()));
        let attrs = [
            (actual.composite, expected.composite),
            (Some(actual.attrs()[0]), Some(expected.attrs()[0])),
            (Some(actual.attrs()[1]), Some(expected.attrs()[1])),
        ];
        let mut outputs: Vec<(Value, Value)> = Vec::new();
        outputs.extend(
            actual
                .results()
                .iter()
                .copied()
                .zip(expected.results().iter().copied()),
        );
        let ends = [actual, expected].map(|g| g.operations().len().checked_sub(1));
        let [actual_names, expected_names] = names;
        if actual_names.0? != expected_names.0? || actual_names.1? != expected_names.1? {
            let message = "its arguments or results have other names than expected".to_owned();
            self.report("function", place.clone(), message);
        }
        for (actual, expected) in types {
            let same = actual.len() == expected.len()
                && actual
                    .iter()
                    .zip(&expected)
                    .all(|(a, b)| self.same_type(*a, *b, 0));
            if !same {
                let text = |side: &Side<'_>, types: &[TypeId]| {
                    let types: Vec<_> = types.iter().map(|ty| side.text(*ty)).collect();
                    types.join(", ")
                };
                let message = format!(
                    "found arguments or results ({}), expected ({})",
                    text(&self.found, &actual),
                    text(&self.expected, &expected)
                );
                self.report("function", place, message);
                // The rest cannot be compared.
                return Ok(());
            }
        }
        let same = attrs.into_iter().all(|pair| match pair {
            (Some(a), Some(b)) => self.same_attr(a, b, 0),
            (None, None) => true,
            _ => false,
        });
        if !same || flags[0] != flags[1] {
            let message = "its declaration (composite, attributes, visibility) is another than \
                           expected";
            self.report("attribute", place, message.to_owned());
        }
        for (side, (graph, end)) in [found_graph, expected_graph]
            .into_iter()
            .zip(ends)
            .enumerate()
        {
            self.seen[side].extend(end.map(|end| (graph, end)));
        }
        let max = 4 * (self.found.module.value_count() + self.expected.module.value_count());
        while let Some((a, b)) = outputs.pop() {
            if self.list.len() >= MAX_DIFFERENCES || self.compared.len() > max {
                break;
            }
            self.value((found_graph, a), (expected_graph, b), &mut outputs, calls)?;
        }
        Ok(())
    }

    fn value(
        &mut self,
        (found_graph, a): (usize, Value),
        (expected_graph, b): (usize, Value),
        more: &mut Vec<(Value, Value)>,
        calls: &mut Vec<(usize, usize)>,
    ) -> Result<()> {
        let graph = self.found.graphs[found_graph].name.clone();
        let origins = (
            self.found.origins[found_graph].get(&a),
            self.expected.origins[expected_graph].get(&b),
        );
        let ((op_a, at_a), (op_b, at_b)) = match origins {
            (Some(Origin::Argument(a)), Some(Origin::Argument(b))) => {
                if a != b {
                    let message = format!("argument {a} is used where argument {b} is expected");
                    self.report("operation", format!("@{graph}"), message);
                }
                return Ok(());
            }
            (Some(Origin::Result(op_a, at_a)), Some(Origin::Result(op_b, at_b))) => {
                ((*op_a, *at_a), (*op_b, *at_b))
            }
            _ => {
                let message = "an argument is used where a result is expected, or the other way";
                self.report("operation", format!("@{graph}"), message.to_owned());
                return Ok(());
            }
        };
        if at_a != at_b {
            let message = format!("result {at_a} is used where result {at_b} is expected");
            self.report("operation", format!("@{graph} operation {op_a}"), message);
        }
        if !self
            .compared
            .insert((found_graph, op_a, expected_graph, op_b))
        {
            return Ok(());
        }
        self.seen[0].insert((found_graph, op_a));
        self.seen[1].insert((expected_graph, op_b));
        self.operation((found_graph, op_a), (expected_graph, op_b), more, calls)
    }

    fn operation(
        &mut self,
        (found_graph, op_a): (usize, usize),
        (expected_graph, op_b): (usize, usize),
        more: &mut Vec<(Value, Value)>,
        calls: &mut Vec<(usize, usize)>,
    ) -> Result<()> {
        let graph = self.found.graphs[found_graph].name.clone();
        let actual = &self.found.graphs[found_graph].operations()[op_a];
        let expected = &self.expected.graphs[expected_graph].operations()[op_b];
        let name = self.found.module.full_op_name(actual.name);
        let place = format!("@{graph} operation {op_a}, {name}");
        let wanted = self.expected.module.full_op_name(expected.name);
        if name != wanted || actual.operands.len() != expected.operands.len() {
            let message = format!(
                "found {name} of {} operands, expected {wanted} of {} (operation {op_b})",
                actual.operands.len(),
                expected.operands.len()
            );
            self.report("operation", place, message);
            return Ok(());
        }
        let types = [(actual, &self.found), (expected, &self.expected)];
        let types = types.map(|(op, side)| {
            let values = op.results.iter();
            values
                .filter_map(|v| side.module.value_type(*v))
                .collect::<Vec<_>>()
        });
        let same_types = types[0].len() == types[1].len()
            && types[0]
                .iter()
                .zip(&types[1])
                .all(|(a, b)| self.same_type(*a, *b, 0));
        if !same_types {
            let text = |side: &Side<'_>, types: &[TypeId]| {
                let types: Vec<_> = types.iter().map(|ty| side.text(*ty)).collect();
                types.join(", ")
            };
            let message = format!(
                "gives {}, expected {}",
                text(&self.found, &types[0]),
                text(&self.expected, &types[1])
            );
            self.report("operation", place.clone(), message);
        }
        if op_name(self.found.module, actual)
            .is_some_and(|name| name.starts_with("primitive.constant"))
        {
            return self.constant(actual, expected, &graph, op_a);
        }
        let called = (
            callee(self.found.module, actual),
            callee(self.expected.module, expected),
        );
        if let (Some(a), Some(b)) = called {
            match (self.found.graph(&a), self.expected.graph(&b)) {
                (Some(a), Some(b)) => calls.push((a, b)),
                _ => self.report(
                    "operation",
                    place.clone(),
                    "calls a graph that is not there".to_owned(),
                ),
            }
        } else if !self.same_properties(actual, expected) {
            self.report(
                "attribute",
                place.clone(),
                "has other attributes than expected".to_owned(),
            );
        }
        let (regions_a, regions_b) = (&actual.regions, &expected.regions);
        let mut inside = HashMap::new();
        let mut outside = Vec::new();
        if !self.same_regions(regions_a, regions_b, &mut inside, &mut outside) {
            let message = "has another decomposition than expected".to_owned();
            self.report("operation", place, message);
        }
        more.extend(outside);
        more.extend(
            actual
                .operands
                .iter()
                .copied()
                .zip(expected.operands.iter().copied()),
        );
        Ok(())
    }

    fn constant(
        &mut self,
        actual: &Operation,
        expected: &Operation,
        graph: &str,
        at: usize,
    ) -> Result<()> {
        let ty = actual
            .results
            .first()
            .and_then(|v| self.found.module.value_type(*v));
        let ty = ty.map_or_else(String::new, |ty| self.found.text(ty));
        let place = format!("@{graph} operation {at}, constant of {ty}");
        let contents = (
            content(self.found.module, actual),
            content(self.expected.module, expected),
        );
        match contents {
            (Some(Content::Elements(_, a)), Some(Content::Elements(_, b))) => {
                if a != b {
                    let mut compare = Compare::new(a);
                    compare.take(b);
                    self.report("constant", place, compare.end().text());
                }
            }
            (Some(Content::Resource(a)), Some(Content::Resource(b))) => {
                let named = self.expected.blob(b).map(|(key, _)| key.to_owned());
                if let Some(mismatch) = self.blobs(a, b)? {
                    let place = match named {
                        Some(key) => format!("{key} ({place})"),
                        None => place,
                    };
                    self.report("constant", place, mismatch.text());
                }
            }
            (None, _) | (_, None) => {
                self.report(
                    "constant",
                    place,
                    "has a content that is not known".to_owned(),
                );
            }
            _ => {
                let message = "stands in the graph where a resource is expected, or the other way";
                self.report("constant", place, message.to_owned());
            }
        }
        Ok(())
    }

    fn blobs(&mut self, a: ResourceId, b: ResourceId) -> Result<Option<Mismatch>> {
        if let Some(known) = self.resources.get(&(a, b)) {
            return Ok(*known);
        }
        let absent = Some(Mismatch {
            first: 0,
            count: 0,
            lengths: [0, 0],
        });
        let outcome = match (self.found.blob(a), self.expected.blob(b)) {
            (Some((_, actual)), Some((_, expected))) => {
                let owned;
                let bytes = match actual.as_slice() {
                    Some(bytes) => bytes,
                    None => {
                        owned = actual.to_vec()?;
                        &owned
                    }
                };
                let mut compare = Compare::new(bytes);
                expected.write_to(&mut compare)?;
                let end = compare.end();
                (end.count > 0).then_some(end)
            }
            _ => absent,
        };
        self.resources.insert((a, b), outcome);
        Ok(outcome)
    }
}
