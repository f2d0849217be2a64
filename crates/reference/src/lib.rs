//! What results are compared with: the models in fp32, and what transformers
//! recorded.
//!
//! [`load`] gives the model of an architecture, computed in fp32 with candle;
//! [`oracle`] reads what transformers computed, as arrays of ndarray; and
//! [`cosine`] compares the two.
//!
//! ```
//! use candle_core::Device;
//! use checkpoint::Source;
//!
//! let source = Source::nano();
//! let architecture = models::open(&source)?;
//! let weights = models::open_weights(&source, architecture.as_ref())?;
//! let (vision, _text) = reference::load(architecture.as_ref(), &weights, &Device::Cpu)?;
//!
//! let patches = architecture.geometry(4).ok_or("nano takes pictures")?.patches;
//! let values = 3 * patches.temporal_patch_size * patches.patch_size.pow(2);
//! let black = reference::ndarray::Array2::from_elem((64, values), -1.0);
//! let output = vision.forward(black.view(), [4, 4])?;
//! assert_eq!(output.image_embeds.dims()[0], 16);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![deny(missing_docs)]

mod error;
mod metrics;
pub mod oracle;
pub mod qwen3_vl;

pub use error::Error;
pub use metrics::{cosine, row_cosines};
pub use ndarray;
pub use qwen3_vl::{Cache, TextModel, VisionModel, VisionOutput, to_rows};

use candle_core::Device;
use checkpoint::Checkpoint;
use models::Architecture;

/// The fp32 model of an architecture, on `device`.
///
/// # Errors
/// [`Error::Input`] for a family that has no reference model, or as
/// [`TextModel::load`].
pub fn load(
    architecture: &dyn Architecture,
    checkpoint: &Checkpoint,
    device: &Device,
) -> Result<(VisionModel, TextModel), Error> {
    let config = architecture.as_any().downcast_ref();
    let config: &models::qwen3_vl::Config = config.ok_or_else(|| Error::Input {
        message: format!(
            "there is no fp32 model of the family {}",
            architecture.model_type()
        ),
    })?;
    Ok((
        VisionModel::load(config, checkpoint, device)?,
        TextModel::load(config, checkpoint, device)?,
    ))
}
