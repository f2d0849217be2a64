//! The model itself in fp32, as transformers computes it: the reference that
//! an exported bundle is measured against, layer by layer.
//!
//! [`VisionModel`] makes embeddings of patches, [`TextModel`] turns tokens and
//! embeddings into logits and leaves the hidden state after every layer to be
//! looked at. Both are written after the checkpoint's own names and know
//! nothing of the exporter, whose tables and formulas they check.
//!
//! Weights of bf16, f16 or f32 become f32 and stay in memory: 4 bytes a
//! parameter. The vision encoder can be dropped once it has done its part.
//!
//! ```
//! use candle_core::Device;
//! use checkpoint::{Source, TokenizerFiles};
//! use models::qwen3_vl::{self, Chat, Config};
//! use reference::qwen3_vl::TextModel;
//!
//! let source = Source::nano();
//! let (config, checkpoint) = (Config::load(&source)?, qwen3_vl::open(&source)?);
//! let model = TextModel::load(&config, &checkpoint, &Device::Cpu)?;
//! let chat = Chat::load(&TokenizerFiles::load(&source)?, &config)?;
//! let prompt = chat.question("count from one to twenty .", None)?;
//! let made = model.greedy(&prompt, None, 5)?;
//! assert_eq!(chat.decode(&made)?, "one two three four five");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod load;
mod text;
mod vision;

use crate::Error;
use candle_core::Tensor;
use ndarray::Array2;

pub use text::{Cache, TextModel, TextOutput};
pub use vision::{VisionModel, VisionOutput};

/// The numbers of an f32 tensor [rows, …] on the host: a row for each of the
/// outermost extent.
///
/// # Errors
/// [`Error::Compute`] if the device fails to copy them, or if they are not f32.
pub fn to_rows(tensor: &Tensor) -> Result<Array2<f32>, Error> {
    let copy = || {
        let flat = tensor.flatten_from(1)?;
        Ok((flat.dims2()?, flat.flatten_all()?.to_vec1()?))
    };
    let (shape, values) = copy().map_err(computing("a copy to the host"))?;
    Array2::from_shape_vec(shape, values).map_err(|error| Error::Compute {
        what: "a copy to the host".to_owned(),
        message: error.to_string(),
    })
}

/// Wraps an error of candle, naming what was being computed.
fn computing(what: impl Into<String>) -> impl FnOnce(candle_core::Error) -> Error {
    let what = what.into();
    move |error| Error::Compute {
        what,
        message: error.to_string(),
    }
}

/// The cosines and sines of `angles`, which has `rows` rows, as tensors of as
/// many. They are taken in f64 of angles in f32.
fn rotations(
    angles: &[f32],
    rows: usize,
    device: &candle_core::Device,
) -> candle_core::Result<(Tensor, Tensor)> {
    let table = |turn: fn(f64) -> f64| {
        let values: Vec<f32> = angles.iter().map(|a| turn(f64::from(*a)) as f32).collect();
        Tensor::from_vec(values, (rows, angles.len() / rows.max(1)), device)
    };
    Ok((table(f64::cos)?, table(f64::sin)?))
}
