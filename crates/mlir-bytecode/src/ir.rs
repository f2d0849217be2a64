//! The module in memory.

use std::sync::Arc;

use indexmap::IndexSet;

use crate::{Blob, Error, MAX_DEPTH, Result};

/// A shared string.
pub type Str = Arc<str>;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub(crate) u32);

        impl $name {
            /// The position in the module's table.
            #[must_use]
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

id!(/// An attribute of a [`Module`].
    AttrId);
id!(/// A type of a [`Module`].
    TypeId);
id!(/// The properties of one or more operations of a [`Module`].
    PropertiesId);
id!(/// A dialect of a [`Module`].
    DialectId);
id!(/// An operation name of a [`Module`].
    OpNameId);
id!(/// A resource of a [`Module`].
    ResourceId);
id!(/// A result of an operation or an argument of a block.
    Value);

/// One item of an encoding.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Field {
    /// A varint. Signed numbers appear as they are stored, zig-zag coded.
    Int(u64),
    /// A single byte.
    Byte(u8),
    /// A reference to an attribute.
    Attr(AttrId),
    /// A reference to an attribute that may be absent.
    OptionalAttr(Option<AttrId>),
    /// A reference to a type.
    Type(TypeId),
    /// A reference to a string.
    Str(Str),
    /// A reference to a resource.
    Resource(ResourceId),
    /// A length and as many bytes.
    Blob(Arc<[u8]>),
}

impl Field {
    /// A signed number, zig-zag coded.
    #[must_use]
    pub fn signed(value: i64) -> Self {
        Self::Int(((value << 1) ^ (value >> 63)) as u64)
    }

    /// Undoes [`signed`](Self::signed).
    #[must_use]
    pub fn to_signed(value: u64) -> i64 {
        (value >> 1) as i64 ^ -((value & 1) as i64)
    }
}

/// The encoding of an attribute or a type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Encoding {
    /// The textual form.
    Text(Str),
    /// The dialect's own form.
    Fields(Box<[Field]>),
    /// The own form of a dialect that was not described to the reader. It can be
    /// written back only with the tables that it was read with.
    Unknown(Box<[u8]>),
}

/// An attribute or a type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Entry {
    /// The namespace of its dialect.
    pub dialect: Str,
    /// Its content.
    pub encoding: Encoding,
}

impl Entry {
    /// An entry in textual form.
    #[must_use]
    pub fn text(dialect: &str, text: &str) -> Self {
        Self {
            dialect: dialect.into(),
            encoding: Encoding::Text(text.into()),
        }
    }

    /// An entry in the dialect's own form.
    #[must_use]
    pub fn fields(dialect: &Str, fields: impl Into<Box<[Field]>>) -> Self {
        Self {
            dialect: dialect.clone(),
            encoding: Encoding::Fields(fields.into()),
        }
    }

    /// The fields, where the entry is in the dialect's own form.
    #[must_use]
    pub fn as_fields(&self) -> Option<&[Field]> {
        match &self.encoding {
            Encoding::Fields(fields) => Some(fields),
            _ => None,
        }
    }
}

/// A dialect that the module refers to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DialectName {
    /// The namespace.
    pub name: Str,
    /// The content of its version section, where it has one.
    pub version: Option<Box<[u8]>>,
}

/// The name of an operation, which [`Module::op_name`] enters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct OpName {
    /// The dialect.
    pub dialect: DialectId,
    /// The name without the namespace.
    pub name: Str,
    /// Whether the producer knew the operation.
    pub registered: bool,
}

/// The value of a resource.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ResourceValue {
    /// Bytes at an alignment (a power of two).
    Blob {
        /// The alignment in the file.
        alignment: u64,
        /// The bytes.
        data: Blob,
    },
    /// A flag.
    Bool(bool),
    /// A string.
    Str(Str),
    /// Nothing but the name. The byte is the kind that the file states.
    Declared(u8),
}

/// Named data beside the IR.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Resource {
    /// The key.
    pub key: Str,
    /// The value.
    pub value: ResourceValue,
}

impl Resource {
    /// A resource of that name.
    #[must_use]
    pub fn new(key: impl Into<Str>, value: ResourceValue) -> Self {
        Self {
            key: key.into(),
            value,
        }
    }
}

/// Resources that belong to no dialect.
#[derive(Clone, Debug)]
pub struct ExternalResources {
    /// The name of their provider.
    pub name: Str,
    /// The resources.
    pub resources: Vec<Resource>,
}

/// The order in which the producer had the uses of one value in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UseListOrder {
    /// Which result or block argument.
    pub value: u64,
    /// Whether `indices` are pairs of what differs from the usual order.
    pub pairs: bool,
    /// The order.
    pub indices: Vec<u64>,
}

