//! AICode attributes.

use std::sync::Arc;

use mlir_bytecode::{AttrId, Entry, Field, Module, ResourceId, Str};

use crate::{
    Error, Result, Type,
    schema::{attr_code as code, dialect},
};

/// How deep attributes nest in a graph that this crate makes or looks into.
const MAX_DEPTH: usize = 16;

/// How many attributes one may unfold to: each may hold another many times.
const MAX_NODES: usize = 1 << 16;

/// An attribute: data of an operation that is not an operand.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Attribute {
    /// Text.
    String(Str),
    /// An integer of a width in bits, up to 64.
    Integer {
        /// Width in bits.
        width: u64,
        /// Whether it has no sign.
        unsigned: bool,
        /// The bits, zero-extended.
        bits: u64,
    },
    /// A float of a width in bits: 16, 32 or 64.
    Float {
        /// Width in bits.
        width: u64,
        /// The bits, zero-extended.
        bits: u64,
    },
    /// A type.
    Type(Type),
    /// A list.
    Array(Vec<Attribute>),
    /// Names and values, in the order of the names.
    Dictionary(Vec<(Str, Attribute)>),
    /// The content of a small constant: little-endian elements, or one element
    /// if all are equal.
    DenseElements {
        /// Whether one element stands for all.
        splat: bool,
        /// The bytes.
        bytes: Arc<[u8]>,
    },
    /// The content of a large constant.
    DenseResource(ResourceId),
    /// A name and values that belong to it.
    Opaque(Str, Vec<Attribute>),
    /// A path of symbols, such as the name of a graph.
    SymbolRef(Vec<Str>),
    /// A value and its type.
    ParamConstant(Box<Attribute>, Type),
    /// How GELU is computed.
    Approximate(Approximate),
    /// What padding is filled with.
    PaddingMode(PaddingMode),
    /// Nothing.
    Unit,
    /// Any other attribute.
    Other(AttrId),
}

/// How GELU is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Approximate {
    /// Exactly, with erf.
    None = 0,
    /// With tanh.
    Tanh = 1,
    /// With a sigmoid.
    Sigmoid = 2,
}

/// What padding is filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PaddingMode {
    /// The elements of the other end.
    Circular = 0,
    /// One value.
    Constant = 1,
    /// The elements behind the border, mirrored, without the border itself.
    Reflect = 2,
    /// The element at the border.
    Replicate = 3,
    /// The elements from the border on, mirrored.
    Symmetric = 4,
}

impl Attribute {
    /// Text.
    #[must_use]
    pub fn string(text: &str) -> Self {
        Self::String(text.into())
    }

    /// A flag, as operations store it: one bit without a sign.
    #[must_use]
    pub fn flag(value: bool) -> Self {
        Self::Integer {
            width: 1,
            unsigned: true,
            bits: value.into(),
        }
    }

    /// A boolean, as composite declarations store it: one bit with a sign.
    #[must_use]
    pub fn boolean(value: bool) -> Self {
        Self::Integer {
            width: 1,
            unsigned: false,
            bits: value.into(),
        }
    }

    /// A signed 64-bit integer.
    #[must_use]
    pub fn si64(value: i64) -> Self {
        Self::Integer {
            width: 64,
            unsigned: false,
            bits: value as u64,
        }
    }

    /// A 32-bit float.
    #[must_use]
    pub fn f32(value: f32) -> Self {
        Self::Float {
            width: 32,
            bits: value.to_bits().into(),
        }
    }

    /// `name = value`, as argument names and composite declarations have it.
    #[must_use]
    pub fn named(name: &str, value: Attribute) -> Self {
        Self::Opaque(name.into(), vec![value])
    }

