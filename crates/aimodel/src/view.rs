//! Views of a module that was read or built: its graphs and their properties.
//!
//! Nothing here follows an attribute further than it has to: the attributes of
//! a hostile file can unfold without end.

use mlir_bytecode::{
    AttrId, Block, BlockArgument, Encoding, Field, Module, Operation, Str, TypeId, Value,
};

use crate::{
    Error, Result, Type,
    schema::{NAMESPACE, attr_code as code, properties_layout},
};

/// How many attributes an argument or a result may have. Real ones have two or
/// three.
const MAX_ATTRS: usize = 64;

/// The key of the name of an argument or a result.
const NAME_KEY: &str = "aicode.name";

/// A graph of an asset.
///
/// ```
/// use aimodel::{AssetBuilder, ElementType, GraphView, TensorType, graphs};
///
/// let mut asset = AssetBuilder::new();
/// let mut graph = asset.graph("main");
/// let x = graph.input("x", TensorType::fixed([4], ElementType::F16))?;
/// graph.finish(&[("y", x)])?;
/// let module = asset.finish()?;
///
/// let main: &GraphView = &graphs(&module)?[0];
/// assert_eq!(main.name.as_ref(), "main");
/// assert_eq!(main.argument_names()?[0].as_deref(), Some("x"));
/// # Ok::<(), aimodel::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GraphView<'m> {
    /// The module that it is in.
    pub module: &'m Module,
    /// The operation that holds it.
    pub op: &'m Operation,
    /// Its symbol.
    pub name: Str,
    /// Whether only other graphs call it.
    pub private: bool,
    /// Whether it must stay a call.
    pub no_inline: bool,
    /// Its declaration as a composite, where it has one.
    pub composite: Option<AttrId>,
    /// The types of its arguments, as it declares them.
    pub inputs: Vec<TypeId>,
    /// The types of its results, as it declares them.
    pub outputs: Vec<TypeId>,
    argument_attrs: AttrId,
    result_attrs: AttrId,
}

/// The graphs of a module, in their order.
///
/// # Errors
/// A module whose root is not an asset of graphs.
pub fn graphs(module: &Module) -> Result<Vec<GraphView<'_>>> {
    let root = &module.root;
    if op_name(module, root) != Some("serialization.asset") {
        return Err(Error::Invalid(format!(
            "expected `{NAMESPACE}.serialization.asset` at the top, found `{}`",
            module.full_op_name(root.name)
        )));
    }
    let [region] = root.regions.as_slice() else {
        return Err(Error::Invalid(format!(
            "the asset has {} regions, expected one",
            root.regions.len()
        )));
    };
    let [block] = region.blocks.as_slice() else {
        return Err(Error::Invalid(format!(
            "the asset has {} blocks, expected one",
            region.blocks.len()
        )));
    };
    if !block.arguments.is_empty() || !root.operands.is_empty() || !root.results.is_empty() {
        return Err(Error::Invalid(
            "the asset has arguments or results, expected none".to_owned(),
        ));
    }
    let ops = block.operations.iter().enumerate();
    ops.map(|(index, op)| GraphView::new(module, index, op))
        .collect()
}