/// One operation.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Operation {
    /// Its name.
    pub name: OpNameId,
    /// Its location, an attribute.
    pub location: AttrId,
    /// Its dictionary of discardable attributes, if that is not empty.
    pub attributes: Option<AttrId>,
    /// Its properties, if it has any.
    pub properties: Option<PropertiesId>,
    /// Its operands.
    pub operands: Vec<Value>,
    /// Its results.
    pub results: Vec<Value>,
    /// The blocks that control may pass to, by position in its region.
    pub successors: Vec<u64>,
    /// Its regions.
    pub regions: Vec<Region>,
    /// Whether no operation in its regions uses a value from outside; values
    /// are then numbered from zero. See [`Module::compute_isolation`].
    pub isolated: bool,
    /// Use-list orders of the results.
    pub use_list_orders: Vec<UseListOrder>,
}

impl Operation {
    /// An operation with a name and a location and nothing else.
    #[must_use]
    pub fn new(name: OpNameId, location: AttrId) -> Self {
        Self {
            name,
            location,
            attributes: None,
            properties: None,
            operands: Vec::new(),
            results: Vec::new(),
            successors: Vec::new(),
            regions: Vec::new(),
            isolated: true,
            use_list_orders: Vec::new(),
        }
    }
}

/// A list of blocks.
#[derive(Clone, Debug, Default)]
pub struct Region {
    /// The blocks.
    pub blocks: Vec<Block>,
}

/// A list of operations.
#[derive(Clone, Debug, Default)]
pub struct Block {
    /// The arguments.
    pub arguments: Vec<BlockArgument>,
    /// The operations.
    pub operations: Vec<Operation>,
    /// Use-list orders of the arguments.
    pub use_list_orders: Vec<UseListOrder>,
}

impl Block {
    /// The values that the block defines: its arguments, then the results of
    /// its operations.
    pub(crate) fn values(&self) -> impl Iterator<Item = Value> {
        let arguments = self.arguments.iter().map(|argument| argument.value);
        arguments.chain(
            self.operations
                .iter()
                .flat_map(|op| op.results.iter().copied()),
        )
    }
}

/// An argument of a block.
#[derive(Clone, Copy, Debug)]
pub struct BlockArgument {
    /// The value.
    pub value: Value,
    /// Its location, an attribute; `None` is MLIR's unknown location.
    pub location: Option<AttrId>,
}

/// One bytecode file: its IR and everything that the IR refers to.
///
/// Attributes, types and properties are uniqued: asking for the same content
/// twice gives the same id.
#[derive(Clone, Debug)]
pub struct Module {
    /// What wrote the file.
    pub producer: String,
    /// The dialects.
    pub dialects: Vec<DialectName>,
    /// The operation names.
    pub op_names: Vec<OpName>,
    /// The resources of dialects: the namespace of the owner, and the resource.
    pub resources: Vec<(Str, Resource)>,
    /// Resources of other owners.
    pub external_resources: Vec<ExternalResources>,
    /// The one operation at the top.
    pub root: Operation,
    pub(crate) attrs: Uniqued<Entry>,
    pub(crate) types: Uniqued<Entry>,
    pub(crate) properties: Uniqued<Encoding>,
    pub(crate) values: Vec<TypeId>,
}

impl Module {
    /// An empty module. Its root must be set before it can be written.
    #[must_use]
    pub fn new(producer: &str) -> Self {
        Self {
            producer: producer.to_owned(),
            dialects: Vec::new(),
            op_names: Vec::new(),
            resources: Vec::new(),
            external_resources: Vec::new(),
            root: Operation::new(OpNameId(u32::MAX), AttrId(u32::MAX)),
            attrs: Uniqued::default(),
            types: Uniqued::default(),
            properties: Uniqued::default(),
            values: Vec::new(),
        }
    }

    /// The dialect of that namespace, entered without a version if it is new.
    pub fn dialect(&mut self, name: &str) -> DialectId {
        let found = self.dialects.iter().position(|d| d.name.as_ref() == name);
        DialectId(found.unwrap_or_else(|| {
            self.dialects.push(DialectName {
                name: name.into(),
                version: None,
            });
            self.dialects.len() - 1
        }) as u32)
    }

    /// The operation name, entered if it is new.
    pub fn op_name(&mut self, dialect: &str, name: &str, registered: bool) -> OpNameId {
        let dialect = self.dialect(dialect);
        let wanted = OpName {
            dialect,
            name: name.into(),
            registered,
        };
        let found = self.op_names.iter().position(|n| *n == wanted);
        OpNameId(found.unwrap_or_else(|| {
            self.op_names.push(wanted);
            self.op_names.len() - 1
        }) as u32)
    }

    /// The attribute with that content.
    pub fn attribute(&mut self, entry: Entry) -> AttrId {
        self.dialect(&entry.dialect);
        AttrId(self.attrs.insert(entry))
    }

    /// The type with that content.
    pub fn ty(&mut self, entry: Entry) -> TypeId {
        self.dialect(&entry.dialect);
        TypeId(self.types.insert(entry))
    }

    /// The properties with that content.
    pub fn properties(&mut self, fields: impl Into<Box<[Field]>>) -> PropertiesId {
        PropertiesId(self.properties.insert(Encoding::Fields(fields.into())))
    }

    /// Adds a resource that the dialect `dialect` owns.
    pub fn resource(&mut self, dialect: &Str, resource: Resource) -> ResourceId {
        self.dialect(dialect);
        self.resources.push((dialect.clone(), resource));
        ResourceId((self.resources.len() - 1) as u32)
    }

