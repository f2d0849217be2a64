//! Building assets: graphs, values, operations.

mod constants;

use std::collections::HashMap;

use mlir_bytecode::{
    AttrId, Block, BlockArgument, DialectName, Field, Module, Operation, PropertiesId, Region,
    ResourceId, Str, TypeId, Value,
};

use crate::{
    Attribute, Dim, Error, Result, TensorType, Type, locate,
    schema::{DIALECT_VERSION, NAMESPACE, dialect, op_version},
};

/// The producer of the bytecode that Core AI's own library states. Its loader
/// expects this one.
const PRODUCER: &str = "MLIR22.0.0git";

/// Builds the module of an asset, graph by graph.
///
/// ```
/// use aimodel::{AssetBuilder, ElementType, TensorType, verify};
///
/// let mut asset = AssetBuilder::new();
/// let mut graph = asset.graph("main");
/// let row = TensorType::fixed([1, 4], ElementType::F16);
/// let x = graph.input("x", row)?;
/// let two = graph.scalar_f16(2.0)?;
/// let y = graph.mul(x, two)?;
/// graph.finish(&[("y", y)])?;
/// let module = asset.finish()?;
/// verify(&module)?;
/// # Ok::<(), aimodel::Error>(())
/// ```
pub struct AssetBuilder {
    context: Context,
    graphs: Vec<Operation>,
    /// The graph that was begun and not finished yet.
    open: Option<String>,
    /// The first graph that was dropped unfinished.
    lost: Option<String>,
}

impl Default for AssetBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl AssetBuilder {
    /// An asset without graphs.
    #[must_use]
    pub fn new() -> Self {
        let mut module = Module::new(PRODUCER);
        module.dialects.push(DialectName {
            name: dialect(),
            version: Some(DIALECT_VERSION.into()),
        });
        Self {
            context: Context {
                module,
                types: Vec::new(),
                known: HashMap::new(),
                resources: HashMap::new(),
                version: 0,
            },
            graphs: Vec::new(),
            open: None,
            lost: None,
        }
    }

    /// Begins a graph that a host can call.
    pub fn graph(&mut self, name: &str) -> GraphBuilder<'_> {
        GraphBuilder::begin(self, name, None)
    }

    /// Begins a graph that other graphs call, and that Core AI's compiler
    /// knows by its declaration.
    pub fn composite(&mut self, name: &str, declaration: Composite) -> GraphBuilder<'_> {
        GraphBuilder::begin(self, name, Some(declaration))
    }

    /// The finished module.
    ///
    /// # Errors
    /// A graph was begun and dropped without [`GraphBuilder::finish`], or
    /// regions nest deeper than [`mlir_bytecode::MAX_DEPTH`].
    pub fn finish(self) -> Result<Module> {
        let Self {
            mut context,
            graphs,
            open,
            lost,
        } = self;
        if let Some(name) = lost.or(open) {
            return Err(Error::Invalid(format!(
                "graph @{name} was begun and not finished"
            )));
        }
        let version = Attribute::Integer {
            width: 32,
            unsigned: true,
            bits: context.version.into(),
        };
        let version = version.intern(&mut context.module)?;
        let properties = context.module.properties([
            Field::OptionalAttr(None),
            Field::OptionalAttr(Some(version)),
        ]);
        let name = context
            .module
            .op_name(NAMESPACE, "serialization.asset", true);
        let nowhere = locate::nowhere(&mut context.module)?;
        let mut root = Operation::new(name, nowhere);
        root.properties = Some(properties);
        let block = Block {
            operations: graphs,
            ..Block::default()
        };
        root.regions.push(Region {
            blocks: vec![block],
        });
        context.module.root = root;
        locate::assign(&mut context.module)?;
        context.module.compute_isolation()?;
        Ok(context.module)
    }
}

/// How Core AI's compiler recognises a graph that it has a kernel for.
///
/// ```
/// use aimodel::{Attribute, Composite};
///
/// let norm = Composite::new("rms_norm", [("eps", Attribute::f32(1e-6))]);
/// assert_eq!(norm.name.as_ref(), "rms_norm");
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Composite {
    /// The kernel.
    pub name: Str,
    /// Its parameters, in the order of the names.
    pub op_attrs: Vec<(Str, Attribute)>,
}