impl<'m> GraphView<'m> {
    fn new(module: &'m Module, index: usize, op: &'m Operation) -> Result<Self> {
        let invalid =
            |problem: String| Error::Invalid(format!("operation {index} of the asset: {problem}"));
        if op_name(module, op) != Some("dataflow.graph_v1") {
            return Err(invalid(format!(
                "expected `{NAMESPACE}.dataflow.graph_v1`, found `{}`",
                module.full_op_name(op.name)
            )));
        }
        if !op.operands.is_empty() || !op.results.is_empty() {
            return Err(invalid("a graph has no operands or results".to_owned()));
        }
        match op.regions.as_slice() {
            [region] if region.blocks.len() == 1 => {}
            _ => {
                return Err(invalid(
                    "expected one region with one block in a graph".to_owned(),
                ));
            }
        }
        let get = |name| {
            property(module, op, name).ok_or_else(|| invalid(format!("`{name}` is missing")))
        };
        let flag = |name| {
            flag_value(module, get(name)?).ok_or_else(|| invalid(format!("`{name}` is not a flag")))
        };
        let name = match attr_fields(module, get("name")?) {
            Some([Field::Int(code::STRING), Field::Str(name)]) => name.clone(),
            _ => return Err(invalid("`name` is not a string".to_owned())),
        };
        let (inputs, outputs) = match attr_fields(module, get("functionType")?) {
            Some([Field::Int(code::TYPE), Field::Type(id)]) => Type::function(module, *id),
            _ => None,
        }
        .ok_or_else(|| invalid(format!("`functionType` of @{name} is not a function type")))?;
        let ids = |types: &[Field], count: usize, what: &str| {
            // Counted first: many graphs may share one long function type.
            if types.len() != count {
                let declared = types.len();
                return Err(invalid(format!(
                    "@{name} declares {declared} {what} and has {count}"
                )));
            }
            let ids = types.iter().map(|field| match field {
                Field::Type(id) => Ok(*id),
                _ => Err(invalid(format!("`functionType` of @{name} is malformed"))),
            });
            ids.collect::<Result<Vec<_>>>()
        };
        let body = op.regions.iter().flat_map(|region| &region.blocks);
        let body = body.collect::<Vec<_>>();
        let arguments = body.iter().map(|block| block.arguments.len()).sum();
        let last = body.iter().filter_map(|block| block.operations.last());
        let results = last.map(|op| op.operands.len()).sum();
        let (inputs, outputs) = (
            ids(inputs, arguments, "arguments")?,
            ids(outputs, results, "results")?,
        );
        Ok(Self {
            module,
            op,
            private: flag("isPrivate")?,
            no_inline: flag("noInline")?,
            composite: property(module, op, "compositeDecl"),
            argument_attrs: get("argAttrs")?,
            result_attrs: get("resAttrs")?,
            name,
            inputs,
            outputs,
        })
    }

    /// Its arguments.
    #[must_use]
    pub fn arguments(&self) -> &'m [BlockArgument] {
        self.block().map_or(&[], |block| &block.arguments)
    }

    /// Its operations; the last one is the output.
    #[must_use]
    pub fn operations(&self) -> &'m [Operation] {
        self.block().map_or(&[], |block| &block.operations)
    }

    /// The values that it returns.
    #[must_use]
    pub fn results(&self) -> &'m [Value] {
        self.operations().last().map_or(&[], |op| &op.operands)
    }

    fn block(&self) -> Option<&'m Block> {
        self.op.regions.first()?.blocks.first()
    }

    /// The stored name of one of its operations without the namespace, such as
    /// `primitive.cast_v1`; `None` where the operation is not of AICode.
    #[must_use]
    pub fn op_name(&self, op: &Operation) -> Option<&'m str> {
        op_name(self.module, op)
    }

    /// The name of the graph that one of its operations calls, where it calls
    /// one.
    #[must_use]
    pub fn callee(&self, op: &Operation) -> Option<Str> {
        callee(self.module, op)
    }

    /// The attribute that one of its operations has under the name of a
    /// property, such as the `value` of a constant.
    #[must_use]
    pub fn property(&self, op: &Operation, name: &str) -> Option<AttrId> {
        property(self.module, op, name)
    }

    /// The attributes of the arguments, and those of the results.
    pub(crate) fn attrs(&self) -> [AttrId; 2] {
        [self.argument_attrs, self.result_attrs]
    }

    /// The attributes of the arguments, one for each.
    pub(crate) fn argument_attrs(&self) -> &'m [Field] {
        array(self.module, self.argument_attrs).unwrap_or_default()
    }

    /// The attributes of the results, one for each.
    pub(crate) fn result_attrs(&self) -> &'m [Field] {
        array(self.module, self.result_attrs).unwrap_or_default()
    }

    /// The name of each argument, where it has one.
    ///
    /// # Errors
    /// Attributes that are malformed, or not one for each argument.
    pub fn argument_names(&self) -> Result<Vec<Option<Str>>> {
        self.names(self.argument_attrs, self.inputs.len(), "argument")
    }

    /// The name of each result, where it has one.
    ///
    /// # Errors
    /// Attributes that are malformed, or not one for each result.
    pub fn result_names(&self) -> Result<Vec<Option<Str>>> {
        self.names(self.result_attrs, self.outputs.len(), "result")
    }

    fn names(&self, attrs: AttrId, count: usize, what: &str) -> Result<Vec<Option<Str>>> {
        let invalid = |problem: &str| {
            Error::Invalid(format!(
                "graph @{}: the {what} attributes are {problem}",
                self.name
            ))
        };
        let lists = array(self.module, attrs).ok_or_else(|| invalid("not an array"))?;
        if lists.len() != count {
            return Err(invalid("not one for each"));
        }
        let lists = lists.iter().map(|list| {
            let items = match list {
                Field::Attr(id) => array(self.module, *id),
                _ => None,
            };
            let items = items.ok_or_else(|| invalid("not arrays"))?;
            if items.len() > MAX_ATTRS {
                return Err(invalid("too many"));
            }
            let found = items.iter().find_map(|item| match item {
                Field::Attr(id) => opaque(self.module, *id).filter(|(name, _)| *name == NAME_KEY),
                _ => None,
            });
            match found {
                None => Ok(None),
                Some((_, [Field::Attr(id)])) => match attr_fields(self.module, *id) {
                    Some([Field::Int(code::STRING), Field::Str(name)]) => Ok(Some(name.clone())),
                    _ => Err(invalid("malformed")),
                },
                Some(_) => Err(invalid("malformed")),
            }
        });
        lists.collect()
    }
}

