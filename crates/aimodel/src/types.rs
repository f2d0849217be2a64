//! AICode types.

use std::fmt;

use mlir_bytecode::{Entry, Field, Module, TypeId, Value};

use crate::{
    Error, Result,
    schema::{dialect, type_code},
};

macro_rules! element_types {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal, $bits:literal;)*) => {
        /// The type of the elements of a tensor.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ElementType {
            $($(#[$doc])* $name,)*
        }

        impl ElementType {
            /// The code in the dialect's binary encoding.
            pub(crate) fn code(self) -> u64 {
                match self { $(Self::$name => $code,)* }
            }

            /// The element type with that code.
            pub(crate) fn from_code(code: u64) -> Option<Self> {
                match code { $($code => Some(Self::$name),)* _ => None }
            }

            /// The number of bits of one element.
            pub fn bits(self) -> u64 {
                match self { $(Self::$name => $bits,)* }
            }
        }

        impl fmt::Display for ElementType {
            /// As the `coreai` dialect prints it.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$name => $text,)* })
            }
        }
    };
}

element_types! {
    /// True or false, one byte each.
    Bool = 4, "i1", 8;
    /// 64-bit float.
    F64 = 5, "f64", 64;
    /// 32-bit float.
    F32 = 6, "f32", 32;
    /// IEEE 754 binary16.
    F16 = 7, "f16", 16;
    /// bfloat16.
    BF16 = 8, "bf16", 16;
    /// 8-bit float, 5 exponent bits.
    F8E5M2 = 9, "f8E5M2", 8;
    /// 8-bit float, 4 exponent bits, finite.
    F8E4M3FN = 10, "f8E4M3FN", 8;
    /// Complex of 64-bit floats.
    ComplexF64 = 11, "complex<f64>", 128;
    /// Complex of 32-bit floats.
    ComplexF32 = 12, "complex<f32>", 64;
    /// Complex of f16.
    ComplexF16 = 13, "complex<f16>", 32;
    /// Complex of bfloat16.
    ComplexBF16 = 14, "complex<bf16>", 32;
    /// Complex of 8-bit floats, 5 exponent bits.
    ComplexF8E5M2 = 15, "complex<f8E5M2>", 16;
    /// Complex of 8-bit floats, 4 exponent bits.
    ComplexF8E4M3FN = 16, "complex<f8E4M3FN>", 16;
    /// Signed 64-bit integer.
    Si64 = 17, "si64", 64;
    /// Signed 32-bit integer.
    Si32 = 18, "si32", 32;
    /// Signed 16-bit integer.
    Si16 = 19, "si16", 16;
    /// Signed 8-bit integer.
    Si8 = 20, "si8", 8;
    /// Signed 4-bit integer.
    Si4 = 21, "si4", 4;
    /// Signed 2-bit integer.
    Si2 = 22, "si2", 2;
    /// Unsigned 64-bit integer.
    Ui64 = 23, "ui64", 64;
    /// Unsigned 32-bit integer.
    Ui32 = 24, "ui32", 32;
    /// Unsigned 16-bit integer.
    Ui16 = 25, "ui16", 16;
    /// Unsigned 8-bit integer.
    Ui8 = 26, "ui8", 8;
    /// Unsigned 4-bit integer.
    Ui4 = 27, "ui4", 4;
    /// Unsigned 2-bit integer.
    Ui2 = 28, "ui2", 2;
    /// Unsigned 1-bit integer.
    Ui1 = 29, "ui1", 1;
    /// Unsigned 6-bit integer.
    Ui6 = 36, "ui6", 6;
    /// Unsigned 3-bit integer.
    Ui3 = 37, "ui3", 3;
    /// TensorFloat-32.
    Tf32 = 38, "tf32", 32;
    /// 4-bit float, 2 exponent bits.
    F4E2M1FN = 46, "f4E2M1FN", 4;
    /// 8-bit power of two.
    F8E8M0FN = 47, "f8E8M0FN", 8;
}

/// The maximum number of dimensions of a tensor.
const MAX_RANK: usize = 16;

/// The maximum number of arguments and results of a function.
const MAX_PARAMETERS: usize = 4096;

/// The extent of one dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    /// Known when the graph is built.
    Static(u64),
    /// Known when the graph runs.
    Dynamic,
}

impl Dim {
    /// The extent, where it is known.
    #[must_use]
    pub fn known(self) -> Option<u64> {
        match self {
            Self::Static(extent) => Some(extent),
            Self::Dynamic => None,
        }
    }
}

impl From<u64> for Dim {
    fn from(extent: u64) -> Self {
        Self::Static(extent)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Static(extent) => write!(f, "{extent}"),
            Self::Dynamic => f.write_str("?"),
        }
    }
}

/// The type of a tensor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct TensorType {
    /// The extents, slowest first. A scalar has none.
    pub dims: Vec<Dim>,
    /// The elements.
    pub element: ElementType,
}

