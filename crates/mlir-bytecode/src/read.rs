//! From bytes to a [`Module`].

use std::sync::Arc;

use crate::{
    AttrId, Blob, Dialect, DialectId, DialectName, Encoding, Entry, Error, ExternalResources,
    Module, OpName, OpNameId, PropertiesId, Resource, ResourceId, ResourceValue, Result, Str,
    Tables, TypeId, VERSION,
    blob::{Slice, Source},
    cursor::Cursor,
    dialect::TableSizes,
    format::section,
    read_encoding::read_encoding,
    read_ir::read_ir,
};

/// The magic number of MLIR bytecode.
pub const MAGIC: &[u8] = b"ML\xefR";

/// Maps a file and reads it; its blobs stay on disk. [`read`] is the safe way
/// for a file that fits in memory.
///
/// # Safety
/// Nobody, this process or another one, may change or truncate the file while
/// the module, a clone of it or a blob of it is alive. Blobs lend the mapped
/// bytes as `&[u8]`: a change beneath such a slice is undefined behaviour, and
/// reading past a new, earlier end of the file ends the process.
///
/// # Errors
/// The file cannot be mapped, or as [`read`].
#[cfg(feature = "mmap")]
#[allow(unsafe_code)]
pub unsafe fn open_mmap(
    path: impl AsRef<std::path::Path>,
    dialects: &[&dyn Dialect],
) -> Result<(Module, Tables)> {
    let file = std::fs::File::open(path)?;
    // SAFETY: the caller promises that the file stays as it is for as long as
    // the module or its blobs, which share the map, are alive.
    let map = unsafe { memmap2::Mmap::map(&file)? };
    read_source(Source::Mapped(Arc::new(map)), dialects)
}

/// Reads a whole file from memory. Blobs share that memory.
///
/// `dialects` describe the encodings; those of other dialects are kept as they
/// are, as [`Encoding::Unknown`].
///
/// # Errors
/// Bytes that are not bytecode of version [`VERSION`], or that contradict the
/// format. No input makes it panic, loop, or allocate more than a small
/// multiple of the input's size.
pub fn read(bytes: Arc<[u8]>, dialects: &[&dyn Dialect]) -> Result<(Module, Tables)> {
    read_source(Source::Memory(bytes), dialects)
}

fn read_source(source: Source, dialects: &[&dyn Dialect]) -> Result<(Module, Tables)> {
    let bytes = source.bytes();
    if !bytes.starts_with(MAGIC) {
        let found: Vec<String> = bytes.iter().take(4).map(|b| format!("{b:02x}")).collect();
        return Err(Error::NotBytecode {
            found: found.join(" "),
        });
    }
    let mut file = Cursor::new(bytes, 0, "header");
    file.bytes(MAGIC.len() as u64)?;
    let version = file.varint()?;
    if version != VERSION {
        return Err(Error::Version { found: version });
    }
    let producer = file.nul_terminated()?;
    let mut module = Module::new(&file.text(producer)?);

    let mut sections: [Option<Cursor>; section::COUNT] = Default::default();
    while !file.is_empty() {
        let (code, content) = file.section()?;
        if sections[code as usize].replace(content).is_some() {
            return Err(file.error(format!("a second {} is present", section::name(code))));
        }
    }
    let end = Cursor::new(&[], bytes.len() as u64, "file");
    let required = |code: u8| match &sections[code as usize] {
        Some(content) => Ok(content.clone()),
        None => Err(end.error(format!("the {} is missing", section::name(code)))),
    };
    let optional = |code: u8| {
        let empty = || Cursor::new(&[], bytes.len() as u64, section::name(code));
        sections[code as usize].clone().unwrap_or_else(empty)
    };

    let strings = read_strings(required(section::STRING)?)?;
    read_dialects(required(section::DIALECT)?, &strings, &mut module)?;
    read_resources(
        optional(section::RESOURCE_OFFSET),
        optional(section::RESOURCE),
        &strings,
        &source,
        &mut module,
    )?;
    read_attributes_and_types(
        required(section::ATTR_TYPE_OFFSET)?,
        required(section::ATTR_TYPE)?,
        &strings,
        dialects,
        &mut module,
    )?;
    let properties = read_properties(optional(section::PROPERTIES))?;
    read_ir(
        required(section::IR)?,
        &strings,
        &properties,
        dialects,
        &mut module,
    )?;

    let tables = Tables {
        dialects: ids(module.dialects.len(), DialectId),
        op_names: ids(module.op_names.len(), OpNameId),
        attrs: ids(module.attrs.len(), AttrId),
        types: ids(module.types.len(), TypeId),
        resources: ids(module.resources.len(), ResourceId),
        strings,
        properties: ids(module.properties.len(), PropertiesId),
    };
    Ok((module, tables))
}

