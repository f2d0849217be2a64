//! The order of a file's tables.

use std::collections::HashMap;

use crate::{
    AttrId, DialectId, Encoding, Entry, Error, Field, Module, OpNameId, Operation, PropertiesId,
    Region, ResourceId, Result, Str, TypeId, Value, ir::missing,
};

/// The order in which a file lists what its IR refers to.
///
/// References are positions in these tables, in as few bytes as the position
/// takes, so that another order makes another file with the same meaning.
/// Strings and properties that are not listed are appended when the writer
/// comes to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tables {
    /// Dialects.
    pub dialects: Vec<DialectId>,
    /// Operation names, by dialect within runs.
    pub op_names: Vec<OpNameId>,
    /// Attributes.
    pub attrs: Vec<AttrId>,
    /// Types.
    pub types: Vec<TypeId>,
    /// Resources of dialects, grouped by dialect.
    pub resources: Vec<ResourceId>,
    /// Strings that are listed first.
    pub strings: Vec<Str>,
    /// Properties that are listed first.
    pub properties: Vec<PropertiesId>,
}

impl Tables {
    /// Numbers a module from its IR alone, as MLIR's writer does: what is
    /// referred to most often first, and what is of one dialect together
    /// within each group of positions that take the same number of bytes.
    ///
    /// # Errors
    /// An attribute, type or properties whose encoding is not described, or an
    /// id that the module does not have.
    pub fn number(module: &Module) -> Result<Self> {
        let mut walk = Walk {
            module,
            by_name: HashMap::new(),
            dialects: Order::default(),
            op_names: Order::default(),
            attrs: Order::default(),
            types: Order::default(),
            resources: Order::default(),
        };
        // A file may name a dialect twice; the first one counts.
        for (index, dialect) in module.dialects.iter().enumerate() {
            let id = DialectId(index as u32);
            walk.by_name.entry(dialect.name.as_ref()).or_insert(id);
        }
        walk.module()?;

        // What belongs to no dialect that was visited comes last; the writer
        // reports it.
        let dialect_number = |id: DialectId| match walk.dialects.count.get(&id) {
            Some((number, _)) => *number,
            None => usize::MAX,
        };
        let dialect_of = |name: &Str| match walk.by_name.get(name.as_ref()) {
            Some(id) => dialect_number(*id),
            None => usize::MAX,
        };
        let mut tables = Self {
            op_names: walk.op_names.by_count(),
            attrs: walk.attrs.by_count(),
            types: walk.types.by_count(),
            resources: walk.resources.seen.clone(),
            dialects: walk.dialects.seen.clone(),
            ..Self::default()
        };
        let entry_dialect =
            |entry: Option<&Entry>| entry.map_or(usize::MAX, |entry| dialect_of(&entry.dialect));
        group_by_dialect(&mut tables.attrs, |id| {
            entry_dialect(module.attr_entry(*id))
        });
        group_by_dialect(&mut tables.types, |id| {
            entry_dialect(module.type_entry(*id))
        });
        group_by_dialect(&mut tables.op_names, |id| {
            let name = module.op_names.get(id.index());
            name.map_or(usize::MAX, |name| dialect_number(name.dialect))
        });
        tables.resources.sort_by_key(|id| {
            let resource = module.resources.get(id.index());
            resource.map_or(usize::MAX, |(owner, _)| dialect_of(owner))
        });
        Ok(tables)
    }
}

/// Ids in the order of their first visit, and the number of visits.
struct Order<T> {
    seen: Vec<T>,
    /// Position in `seen`, and number of references.
    count: HashMap<T, (usize, usize)>,
}

impl<T> Default for Order<T> {
    fn default() -> Self {
        Self {
            seen: Vec::new(),
            count: HashMap::new(),
        }
    }
}

impl<T: Copy + Eq + std::hash::Hash> Order<T> {
    /// Counts a reference. Returns whether it is the first.
    fn visit(&mut self, id: T) -> bool {
        let next = self.seen.len();
        let (_, count) = self.count.entry(id).or_insert((next, 0));
        *count += 1;
        if *count == 1 {
            self.seen.push(id);
        }
        *count == 1
    }

    fn by_count(&self) -> Vec<T> {
        let mut ids = self.seen.clone();
        ids.sort_by_key(|id| std::cmp::Reverse(self.count[id].1));
        ids
    }
}

/// The walk that visits everything in the order of MLIR's writer.
struct Walk<'m> {
    module: &'m Module,
    by_name: HashMap<&'m str, DialectId>,
    dialects: Order<DialectId>,
    op_names: Order<OpNameId>,
    attrs: Order<AttrId>,
    types: Order<TypeId>,
    resources: Order<ResourceId>,
}

/// The fields of an encoding that are not visited yet.
struct Pending<'m>(std::slice::Iter<'m, Field>);