impl TensorType {
    /// A tensor type.
    ///
    /// ```
    /// use aimodel::{Dim, ElementType, TensorType};
    ///
    /// let ids = TensorType::new([Dim::Static(1), Dim::Dynamic], ElementType::Si32);
    /// assert_eq!(ids.to_string(), "tensor<1x?xsi32>");
    /// let row = TensorType::fixed([1, 128], ElementType::F16);
    /// assert_eq!(row.element_count(), Some(128));
    /// ```
    pub fn new(dims: impl Into<Vec<Dim>>, element: ElementType) -> Self {
        Self {
            dims: dims.into(),
            element,
        }
    }

    /// A tensor type whose extents are all known.
    pub fn fixed(dims: impl AsRef<[u64]>, element: ElementType) -> Self {
        Self {
            dims: dims.as_ref().iter().copied().map(Dim::Static).collect(),
            element,
        }
    }

    /// The same extents with other elements.
    #[must_use]
    pub fn with_element(&self, element: ElementType) -> Self {
        Self {
            dims: self.dims.clone(),
            element,
        }
    }

    /// The number of dimensions.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.dims.len()
    }

    /// The extents, where all are known.
    #[must_use]
    pub fn static_dims(&self) -> Option<Vec<u64>> {
        self.dims.iter().map(|dim| dim.known()).collect()
    }

    /// The number of elements, where all extents are known and it fits.
    pub fn element_count(&self) -> Option<u64> {
        self.static_dims()?
            .into_iter()
            .try_fold(1, u64::checked_mul)
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tensor<")?;
        for dim in &self.dims {
            write!(f, "{dim}x")?;
        }
        write!(f, "{}>", self.element)
    }
}

/// A type of a value, or one that an attribute holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Type {
    /// A tensor.
    Tensor(TensorType),
    /// A place in which a state is kept between calls.
    Handle(TensorType),
    /// Orders reads and writes of handles.
    Token,
    /// The signature of a graph.
    Function {
        /// Types of the arguments.
        inputs: Vec<Type>,
        /// Types of the results.
        outputs: Vec<Type>,
    },
    /// The type of a reference to a graph.
    Symbol,
    /// Any other type, by its code.
    Other(u64),
}

impl From<TensorType> for Type {
    fn from(tensor: TensorType) -> Self {
        Self::Tensor(tensor)
    }
}

impl Type {
    /// The tensor type, where it is one.
    #[must_use]
    pub fn tensor(&self) -> Option<&TensorType> {
        match self {
            Self::Tensor(tensor) => Some(tensor),
            _ => None,
        }
    }

    /// Enters the type into a module.
    ///
    /// # Errors
    /// [`Type::Other`], whose fields are not known.
    pub fn intern(&self, module: &mut Module) -> Result<TypeId> {
        let fields = match self {
            Self::Tensor(tensor) => {
                let element = scalar(module, tensor.element.code());
                let mut fields = vec![
                    Field::Int(type_code::TENSOR),
                    Field::Int(tensor.dims.len() as u64),
                ];
                fields.extend(tensor.dims.iter().map(|dim| {
                    Field::signed(dim.known().map_or(i64::MIN, |extent| extent as i64))
                }));
                fields.push(Field::Type(element));
                fields
            }
            Self::Handle(tensor) => {
                let inner = Self::Tensor(tensor.clone()).intern(module)?;
                vec![Field::Int(type_code::HANDLE), Field::Type(inner)]
            }
            Self::Token => vec![Field::Int(type_code::TOKEN)],
            Self::Symbol => vec![Field::Int(type_code::SYMBOL)],
            Self::Function { inputs, outputs } => {
                let mut fields = vec![Field::Int(type_code::FUNCTION)];
                // The results stand first.
                for types in [outputs, inputs] {
                    fields.push(Field::Int(types.len() as u64));
                    for ty in types {
                        fields.push(Field::Type(ty.intern(module)?));
                    }
                }
                fields
            }
            Self::Other(code) => {
                return Err(Error::Invalid(format!(
                    "type code {code} cannot be written anew"
                )));
            }
        };
        Ok(module.ty(Entry::fields(&dialect(), fields)))
    }

    /// Reads a type of a module.
    ///
    /// # Errors
    /// A type that is not of the AICode dialect, or malformed.
    pub fn read(module: &Module, id: TypeId) -> Result<Self> {
        Self::read_nested(module, id, 0)
    }

    /// Reads the type of a value of a module.
    ///
    /// # Errors
    /// A value of another module, or as [`read`](Self::read).
    pub fn of(module: &Module, value: Value) -> Result<Self> {
        match module.value_type(value) {
            Some(id) => Self::of_value(module, id),
            None => Err(Error::Invalid(format!(
                "value {} is of another module",
                value.index()
            ))),
        }
    }

