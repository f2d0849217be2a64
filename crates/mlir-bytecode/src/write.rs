//! From a [`Module`] to bytes.

use std::{collections::HashMap, io};

use indexmap::{IndexMap, IndexSet};

use crate::{
    AttrId, Block, Encoding, Entry, Error, Field, MAX_DEPTH, Module, Operation, PropertiesId,
    Region, Resource, ResourceValue, Result, Str, Tables, UseListOrder, VERSION, Value,
    emit::{Emitter, MAX_ALIGNMENT, PADDING, padding},
    format::{op_mask, section},
    ir::missing,
    read::MAGIC,
};

/// Writes a module with the given order of tables. Blobs are streamed: nothing
/// but the IR and the tables is held in memory. Writes are small, so that a
/// file is best wrapped in an [`io::BufWriter`].
///
/// # Errors
/// [`Error::Io`] if `out` fails, [`Error::Blob`] if a blob cannot be made, and
/// [`Error::Unwritable`] for a module that refers to something that it does not
/// have or that the tables leave out, and for tables of another module.
pub fn write(module: &Module, tables: &Tables, mut out: impl io::Write) -> Result<()> {
    write_module(module, tables, &mut out)
}

fn write_module(module: &Module, tables: &Tables, out: &mut dyn io::Write) -> Result<()> {
    let mut writer = Writer::new(module, tables)?;
    let mut head = Emitter::default();
    head.bytes.extend_from_slice(MAGIC);
    head.varint(VERSION);
    if module.producer.contains('\0') {
        return Err(Error::Unwritable("its producer contains a NUL".to_owned()));
    }
    head.bytes.extend_from_slice(module.producer.as_bytes());
    head.byte(0);

    head.section(section::DIALECT, &writer.dialects()?);
    let (offsets, content) = writer.attributes_and_types()?;
    head.section(section::ATTR_TYPE_OFFSET, &offsets);
    head.section(section::ATTR_TYPE, &content);
    head.section(section::IR, &writer.ir()?);
    out.write_all(&writer.resources(head)?)?;
    for part in writer.resource_parts {
        out.write_all(&part.before)?;
        if let Some(data) = part.data {
            let mut counted = Counted { out, count: 0 };
            data.write_to(&mut counted)?;
            if counted.count != data.len() {
                return Err(Error::Unwritable(format!(
                    "a blob of {} bytes gave {}",
                    data.len(),
                    counted.count
                )));
            }
        }
    }

    let mut tail = Emitter::default();
    tail.section(section::STRING, &write_strings(&writer.strings));
    let mut properties = Emitter::default();
    properties.varint(writer.properties.len() as u64);
    for entry in &writer.properties {
        properties.varint(entry.len() as u64);
        properties.bytes.extend_from_slice(entry);
    }
    tail.section(section::PROPERTIES, &properties);
    out.write_all(&tail.bytes)?;
    Ok(())
}

/// Counts what a blob writes.
struct Counted<'o> {
    out: &'o mut dyn io::Write,
    count: u64,
}

impl io::Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.count += written as u64;
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn write_strings(strings: &IndexSet<Str>) -> Emitter {
    let mut out = Emitter::default();
    out.varint(strings.len() as u64);
    for text in strings.iter().rev() {
        out.varint(text.len() as u64 + 1);
    }
    for text in strings {
        out.bytes.extend_from_slice(text.as_bytes());
        out.byte(0);
    }
    out
}

/// A piece of the resource section: bytes, and a blob that follows them.
struct ResourcePart<'m> {
    before: Vec<u8>,
    data: Option<&'m crate::Blob>,
}

struct Writer<'m> {
    module: &'m Module,
    tables: &'m Tables,
    /// The position of each id in its table.
    dialects: HashMap<&'m str, u64>,
    op_names: Vec<Option<u64>>,
    attrs: Vec<Option<u64>>,
    types: Vec<Option<u64>>,
    resources: Vec<Option<u64>>,
    strings: IndexSet<Str>,
    /// Equal bytes are stored once, as in MLIR, whatever operations they are of.
    properties: IndexSet<Box<[u8]>>,
    properties_of: HashMap<PropertiesId, u64>,
    resource_parts: Vec<ResourcePart<'m>>,
}

