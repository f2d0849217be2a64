//! The IR as readable text.

use std::{collections::HashMap, fmt::Write as _, io};

use mlir_bytecode::{
    AttrId, Block, Encoding, Field, Module, Operation, ResourceValue, TypeId, Value,
};

use crate::{
    Attribute, GraphView, Result, Type, graphs,
    literal::{self, quoted, symbol},
    schema::{attribute_layout, properties_layout},
    summary::dialect_name,
    view::{self, Content, attr_fields, op_name},
};

/// How many attributes the text of a whole module unfolds. A module of a
/// hundred thousand operations has far fewer; a hostile file could have more
/// than fit on any disk.
const MAX_ATTRIBUTES: usize = 1 << 22;

/// How many attributes one attribute may unfold to.
const MAX_IN_ONE: usize = 1 << 14;

/// In which form the IR is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Form {
    /// Close to the text of the `coreai` dialect: operations under the names
    /// that the authoring library uses, without their decompositions.
    Dialect,
    /// As it is stored: `aicode` names, all properties and all regions.
    Stored,
}

/// Writes the IR as text. Of large constants the size is shown, of debug
/// locations nothing.
///
/// ```
/// use aimodel::{AssetBuilder, ElementType, Form, TensorType, print_ir};
///
/// let mut asset = AssetBuilder::new();
/// let mut graph = asset.graph("main");
/// let x = graph.input("x", TensorType::fixed([2], ElementType::Si32))?;
/// let one = graph.si32(&[1, 7])?;
/// let y = graph.add(x, one)?;
/// graph.finish(&[("y", y)])?;
///
/// let mut text = Vec::new();
/// print_ir(&asset.finish()?, Form::Dialect, &mut text)?;
/// let text = String::from_utf8_lossy(&text);
/// assert!(text.contains("%0 = coreai.constant dense<[1, 7]> : tensor<2xsi32>"));
/// assert!(text.contains("%1 = coreai.decomposable.broadcasting_add %arg0, %0 :"));
/// # Ok::<(), aimodel::Error>(())
/// ```
///
/// # Errors
/// A module that is not an asset of graphs ([`Form::Dialect`] only), or an error
/// of `out`.
pub fn print_ir(module: &Module, form: Form, out: &mut dyn io::Write) -> Result<()> {
    let mut printer = Printer {
        module,
        form,
        out,
        line: String::new(),
        names: vec![None; module.value_count()],
        arguments: 0,
        results: 0,
        types: HashMap::new(),
        budget: MAX_ATTRIBUTES,
    };
    match form {
        Form::Stored => printer.operation(&module.root, 0)?,
        Form::Dialect => {
            let graphs = graphs(module)?;
            printer.end_line("module {")?;
            for graph in &graphs {
                printer.graph(graph)?;
            }
            printer.end_line("}")?;
        }
    }
    Ok(())
}

/// What a value is called.
#[derive(Clone, Copy)]
enum Name {
    Argument(u32),
    Result(u32),
    /// One of several.
    OneOf(u32, u32),
}

struct Printer<'m, 'o> {
    module: &'m Module,
    form: Form,
    out: &'o mut dyn io::Write,
    line: String,
    names: Vec<Option<Name>>,
    /// Numbers that are taken in this graph.
    arguments: u32,
    results: u32,
    types: HashMap<TypeId, String>,
    budget: usize,
}