/// The state that all graphs of an asset share.
pub(crate) struct Context {
    pub module: Module,
    /// The type of each value.
    pub types: Vec<Type>,
    /// Elements of short integer vectors, as far as they are known.
    pub known: HashMap<Value, Vec<Option<i64>>>,
    /// The resources of the asset by key.
    pub resources: HashMap<String, ResourceId>,
    /// The newest asset version that an operation asks for.
    pub version: u32,
}

impl Context {
    pub fn value(&mut self, ty: Type) -> Result<Value> {
        let id = ty.intern(&mut self.module)?;
        self.types.push(ty);
        Ok(self.module.value(id))
    }
}

/// A graph in the making: its arguments and its operations, in the order in
/// which they are added.
///
/// The methods that are named after operations add one and return its result;
/// each returns an error for an operand that is a value of another asset.
/// [`finish`](Self::finish) makes the graph part of the asset. An asset with a
/// graph that was dropped before cannot be finished.
#[must_use = "a graph is part of its asset once it is finished"]
pub struct GraphBuilder<'a> {
    pub(crate) context: &'a mut Context,
    pub(crate) block: Block,
    /// The parts that only a graph has; `None` in the region of an operation.
    graph: Option<Parts<'a>>,
}

/// The parts of a graph that a region does not have.
struct Parts<'a> {
    graphs: &'a mut Vec<Operation>,
    open: &'a mut Option<String>,
    composite: Option<Composite>,
    input_names: Vec<String>,
    argument_attrs: Vec<Attribute>,
    /// Constants, each content once, in front of all other operations.
    constants: Vec<Operation>,
    shared: HashMap<(TypeId, AttrId), Value>,
}

impl<'a> GraphBuilder<'a> {
    fn begin(asset: &'a mut AssetBuilder, name: &str, composite: Option<Composite>) -> Self {
        if let Some(unfinished) = asset.open.replace(name.to_owned()) {
            asset.lost.get_or_insert(unfinished);
        }
        Self {
            context: &mut asset.context,
            block: Block::default(),
            graph: Some(Parts {
                graphs: &mut asset.graphs,
                open: &mut asset.open,
                composite,
                input_names: Vec::new(),
                argument_attrs: Vec::new(),
                constants: Vec::new(),
                shared: HashMap::new(),
            }),
        }
    }

    /// The type of a value.
    ///
    /// # Errors
    /// A value that this asset does not have.
    pub fn ty(&self, value: Value) -> Result<&Type> {
        self.context
            .types
            .get(value.index())
            .ok_or_else(|| Error::Invalid(format!("value {} is of another asset", value.index())))
    }

    /// The type of a value that must be a tensor.
    ///
    /// # Errors
    /// A value that is not a tensor, or that this asset does not have; the
    /// message names `op`.
    pub fn tensor(&self, op: &str, value: Value) -> Result<TensorType> {
        match self.ty(value)? {
            Type::Tensor(tensor) => Ok(tensor.clone()),
            other => Err(operands(op, format!("expected a tensor, found {other}"))),
        }
    }

    /// The elements of a short integer vector, as far as they are known.
    pub(crate) fn known(&self, value: Value) -> Option<&[Option<i64>]> {
        self.context.known.get(&value).map(Vec::as_slice)
    }

    pub(crate) fn argument(&mut self, ty: Type) -> Result<Value> {
        let value = self.context.value(ty)?;
        let location = Some(locate::nowhere(&mut self.context.module)?);
        self.block.arguments.push(BlockArgument { value, location });
        Ok(value)
    }

    /// Adds an operation with one result.
    pub(crate) fn emit(
        &mut self,
        name: &str,
        operands: &[Value],
        result: impl Into<Type>,
    ) -> Result<Value> {
        let value = self.context.value(result.into())?;
        self.push(name, operands, None, vec![value], Vec::new())?;
        Ok(value)
    }