fn foreign_tables() -> Error {
    Error::Unwritable("its tables are those of another module".to_owned())
}

/// The entry of an id that a table lists.
fn listed<T>(entry: Option<T>) -> Result<T> {
    entry.ok_or_else(foreign_tables)
}

fn positions(ids: impl Iterator<Item = usize>, len: usize) -> Result<Vec<Option<u64>>> {
    let mut positions = vec![None; len];
    for (position, id) in ids.enumerate() {
        match positions.get_mut(id) {
            Some(slot) => *slot = slot.or(Some(position as u64)),
            None => return Err(foreign_tables()),
        }
    }
    Ok(positions)
}

fn number(positions: &[Option<u64>], index: usize, what: &str) -> Result<u64> {
    positions.get(index).copied().flatten().ok_or_else(|| {
        Error::Unwritable(format!(
            "it refers to {what} {index}, which its tables leave out"
        ))
    })
}

impl<'m> Writer<'m> {
    fn new(module: &'m Module, tables: &'m Tables) -> Result<Self> {
        let mut dialects = HashMap::new();
        for (position, id) in tables.dialects.iter().enumerate() {
            let dialect = listed(module.dialects.get(id.index()))?;
            dialects
                .entry(dialect.name.as_ref())
                .or_insert(position as u64);
        }
        let mut writer = Self {
            module,
            tables,
            dialects,
            op_names: positions(
                tables.op_names.iter().map(|id| id.index()),
                module.op_names.len(),
            )?,
            attrs: positions(tables.attrs.iter().map(|id| id.index()), module.attrs.len())?,
            types: positions(tables.types.iter().map(|id| id.index()), module.types.len())?,
            resources: positions(
                tables.resources.iter().map(|id| id.index()),
                module.resources.len(),
            )?,
            strings: tables.strings.iter().cloned().collect(),
            properties: IndexSet::new(),
            properties_of: HashMap::new(),
            resource_parts: Vec::new(),
        };
        for id in &tables.properties {
            listed(module.properties_encoding(*id))?;
            writer.properties_number(*id)?;
        }
        Ok(writer)
    }

    fn string(&mut self, text: &Str) -> u64 {
        self.strings.insert_full(text.clone()).0 as u64
    }

    fn dialect(&self, name: &str) -> Result<u64> {
        self.dialects.get(name).copied().ok_or_else(|| {
            Error::Unwritable(format!(
                "it refers to dialect `{name}`, which its tables leave out"
            ))
        })
    }

    fn dialects(&mut self) -> Result<Emitter> {
        let mut out = Emitter::default();
        out.varint(self.tables.dialects.len() as u64);
        for id in &self.tables.dialects {
            let dialect = listed(self.module.dialects.get(id.index()))?;
            out.varint_with_flag(self.string(&dialect.name), dialect.version.is_some());
            if let Some(version) = &dialect.version {
                out.section(
                    section::DIALECT_VERSIONS,
                    &Emitter {
                        bytes: version.to_vec(),
                    },
                );
            }
        }
        out.varint(self.tables.op_names.len() as u64);
        let ids = self.tables.op_names.iter();
        let names = ids.map(|id| listed(self.module.op_names.get(id.index())));
        let names = names.collect::<Result<Vec<_>>>()?;
        for group in runs(names.into_iter(), |name| name.dialect) {
            let dialect = self.module.dialects.get(group[0].dialect.index());
            let dialect = dialect.ok_or_else(|| missing("dialect", group[0].dialect.index()))?;
            out.varint(self.dialect(&dialect.name)?);
            out.varint(group.len() as u64);
            for name in group {
                out.varint_with_flag(self.string(&name.name), name.registered);
            }
        }
        Ok(out)
    }