    /// Reads the type of a value, which is not a function.
    pub(crate) fn of_value(module: &Module, id: TypeId) -> Result<Self> {
        Self::read_nested(module, id, 1)
    }

    /// The types of arguments and results, where it is a function type.
    pub(crate) fn function(module: &Module, id: TypeId) -> Option<(&[Field], &[Field])> {
        let [Field::Int(type_code::FUNCTION), rest @ ..] = module.type_entry(id)?.as_fields()?
        else {
            return None;
        };
        let list = |fields: &'_ [Field]| match fields {
            [Field::Int(count), rest @ ..] => {
                let count = usize::try_from(*count).ok()?;
                (count <= rest.len()).then_some(count)
            }
            _ => None,
        };
        // The results stand first.
        let outputs = list(rest)?;
        let (outputs, rest) = rest[1..].split_at(outputs);
        let inputs = list(rest)?;
        (inputs + 1 == rest.len()).then_some((&rest[1..], outputs))
    }

    fn read_nested(module: &Module, id: TypeId, depth: usize) -> Result<Self> {
        let malformed = || Error::Invalid(format!("type {} is malformed", id.index()));
        let fields = module.type_entry(id).and_then(Entry::as_fields);
        let fields = fields.ok_or_else(malformed)?;
        if depth > 4 {
            return Err(Error::Invalid("types nest too deeply".to_owned()));
        }
        Ok(match fields {
            [
                Field::Int(type_code::TENSOR),
                Field::Int(_),
                dims @ ..,
                Field::Type(element),
            ] => {
                if dims.len() > MAX_RANK {
                    return Err(Error::Invalid(format!(
                        "a tensor has {} dimensions; the maximum is {MAX_RANK}",
                        dims.len()
                    )));
                }
                let element = module.type_entry(*element).and_then(Entry::as_fields);
                let Some([Field::Int(code), ..]) = element else {
                    return Err(malformed());
                };
                let element = ElementType::from_code(*code).ok_or_else(|| {
                    Error::Invalid(format!("type code {code} is not an element type"))
                })?;
                let dims = dims.iter().map(|field| match field {
                    Field::Int(value) => match Field::to_signed(*value) {
                        i64::MIN => Ok(Dim::Dynamic),
                        extent => u64::try_from(extent)
                            .map(Dim::Static)
                            .map_err(|_| malformed()),
                    },
                    _ => Err(malformed()),
                });
                Self::Tensor(TensorType {
                    dims: dims.collect::<Result<_>>()?,
                    element,
                })
            }
            [Field::Int(type_code::HANDLE), Field::Type(inner)] => {
                match Self::read_nested(module, *inner, depth + 1)? {
                    Self::Tensor(tensor) => Self::Handle(tensor),
                    _ => return Err(malformed()),
                }
            }
            [Field::Int(type_code::TOKEN)] => Self::Token,
            [Field::Int(type_code::SYMBOL)] => Self::Symbol,
            [Field::Int(type_code::FUNCTION), ..] => {
                // A function of functions could unfold without end.
                let (inputs, outputs) = match depth {
                    0 => Self::function(module, id).ok_or_else(malformed)?,
                    _ => return Err(malformed()),
                };
                if inputs.len() + outputs.len() > MAX_PARAMETERS {
                    return Err(Error::Invalid(format!(
                        "a function has {} arguments and results; the maximum is {MAX_PARAMETERS}",
                        inputs.len() + outputs.len()
                    )));
                }
                let read = |types: &[Field]| {
                    let types = types.iter().map(|field| match field {
                        Field::Type(id) => Self::read_nested(module, *id, depth + 1),
                        _ => Err(malformed()),
                    });
                    types.collect::<Result<Vec<_>>>()
                };
                Self::Function {
                    inputs: read(inputs)?,
                    outputs: read(outputs)?,
                }
            }
            [Field::Int(code), ..] => Self::Other(*code),
            _ => return Err(malformed()),
        })
    }
}

fn scalar(module: &mut Module, code: u64) -> TypeId {
    module.ty(Entry::fields(&dialect(), [Field::Int(code)]))
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, types: &[Type]| {
            f.write_str("(")?;
            for (i, ty) in types.iter().enumerate() {
                write!(f, "{}{ty}", if i == 0 { "" } else { ", " })?;
            }
            f.write_str(")")
        };
        match self {
            Self::Tensor(tensor) => tensor.fmt(f),
            Self::Handle(tensor) => write!(f, "!coreai.handle<{tensor}>"),
            Self::Token => f.write_str("!coreai.token"),
            Self::Symbol => f.write_str("!param.symbol"),
            Self::Function { inputs, outputs } => {
                list(f, inputs)?;
                f.write_str(" -> ")?;
                list(f, outputs)
            }
            Self::Other(code) => write!(f, "!aicode.type_{code}"),
        }
    }
}