fn ids<T>(count: usize, id: fn(u32) -> T) -> Vec<T> {
    (0..count as u32).map(id).collect()
}

fn read_strings(mut cursor: Cursor) -> Result<Vec<Str>> {
    let count = cursor.count("strings")?;
    // The sizes are in the reverse order of the strings.
    let sizes = (0..count)
        .map(|_| cursor.varint())
        .collect::<Result<Vec<_>>>()?;
    let mut strings = Vec::with_capacity(count);
    for size in sizes.into_iter().rev() {
        match cursor.bytes(size)?.split_last() {
            Some((0, text)) => strings.push(cursor.text(text)?.into()),
            _ => return Err(cursor.error("a string has no terminating NUL")),
        }
    }
    cursor.finish()?;
    Ok(strings)
}

/// Reads groups of entries, each of one dialect, until there are `total`.
fn read_groups<'a>(
    cursor: &mut Cursor<'a>,
    dialects: usize,
    total: usize,
    mut entry: impl FnMut(&mut Cursor<'a>, DialectId) -> Result<()>,
) -> Result<()> {
    let mut left = total;
    while left > 0 {
        let dialect = DialectId(cursor.index(dialects, "dialect")? as u32);
        let count = cursor.count("entries")?;
        if count > left || count == 0 {
            return Err(cursor.error(format!("a group of {count} entries where {left} are left")));
        }
        left -= count;
        for _ in 0..count {
            entry(cursor, dialect)?;
        }
    }
    Ok(())
}

fn read_dialects(mut cursor: Cursor, strings: &[Str], module: &mut Module) -> Result<()> {
    for _ in 0..cursor.count("dialects")? {
        let (index, versioned) = cursor.varint_with_flag()?;
        let name = strings[cursor.check_index(index, strings.len(), "string")?].clone();
        let version = if versioned {
            let (code, content) = cursor.section()?;
            if code != section::DIALECT_VERSIONS {
                return Err(cursor.error(format!("the version of dialect `{name}` is not one")));
            }
            let mut content = content;
            Some(content.bytes(content.remaining() as u64)?.into())
        } else {
            None
        };
        module.dialects.push(DialectName { name, version });
    }
    let count = cursor.count("operation names")?;
    read_groups(
        &mut cursor,
        module.dialects.len(),
        count,
        |cursor, dialect| {
            let (index, registered) = cursor.varint_with_flag()?;
            let name = strings[cursor.check_index(index, strings.len(), "string")?].clone();
            module.op_names.push(OpName {
                dialect,
                name,
                registered,
            });
            Ok(())
        },
    )?;
    cursor.finish()
}