    /// The offset section and the section with the content.
    fn attributes_and_types(&mut self) -> Result<(Emitter, Emitter)> {
        let (mut offsets, mut content) = (Emitter::default(), Emitter::default());
        offsets.varint(self.tables.attrs.len() as u64);
        offsets.varint(self.tables.types.len() as u64);
        let module = self.module;
        let ids = self.tables.attrs.iter();
        let attrs = ids.map(|id| listed(module.attr_entry(*id)));
        let attrs = attrs.collect::<Result<Vec<_>>>()?;
        let ids = self.tables.types.iter();
        let types = ids.map(|id| listed(module.type_entry(*id)));
        let types = types.collect::<Result<Vec<_>>>()?;
        let groups = [attrs, types].map(|entries| runs(entries.into_iter(), dialect_of));
        for group in groups.into_iter().flatten() {
            offsets.varint(self.dialect(&group[0].dialect)?);
            offsets.varint(group.len() as u64);
            for entry in group {
                let start = content.bytes.len();
                if let Encoding::Text(text) = &entry.encoding {
                    // It ends with a NUL and has no length.
                    if text.contains('\0') {
                        return Err(Error::Unwritable(format!(
                            "the text {text:?} contains a NUL"
                        )));
                    }
                    content.bytes.extend_from_slice(text.as_bytes());
                    content.byte(0);
                } else {
                    self.encoding(&entry.encoding, &mut content)?;
                }
                let custom = !matches!(entry.encoding, Encoding::Text(_));
                offsets.varint_with_flag((content.bytes.len() - start) as u64, custom);
            }
        }
        Ok((offsets, content))
    }

    fn encoding(&mut self, encoding: &Encoding, out: &mut Emitter) -> Result<()> {
        let fields = match encoding {
            Encoding::Fields(fields) => fields,
            Encoding::Unknown(bytes) => {
                out.bytes.extend_from_slice(bytes);
                return Ok(());
            }
            Encoding::Text(_) => {
                return Err(Error::Unwritable(
                    "it has properties in textual form".to_owned(),
                ));
            }
        };
        for field in fields {
            match field {
                Field::Int(value) => out.varint(*value),
                Field::Byte(byte) => out.byte(*byte),
                Field::Attr(id) => out.varint(self.attr(*id)?),
                Field::OptionalAttr(None) => out.varint(0),
                Field::OptionalAttr(Some(id)) => out.varint_with_flag(self.attr(*id)?, true),
                Field::Type(id) => out.varint(number(&self.types, id.index(), "type")?),
                Field::Str(text) => out.varint(self.string(text)),
                Field::Resource(id) => out.varint(number(&self.resources, id.index(), "resource")?),
                Field::Blob(bytes) => {
                    out.varint(bytes.len() as u64);
                    out.bytes.extend_from_slice(bytes);
                }
            }
        }
        Ok(())
    }

    fn attr(&self, id: AttrId) -> Result<u64> {
        number(&self.attrs, id.index(), "attribute")
    }

    fn properties_number(&mut self, id: PropertiesId) -> Result<u64> {
        if let Some(number) = self.properties_of.get(&id) {
            return Ok(*number);
        }
        let mut out = Emitter::default();
        let encoding = self.module.properties_encoding(id);
        let encoding = encoding.ok_or_else(|| missing("properties", id.index()))?;
        self.encoding(encoding, &mut out)?;
        let number = self.properties.insert_full(out.bytes.into()).0 as u64;
        self.properties_of.insert(id, number);
        Ok(number)
    }

    fn ir(&mut self) -> Result<Emitter> {
        let mut out = Emitter::default();
        out.varint_with_flag(1, false);
        let mut values = vec![u64::MAX; self.module.value_count()];
        self.operation(&self.module.root, &mut values, 0, 0, &mut out)?;
        Ok(out)
    }

