//! Changes of a program that export would never make.

use std::collections::HashMap;

use aimodel::{Attribute, Blob, Block, Module, Operation, ResourceValue, Value, graphs};
use mlir_bytecode::Field;

/// The function `main` of a program.
pub struct Main<'m> {
    module: &'m mut Module,
    graph: usize,
}

impl<'m> Main<'m> {
    pub fn of(module: &'m mut Module) -> Self {
        let all = graphs(module).unwrap();
        let graph = all.iter().position(|graph| graph.name.as_ref() == "main");
        Self {
            graph: graph.unwrap(),
            module,
        }
    }

    fn block(&mut self) -> &mut Block {
        let graphs = &mut self.module.root.regions[0].blocks[0].operations;
        &mut graphs[self.graph].regions[0].blocks[0]
    }

    fn operations(&self) -> &[Operation] {
        let graphs = &self.module.root.regions[0].blocks[0].operations;
        &graphs[self.graph].regions[0].blocks[0].operations
    }

    /// The argument of a name.
    pub fn input(&self, name: &str) -> Value {
        let main = graphs(self.module).unwrap().swap_remove(self.graph);
        let names = main.argument_names().unwrap();
        let at = names
            .iter()
            .position(|known| known.as_deref() == Some(name));
        main.arguments()[at.unwrap()].value
    }

    /// What the function returns.
    pub fn outputs(&self) -> Vec<Value> {
        self.operations().last().unwrap().operands.clone()
    }

    /// The first results of all operations of a kind that take all of some
    /// values, in their order.
    pub fn all(&self, kind: &str, operands: &[Value]) -> Vec<Value> {
        let kind = format!("aicode.{kind}");
        let found = self.operations().iter().filter(|op| {
            operands.iter().all(|value| op.operands.contains(value))
                && self.module.full_op_name(op.name) == kind
        });
        found.filter_map(|op| op.results.first().copied()).collect()
    }

    /// The only one.
    pub fn one(&self, kind: &str, operands: &[Value]) -> Value {
        let found = self.all(kind, operands);
        assert_eq!(found.len(), 1, "operations {kind}");
        found[0]
    }

    /// The place of the operation that makes a value; `None` for an argument.
    fn place(&self, value: Value) -> Option<usize> {
        let mut ops = self.operations().iter();
        ops.position(|op| op.results.contains(&value))
    }

    /// What the operation that makes a value takes.
    pub fn operands(&self, value: Value) -> Vec<Value> {
        self.operations()[self.place(value).unwrap()]
            .operands
            .clone()
    }

    /// Makes the operation behind a value take something else.
    pub fn set_operand(&mut self, value: Value, at: usize, operand: Value) {
        let place = self.place(value).unwrap();
        self.block().operations[place].operands[at] = operand;
    }

    /// Makes whatever takes a value take another, `except` one operation.
    pub fn replace(&mut self, old: Value, new: Value, except: Option<Value>) {
        let except = except.and_then(|value| self.place(value));
        for (at, op) in self.block().operations.iter_mut().enumerate() {
            if Some(at) != except {
                let uses = op.operands.iter_mut().filter(|value| **value == old);
                uses.for_each(|value| *value = new);
            }
        }
    }

    /// Adds an operation like the one that makes `like`, with other operands of
    /// the same types, as early as it can stand.
    pub fn again(&mut self, like: Value, operands: &[Value]) -> Value {
        let mut op = self.operations()[self.place(like).unwrap()].clone();
        let fresh = self.renew(&mut op);
        op.operands = operands.to_vec();
        let places = operands.iter().filter_map(|value| self.place(*value));
        let place = places.max().map_or(0, |place| place + 1);
        self.block().operations.insert(place, op);
        fresh
    }

    /// Adds a constant of the type of another.
    pub fn constant(&mut self, like: Value, bytes: &[u8]) -> Value {
        let fresh = self.again(like, &[]);
        self.set_constant(fresh, bytes);
        fresh
    }

    /// Gives a constant of the graph another content.
    pub fn set_constant(&mut self, value: Value, bytes: &[u8]) {
        let content = Attribute::DenseElements {
            splat: false,
            bytes: bytes.into(),
        };
        let id = content.intern(self.module).unwrap();
        let field = Field::Attr(id);
        let properties = self.module.properties([field]);
        let place = self.place(value).unwrap();
        self.block().operations[place].properties = Some(properties);
    }

    /// Gives an operation, and what its regions hold, results of their own; the
    /// first of them.
    fn renew(&mut self, op: &mut Operation) -> Value {
        fn visit(module: &mut Module, op: &mut Operation, names: &mut HashMap<Value, Value>) {
            let blocks = op.regions.iter_mut().flat_map(|region| &mut region.blocks);
            for block in blocks {
                for argument in &mut block.arguments {
                    rename(module, &mut argument.value, names);
                }
                for inner in &mut block.operations {
                    for operand in &mut inner.operands {
                        *operand = *names.get(operand).unwrap_or(operand);
                    }
                    visit(module, inner, names);
                }
            }
            for value in &mut op.results {
                rename(module, value, names);
            }
        }
        fn rename(module: &mut Module, value: &mut Value, names: &mut HashMap<Value, Value>) {
            let fresh = module.value(module.value_type(*value).unwrap());
            names.insert(*value, fresh);
            *value = fresh;
        }
        visit(self.module, op, &mut HashMap::new());
        op.results[0]
    }
}

/// Changes the bytes of the large constants whose keys start and end so; there
/// must be as many as `count`.
pub fn blobs(
    module: &mut Module,
    (start, end): (&str, &str),
    count: usize,
    mut change: impl FnMut(&mut Vec<u8>),
) {
    let mut found = 0;
    for (_, resource) in &mut module.resources {
        if !resource.key.starts_with(start) || !resource.key.ends_with(end) {
            continue;
        }
        if let ResourceValue::Blob { data, .. } = &mut resource.value {
            let mut bytes = data.to_vec().unwrap();
            change(&mut bytes);
            assert_eq!(bytes.len() as u64, data.len());
            *data = Blob::new(bytes);
            found += 1;
        }
    }
    assert_eq!(found, count, "constants {start}…{end}");
}
