//! The registry of families, and which of them a checkpoint or a bundle is of.

use std::sync::Arc;

use checkpoint::{CONFIG, Checkpoint, Source, TokenizerFiles};
use serde_json::Value;

use crate::{Architecture, Error, Family, PromptWriter, qwen3_vl};

/// No `config.json` is larger, in bytes.
const MAX_CONFIG: u64 = 1 << 20;

/// All families. A new one is a module and a line here.
pub const FAMILIES: &[Family] = &[qwen3_vl::FAMILY];

/// The architecture of a checkpoint, by its `config.json`.
///
/// # Errors
/// A configuration that is missing, is not JSON, is of a family that is not
/// known, or has an unusable value.
pub fn open(source: &Source) -> Result<Arc<dyn Architecture>, Error> {
    let json = source
        .read(CONFIG, MAX_CONFIG)?
        .ok_or_else(|| checkpoint::Error::MissingFile {
            place: source.place(),
            file: CONFIG.into(),
        })?;
    let file = source.label(CONFIG);
    (family_of(&json, &file)?.parse)(&json, &file)
}

/// The weights of a checkpoint, by the canonical names of its architecture.
///
/// # Errors
/// As [`Checkpoint::open`].
pub fn open_weights(
    source: &Source,
    architecture: &dyn Architecture,
) -> Result<Arc<Checkpoint>, Error> {
    Ok(Arc::new(Checkpoint::open(source, architecture.naming())?))
}

/// What a model argument names, as [`Source::open`]. A checkpoint of the hub is
/// judged by its configuration before its weights are fetched.
///
/// # Errors
/// As [`Source::open`] and [`open`].
pub fn open_source(model: &str, revision: Option<&str>) -> Result<Source, Error> {
    Source::open(model, revision, |source| open(source).map(|_| ()))
}

/// As [`open_source`], with reports of how far fetching is.
///
/// # Errors
/// As [`open_source`].
#[cfg(feature = "hub")]
pub fn open_source_with_progress(
    model: &str,
    revision: Option<&str>,
    progress: hub::ProgressFn<'_>,
) -> Result<Source, Error> {
    Source::open_with_progress(model, revision, progress, |source| open(source).map(|_| ()))
}

/// The licence of a published model's weights, where its publisher has stated
/// it. A fine-tune may be under other terms than what it was made of.
#[must_use]
pub fn known_license(model: &str) -> Option<&'static str> {
    match model {
        "nano" => Some("BSD-3-Clause"),
        _ => FAMILIES.iter().find_map(|family| (family.license)(model)),
    }
}

fn family_of(json: &[u8], file: &str) -> Result<&'static Family, Error> {
    let root: Value = serde_json::from_slice(json).map_err(|error| Error::Json {
        file: file.into(),
        message: error.to_string(),
    })?;
    if !root.is_object() {
        return Err(Error::Json {
            file: file.into(),
            message: "expected an object".into(),
        });
    }
    let found = &root["model_type"];
    let family = FAMILIES.iter().find(|family| found == family.model_type);
    family.ok_or_else(|| {
        let known: Vec<String> = FAMILIES
            .iter()
            .map(|family| format!("{:?}", family.model_type))
            .collect();
        Error::Architecture {
            file: file.into(),
            key: "model_type",
            found: found.to_string(),
            expected: known.join(", "),
        }
    })
}

/// The prompt writer for an exported bundle, which has a tokenizer and no
/// configuration. `vocab_size` is the width of its decoder's logits. Bundles do
/// not name their family: it is the first one that knows the tokenizer.
///
/// # Errors
/// The files are not of a family that is known here; the error is that of the
/// first one.
pub fn prompt_writer(
    files: &TokenizerFiles,
    vocab_size: usize,
) -> Result<Box<dyn PromptWriter>, Error> {
    let mut first = None;
    for family in FAMILIES {
        match (family.prompt_writer)(files, vocab_size) {
            Ok(writer) => return Ok(writer),
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.unwrap_or_else(|| Error::Prompt {
        message: "no family of models is known".to_owned(),
    }))
}