    /// A new value of a type. It must become a result or an argument.
    pub fn value(&mut self, ty: TypeId) -> Value {
        self.values.push(ty);
        Value((self.values.len() - 1) as u32)
    }

    /// The content of an attribute; `None` for an id of another module.
    #[must_use]
    pub fn attr_entry(&self, id: AttrId) -> Option<&Entry> {
        self.attrs.get(id.0)
    }

    /// The content of a type; `None` for an id of another module.
    #[must_use]
    pub fn type_entry(&self, id: TypeId) -> Option<&Entry> {
        self.types.get(id.0)
    }

    /// The content of properties; `None` for an id of another module.
    #[must_use]
    pub fn properties_encoding(&self, id: PropertiesId) -> Option<&Encoding> {
        self.properties.get(id.0)
    }

    /// The type of a value; `None` for a value of another module.
    #[must_use]
    pub fn value_type(&self, value: Value) -> Option<TypeId> {
        self.values.get(value.index()).copied()
    }

    /// The number of values that the module has.
    #[must_use]
    pub fn value_count(&self) -> usize {
        self.values.len()
    }

    /// The dialect and the name of an operation, as in `dialect.name`, or a
    /// note in parentheses for an id of another module.
    #[must_use]
    pub fn full_op_name(&self, id: OpNameId) -> String {
        let op = self.op_names.get(id.index());
        let dialect = op.and_then(|op| self.dialects.get(op.dialect.index()));
        match op.zip(dialect) {
            Some((op, dialect)) => format!("{}.{}", dialect.name, op.name),
            None => "(no operation)".to_owned(),
        }
    }

    /// Sets [`Operation::isolated`] of every operation with regions to whether
    /// nothing inside uses a value that is defined outside of it.
    ///
    /// # Errors
    /// Regions nested deeper than [`MAX_DEPTH`], or a value that the module
    /// does not have.
    pub fn compute_isolation(&mut self) -> Result<()> {
        // The depth of the region in which each value is defined.
        let mut defined = vec![0; self.values.len()];
        isolate(&mut self.root, 0, &mut defined).map(drop)
    }
}

/// The error of an id that is not one of the module.
pub(crate) fn missing(what: &str, index: usize) -> Error {
    Error::Unwritable(format!(
        "it refers to {what} {index}, which it does not have"
    ))
}

/// Sets the flag within `op` and returns the smallest depth that its regions
/// use a value from; `depth` is that of the region that `op` stands in.
fn isolate(op: &mut Operation, depth: usize, defined: &mut [usize]) -> Result<usize> {
    if depth > MAX_DEPTH {
        return Err(Error::Unwritable(format!(
            "regions nest deeper than {MAX_DEPTH}"
        )));
    }
    let inner = depth + 1;
    let mut min = usize::MAX;
    for region in &mut op.regions {
        for block in &region.blocks {
            for value in block.values() {
                let depth = defined.get_mut(value.index());
                *depth.ok_or_else(|| missing("value", value.index()))? = inner;
            }
        }
        for op in region
            .blocks
            .iter_mut()
            .flat_map(|block| &mut block.operations)
        {
            for value in &op.operands {
                let depth = defined.get(value.index());
                min = min.min(*depth.ok_or_else(|| missing("value", value.index()))?);
            }
            min = min.min(isolate(op, inner, defined)?);
        }
    }
    op.isolated = min >= inner;
    Ok(if op.isolated { usize::MAX } else { min })
}

/// A table in which equal content has one id. A file that was read may have it
/// twice; the ids are then those of the file.
#[derive(Clone, Debug)]
pub(crate) struct Uniqued<T> {
    contents: IndexSet<T>,
    /// The first id with each content.
    first: Vec<u32>,
    /// The position in `contents` of each id.
    entries: Vec<usize>,
}

impl<T> Default for Uniqued<T> {
    fn default() -> Self {
        Self {
            contents: IndexSet::new(),
            first: Vec::new(),
            entries: Vec::new(),
        }
    }
}

impl<T: std::hash::Hash + Eq> Uniqued<T> {
    fn place(&mut self, content: T, id: u32) -> usize {
        let (place, new) = self.contents.insert_full(content);
        if new {
            self.first.push(id);
        }
        place
    }

    /// The id of that content.
    pub fn insert(&mut self, content: T) -> u32 {
        let next = self.entries.len() as u32;
        let place = self.place(content, next);
        if self.first[place] == next {
            self.entries.push(place);
        }
        self.first[place]
    }

    /// Gives the content an id of its own.
    pub fn push(&mut self, content: T) {
        let place = self.place(content, self.entries.len() as u32);
        self.entries.push(place);
    }

    /// Replaces the content of an id.
    pub fn set(&mut self, id: u32, content: T) {
        self.entries[id as usize] = self.place(content, id);
    }

    pub fn get(&self, id: u32) -> Option<&T> {
        self.contents.get_index(*self.entries.get(id as usize)?)
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }
}