    /// Enters the attribute into a module.
    ///
    /// # Errors
    /// A type that cannot be written; see [`Type::intern`].
    pub fn intern(&self, module: &mut Module) -> Result<AttrId> {
        let mut fields = Vec::new();
        let list = |module: &mut Module, fields: &mut Vec<Field>, items: &[Attribute]| {
            fields.push(Field::Int(items.len() as u64));
            for item in items {
                fields.push(Field::Attr(item.intern(module)?));
            }
            Ok::<_, Error>(())
        };
        match self {
            Self::String(text) => {
                fields.extend([Field::Int(code::STRING), Field::Str(text.clone())]);
            }
            Self::Integer {
                width,
                unsigned,
                bits,
            } => fields.extend([
                Field::Int(code::INTEGER),
                Field::Int(*width),
                Field::Byte((*unsigned).into()),
                number(*width, *bits),
            ]),
            Self::Float { width, bits } => {
                fields.extend([
                    Field::Int(code::FLOAT),
                    Field::Int(*width),
                    number(*width, *bits),
                ]);
            }
            Self::Type(ty) => {
                fields.extend([Field::Int(code::TYPE), Field::Type(ty.intern(module)?)]);
            }
            Self::Array(items) => {
                fields.push(Field::Int(code::ARRAY));
                list(module, &mut fields, items)?;
            }
            Self::Dictionary(items) => {
                fields.extend([Field::Int(code::DICTIONARY), Field::Int(items.len() as u64)]);
                for (name, value) in items {
                    let item = Self::Opaque(name.clone(), vec![value.clone()]);
                    fields.push(Field::Attr(item.intern(module)?));
                }
            }
            Self::DenseElements { splat, bytes } => fields.extend([
                Field::Int(code::DENSE_ELEMENTS),
                Field::Byte((*splat).into()),
                Field::Blob(bytes.clone()),
            ]),
            Self::DenseResource(id) => {
                fields.extend([Field::Int(code::DENSE_RESOURCE), Field::Resource(*id)]);
            }
            Self::Opaque(name, items) => {
                fields.extend([Field::Int(code::OPAQUE), Field::Str(name.clone())]);
                list(module, &mut fields, items)?;
            }
            Self::SymbolRef(path) => {
                fields.extend([Field::Int(code::SYMBOL_REF), Field::Int(path.len() as u64)]);
                fields.extend(path.iter().cloned().map(Field::Str));
            }
            Self::ParamConstant(value, ty) => fields.extend([
                Field::Int(code::PARAM_CONSTANT),
                Field::Attr(value.intern(module)?),
                Field::Type(ty.intern(module)?),
            ]),
            Self::Approximate(approximate) => {
                fields.extend([
                    Field::Int(code::APPROXIMATE),
                    Field::Int(*approximate as u64),
                ]);
            }
            Self::PaddingMode(mode) => {
                fields.extend([Field::Int(code::PADDING_MODE), Field::Int(*mode as u64)]);
            }
            Self::Unit => fields.push(Field::Int(code::UNIT)),
            Self::Other(id) => return Ok(*id),
        }
        Ok(module.attribute(Entry::fields(&dialect(), fields)))
    }

    /// Reads an attribute of a module.
    ///
    /// # Errors
    /// An attribute that is malformed, or nests too deeply.
    pub fn read(module: &Module, id: AttrId) -> Result<Self> {
        let mut budget = MAX_NODES;
        Self::read_within(module, id, &mut budget)
    }

    /// Reads an attribute that unfolds to no more than `budget` of them, and
    /// takes from that what it did.
    pub(crate) fn read_within(module: &Module, id: AttrId, budget: &mut usize) -> Result<Self> {
        Self::read_nested(module, id, 0, budget)
    }

