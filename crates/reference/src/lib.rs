//! What is true: the models in fp32, and what transformers recorded.
//!
//! [`load`] gives the model of an architecture, computed in fp32 with candle;
//! [`oracle`] reads what transformers computed, as arrays of ndarray; and
//! [`cosine`] compares the two.
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
