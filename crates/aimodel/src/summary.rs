//! The content of an asset, counted as Core AI's own summary counts it.

use std::collections::{BTreeMap, HashSet};

use mlir_bytecode::{Encoding, Field, Module, Operation, ResourceValue};

use crate::{
    ElementType, Error, GraphView, Result, TensorType, Type, graphs,
    schema::NAMESPACE,
    view::{self, Content, property},
};

/// The content of an asset.
///
/// ```
/// use aimodel::{AssetBuilder, ElementType, Summary, TensorType};
///
/// let mut asset = AssetBuilder::new();
/// let mut graph = asset.graph("main");
/// let x = graph.input("x", TensorType::fixed([4], ElementType::F16))?;
/// let half = graph.scalar_f16(0.5)?;
/// let y = graph.mul(x, half)?;
/// graph.finish(&[("y", y)])?;
///
/// let summary = Summary::of(&asset.finish()?)?;
/// let main = &summary.functions[0];
/// assert_eq!(main.inputs[0].to_string(), "x: tensor<4xf16>");
/// let f16 = summary.storage.iter().find(|s| s.element == ElementType::F16);
/// assert_eq!(f16.map(|storage| storage.elements), Some(1));
/// // The multiplication, and the primitive that it is decomposed into.
/// assert!(summary.operations.contains(&("broadcasting_mul".to_owned(), 1)));
/// assert!(summary.operations.contains(&("mul".to_owned(), 1)));
/// # Ok::<(), aimodel::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Summary {
    /// The version of the asset: the newest that its operations ask for.
    pub version: Option<u64>,
    /// What a host can call.
    pub functions: Vec<Function>,
    /// Every graph, in their order.
    pub graphs: Vec<GraphSummary>,
    /// The constants by their elements, most elements first.
    pub storage: Vec<Storage>,
    /// The operations of all graphs, most frequent first; see
    /// [`GraphSummary::operations`].
    pub operations: Vec<(String, u64)>,
    /// The number of resources, and their bytes.
    pub resources: (usize, u64),
}

/// A graph that a host can call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Function {
    /// The symbol.
    pub name: String,
    /// What a call takes.
    pub inputs: Vec<Parameter>,
    /// What the host keeps between calls.
    pub states: Vec<Parameter>,
    /// What a call gives.
    pub outputs: Vec<Parameter>,
}

/// An input, an output or a state.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Its type; that of a state is the type of what it holds.
    pub ty: TensorType,
}

impl std::fmt::Display for Parameter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.name, self.ty)
    }
}

/// One graph.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GraphSummary {
    /// The symbol.
    pub name: String,
    /// Whether only other graphs call it.
    pub private: bool,
    /// The kernel that it is declared as, where it is a composite.
    pub composite: Option<String>,
    /// The names of its operations, as the `coreai` dialect has them, and how
    /// many there are, most frequent first. Operations of a decomposition count
    /// too; those that end a graph or a region do not.
    pub operations: Vec<(String, u64)>,
}

/// The constants of one element type. Data that several constants share counts
/// once, for the first of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Storage {
    /// What they are made of.
    pub element: ElementType,
    /// The number of elements; a splat counts as many as its type has.
    pub elements: u64,
    /// The number of bytes in the file.
    pub bytes: u64,
}

impl Summary {
    /// Counts what a module holds.
    ///
    /// # Errors
    /// A module that is not an asset of graphs, or a function whose signature
    /// cannot be read.
    pub fn of(module: &Module) -> Result<Self> {
        let views = graphs(module)?;
        let functions = views.iter().filter(|graph| !graph.private);
        let functions = functions.map(function).collect::<Result<_>>()?;
        let mut counter = Counter {
            module,
            seen: HashSet::new(),
            storage: BTreeMap::new(),
        };
        let mut all = BTreeMap::new();
        let mut summaries = Vec::new();
        for graph in &views {
            let mut names = BTreeMap::new();
            for op in graph.operations() {
                counter.operation(op, &mut names);
            }
            for (name, count) in &names {
                *all.entry(name.clone()).or_default() += count;
            }
            summaries.push(GraphSummary {
                name: graph.name.to_string(),
                private: graph.private,
                composite: graph
                    .composite
                    .and_then(|id| view::opaque(module, id).map(|(name, _)| name.to_owned())),
                operations: by_count(names),
            });
        }
        let mut storage: Vec<Storage> = counter.storage.into_values().collect();
        storage.sort_by_key(|entry| std::cmp::Reverse(entry.elements));
        let blobs = module
            .resources
            .iter()
            .filter_map(|(_, resource)| match &resource.value {
                ResourceValue::Blob { data, .. } => Some(data.len()),
                _ => None,
            });
        Ok(Self {
            version: version(module),
            functions,
            graphs: summaries,
            storage,
            operations: by_count(all),
            resources: blobs.fold((0, 0), |(count, bytes), size| (count + 1, bytes + size)),
        })
    }
}