    /// `next` is the first number that is free in the regions of `op`.
    fn operation(
        &mut self,
        op: &Operation,
        values: &mut [u64],
        next: u64,
        depth: usize,
        out: &mut Emitter,
    ) -> Result<()> {
        out.varint(number(&self.op_names, op.name.index(), "operation name")?);
        let mask_at = out.bytes.len();
        out.byte(0);
        let mut mask = 0;
        out.varint(self.attr(op.location)?);
        if let Some(attributes) = op.attributes {
            mask |= op_mask::ATTRIBUTES;
            out.varint(self.attr(attributes)?);
        }
        if let Some(properties) = op.properties {
            mask |= op_mask::PROPERTIES;
            out.varint(self.properties_number(properties)?);
        }
        if !op.results.is_empty() {
            mask |= op_mask::RESULTS;
            out.varint(op.results.len() as u64);
            for result in &op.results {
                out.varint(self.type_of(*result)?);
            }
        }
        if !op.operands.is_empty() {
            mask |= op_mask::OPERANDS;
            out.varint(op.operands.len() as u64);
            for operand in &op.operands {
                match values.get(operand.index()) {
                    Some(&number) if number != u64::MAX => out.varint(number),
                    _ => {
                        return Err(Error::Unwritable(format!(
                            "`{}` uses a value that is not defined around it",
                            self.module.full_op_name(op.name)
                        )));
                    }
                }
            }
        }
        if !op.successors.is_empty() {
            mask |= op_mask::SUCCESSORS;
            out.varint(op.successors.len() as u64);
            op.successors.iter().for_each(|block| out.varint(*block));
        }
        if !op.use_list_orders.is_empty() {
            mask |= op_mask::USE_LIST_ORDERS;
            write_use_list_orders(&op.use_list_orders, op.results.len(), out);
        }
        if !op.regions.is_empty() {
            mask |= op_mask::REGIONS;
            out.varint_with_flag(op.regions.len() as u64, op.isolated);
            let mut inner = Emitter::default();
            let first = if op.isolated { 0 } else { next };
            for region in &op.regions {
                let out = if op.isolated { &mut inner } else { &mut *out };
                self.region(region, values, first, depth + 1, out)?;
            }
            if op.isolated {
                out.section(section::IR, &inner);
            }
        }
        out.bytes[mask_at] = mask;
        Ok(())
    }

    fn type_of(&self, value: Value) -> Result<u64> {
        let ty = self.module.value_type(value);
        let ty = ty.ok_or_else(|| missing("value", value.index()))?;
        number(&self.types, ty.index(), "type")
    }

    fn region(
        &mut self,
        region: &Region,
        values: &mut [u64],
        first: u64,
        depth: usize,
        out: &mut Emitter,
    ) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(Error::Unwritable(format!(
                "regions nest deeper than {MAX_DEPTH}"
            )));
        }
        out.varint(region.blocks.len() as u64);
        if region.blocks.is_empty() {
            return Ok(());
        }
        let mut next = first;
        for value in region.blocks.iter().flat_map(Block::values) {
            let number = values.get_mut(value.index());
            *number.ok_or_else(|| missing("value", value.index()))? = next;
            next += 1;
        }
        out.varint(next - first);
        for block in &region.blocks {
            self.block_head(block, out)?;
            for op in &block.operations {
                self.operation(op, values, next, depth, out)?;
            }
        }
        Ok(())
    }

    fn block_head(&mut self, block: &Block, out: &mut Emitter) -> Result<()> {
        out.varint_with_flag(block.operations.len() as u64, !block.arguments.is_empty());
        if block.arguments.is_empty() {
            return Ok(());
        }
        out.varint(block.arguments.len() as u64);
        for argument in &block.arguments {
            out.varint_with_flag(self.type_of(argument.value)?, argument.location.is_some());
            if let Some(location) = argument.location {
                out.varint(self.attr(location)?);
            }
        }
        if block.use_list_orders.is_empty() {
            out.byte(0);
        } else {
            out.byte(op_mask::USE_LIST_ORDERS);
            write_use_list_orders(&block.use_list_orders, block.arguments.len(), out);
        }
        Ok(())
    }

    /// Lays out the resource section. Returns all bytes before its first part:
    /// `head`, the resource offset section, and the header of the section.
    fn resources(&mut self, mut head: Emitter) -> Result<Vec<u8>> {
        let module = self.module;
        let mut offsets = Emitter::default();
        let mut layout = Layout::default();
        offsets.varint(module.external_resources.len() as u64);
        for group in &module.external_resources {
            offsets.varint(self.string(&group.name));
            self.resource_group(group.resources.iter().collect(), &mut layout, &mut offsets)?;
        }
        let mut groups: IndexMap<&Str, Vec<&'m Resource>> = IndexMap::new();
        for id in &self.tables.resources {
            let (dialect, resource) = listed(module.resources.get(id.index()))?;
            groups.entry(dialect).or_default().push(resource);
        }
        for (dialect, group) in groups {
            offsets.varint(self.dialect(dialect)?);
            self.resource_group(group, &mut layout, &mut offsets)?;
        }
        head.section(section::RESOURCE_OFFSET, &offsets);
        if !layout.before.is_empty() {
            let before = std::mem::take(&mut layout.before);
            layout.parts.push(ResourcePart { before, data: None });
        }
        self.resource_parts = layout.parts;

        let code_at = head.bytes.len();
        head.byte(section::RESOURCE);
        head.varint(layout.size);
        let position = head.bytes.len() as u64;
        if padding(position, layout.alignment) != 0 {
            head.bytes[code_at] |= 0x80;
            head.varint(layout.alignment);
            let gap = padding(head.bytes.len() as u64, layout.alignment);
            head.bytes
                .extend(std::iter::repeat_n(PADDING, gap as usize));
        }
        Ok(head.bytes)
    }

    fn resource_group(
        &mut self,
        group: Vec<&'m Resource>,
        layout: &mut Layout<'m>,
        offsets: &mut Emitter,
    ) -> Result<()> {
        offsets.varint(group.len() as u64);
        for resource in group {
            let start = layout.size;
            let kind = match &resource.value {
                ResourceValue::Blob { alignment, data } => {
                    layout.blob(*alignment, data)?;
                    0
                }
                ResourceValue::Bool(flag) => {
                    layout.bytes(&[u8::from(*flag)]);
                    1
                }
                ResourceValue::Str(text) => {
                    let mut out = Emitter::default();
                    out.varint(self.string(text));
                    layout.bytes(&out.bytes);
                    2
                }
                ResourceValue::Declared(kind) => *kind,
            };
            offsets.varint(self.string(&resource.key));
            offsets.varint(layout.size - start);
            offsets.byte(kind);
        }
        Ok(())
    }
}

