//! Weights as f32 tensors.

use super::computing;
use crate::Error;
use candle_core::{Device, Tensor};
use candle_nn::{LayerNorm, Linear};
use checkpoint::{Checkpoint, Element};
use half::{bf16, f16};
use rayon::prelude::*;

/// Numbers that one thread converts at a time.
const CHUNK: usize = 1 << 16;

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
        let values = to_f32(stored.element(), stored.bytes());
        stored.release_all();
        Tensor::from_vec(values, shape, self.device)
            .map_err(computing(format!("the tensor {name}")))
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
        // The vision tower has this one everywhere; config.json does not say it.
        Ok(LayerNorm::new(weight, bias, 1e-6))
    }
}

/// The numbers of a stored tensor; the conversion is exact.
fn to_f32(element: Element, bytes: &[u8]) -> Vec<f32> {
    fn convert<const SIZE: usize>(bytes: &[u8], one: fn([u8; SIZE]) -> f32) -> Vec<f32> {
        let mut values = vec![0.0; bytes.len() / SIZE];
        values
            .par_chunks_mut(CHUNK)
            .zip(bytes.par_chunks(CHUNK * SIZE))
            .for_each(|(values, bytes)| {
                let (numbers, _) = bytes.as_chunks::<SIZE>();
                for (value, number) in values.iter_mut().zip(numbers) {
                    *value = one(*number);
                }
            });
        values
    }
    match element {
        Element::Bf16 => convert(bytes, |number| bf16::from_le_bytes(number).to_f32()),
        Element::F16 => convert(bytes, |number| f16::from_le_bytes(number).to_f32()),
        Element::F32 => convert(bytes, f32::from_le_bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(to_f32(Element::F16, &f16_bytes), numbers);
        assert_eq!(to_f32(Element::Bf16, &bf16_bytes), numbers);
        assert_eq!(to_f32(Element::F32, &f32_bytes), numbers);
    }
}