fn read_attributes_and_types(
    mut offsets: Cursor,
    mut content: Cursor,
    strings: &[Str],
    dialects: &[&dyn Dialect],
    module: &mut Module,
) -> Result<()> {
    let attrs = offsets.count("attributes")?;
    let types = offsets.count("types")?;
    let sizes = TableSizes {
        attrs,
        types,
        resources: module.resources.len(),
        strings,
    };
    for (is_type, total) in [(false, attrs), (true, types)] {
        read_groups(
            &mut offsets,
            module.dialects.len(),
            total,
            |offsets, dialect| {
                let (length, custom) = offsets.varint_with_flag()?;
                let start = content.offset();
                let entry = Cursor::new(
                    content.bytes(length)?,
                    start,
                    section::name(section::ATTR_TYPE),
                );
                let dialect = module.dialects[dialect.index()].name.clone();
                let encoding = if custom {
                    read_encoding(entry, &dialect, dialects, &sizes, |described, fields| {
                        if is_type {
                            described.read_type(fields)
                        } else {
                            described.read_attribute(fields)
                        }
                    })?
                } else {
                    let mut entry = entry;
                    let text = entry.nul_terminated()?;
                    entry.finish()?;
                    Encoding::Text(entry.text(text)?.into())
                };
                let table = if is_type {
                    &mut module.types
                } else {
                    &mut module.attrs
                };
                table.push(Entry { dialect, encoding });
                Ok(())
            },
        )?;
    }
    offsets.finish()?;
    content.finish()
}

fn read_properties(mut cursor: Cursor) -> Result<Vec<Cursor>> {
    let mut all = Vec::new();
    if cursor.is_empty() {
        return Ok(all);
    }
    for _ in 0..cursor.count("properties")? {
        let length = cursor.varint()?;
        let start = cursor.offset();
        let bytes = cursor.bytes(length)?;
        all.push(Cursor::new(
            bytes,
            start,
            section::name(section::PROPERTIES),
        ));
    }
    cursor.finish()?;
    Ok(all)
}

fn read_resources(
    mut offsets: Cursor,
    mut content: Cursor,
    strings: &[Str],
    source: &Source,
    module: &mut Module,
) -> Result<()> {
    if offsets.is_empty() {
        return content.finish();
    }
    let externals = offsets.count("external resource groups")?;
    for _ in 0..externals {
        let name = strings[offsets.index(strings.len(), "string")?].clone();
        let mut resources = Vec::new();
        for _ in 0..offsets.count("resources")? {
            resources.push(read_resource(&mut offsets, &mut content, strings, source)?);
        }
        module
            .external_resources
            .push(ExternalResources { name, resources });
    }
    while !offsets.is_empty() {
        let dialect = offsets.index(module.dialects.len(), "dialect")?;
        let name = module.dialects[dialect].name.clone();
        for _ in 0..offsets.count("resources")? {
            let resource = read_resource(&mut offsets, &mut content, strings, source)?;
            module.resources.push((name.clone(), resource));
        }
    }
    content.finish()
}

fn read_resource(
    offsets: &mut Cursor,
    content: &mut Cursor,
    strings: &[Str],
    source: &Source,
) -> Result<Resource> {
    let key = strings[offsets.index(strings.len(), "string")?].clone();
    let length = offsets.varint()?;
    let kind = offsets.byte()?;
    let start = content.offset();
    let mut entry = Cursor::new(
        content.bytes(length)?,
        start,
        section::name(section::RESOURCE),
    );
    let value = match kind {
        _ if length == 0 => ResourceValue::Declared(kind),
        0 => {
            let alignment = entry.varint()?;
            let size = entry.varint()?;
            entry.align(alignment)?;
            let start = entry.offset() as usize;
            let range = start..start + entry.bytes(size)?.len();
            ResourceValue::Blob {
                alignment,
                data: Blob::new(Slice {
                    source: source.clone(),
                    range,
                }),
            }
        }
        1 => match entry.byte()? {
            flag @ 0..=1 => ResourceValue::Bool(flag == 1),
            other => return Err(entry.error(format!("{other} is not a flag"))),
        },
        2 => ResourceValue::Str(strings[entry.index(strings.len(), "string")?].clone()),
        _ => return Err(entry.error(format!("resource `{key}` is of unknown kind {kind}"))),
    };
    entry.finish()?;
    Ok(Resource { key, value })
}