    fn read_nested(module: &Module, id: AttrId, depth: usize, budget: &mut usize) -> Result<Self> {
        let malformed = || Error::Invalid(format!("attribute {} is malformed", id.index()));
        if depth > MAX_DEPTH {
            return Err(Error::Invalid(format!(
                "attributes nest deeper than {MAX_DEPTH}"
            )));
        }
        let Some(fields) = module.attr_entry(id).and_then(Entry::as_fields) else {
            return Ok(Self::Other(id));
        };
        // A function type may be long, too.
        let types = fields.iter().map(|field| match field {
            Field::Type(ty) => {
                let fields = module.type_entry(*ty).and_then(Entry::as_fields);
                fields.map_or(0, <[Field]>::len)
            }
            _ => 0,
        });
        let taken = fields.len() + types.sum::<usize>();
        *budget = budget
            .checked_sub(taken)
            .ok_or_else(|| Error::Invalid("an attribute unfolds to too many others".to_owned()))?;
        let mut list = |items: &[Field]| {
            let items = items.iter().map(|item| match item {
                Field::Attr(id) => Self::read_nested(module, *id, depth + 1, budget),
                _ => Err(malformed()),
            });
            items.collect::<Result<Vec<_>>>()
        };
        Ok(match fields {
            [Field::Int(code::STRING), Field::Str(text)] => Self::String(text.clone()),
            [
                Field::Int(code::INTEGER),
                Field::Int(width),
                Field::Byte(unsigned),
                value,
            ] => {
                let bits = bits(value).ok_or_else(malformed)?;
                Self::Integer {
                    width: *width,
                    unsigned: *unsigned == 1,
                    bits,
                }
            }
            [Field::Int(code::FLOAT), Field::Int(width), value] => Self::Float {
                width: *width,
                bits: bits(value).ok_or_else(malformed)?,
            },
            [Field::Int(code::TYPE), Field::Type(ty)] => Self::Type(Type::read(module, *ty)?),
            [Field::Int(code::ARRAY), Field::Int(_), items @ ..] => Self::Array(list(items)?),
            [Field::Int(code::DICTIONARY), Field::Int(_), items @ ..] => {
                let items = list(items)?.into_iter().map(|item| match item {
                    Self::Opaque(name, values) => match <[Self; 1]>::try_from(values) {
                        Ok([value]) => Ok((name, value)),
                        Err(_) => Err(malformed()),
                    },
                    _ => Err(malformed()),
                });
                Self::Dictionary(items.collect::<Result<_>>()?)
            }
            [
                Field::Int(code::DENSE_ELEMENTS),
                Field::Byte(splat),
                Field::Blob(bytes),
            ] => Self::DenseElements {
                splat: *splat == 1,
                bytes: bytes.clone(),
            },
            [Field::Int(code::DENSE_RESOURCE), Field::Resource(id)] => Self::DenseResource(*id),
            [
                Field::Int(code::OPAQUE),
                Field::Str(name),
                Field::Int(_),
                items @ ..,
            ] => Self::Opaque(name.clone(), list(items)?),
            [Field::Int(code::SYMBOL_REF), Field::Int(_), path @ ..] => {
                let path = path.iter().map(|item| match item {
                    Field::Str(text) => Ok(text.clone()),
                    _ => Err(malformed()),
                });
                Self::SymbolRef(path.collect::<Result<_>>()?)
            }
            [
                Field::Int(code::PARAM_CONSTANT),
                Field::Attr(value),
                Field::Type(ty),
            ] => {
                let value = Self::read_nested(module, *value, depth + 1, budget)?;
                Self::ParamConstant(Box::new(value), Type::read(module, *ty)?)
            }
            [Field::Int(code::APPROXIMATE), Field::Int(value)] => Self::Approximate(match value {
                0 => Approximate::None,
                1 => Approximate::Tanh,
                2 => Approximate::Sigmoid,
                _ => return Err(malformed()),
            }),
            [Field::Int(code::PADDING_MODE), Field::Int(value)] => Self::PaddingMode(match value {
                0 => PaddingMode::Circular,
                1 => PaddingMode::Constant,
                2 => PaddingMode::Reflect,
                3 => PaddingMode::Replicate,
                4 => PaddingMode::Symmetric,
                _ => return Err(malformed()),
            }),
            [Field::Int(code::UNIT)] => Self::Unit,
            _ => Self::Other(id),
        })
    }

    /// The text, where it is a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// Whether a flag or boolean is set.
    #[must_use]
    pub fn as_flag(&self) -> Option<bool> {
        match self {
            Self::Integer { width: 1, bits, .. } => Some(*bits != 0),
            _ => None,
        }
    }
}

/// The bits of a number: a byte up to 8 bits, else zig-zag coded.
fn number(width: u64, bits: u64) -> Field {
    match width {
        0..=8 => Field::Byte(bits as u8),
        _ => Field::signed(bits as i64),
    }
}

fn bits(field: &Field) -> Option<u64> {
    match field {
        Field::Byte(byte) => Some((*byte).into()),
        Field::Int(value) => Some(Field::to_signed(*value) as u64),
        _ => None,
    }
}