impl<'m> Printer<'m, '_> {
    /// Ends the line with `text` and writes it.
    fn end_line(&mut self, text: &str) -> io::Result<()> {
        self.line.push_str(text);
        self.line.push('\n');
        self.out.write_all(self.line.as_bytes())?;
        self.line.clear();
        Ok(())
    }

    fn indent(&mut self, depth: usize) {
        self.line.extend(std::iter::repeat_n("  ", depth));
    }

    fn list<T>(&mut self, items: &[T], mut item: impl FnMut(&mut Self, &T)) {
        for (index, each) in items.iter().enumerate() {
            self.line.push_str(if index == 0 { "" } else { ", " });
            item(self, each);
        }
    }

    fn graph(&mut self, graph: &GraphView<'m>) -> io::Result<()> {
        (self.arguments, self.results) = (0, 0);
        self.line.push_str("  coreai.graph ");
        self.line
            .push_str(if graph.private { "private " } else { "" });
        self.line
            .push_str(if graph.no_inline { "noinline " } else { "" });
        self.line.push_str(&symbol(&graph.name));
        self.line.push('(');
        let values: Vec<Value> = graph.arguments().iter().map(|a| a.value).collect();
        let names = graph.argument_attrs();
        for (index, value) in values.iter().enumerate() {
            self.line.push_str(if index == 0 { "" } else { ", " });
            self.define_argument(*value);
            self.attrs_of(names.get(index));
        }
        self.line.push_str(") -> (");
        let names = graph.result_attrs();
        for (index, ty) in graph.outputs.iter().enumerate() {
            self.line.push_str(if index == 0 { "" } else { ", " });
            self.ty(*ty);
            self.attrs_of(names.get(index));
        }
        self.line.push(')');
        if let Some(declaration) = graph.composite {
            self.line
                .push_str(" attributes {composite_decl = #coreai.composite_declaration<");
            self.attribute(declaration);
            self.line.push_str(">}");
        }
        self.end_line(" {")?;
        for op in graph.operations() {
            self.operation(op, 2)?;
        }
        self.end_line("  }")
    }

    /// The attributes of an argument or a result of a graph.
    fn attrs_of(&mut self, attrs: Option<&Field>) {
        let Some(Field::Attr(id)) = attrs else { return };
        if let Ok(Attribute::Array(items)) = self.read(*id)
            && !items.is_empty()
        {
            self.line.push_str(" {");
            self.list(&items, |printer, item| {
                let mut text = String::new();
                printer.write(item, &mut text);
                match text.strip_prefix("aicode.") {
                    Some(rest) => printer.line.extend(["coreai.", rest]),
                    None => printer.line.push_str(&text),
                }
            });
            self.line.push('}');
        }
    }

    fn operation(&mut self, op: &'m Operation, depth: usize) -> io::Result<()> {
        self.indent(depth);
        self.define_results(op);
        match self.form {
            Form::Dialect => self.dialect_form(op),
            Form::Stored => return self.stored_form(op, depth),
        }
        self.end_line("")
    }

    fn dialect_form(&mut self, op: &Operation) {
        let Some(stored) = op_name(self.module, op) else {
            let name = self.module.full_op_name(op.name);
            self.line.extend(name.escape_debug());
            return self.signature(op);
        };
        let name = dialect_name(stored);
        self.line.push_str("coreai.");
        if name.starts_with("broadcasting_") {
            self.line.push_str("decomposable.");
        }
        self.line.extend(name.escape_debug());
        match name {
            "constant" => {
                self.line.push(' ');
                self.content(op);
            }
            "invoke" => {
                let callee = view::callee(self.module, op);
                let callee = callee.map_or("@?".to_owned(), |name| symbol(&name));
                self.line.push(' ');
                self.line.push_str(&callee);
                self.line.push('(');
                self.list(&op.operands, |printer, value| printer.value(*value));
                self.line.push(')');
                return self.signature(op);
            }
            _ => {}
        }
        if !op.operands.is_empty() {
            self.line.push(' ');
            self.list(&op.operands, |printer, value| printer.value(*value));
        }
        if let Some(approximate) = view::property(self.module, op, "approximate") {
            self.line.push_str(" approximate = ");
            self.attribute(approximate);
        }
        if let Some(mode) = view::property(self.module, op, "padding_mode") {
            self.line.push_str(" mode = ");
            self.attribute(mode);
        }
        self.signature(op);
    }

    /// The types of operands and results.
    fn signature(&mut self, op: &Operation) {
        self.line.push_str(" : ");
        let types = |printer: &mut Self, values: &[Value]| {
            printer.list(values, |printer, value| {
                printer.ty_of(*value);
            });
        };
        match (op.operands.as_slice(), op.results.as_slice()) {
            ([], []) if self.form == Form::Dialect => {
                self.line.truncate(self.line.len() - " : ".len());
            }
            (values, []) | ([], values) if self.form == Form::Dialect => types(self, values),
            (operands, results) => {
                self.line.push('(');
                types(self, operands);
                self.line.push_str(") -> ");
                if let [result] = results {
                    return self.ty_of(*result);
                }
                self.line.push('(');
                types(self, results);
                self.line.push(')');
            }
        }
    }

    fn stored_form(&mut self, op: &'m Operation, depth: usize) -> io::Result<()> {
        let name = quoted(&self.module.full_op_name(op.name));
        self.line.push_str(&name);
        self.line.push('(');
        self.list(&op.operands, |printer, value| printer.value(*value));
        self.line.push(')');
        if !op.successors.is_empty() {
            self.line.push('[');
            self.list(&op.successors, |printer, block| {
                let _ = write!(printer.line, "^bb{block}");
            });
            self.line.push(']');
        }
        self.properties(op);
        for (index, region) in op.regions.iter().enumerate() {
            self.line.push_str(if index == 0 { " ({" } else { ", {" });
            self.end_line("")?;
            for (number, block) in region.blocks.iter().enumerate() {
                self.block(block, number, depth)?;
            }
            self.indent(depth);
            self.line.push('}');
        }
        self.line
            .push_str(if op.regions.is_empty() { "" } else { ")" });
        if let Some(attributes) = op.attributes {
            self.line.push(' ');
            self.attribute(attributes);
        }
        self.signature(op);
        self.end_line("")
    }

    fn block(&mut self, block: &'m Block, number: usize, depth: usize) -> io::Result<()> {
        if number > 0 || !block.arguments.is_empty() {
            self.indent(depth);
            let _ = write!(self.line, "^bb{number}(");
            self.list(&block.arguments, |printer, argument| {
                printer.define_argument(argument.value);
            });
            self.end_line("):")?;
        }
        for op in &block.operations {
            self.operation(op, depth + 1)?;
        }
        Ok(())
    }

    fn properties(&mut self, op: &Operation) {
        let Some(id) = op.properties else { return };
        let Some(Encoding::Fields(fields)) = self.module.properties_encoding(id) else {
            return self.line.push_str(" <{...}>");
        };
        let layout = op_name(self.module, op).and_then(properties_layout);
        let names = layout.map_or(&[][..], |(names, _)| names);
        self.line.push_str(" <{");
        let mut first = true;
        for (index, field) in fields.iter().enumerate() {
            let (Field::Attr(value) | Field::OptionalAttr(Some(value))) = field else {
                continue;
            };
            self.line.push_str(if first { "" } else { ", " });
            first = false;
            self.line.push_str(names.get(index).unwrap_or(&"?"));
            self.line.push_str(" = ");
            match view::content(self.module, op) {
                Some(_) => self.content(op),
                None => self.attribute(*value),
            }
        }
        self.line.push_str("}>");
    }

    /// What a constant holds, if that is short.
    fn content(&mut self, op: &Operation) {
        let Some(content) = view::content(self.module, op) else {
            return self.line.push_str("dense<?>");
        };
        match content {
            Content::Resource(id) => {
                let (key, size) = match self.module.resources.get(id.index()) {
                    Some((_, resource)) => match &resource.value {
                        ResourceValue::Blob { data, .. } => (&*resource.key, data.len()),
                        _ => (&*resource.key, 0),
                    },
                    None => ("?", 0),
                };
                let _ = write!(
                    self.line,
                    "dense_resource<{}: {size} bytes>",
                    key.escape_debug()
                );
            }
            Content::Elements(splat, bytes) => {
                let result = op.results.first();
                let ty = result.map(|result| Type::of(self.module, *result));
                match ty {
                    Some(Ok(Type::Tensor(ty))) => {
                        literal::dense(&ty, splat, bytes, &mut self.line);
                    }
                    _ => drop(write!(self.line, "dense<... {} bytes>", bytes.len())),
                }
            }
        }
    }

    fn define_argument(&mut self, value: Value) {
        let name = Name::Argument(self.arguments);
        self.arguments += 1;
        self.name(value, name);
        self.value(value);
        self.line.push_str(": ");
        self.ty_of(value);
    }

    fn define_results(&mut self, op: &Operation) {
        let number = self.results;
        match op.results.as_slice() {
            [] => return,
            [only] => {
                self.name(*only, Name::Result(number));
                let _ = write!(self.line, "%{number} = ");
            }
            several => {
                for (index, value) in several.iter().enumerate() {
                    self.name(*value, Name::OneOf(number, index as u32));
                }
                let _ = write!(self.line, "%{number}:{} = ", several.len());
            }
        }
        self.results += 1;
    }

    fn name(&mut self, value: Value, name: Name) {
        if let Some(slot) = self.names.get_mut(value.index()) {
            *slot = Some(name);
        }
    }

    fn value(&mut self, value: Value) {
        let _ = match self.names.get(value.index()).copied().flatten() {
            Some(Name::Argument(number)) => write!(self.line, "%arg{number}"),
            Some(Name::Result(number)) => write!(self.line, "%{number}"),
            Some(Name::OneOf(number, index)) => write!(self.line, "%{number}#{index}"),
            // Used before it is defined.
            None => write!(self.line, "%?"),
        };
    }

    /// The type of a value.
    fn ty_of(&mut self, value: Value) {
        match self.module.value_type(value) {
            Some(id) => self.ty(id),
            None => self.line.push('?'),
        }
    }

    fn ty(&mut self, id: TypeId) {
        let module = self.module;
        let text = self
            .types
            .entry(id)
            .or_insert_with(|| match Type::of_value(module, id) {
                Ok(ty) => ty.to_string(),
                Err(_) => format!("!aicode.unreadable_{}", id.index()),
            });
        self.line.push_str(text);
    }

    fn read(&mut self, id: AttrId) -> Result<Attribute> {
        let mut budget = self.budget.min(MAX_IN_ONE);
        let before = budget;
        let attribute = Attribute::read_within(self.module, id, &mut budget);
        self.budget -= before - budget;
        attribute
    }

    fn attribute(&mut self, id: AttrId) {
        let mut text = String::new();
        match self.read(id) {
            Ok(attribute) => self.write(&attribute, &mut text),
            Err(_) => text.push_str("..."),
        }
        self.line.push_str(&text);
    }

    fn write(&self, attribute: &Attribute, out: &mut String) {
        let list = |out: &mut String, items: &[Attribute]| {
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                self.write(item, out);
            }
        };
        match attribute {
            Attribute::Array(items) => {
                out.push('[');
                list(out, items);
                out.push(']');
            }
            Attribute::Dictionary(items) => {
                out.push('{');
                for (index, (name, value)) in items.iter().enumerate() {
                    out.push_str(if index == 0 { "" } else { ", " });
                    out.push_str(&literal::key(name));
                    out.push_str(" = ");
                    self.write(value, out);
                }
                out.push('}');
            }
            Attribute::Opaque(name, values) => {
                out.push_str(&match values.as_slice() {
                    [_] => literal::key(name),
                    _ => quoted(name),
                });
                out.push_str(" = ");
                match values.as_slice() {
                    [value] => self.write(value, out),
                    values => {
                        out.push('{');
                        list(out, values);
                        out.push('}');
                    }
                }
            }
            Attribute::ParamConstant(value, ty) => {
                self.write(value, out);
                let _ = write!(out, " : {ty}");
            }
            Attribute::DenseResource(id) => {
                let resource = self.module.resources.get(id.index());
                let key = resource.map_or("?", |(_, resource)| &resource.key);
                let _ = write!(out, "dense_resource<{}>", key.escape_debug());
            }
            Attribute::Other(id) => {
                let code = match attr_fields(self.module, *id) {
                    Some([Field::Int(code), ..]) => attribute_layout(*code),
                    _ => None,
                };
                let name = code.map_or("unknown", |(name, _)| name);
                let _ = write!(out, "#aicode.{name}<...>");
            }
            other => literal::plain(other, out),
        }
    }
}
