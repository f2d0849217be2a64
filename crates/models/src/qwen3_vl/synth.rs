//! Checkpoints of the family with seeded weights, for benches and tests.

use super::{Config, names};
use crate::Error;
pub use crate::synth::Options;
use crate::synth::pretty;
use std::path::Path;

mod tokenizer;

/// Writes a checkpoint of the shape of `config` to the folder `out`, as
/// [`crate::synth::write`]. The tokenizer is a byte-level one with Qwen's special
/// tokens at the ids that `config` names.
///
/// # Errors
/// As [`crate::synth::write`], and [`Error::Config`] if the vocabulary is too
/// small for a tokenizer.
pub fn write(
    config: &Config,
    out: &Path,
    options: Options,
    progress: impl FnMut(u64, u64),
) -> Result<(), Error> {
    let mut files = tokenizer::files(config)?;
    files.push(("config.json", pretty(&config.to_json())));
    crate::synth::write(names::parameters(config), files, out, options, progress)
}
