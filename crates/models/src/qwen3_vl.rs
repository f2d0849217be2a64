//! Qwen3-VL: configuration, names of the weights, prompts, positions, and
//! checkpoints with seeded weights.

mod config;
mod decoder;
pub mod names;
pub mod positions;
mod prompt;
pub mod synth;
mod tables;
mod vision;

pub use config::{Config, TextConfig, VisionConfig};
pub use decoder::build as lower_decoder;
pub use prompt::Chat;
pub use vision::build as lower_vision;

use crate::Error;
use checkpoint::{Checkpoint, Source};

/// Opens the weights of a checkpoint by the canonical names of [`names`].
///
/// # Errors
/// As [`Checkpoint::open`].
pub fn open(source: &Source) -> Result<Checkpoint, checkpoint::Error> {
    Checkpoint::open(source, names::NAMING)
}

/// What a model argument names, as [`Source::open`]. A checkpoint of the hub is
/// judged by its configuration before its weights are fetched.
///
/// # Errors
/// As [`Source::open`] and [`Config::load`].
pub fn open_source(model: &str, revision: Option<&str>) -> Result<Source, Error> {
    Source::open(model, revision, |source| Config::load(source).map(|_| ()))
}

/// As [`open_source`], with reports of how far fetching is.
///
/// # Errors
/// As [`open_source`].
#[cfg(feature = "hub")]
pub fn open_source_telling(
    model: &str,
    revision: Option<&str>,
    tell: hub::Tell<'_>,
) -> Result<Source, Error> {
    Source::open_telling(model, revision, tell, |source| {
        Config::load(source).map(|_| ())
    })
}