    pub(crate) fn push(
        &mut self,
        name: &str,
        operands: &[Value],
        properties: Option<PropertiesId>,
        results: Vec<Value>,
        regions: Vec<Region>,
    ) -> Result<()> {
        let op = self.operation(name, operands, properties, results, regions)?;
        self.block.operations.push(op);
        Ok(())
    }

    fn operation(
        &mut self,
        name: &str,
        operands: &[Value],
        properties: Option<PropertiesId>,
        results: Vec<Value>,
        regions: Vec<Region>,
    ) -> Result<Operation> {
        for operand in operands {
            self.ty(*operand)?;
        }
        let version = op_version(name).ok_or_else(|| {
            Error::Invalid(format!(
                "`{name}`: the version of the asset that it needs is not known; whoever adds an \
                 operation to the builder adds its version to `op_version`"
            ))
        })?;
        self.context.version = self.context.version.max(version);
        let name = self.context.module.op_name(NAMESPACE, name, true);
        let mut op = Operation::new(name, locate::nowhere(&mut self.context.module)?);
        op.operands = operands.to_vec();
        op.properties = properties;
        op.results = results;
        op.regions = regions;
        Ok(op)
    }

    /// Builds a region of an operation. `build` gets the arguments of the region
    /// and returns the value that it yields.
    pub(crate) fn region(
        &mut self,
        arguments: &[Type],
        build: impl FnOnce(&mut GraphBuilder<'_>, &[Value]) -> Result<Value>,
    ) -> Result<Region> {
        let mut body = GraphBuilder {
            context: self.context,
            block: Block::default(),
            graph: None,
        };
        let values = arguments
            .iter()
            .map(|ty| body.argument(ty.clone()))
            .collect::<Result<Vec<_>>>()?;
        let result = build(&mut body, &values)?;
        body.push("dataflow.yield_v1", &[result], None, Vec::new(), Vec::new())?;
        body.drop_unused();
        Ok(Region {
            blocks: vec![body.block],
        })
    }

    /// Drops operations of a region whose results are not used, as Core AI's
    /// serializer does in decompositions.
    fn drop_unused(&mut self) {
        let mut used: Vec<Value> = Vec::new();
        let mut kept: Vec<Operation> = Vec::new();
        for op in self.block.operations.drain(..).rev() {
            if op.results.is_empty() || op.results.iter().any(|result| used.contains(result)) {
                used.extend(&op.operands);
                kept.push(op);
            }
        }
        kept.reverse();
        self.block.operations = kept;
    }
}

/// A finished graph, for [`GraphBuilder::invoke`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Graph {
    /// The symbol.
    pub name: String,
    /// Types of the arguments.
    pub inputs: Vec<Type>,
    /// Types of the results.
    pub outputs: Vec<Type>,
}

