//! From the bytes of an entry to its encoding.

use crate::{Dialect, Encoding, FieldReader, Result, cursor::Cursor, dialect::TableSizes};

/// The fields of an encoding, where its dialect is described.
pub(crate) fn read_encoding<'a, 't>(
    mut cursor: Cursor<'a>,
    dialect: &str,
    dialects: &[&dyn Dialect],
    tables: &'t TableSizes<'t>,
    read: impl FnOnce(&dyn Dialect, &mut FieldReader<'a, 't>) -> Result<()>,
) -> Result<Encoding> {
    let Some(described) = dialects
        .iter()
        .find(|described| described.name() == dialect)
    else {
        return Ok(Encoding::Unknown(
            cursor.bytes(cursor.remaining() as u64)?.into(),
        ));
    };
    let mut reader = FieldReader {
        cursor,
        tables,
        fields: Vec::new(),
    };
    read(*described, &mut reader)?;
    reader.cursor.finish()?;
    Ok(Encoding::Fields(reader.fields.into()))
}
