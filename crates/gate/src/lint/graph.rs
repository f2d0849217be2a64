//! A graph as the rules look at it.

use std::collections::HashMap;

use aimodel::{Attribute, ElementType, GraphView, Operation, TensorType, Type, Value};

/// A graph, and where its values come from and go to.
pub struct Graph<'m> {
    /// The graph.
    pub view: GraphView<'m>,
    makers: HashMap<Value, &'m Operation>,
    users: HashMap<Value, Vec<&'m Operation>>,
}

impl<'m> Graph<'m> {
    /// Looks up who makes and who takes each value.
    pub fn new(view: GraphView<'m>) -> Self {
        let (mut makers, mut users) = (HashMap::new(), HashMap::<_, Vec<_>>::new());
        for op in view.operations() {
            makers.extend(op.results.iter().map(|result| (*result, op)));
            for operand in &op.operands {
                users.entry(*operand).or_default().push(op);
            }
        }
        Self {
            view,
            makers,
            users,
        }
    }

    /// The operation that gives a value, and its name; `None` for arguments.
    pub fn maker(&self, value: Value) -> Option<(&'m Operation, &'m str)> {
        let op = self.makers.get(&value)?;
        Some((op, self.view.op_name(op)?))
    }

    /// The operations that take a value.
    pub fn users(&self, value: Value) -> &[&'m Operation] {
        self.users.get(&value).map_or(&[], Vec::as_slice)
    }

    /// The type of a value that is a tensor, or of what a state holds.
    pub fn tensor(&self, value: Value) -> Option<TensorType> {
        match Type::of(self.view.module, value) {
            Ok(Type::Tensor(ty) | Type::Handle(ty)) => Some(ty),
            _ => None,
        }
    }

    /// Whether a value is a constant whose elements are all `one`.
    pub fn is_constant_one(&self, value: Value, element: ElementType) -> bool {
        let one: &[u8] = match element {
            ElementType::F16 => &[0x00, 0x3c],
            ElementType::BF16 => &[0x80, 0x3f],
            ElementType::F32 => &[0x00, 0x00, 0x80, 0x3f],
            ElementType::F64 => &[0, 0, 0, 0, 0, 0, 0xf0, 0x3f],
            _ => return false,
        };
        let Some((op, _)) = self.maker(value) else {
            return false;
        };
        let content = self.view.property(op, "value");
        let content = content.map(|id| Attribute::read(self.view.module, id));
        match content {
            // Elements that are all the same are stored once.
            Some(Ok(Attribute::DenseElements { bytes, .. })) => *bytes == *one,
            _ => false,
        }
    }
}

/// The kernel that a graph is declared as.
pub fn kernel(view: &GraphView<'_>) -> Option<String> {
    match Attribute::read(view.module, view.composite?) {
        Ok(Attribute::Opaque(name, _)) => Some(name.to_string()),
        _ => None,
    }
}
