//! The values of a graph.

use std::sync::Arc;

use aimodel::{Blob, ElementType};
use candle_core::{DType, Device, Tensor};
use half::f16;

use crate::{
    backend::DeviceTensor,
    error::{OpResult, refuse},
};

/// A value of a graph.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// Integers and booleans stay on the host: they are positions and extents.
    Ints(Ints),
    /// Floats are on the device.
    Float(DeviceTensor),
    /// A large constant that stays in the mapped file.
    Mapped(Mapped),
    /// A state, by its position among those of the call.
    Handle(usize),
    /// Only orders reads and writes.
    Token,
}

/// Integers in a strided view, so that broadcasting copies nothing.
#[derive(Clone, Debug)]
pub(crate) struct Ints {
    pub element: ElementType,
    pub dims: Vec<usize>,
    pub strides: Vec<usize>,
    pub data: Arc<[i64]>,
}

/// A constant matrix or table in the mapped file: f16 or si8.
#[derive(Clone, Debug)]
pub(crate) struct Mapped {
    pub element: ElementType,
    pub dims: Vec<usize>,
    pub data: Blob,
}

/// Strides of a row-major tensor.
pub(crate) fn row_major(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; dims.len()];
    for i in (1..dims.len()).rev() {
        strides[i - 1] = strides[i] * dims[i];
    }
    strides
}

/// Extents to which shapes broadcast, aligned at the end.
pub(crate) fn broadcast(a: &[usize], b: &[usize]) -> OpResult<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |dims: &[usize], i: usize| match (i + dims.len()).checked_sub(rank) {
        Some(j) => dims[j],
        None => 1,
    };
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y => Ok(x),
            (1, y) => Ok(y),
            (x, 1) => Ok(x),
            _ => refuse(format!("{a:?} and {b:?} do not broadcast")),
        })
        .collect()
}

/// An integer wrapped to the range of an element type.
pub(crate) fn wrap(element: ElementType, value: i64) -> i64 {
    match element {
        ElementType::Bool => i64::from(value != 0),
        ElementType::Si8 => i64::from(value as i8),
        ElementType::Ui8 => i64::from(value as u8),
        ElementType::Si16 => i64::from(value as i16),
        ElementType::Ui16 => i64::from(value as u16),
        ElementType::Si32 => i64::from(value as i32),
        ElementType::Ui32 => i64::from(value as u32),
        _ => value,
    }
}

/// The tensor library's dtype for a float type.
pub(crate) fn float_dtype(element: ElementType) -> Option<DType> {
    Some(match element {
        ElementType::F16 => DType::F16,
        ElementType::F32 => DType::F32,
        ElementType::BF16 => DType::BF16,
        ElementType::F64 => DType::F64,
        _ => return None,
    })
}

/// Whether the runtime keeps values of this type on the host.
pub(crate) fn is_integer(element: ElementType) -> bool {
    use ElementType::*;
    matches!(
        element,
        Bool | Si8 | Ui8 | Si16 | Ui16 | Si32 | Ui32 | Si64 | Ui64
    )
}

impl Ints {
    pub fn new(element: ElementType, dims: Vec<usize>, data: Vec<i64>) -> Self {
        let strides = row_major(&dims);
        Self {
            element,
            dims,
            strides,
            data: data.into(),
        }
    }

    pub fn vector(element: ElementType, data: Vec<i64>) -> Self {
        Self::new(element, vec![data.len()], data)
    }

    /// From little-endian elements; a splat has one.
    pub fn from_bytes(element: ElementType, dims: Vec<usize>, bytes: &[u8]) -> OpResult<Self> {
        let size = (element.bits() / 8) as usize;
        let count: usize = dims.iter().product();
        let mut values = Vec::with_capacity(bytes.len() / size.max(1));
        for chunk in bytes.chunks_exact(size.max(1)) {
            let mut wide = [0; 8];
            wide[..size].copy_from_slice(chunk);
            values.push(wrap(element, i64::from_le_bytes(wide)));
        }
        // A splat of booleans may hold all of its elements.
        if values.len() == count {
            return Ok(Self::new(element, dims, values));
        }
        if values.len() != 1 {
            return refuse(format!("{} elements for {dims:?}", values.len()));
        }
        Ok(Self {
            element,
            strides: vec![0; dims.len()],
            dims,
            data: values.into(),
        })
    }

    pub fn count(&self) -> usize {
        self.dims.iter().product()
    }

    /// The elements in row-major order.
    pub fn dense(&self) -> Vec<i64> {
        if self.strides == row_major(&self.dims) && self.data.len() == self.count() {
            return self.data.to_vec();
        }
        let mut out = Vec::with_capacity(self.count());
        gather_strided(&self.dims, &self.strides, 0, &mut |at| {
            out.push(self.data[at]);
        });
        out
    }

    pub fn as_usizes(&self) -> OpResult<Vec<usize>> {
        let values = self.dense().into_iter().map(|value| {
            usize::try_from(value).or_else(|_| refuse(format!("{value} is not an extent")))
        });
        values.collect()
    }

    /// The element, where there is exactly one.
    pub fn scalar(&self) -> OpResult<i64> {
        match self.dense()[..] {
            [value] => Ok(value),
            _ => refuse(format!("expected one integer, found {:?}", self.dims)),
        }
    }

    /// Whether all elements are zero.
    pub fn all_zero(&self) -> bool {
        self.data.iter().all(|value| *value == 0)
    }