impl<'m> Walk<'m> {
    fn module(&mut self) -> Result<()> {
        self.operation(&self.module.root)?;
        // A region is visited whole before the regions inside of it, and of
        // those the last one first.
        let mut regions: Vec<&'m Region> = self.module.root.regions.iter().collect();
        while let Some(region) = regions.pop() {
            for block in &region.blocks {
                for argument in &block.arguments {
                    if let Some(location) = argument.location {
                        self.attr(location)?;
                    }
                    self.value(argument.value)?;
                }
                for op in &block.operations {
                    self.operation(op)?;
                }
            }
            let ops = region.blocks.iter().flat_map(|block| &block.operations);
            regions.extend(ops.flat_map(|op| &op.regions));
        }
        Ok(())
    }

    fn operation(&mut self, op: &'m Operation) -> Result<()> {
        let Some(name) = self.module.op_names.get(op.name.index()) else {
            return Err(Error::Unwritable("it has no root operation".to_owned()));
        };
        if self.op_names.visit(op.name) {
            self.dialect(name.dialect);
        }
        for result in &op.results {
            self.value(*result)?;
        }
        if let Some(attributes) = op.attributes {
            self.attr(attributes)?;
        }
        if let Some(properties) = op.properties {
            match self.module.properties_encoding(properties) {
                None => return Err(missing("properties", properties.index())),
                Some(Encoding::Fields(fields)) => self.fields(fields)?,
                Some(_) => return Err(undescribed("properties", &name.name)),
            }
        }
        self.attr(op.location)
    }

    fn dialect(&mut self, id: DialectId) {
        if !self.dialects.count.contains_key(&id) {
            self.dialects.visit(id);
        }
    }

    fn dialect_named(&mut self, name: &str) {
        if let Some(id) = self.by_name.get(name) {
            self.dialect(*id);
        }
    }

    fn attr(&mut self, id: AttrId) -> Result<()> {
        self.fields_of(Field::Attr(id))
    }

    /// Visits the type of a value.
    fn value(&mut self, value: Value) -> Result<()> {
        let ty = self.module.value_type(value);
        let ty = ty.ok_or_else(|| missing("value", value.index()))?;
        self.fields_of(Field::Type(ty))
    }

    fn fields_of(&mut self, field: Field) -> Result<()> {
        if let Some(nested) = self.field(&field)? {
            self.fields(nested)?;
        }
        Ok(())
    }

    /// Visits fields and what they refer to, depth first. The stack is explicit:
    /// a hostile file may chain attributes without end.
    fn fields(&mut self, fields: &'m [Field]) -> Result<()> {
        let mut stack = vec![Pending(fields.iter())];
        while let Some(Pending(rest)) = stack.last_mut() {
            match rest.next() {
                Some(field) => {
                    if let Some(nested) = self.field(field)? {
                        stack.push(Pending(nested.iter()));
                    }
                }
                None => drop(stack.pop()),
            }
        }
        Ok(())
    }

    /// Visits one field. Returns the fields of its target on the first visit.
    fn field(&mut self, field: &Field) -> Result<Option<&'m [Field]>> {
        let (entry, what) = match field {
            Field::Attr(id) | Field::OptionalAttr(Some(id)) if self.attrs.visit(*id) => {
                let entry = self.module.attr_entry(*id);
                let entry = entry.ok_or_else(|| missing("attribute", id.index()))?;
                (entry, "attribute")
            }
            Field::Type(id) if self.types.visit(*id) => {
                let entry = self.module.type_entry(*id);
                (entry.ok_or_else(|| missing("type", id.index()))?, "type")
            }
            Field::Resource(id) => {
                if self.resources.visit(*id)
                    && let Some((owner, _)) = self.module.resources.get(id.index())
                {
                    self.dialect_named(owner);
                }
                return Ok(None);
            }
            _ => return Ok(None),
        };
        self.entry(entry, what)
    }

    fn entry(&mut self, entry: &'m Entry, what: &str) -> Result<Option<&'m [Field]>> {
        self.dialect_named(&entry.dialect);
        match &entry.encoding {
            Encoding::Fields(fields) => Ok(Some(fields)),
            Encoding::Text(_) => Ok(None),
            Encoding::Unknown(_) => Err(undescribed(what, &entry.dialect)),
        }
    }
}

fn undescribed(what: &str, of: &str) -> Error {
    Error::Unwritable(format!(
        "the encoding of a {what} of `{of}` is not described, so that its references cannot be \
         renumbered; write it with the tables that it was read with, or describe its dialect"
    ))
}

/// Sorts by dialect, stably, within each group of positions whose varints are
/// equally long; a group starts with the dialect that the one before ended in.
fn group_by_dialect<T: Copy>(ids: &mut [T], dialect: impl Fn(&T) -> usize) {
    let mut first = 0;
    let mut group = 0;
    let mut rest = ids;
    for bytes in 1..9 {
        // Not the number of positions that take `bytes` bytes, but what MLIR
        // computes for it: 2^7, 2^14 - 2^7, 2^21 - (2^14 - 2^7), ...
        group = (1_usize << (7 * bytes)) - group;
        let (here, after) = rest.split_at_mut(group.min(rest.len()));
        here.sort_by_key(|id| {
            let dialect = dialect(id);
            (dialect != first, dialect)
        });
        if let Some(last) = here.last() {
            first = dialect(last);
        }
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
}