impl GraphBuilder<'_> {
    /// Adds an argument that the caller gives.
    ///
    /// # Errors
    /// A type that has no stored form.
    pub fn input(&mut self, name: &str, ty: TensorType) -> Result<Value> {
        let attrs = vec![name_attr(name)];
        self.graph_argument(name, attrs, Type::Tensor(ty))
    }

    /// Adds a state: a tensor that the host keeps between calls, and that the
    /// graph reads and writes through its handle.
    ///
    /// # Errors
    /// A type that has no stored form.
    pub fn state(&mut self, name: &str, ty: TensorType) -> Result<Value> {
        let mutation = Attribute::named("MutableBuffers.buffer_mutation", Attribute::string(name));
        self.graph_argument(name, vec![mutation, name_attr(name)], Type::Handle(ty))
    }

    fn graph_argument(&mut self, name: &str, attrs: Vec<Attribute>, ty: Type) -> Result<Value> {
        let graph = self.graph.as_mut().ok_or_else(not_a_graph)?;
        graph.input_names.push(name.to_owned());
        graph.argument_attrs.push(Attribute::Array(attrs));
        self.argument(ty)
    }

    /// Ends the graph with its results and their names; an empty name is none.
    ///
    /// # Errors
    /// A result that this asset does not have.
    pub fn finish(mut self, results: &[(&str, Value)]) -> Result<Graph> {
        let Parts {
            graphs,
            open,
            composite,
            input_names,
            argument_attrs,
            constants,
            ..
        } = self.graph.take().ok_or_else(not_a_graph)?;
        let name = open.clone().unwrap_or_default();
        let values: Vec<Value> = results.iter().map(|(_, value)| *value).collect();
        self.push("dataflow.output_v1", &values, None, Vec::new(), Vec::new())?;
        let types = |values: &mut dyn Iterator<Item = Value>| {
            let types = values.map(|value| self.ty(value).cloned());
            types.collect::<Result<Vec<Type>>>()
        };
        let inputs = types(&mut self.block.arguments.iter().map(|argument| argument.value))?;
        let outputs = types(&mut values.into_iter())?;

        let result_attrs = results.iter().map(|(name, _)| {
            Attribute::Array(if name.is_empty() {
                Vec::new()
            } else {
                vec![name_attr(name)]
            })
        });
        let private = composite.is_some();
        let function = Type::Function {
            inputs: inputs.clone(),
            outputs: outputs.clone(),
        };
        let attrs = [
            Some(Attribute::Array(argument_attrs)),
            composite.map(|composite| composite.declaration(&input_names)),
            Some(Attribute::flag(false)),
            Some(Attribute::Type(function)),
            Some(Attribute::flag(private)),
            Some(Attribute::string(&name)),
            Some(Attribute::flag(private)),
            Some(Attribute::Array(Vec::new())),
            Some(Attribute::Array(result_attrs.collect())),
        ];
        let mut fields = Vec::new();
        for (index, attr) in attrs.into_iter().enumerate() {
            let id = attr
                .map(|attr| attr.intern(&mut self.context.module))
                .transpose()?;
            // The declaration is the one that may be absent.
            fields.push(match id {
                Some(id) if index != 1 => Field::Attr(id),
                id => Field::OptionalAttr(id),
            });
        }
        let properties = self.context.module.properties(fields);
        let rest = std::mem::replace(&mut self.block.operations, constants);
        self.block.operations.extend(rest);
        let region = Region {
            blocks: vec![std::mem::take(&mut self.block)],
        };
        let op = self.operation(
            "dataflow.graph_v1",
            &[],
            Some(properties),
            Vec::new(),
            vec![region],
        )?;
        graphs.push(op);
        *open = None;
        Ok(Graph {
            name,
            inputs,
            outputs,
        })
    }
}

impl Composite {
    /// A declaration of the kernel `name` with its parameters, in the order of
    /// their names.
    pub fn new<K: Into<Str>>(
        name: impl Into<Str>,
        op_attrs: impl IntoIterator<Item = (K, Attribute)>,
    ) -> Self {
        let op_attrs = op_attrs.into_iter();
        Self {
            name: name.into(),
            op_attrs: op_attrs.map(|(key, value)| (key.into(), value)).collect(),
        }
    }

    fn declaration(self, input_names: &[String]) -> Attribute {
        let names = input_names
            .iter()
            .map(|name| Attribute::string(name))
            .collect();
        Attribute::Opaque(
            self.name,
            vec![
                Attribute::named("input_names", Attribute::Array(names)),
                Attribute::named("op_attrs", Attribute::Dictionary(self.op_attrs)),
                Attribute::named(
                    "output_names",
                    Attribute::Array(vec![Attribute::string("output")]),
                ),
            ],
        )
    }
}

/// The error of a region's builder, which no caller of this crate gets hold of.
fn not_a_graph() -> Error {
    Error::Invalid("a region of an operation has no arguments or results of its own".to_owned())
}

fn name_attr(name: &str) -> Attribute {
    Attribute::named("aicode.name", Attribute::string(name))
}

/// The error of an operation that does not take what it was given.
pub(crate) fn operands(op: &str, problem: impl Into<String>) -> Error {
    Error::Operands {
        op: op.to_owned(),
        problem: problem.into(),
    }
}

/// The extents as an error message shows them.
pub(crate) fn show(dims: &[Dim]) -> String {
    let dims: Vec<String> = dims.iter().map(Dim::to_string).collect();
    format!("[{}]", dims.join(", "))
}