/// The name of an operation without the namespace, where it is of AICode.
pub(crate) fn op_name<'m>(module: &'m Module, op: &Operation) -> Option<&'m str> {
    let name = module.op_names.get(op.name.index())?;
    let dialect = module.dialects.get(name.dialect.index())?;
    (dialect.name.as_ref() == NAMESPACE).then_some(name.name.as_ref())
}

/// The fields of an attribute of AICode.
pub(crate) fn attr_fields(module: &Module, id: AttrId) -> Option<&[Field]> {
    let entry = module.attr_entry(id)?;
    if entry.dialect.as_ref() == NAMESPACE {
        entry.as_fields()
    } else {
        None
    }
}

/// The attribute that an operation has under the name of a property.
pub(crate) fn property(module: &Module, op: &Operation, name: &str) -> Option<AttrId> {
    let (names, _) = properties_layout(op_name(module, op)?)?;
    let index = names.iter().position(|known| *known == name)?;
    match module.properties_encoding(op.properties?)? {
        Encoding::Fields(fields) => match fields.get(index)? {
            Field::Attr(id) | Field::OptionalAttr(Some(id)) => Some(*id),
            _ => None,
        },
        _ => None,
    }
}

fn flag_value(module: &Module, id: AttrId) -> Option<bool> {
    match attr_fields(module, id)? {
        [
            Field::Int(code::INTEGER),
            Field::Int(1),
            Field::Byte(_),
            Field::Byte(bit),
        ] => Some(*bit != 0),
        _ => None,
    }
}

/// The items of an array.
fn array(module: &Module, id: AttrId) -> Option<&[Field]> {
    match attr_fields(module, id)? {
        [Field::Int(code::ARRAY), Field::Int(_), items @ ..] => Some(items),
        _ => None,
    }
}

/// The name and the values of an opaque attribute.
pub(crate) fn opaque(module: &Module, id: AttrId) -> Option<(&str, &[Field])> {
    match attr_fields(module, id)? {
        [
            Field::Int(code::OPAQUE),
            Field::Str(name),
            Field::Int(_),
            items @ ..,
        ] => Some((name, items)),
        _ => None,
    }
}

/// The name of the graph that an invocation calls.
pub(crate) fn callee(module: &Module, op: &Operation) -> Option<Str> {
    let callee = property(module, op, "callee")?;
    let symbol = match attr_fields(module, callee)? {
        [
            Field::Int(code::PARAM_CONSTANT),
            Field::Attr(symbol),
            Field::Type(_),
        ] => *symbol,
        _ => return None,
    };
    match attr_fields(module, symbol)? {
        [
            Field::Int(code::SYMBOL_REF),
            Field::Int(1),
            Field::Str(name),
        ] => Some(name.clone()),
        _ => None,
    }
}

/// The content of a constant.
pub(crate) enum Content<'m> {
    /// In the IR: whether one element stands for all, and the bytes.
    Elements(bool, &'m [u8]),
    /// A resource.
    Resource(mlir_bytecode::ResourceId),
}

/// What a constant holds.
pub(crate) fn content<'m>(module: &'m Module, op: &Operation) -> Option<Content<'m>> {
    match attr_fields(module, property(module, op, "value")?)? {
        [
            Field::Int(code::DENSE_ELEMENTS),
            Field::Byte(splat),
            Field::Blob(bytes),
        ] => Some(Content::Elements(*splat == 1, bytes)),
        [Field::Int(code::DENSE_RESOURCE), Field::Resource(id)] => Some(Content::Resource(*id)),
        _ => None,
    }
}
