//! Constants of a graph or of a region.

use mlir_bytecode::{Blob, Field, Resource, ResourceValue, Value};

use super::{GraphBuilder, operands};
use crate::{Attribute, ElementType, Result, TensorType, Type, schema::dialect};

/// The alignment of large constants, in bytes.
const RESOURCE_ALIGNMENT: u64 = 16;

/// How long a constant may be whose elements shape inference uses.
const MAX_SHAPE_LEN: usize = 16;

impl GraphBuilder<'_> {
    /// Adds a constant; in a graph, one with the same content is shared.
    pub(crate) fn constant(&mut self, ty: TensorType, content: &Attribute) -> Result<Value> {
        let ty = Type::Tensor(ty);
        let module = &mut self.context.module;
        let key = (ty.intern(module)?, content.intern(module)?);
        let graph = self.graph.as_ref();
        if let Some(value) = graph.and_then(|graph| graph.shared.get(&key)) {
            return Ok(*value);
        }
        let properties = module.properties([Field::Attr(key.1)]);
        let value = self.context.value(ty)?;
        let op = self.operation(
            "primitive.constant_v1",
            &[],
            Some(properties),
            vec![value],
            Vec::new(),
        )?;
        match &mut self.graph {
            Some(graph) => {
                graph.constants.push(op);
                graph.shared.insert(key, value);
            }
            None => self.block.operations.push(op),
        }
        Ok(value)
    }

    /// A constant whose little-endian elements are part of the IR.
    ///
    /// # Errors
    /// A number of bytes that is not that of the type.
    pub fn dense(&mut self, ty: TensorType, bytes: &[u8]) -> Result<Value> {
        let count = ty.element_count();
        let size = (ty.element.bits() / 8) as usize;
        if count.and_then(|count| count.checked_mul(size as u64)) != Some(bytes.len() as u64) {
            let problem = format!("{ty} does not hold {} bytes", bytes.len());
            return Err(operands("constant", problem));
        }
        let splat =
            !bytes.is_empty() && bytes.chunks(size).all(|element| element == &bytes[..size]);
        let stored = if splat { &bytes[..size] } else { bytes };
        let content = Attribute::DenseElements {
            splat,
            bytes: stored.into(),
        };
        self.constant(ty, &content)
    }

    /// A constant whose content is a resource of the asset. The key names it in
    /// the file; if there is a resource of that name already, that one is used
    /// and `data` is not called.
    ///
    /// # Errors
    /// A number of bytes that is not that of the type.
    pub fn resource(
        &mut self,
        ty: TensorType,
        key: &str,
        data: impl FnOnce() -> Blob,
    ) -> Result<Value> {
        let id = match self.context.resources.get(key) {
            Some(id) => *id,
            None => {
                let value = ResourceValue::Blob {
                    alignment: RESOURCE_ALIGNMENT,
                    data: data(),
                };
                let id = self
                    .context
                    .module
                    .resource(&dialect(), Resource::new(key, value));
                self.context.resources.insert(key.to_owned(), id);
                id
            }
        };
        let length = match &self.context.module.resources[id.index()].1.value {
            ResourceValue::Blob { data, .. } => data.len(),
            _ => 0,
        };
        let bits = ty
            .element_count()
            .and_then(|count| count.checked_mul(ty.element.bits()));
        if bits != length.checked_mul(8) {
            let problem = format!("{ty} does not hold the {length} bytes of `{key}`");
            return Err(operands("constant", problem));
        }
        self.constant(ty, &Attribute::DenseResource(id))
    }

    /// A constant of integers, with those extents.
    ///
    /// # Errors
    /// An element type that is not an 8-, 32- or 64-bit integer, a value that it
    /// does not hold, or another number of values than the extents say.
    pub fn integers(
        &mut self,
        element: ElementType,
        dims: &[u64],
        values: &[i64],
    ) -> Result<Value> {
        let mut bytes = Vec::new();
        for &value in values {
            let problem = || operands("constant", format!("{element} does not hold {value}"));
            match element {
                ElementType::Si8 => {
                    bytes.extend(i8::try_from(value).map_err(|_| problem())?.to_le_bytes());
                }
                ElementType::Si32 => {
                    bytes.extend(i32::try_from(value).map_err(|_| problem())?.to_le_bytes());
                }
                ElementType::Ui32 => {
                    bytes.extend(u32::try_from(value).map_err(|_| problem())?.to_le_bytes());
                }
                ElementType::Si64 => bytes.extend(value.to_le_bytes()),
                ElementType::Ui64 => {
                    bytes.extend(u64::try_from(value).map_err(|_| problem())?.to_le_bytes());
                }
                _ => return Err(problem()),
            }
        }
        let constant = self.dense(TensorType::fixed(dims, element), &bytes)?;
        if values.len() <= MAX_SHAPE_LEN {
            self.context
                .known
                .insert(constant, values.iter().copied().map(Some).collect());
        }
        Ok(constant)
    }

    /// A vector of signed 32-bit integers.
    ///
    /// # Errors
    /// As [`integers`](Self::integers).
    pub fn si32(&mut self, values: &[i64]) -> Result<Value> {
        self.integers(ElementType::Si32, &[values.len() as u64], values)
    }

    /// A vector of unsigned 32-bit integers.
    ///
    /// # Errors
    /// As [`integers`](Self::integers).
    pub fn ui32(&mut self, values: &[u64]) -> Result<Value> {
        let values: Vec<i64> = values.iter().map(|&value| value as i64).collect();
        self.integers(ElementType::Ui32, &[values.len() as u64], &values)
    }

    /// A signed 32-bit scalar.
    ///
    /// # Errors
    /// As [`integers`](Self::integers).
    pub fn scalar_si32(&mut self, value: i64) -> Result<Value> {
        self.integers(ElementType::Si32, &[], &[value])
    }

    /// An f16 scalar, rounded to nearest, ties to even.
    ///
    /// # Errors
    /// As [`dense`](Self::dense); no value is refused.
    pub fn scalar_f16(&mut self, value: f32) -> Result<Value> {
        let bytes = half::f16::from_f32(value).to_le_bytes();
        self.dense(TensorType::fixed([], ElementType::F16), &bytes)
    }

    /// An f32 scalar.
    ///
    /// # Errors
    /// As [`dense`](Self::dense); no value is refused.
    pub fn scalar_f32(&mut self, value: f32) -> Result<Value> {
        self.dense(
            TensorType::fixed([], ElementType::F32),
            &value.to_le_bytes(),
        )
    }

    /// A constant of `count` equal numbers of a type, such as a zero point.
    ///
    /// # Errors
    /// An element that is not of the type's size.
    pub fn splat(&mut self, ty: TensorType, element: &[u8]) -> Result<Value> {
        if element.len() as u64 * 8 != ty.element.bits() {
            return Err(operands(
                "constant",
                format!("an element of {ty} is of another size"),
            ));
        }
        self.constant(
            ty,
            &Attribute::DenseElements {
                splat: true,
                bytes: element.into(),
            },
        )
    }
}
