//! How a dialect describes its encodings.

use crate::{AttrId, Field, ResourceId, Result, Str, TypeId, cursor::Cursor};

/// The encodings of one dialect.
///
/// An encoding has no lengths or tags of its own that a generic reader could
/// follow, so the dialect walks it and calls the method of [`FieldReader`]
/// that fits each field; the fields are recorded as they are read.
pub trait Dialect {
    /// The namespace, as in the dialect section.
    fn name(&self) -> &str;

    /// Reads one attribute.
    ///
    /// # Errors
    /// An encoding that the dialect does not know; see [`FieldReader::error`].
    fn read_attribute(&self, fields: &mut FieldReader<'_, '_>) -> Result<()>;

    /// Reads one type.
    ///
    /// # Errors
    /// As [`read_attribute`](Self::read_attribute).
    fn read_type(&self, fields: &mut FieldReader<'_, '_>) -> Result<()>;

    /// Reads the properties of the operation `op` (without the namespace).
    ///
    /// # Errors
    /// As [`read_attribute`](Self::read_attribute).
    fn read_properties(&self, op: &str, fields: &mut FieldReader<'_, '_>) -> Result<()>;
}

/// Sizes of the tables that fields point into.
pub struct TableSizes<'a> {
    pub attrs: usize,
    pub types: usize,
    pub resources: usize,
    pub strings: &'a [Str],
}

/// Reads the fields of one encoding and records them.
///
/// Every method that reads returns [`Error::Malformed`](crate::Error::Malformed)
/// if the encoding ends before the field does, or if the field refers to
/// something that the file does not have.
pub struct FieldReader<'a, 't> {
    pub(crate) cursor: Cursor<'a>,
    pub(crate) tables: &'t TableSizes<'t>,
    pub(crate) fields: Vec<Field>,
}

impl FieldReader<'_, '_> {
    /// An error at the present position.
    #[must_use]
    pub fn error(&self, problem: impl Into<String>) -> crate::Error {
        self.cursor.error(problem)
    }

    /// The number of bytes that were not read yet.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.cursor.remaining()
    }

    /// A varint.
    ///
    /// # Errors
    /// The encoding ends within it.
    pub fn int(&mut self) -> Result<u64> {
        let value = self.cursor.varint()?;
        self.fields.push(Field::Int(value));
        Ok(value)
    }

    /// A varint that counts fields which follow, at least one byte each.
    ///
    /// # Errors
    /// A count of more fields than there are bytes left.
    pub fn count(&mut self) -> Result<usize> {
        let value = self.int()?;
        let count = self.cursor.check_count(value, "fields")?;
        self.fields.reserve_exact(count);
        Ok(count)
    }

    /// A single byte.
    ///
    /// # Errors
    /// The encoding is at its end.
    pub fn byte(&mut self) -> Result<u8> {
        let value = self.cursor.byte()?;
        self.fields.push(Field::Byte(value));
        Ok(value)
    }

    /// A reference to an attribute.
    ///
    /// # Errors
    /// An index that is not one of an attribute.
    pub fn attr(&mut self) -> Result<AttrId> {
        let id = AttrId(self.cursor.index(self.tables.attrs, "attribute")? as u32);
        self.fields.push(Field::Attr(id));
        Ok(id)
    }

    /// A reference to an attribute that may be absent.
    ///
    /// # Errors
    /// An index that is not one of an attribute.
    pub fn optional_attr(&mut self) -> Result<Option<AttrId>> {
        let (index, present) = self.cursor.varint_with_flag()?;
        let id = match (present, index) {
            (true, index) => Some(AttrId(self.cursor.check_index(
                index,
                self.tables.attrs,
                "attribute",
            )? as u32)),
            (false, 0) => None,
            (false, _) => return Err(self.error("an absent attribute has an index")),
        };
        self.fields.push(Field::OptionalAttr(id));
        Ok(id)
    }

    /// A reference to a type.
    ///
    /// # Errors
    /// An index that is not one of a type.
    pub fn ty(&mut self) -> Result<TypeId> {
        let id = TypeId(self.cursor.index(self.tables.types, "type")? as u32);
        self.fields.push(Field::Type(id));
        Ok(id)
    }

    /// A reference to a string.
    ///
    /// # Errors
    /// An index that is not one of a string.
    pub fn string(&mut self) -> Result<Str> {
        let index = self.cursor.index(self.tables.strings.len(), "string")?;
        let text = self.tables.strings[index].clone();
        self.fields.push(Field::Str(text.clone()));
        Ok(text)
    }

    /// A reference to a resource.
    ///
    /// # Errors
    /// An index that is not one of a resource.
    pub fn resource(&mut self) -> Result<ResourceId> {
        let id = ResourceId(self.cursor.index(self.tables.resources, "resource")? as u32);
        self.fields.push(Field::Resource(id));
        Ok(id)
    }

    /// A length and as many bytes.
    ///
    /// # Errors
    /// More bytes than the encoding has left.
    pub fn blob(&mut self) -> Result<&[u8]> {
        let length = self.cursor.varint()?;
        let bytes = self.cursor.bytes(length)?;
        self.fields.push(Field::Blob(bytes.into()));
        Ok(bytes)
    }
}