    /// A view in which extents of 1 are stretched.
    pub fn broadcast_to(&self, dims: &[usize]) -> OpResult<Self> {
        let Some(pad) = dims.len().checked_sub(self.dims.len()) else {
            return refuse(format!("{:?} does not broadcast to {dims:?}", self.dims));
        };
        let mut strides = vec![0; dims.len()];
        for (i, (&have, &stride)) in self.dims.iter().zip(&self.strides).enumerate() {
            match (have, dims[pad + i]) {
                (a, b) if a == b => strides[pad + i] = stride,
                (1, _) => {}
                _ => return refuse(format!("{:?} does not broadcast to {dims:?}", self.dims)),
            }
        }
        Ok(Self {
            element: self.element,
            dims: dims.to_vec(),
            strides,
            data: self.data.clone(),
        })
    }

    /// The same elements in other extents.
    pub fn reshape(&self, dims: Vec<usize>) -> OpResult<Self> {
        if dims.iter().product::<usize>() != self.count() {
            return refuse(format!("{:?} cannot be reshaped to {dims:?}", self.dims));
        }
        Ok(Self::new(self.element, dims, self.dense()))
    }

    /// As a tensor of floats.
    pub fn to_float(&self, dtype: DType, device: &Device) -> OpResult<Tensor> {
        let values = self.dense().into_iter().map(|v| v as f32);
        let dims = self.dims.as_slice();
        if dtype == DType::F16 {
            let values: Vec<f16> = values.map(f16::from_f32).collect();
            return Ok(Tensor::from_vec(values, dims, device)?);
        }
        let values: Vec<f32> = values.collect();
        Ok(Tensor::from_vec(values, dims, device)?.to_dtype(dtype)?)
    }

    /// As a tensor of indices.
    pub fn to_index(&self, device: &Device) -> OpResult<Tensor> {
        let values = self.dense().into_iter().map(|value| {
            u32::try_from(value).or_else(|_| refuse(format!("index {value} is out of range")))
        });
        let values = values.collect::<OpResult<Vec<_>>>()?;
        Ok(Tensor::from_vec(values, self.dims.as_slice(), device)?)
    }

    /// As a tensor of i64 on the host.
    pub fn to_tensor(&self) -> OpResult<Tensor> {
        Ok(Tensor::from_vec(
            self.dense(),
            self.dims.as_slice(),
            &Device::Cpu,
        )?)
    }
}

/// Calls `visit` with the offset of each element in row-major order.
pub(crate) fn gather_strided(
    dims: &[usize],
    strides: &[usize],
    offset: usize,
    visit: &mut impl FnMut(usize),
) {
    match (dims, strides) {
        ([], _) => visit(offset),
        ([n], [s]) => (0..*n).for_each(|i| visit(offset + i * s)),
        ([n, dims @ ..], [s, strides @ ..]) => {
            for i in 0..*n {
                gather_strided(dims, strides, offset + i * s, visit);
            }
        }
        _ => {}
    }
}

impl Mapped {
    /// The bytes, where the file is mapped or was read.
    pub fn bytes(&self) -> OpResult<&[u8]> {
        match self.data.as_slice() {
            Some(bytes) => Ok(bytes),
            None => refuse("a constant is not in memory"),
        }
    }

    fn to_ints(&self) -> OpResult<Ints> {
        Ints::from_bytes(self.element, self.dims.clone(), self.bytes()?)
    }

    fn to_float(&self, device: &Device) -> OpResult<Tensor> {
        if self.element != ElementType::F16 {
            return refuse(format!("expected floats, found {}", self.element));
        }
        Ok(Tensor::from_vec(
            read_f16(self.bytes()?),
            self.dims.as_slice(),
            device,
        )?)
    }
}

/// Little-endian f16.
pub(crate) fn read_f16(bytes: &[u8]) -> Vec<f16> {
    let pairs = bytes.chunks_exact(2);
    pairs.map(|b| f16::from_le_bytes([b[0], b[1]])).collect()
}

impl From<Tensor> for Value {
    fn from(tensor: Tensor) -> Self {
        Self::Float(tensor.into())
    }
}

impl Value {
    pub fn dims(&self) -> &[usize] {
        match self {
            Self::Ints(ints) => &ints.dims,
            Self::Float(tensor) => tensor.dims(),
            Self::Mapped(mapped) => &mapped.dims,
            Self::Handle(_) | Self::Token => &[],
        }
    }

    pub fn is_float(&self) -> bool {
        match self {
            Self::Float(_) => true,
            Self::Mapped(mapped) => mapped.element == ElementType::F16,
            _ => false,
        }
    }

    /// The integers.
    pub fn ints(&self) -> OpResult<Ints> {
        match self {
            Self::Ints(ints) => Ok(ints.clone()),
            Self::Mapped(mapped) => mapped.to_ints(),
            other => refuse(format!("expected integers, found {other}")),
        }
    }

    /// The floats, on the device.
    pub fn float(&self, device: &Device) -> OpResult<DeviceTensor> {
        match self {
            Self::Float(tensor) => Ok(tensor.clone()),
            Self::Mapped(mapped) => Ok(mapped.to_float(device)?.into()),
            other => refuse(format!("expected floats, found {other}")),
        }
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (element, dims) = match self {
            Self::Ints(ints) => (ints.element.to_string(), &ints.dims[..]),
            Self::Float(tensor) => (tensor.dtype().as_str().to_owned(), tensor.dims()),
            Self::Mapped(mapped) => (mapped.element.to_string(), &mapped.dims[..]),
            Self::Handle(_) => return f.write_str("a state"),
            Self::Token => return f.write_str("a token"),
        };
        f.write_str("tensor<")?;
        for extent in dims {
            write!(f, "{extent}x")?;
        }
        write!(f, "{element}>")
    }
}
