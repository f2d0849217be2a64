//! Weights as f32 tensors.
//!
//! candle's own reader of safetensors makes the tensors, of any type that it
//! knows. It is given the checkpoint's handles and not the files: its
//! `MmapedSafetensors` and `VarBuilder` look tensors up by the names in the
//! files, where a checkpoint has canonical ones for all spellings, checks each
//! shape against the configuration, is also found in the program itself, and
//! releases the pages of what was read.

use super::computing;
use crate::Error;
use candle_core::safetensors::Load;
use candle_core::{DType, Device, Tensor};
use candle_nn::{LayerNorm, Linear};
use checkpoint::{Checkpoint, Element};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

/// Where weights come from and go to.
#[derive(Clone, Copy)]
pub(super) struct Loader<'a> {
    pub(super) checkpoint: &'a Checkpoint,
    pub(super) device: &'a Device,
}

impl Loader<'_> {
    /// A parameter, of the given shape.
    pub(super) fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor, Error> {
        let stored = self.checkpoint.tensor(name, shape)?;
        let tensor = to_f32(stored.element(), shape, stored.bytes())
            .and_then(|tensor| tensor.to_device(self.device))
            .map_err(computing(format!("the tensor {name}")));
        stored.release_all();
        tensor
    }

    /// A projection [out, in] without bias.
    pub(super) fn linear(&self, name: &str, out: usize, input: usize) -> Result<Linear, Error> {
        Ok(Linear::new(self.tensor(name, &[out, input])?, None))
    }

    /// A projection `prefix.weight` [out, in] with `prefix.bias`.
    pub(super) fn biased(&self, prefix: &str, out: usize, input: usize) -> Result<Linear, Error> {
        let weight = self.tensor(&format!("{prefix}.weight"), &[out, input])?;
        let bias = self.tensor(&format!("{prefix}.bias"), &[out])?;
        Ok(Linear::new(weight, Some(bias)))
    }

    /// A LayerNorm `prefix.weight`, `prefix.bias`.
    pub(super) fn layer_norm(&self, prefix: &str, width: usize) -> Result<LayerNorm, Error> {
        let weight = self.tensor(&format!("{prefix}.weight"), &[width])?;
        let bias = self.tensor(&format!("{prefix}.bias"), &[width])?;
        // The vision encoder has this epsilon everywhere; config.json does not say it.
        Ok(LayerNorm::new(weight, bias, 1e-6))
    }
}

/// The numbers of a stored tensor; the conversion is exact.
fn to_f32(element: Element, shape: &[usize], bytes: &[u8]) -> candle_core::Result<Tensor> {
    let dtype = match element {
        Element::Bf16 => Dtype::BF16,
        Element::F16 => Dtype::F16,
        Element::F32 => Dtype::F32,
    };
    let view = TensorView::new(dtype, shape.to_vec(), bytes)?;
    view.load(&Device::Cpu)?.to_dtype(DType::F32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::{bf16, f16};

    #[test]
    fn every_element_type_becomes_f32() {
        let numbers = [0.0, -1.5, 0.25, 1024.0];
        let f16_bytes: Vec<u8> = numbers
            .iter()
            .flat_map(|n| f16::from_f32(*n).to_le_bytes())
            .collect();
        let bf16_bytes: Vec<u8> = numbers
            .iter()
            .flat_map(|n| bf16::from_f32(*n).to_le_bytes())
            .collect();
        let f32_bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        for (element, bytes) in [
            (Element::F16, f16_bytes),
            (Element::Bf16, bf16_bytes),
            (Element::F32, f32_bytes),
        ] {
            // The bytes of a mapped file need not be aligned.
            for offset in 0..2 {
                let moved = [&vec![0; offset][..], &bytes].concat();
                let tensor = to_f32(element, &[2, 2], &moved[offset..]).unwrap();
                assert_eq!(tensor.dims(), [2, 2]);
                assert_eq!(
                    tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
                    numbers
                );
            }
        }
    }
}
