//! Inputs that stay the same for a prompt and its answer.

use std::collections::BTreeMap;

use aimodel::{ElementType, Parameter, TensorType};
use bundle::contract::IMAGE_FEATURES;
use candle_core::{DType, Device, Tensor};

use crate::{Error, Result};

/// Inputs of a decoder by name: those that are the same in every call for a
/// prompt and its answer, such as the encoded picture.
///
/// What a decoder declares and nobody gives is zeros.
#[derive(Clone, Debug, Default)]
pub struct StaticInputs(BTreeMap<String, Tensor>);

impl StaticInputs {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With this one in addition.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, tensor: Tensor) -> Self {
        self.insert(name, tensor);
        self
    }

    /// Adds an input, in place of one of the same name.
    pub fn insert(&mut self, name: impl Into<String>, tensor: Tensor) {
        self.0.insert(name.into(), tensor);
    }

    /// Adds an input of one whole number, `[1]`.
    ///
    /// # Errors
    /// The tensor library has no memory for it.
    pub fn insert_number(&mut self, name: impl Into<String>, number: i32) -> Result<()> {
        let tensor = Tensor::new(&[i64::from(number)], &Device::Cpu)?;
        self.insert(name, tensor);
        Ok(())
    }

    /// Adds what another picture gives: its rows behind those that are there.
    ///
    /// # Errors
    /// An input that is there and is not one of rows, `[1, M, W]`: the decoder
    /// has room for one picture.
    pub fn append(&mut self, other: StaticInputs) -> Result<()> {
        for (name, tensor) in other.0 {
            let joined = match self.0.get(&name) {
                None => tensor,
                Some(rows) if name == IMAGE_FEATURES => Tensor::cat(&[rows, &tensor], 1)?,
                Some(_) => {
                    return Err(Error::Mismatch(format!(
                        "the decoder's input `{name}` has room for one picture"
                    )));
                }
            };
            self.0.insert(name, joined);
        }
        Ok(())
    }

    /// The input of this name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.get(name)
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl Extend<(String, Tensor)> for StaticInputs {
    fn extend<I: IntoIterator<Item = (String, Tensor)>>(&mut self, inputs: I) {
        self.0.extend(inputs);
    }
}

impl FromIterator<(String, Tensor)> for StaticInputs {
    fn from_iter<I: IntoIterator<Item = (String, Tensor)>>(inputs: I) -> Self {
        Self(inputs.into_iter().collect())
    }
}

/// An input as a decoder declares it.
#[derive(Clone, Debug)]
pub(crate) struct Declared {
    pub(crate) name: String,
    ty: TensorType,
    dims: Vec<usize>,
}

impl Declared {
    /// `None` where an extent is left open, so that it cannot stay the same.
    pub(crate) fn new(parameter: &Parameter) -> Option<Self> {
        let dims = parameter.ty.static_dims()?;
        Some(Self {
            name: parameter.name.clone(),
            ty: parameter.ty.clone(),
            dims: dims.into_iter().map(|dim| dim as usize).collect(),
        })
    }

    pub(crate) fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// The tensor that was given, or zeros, where the decoder runs. Integers
    /// stay on the host.
    pub(crate) fn tensor(&self, given: Option<&Tensor>, device: &Device) -> Result<Tensor> {
        match given {
            Some(tensor) if tensor.dims() != self.dims => Err(Error::Input {
                name: self.name.clone(),
                expected: self.ty.to_string(),
                found: tensor.dims().to_vec(),
            }),
            Some(tensor) if tensor.dtype().is_float() => Ok(tensor.to_device(device)?),
            Some(tensor) => Ok(tensor.clone()),
            None => {
                let (dtype, device) = match self.ty.element {
                    ElementType::F16 => (DType::F16, device),
                    ElementType::BF16 => (DType::BF16, device),
                    ElementType::F32 => (DType::F32, device),
                    ElementType::F64 => (DType::F64, device),
                    _ => (DType::I64, &Device::Cpu),
                };
                Ok(Tensor::zeros(&*self.dims, dtype, device)?)
            }
        }
    }
}
