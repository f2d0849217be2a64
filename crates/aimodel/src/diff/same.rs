//! Equality of attributes, types and regions of two programs.

use std::collections::HashMap;

use mlir_bytecode::{AttrId, Encoding, Entry, Field, Operation, Region, TypeId, Value};

use super::Differ;

/// Attributes and types that nest deeper than this are taken as different.
const MAX_DEPTH: usize = 64;

impl Differ<'_> {
    pub(super) fn same_properties(&mut self, actual: &Operation, expected: &Operation) -> bool {
        let attributes = match (actual.attributes, expected.attributes) {
            (Some(a), Some(b)) => self.same_attr(a, b, 0),
            (None, None) => true,
            _ => false,
        };
        attributes
            && match (actual.properties, expected.properties) {
                (Some(a), Some(b)) => {
                    let a = self.found.module.properties_encoding(a).cloned();
                    let b = self.expected.module.properties_encoding(b).cloned();
                    a.zip(b).is_some_and(|(a, b)| self.same_encoding(&a, &b, 0))
                }
                (None, None) => true,
                _ => false,
            }
    }

    pub(super) fn same_attr(&mut self, a: AttrId, b: AttrId, depth: usize) -> bool {
        if let Some(known) = self.attrs.get(&(a, b)) {
            return *known;
        }
        let (actual, expected) = (
            self.found.module.attr_entry(a),
            self.expected.module.attr_entry(b),
        );
        let entries = actual.cloned().zip(expected.cloned());
        let same =
            entries.is_some_and(|(actual, expected)| self.same_entry(&actual, &expected, depth));
        self.attrs.insert((a, b), same);
        same
    }

    pub(super) fn same_type(&mut self, a: TypeId, b: TypeId, depth: usize) -> bool {
        if let Some(known) = self.types.get(&(a, b)) {
            return *known;
        }
        let (actual, expected) = (
            self.found.module.type_entry(a),
            self.expected.module.type_entry(b),
        );
        let entries = actual.cloned().zip(expected.cloned());
        let same =
            entries.is_some_and(|(actual, expected)| self.same_entry(&actual, &expected, depth));
        self.types.insert((a, b), same);
        same
    }

    fn same_entry(&mut self, a: &Entry, b: &Entry, depth: usize) -> bool {
        a.dialect == b.dialect && self.same_encoding(&a.encoding, &b.encoding, depth)
    }

    fn same_encoding(&mut self, a: &Encoding, b: &Encoding, depth: usize) -> bool {
        if depth > MAX_DEPTH {
            return false;
        }
        let (a, b) = match (a, b) {
            (Encoding::Fields(a), Encoding::Fields(b)) => (a, b),
            _ => return a == b,
        };
        a.len() == b.len()
            && a.iter().zip(b).all(|pair| match pair {
                (Field::Attr(a), Field::Attr(b)) => self.same_attr(*a, *b, depth + 1),
                (Field::OptionalAttr(Some(a)), Field::OptionalAttr(Some(b))) => {
                    self.same_attr(*a, *b, depth + 1)
                }
                (Field::Type(a), Field::Type(b)) => self.same_type(*a, *b, depth + 1),
                (Field::Resource(a), Field::Resource(b)) => {
                    matches!(self.blobs(*a, *b), Ok(None))
                }
                (a, b) => a == b,
            })
    }

    /// Compares regions operation by operation. Values from outside are added
    /// to `outside`.
    pub(super) fn same_regions(
        &mut self,
        actual: &[Region],
        expected: &[Region],
        inside: &mut HashMap<Value, Value>,
        outside: &mut Vec<(Value, Value)>,
    ) -> bool {
        if actual.len() != expected.len() {
            return false;
        }
        for (actual, expected) in actual.iter().zip(expected) {
            if actual.blocks.len() != expected.blocks.len() {
                return false;
            }
            for (actual, expected) in actual.blocks.iter().zip(&expected.blocks) {
                if actual.arguments.len() != expected.arguments.len()
                    || actual.operations.len() != expected.operations.len()
                {
                    return false;
                }
                let arguments = actual.arguments.iter().zip(&expected.arguments);
                inside.extend(arguments.map(|(a, b)| (a.value, b.value)));
                for (a, b) in actual.operations.iter().zip(&expected.operations) {
                    if !self.same_inner(a, b, inside, outside) {
                        return false;
                    }
                }
            }
        }
        true
    }

    fn same_inner(
        &mut self,
        a: &Operation,
        b: &Operation,
        inside: &mut HashMap<Value, Value>,
        outside: &mut Vec<(Value, Value)>,
    ) -> bool {
        let names = [(a, &self.found), (b, &self.expected)];
        let names = names.map(|(op, side)| side.module.full_op_name(op.name));
        if names[0] != names[1]
            || a.operands.len() != b.operands.len()
            || a.results.len() != b.results.len()
        {
            return false;
        }
        for (x, y) in a.operands.iter().zip(&b.operands) {
            match inside.get(x) {
                Some(known) if known == y => {}
                Some(_) => return false,
                None => outside.push((*x, *y)),
            }
        }
        for (x, y) in a.results.iter().zip(&b.results) {
            let types = self.found.module.value_type(*x);
            let types = types.zip(self.expected.module.value_type(*y));
            if !types.is_some_and(|(x, y)| self.same_type(x, y, 0)) {
                return false;
            }
            inside.insert(*x, *y);
        }
        self.same_properties(a, b) && self.same_regions(&a.regions, &b.regions, inside, outside)
    }
}