/// The layout of the resource section.
struct Layout<'m> {
    size: u64,
    alignment: u64,
    /// Bytes that no part holds yet.
    before: Vec<u8>,
    parts: Vec<ResourcePart<'m>>,
}

impl Default for Layout<'_> {
    fn default() -> Self {
        Self {
            size: 0,
            alignment: 1,
            before: Vec::new(),
            parts: Vec::new(),
        }
    }
}

impl<'m> Layout<'m> {
    fn bytes(&mut self, bytes: &[u8]) {
        self.before.extend_from_slice(bytes);
        self.size += bytes.len() as u64;
    }

    fn blob(&mut self, alignment: u64, data: &'m crate::Blob) -> Result<()> {
        if !alignment.is_power_of_two() || alignment > MAX_ALIGNMENT {
            return Err(Error::Unwritable(format!(
                "a blob has the alignment {alignment}: expected a power of two up to \
                 {MAX_ALIGNMENT}"
            )));
        }
        let mut head = Emitter::default();
        head.varint(alignment);
        head.varint(data.len());
        let gap = padding(self.size + head.bytes.len() as u64, alignment);
        head.bytes
            .extend(std::iter::repeat_n(PADDING, gap as usize));
        self.bytes(&head.bytes);
        self.size += data.len();
        self.alignment = self.alignment.max(alignment);
        self.parts.push(ResourcePart {
            before: std::mem::take(&mut self.before),
            data: Some(data),
        });
        Ok(())
    }
}

fn dialect_of(entry: &&Entry) -> Str {
    entry.dialect.clone()
}

/// Splits into runs of equal keys.
fn runs<T, K: PartialEq>(items: impl Iterator<Item = T>, key: impl Fn(&T) -> K) -> Vec<Vec<T>> {
    let mut runs: Vec<Vec<T>> = Vec::new();
    for item in items {
        match runs.last_mut() {
            Some(run) if key(&run[0]) == key(&item) => run.push(item),
            _ => runs.push(vec![item]),
        }
    }
    runs
}

fn write_use_list_orders(orders: &[UseListOrder], values: usize, out: &mut Emitter) {
    if values != 1 {
        out.varint(orders.len() as u64);
    }
    for order in orders {
        if values != 1 {
            out.varint(order.value);
        }
        out.varint_with_flag(order.indices.len() as u64, order.pairs);
        order.indices.iter().for_each(|index| out.varint(*index));
    }
}