/// The name of an operation in the `coreai` dialect, without its namespace:
/// that of storage without what it belongs to and without its version.
pub(crate) fn dialect_name(stored: &str) -> &str {
    let name = stored
        .strip_prefix("primitive.")
        .or_else(|| stored.strip_prefix("dataflow."))
        .unwrap_or(stored);
    match name.rsplit_once("_v") {
        Some((name, version)) if version.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => name,
    }
}

fn version(module: &Module) -> Option<u64> {
    let properties = match module.properties_encoding(module.root.properties?)? {
        Encoding::Fields(fields) => fields,
        _ => return None,
    };
    let Field::OptionalAttr(Some(id)) = properties.get(1)? else {
        return None;
    };
    match crate::Attribute::read(module, *id).ok()? {
        crate::Attribute::Integer { bits, .. } => Some(bits),
        _ => None,
    }
}

fn function(graph: &GraphView<'_>) -> Result<Function> {
    let unnamed = |what: &str| {
        Error::Invalid(format!(
            "graph @{}: its {what} are not all named",
            graph.name
        ))
    };
    let (mut inputs, mut states, mut outputs) = (Vec::new(), Vec::new(), Vec::new());
    for (name, id) in graph.argument_names()?.into_iter().zip(&graph.inputs) {
        let name = name.ok_or_else(|| unnamed("arguments"))?.to_string();
        match Type::of_value(graph.module, *id)? {
            Type::Tensor(ty) => inputs.push(Parameter { name, ty }),
            Type::Handle(ty) => states.push(Parameter { name, ty }),
            _ => {}
        }
    }
    for (name, id) in graph.result_names()?.into_iter().zip(&graph.outputs) {
        // The other results are tokens: what a state was written with.
        if let Type::Tensor(ty) = Type::of_value(graph.module, *id)? {
            let name = name.ok_or_else(|| unnamed("results"))?.to_string();
            outputs.push(Parameter { name, ty });
        }
    }
    Ok(Function {
        name: graph.name.to_string(),
        inputs,
        states,
        outputs,
    })
}

struct Counter<'m> {
    module: &'m Module,
    /// The contents of constants that were counted.
    seen: HashSet<mlir_bytecode::AttrId>,
    storage: BTreeMap<String, Storage>,
}

impl Counter<'_> {
    fn operation(&mut self, op: &Operation, names: &mut BTreeMap<String, u64>) {
        let full = self.module.full_op_name(op.name);
        let name = full
            .strip_prefix(NAMESPACE)
            .map_or(&*full, |name| &name[1..]);
        let name = dialect_name(name);
        if !matches!(name, "output" | "yield") {
            match names.get_mut(name) {
                Some(count) => *count += 1,
                None => drop(names.insert(name.to_owned(), 1)),
            }
        }
        if name == "constant" {
            self.constant(op);
        }
        let inner = op.regions.iter().flat_map(|region| &region.blocks);
        for op in inner.flat_map(|block| &block.operations) {
            self.operation(op, names);
        }
    }

    fn constant(&mut self, op: &Operation) {
        let Some(value) = property(self.module, op, "value") else {
            return;
        };
        let ty = match op.results.as_slice() {
            [result] => Type::of(self.module, *result),
            _ => return,
        };
        let Ok(Type::Tensor(ty)) = ty else { return };
        let (Some(elements), Some(content)) = (ty.element_count(), view::content(self.module, op))
        else {
            return;
        };
        if !self.seen.insert(value) {
            return;
        }
        let bytes = match content {
            Content::Elements(_, bytes) => bytes.len() as u64,
            Content::Resource(id) => match self.module.resources.get(id.index()) {
                Some((_, resource)) => match &resource.value {
                    ResourceValue::Blob { data, .. } => data.len(),
                    _ => 0,
                },
                None => 0,
            },
        };
        let entry = self
            .storage
            .entry(ty.element.to_string())
            .or_insert(Storage {
                element: ty.element,
                elements: 0,
                bytes: 0,
            });
        entry.elements = entry.elements.saturating_add(elements);
        entry.bytes = entry.bytes.saturating_add(bytes);
    }
}

fn by_count(names: BTreeMap<String, u64>) -> Vec<(String, u64)> {
    let mut names: Vec<(String, u64)> = names.into_iter().collect();
    names.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    names
}
