//! Checkpoints from the Hugging Face hub: which files are needed.

use super::Source;
use crate::{Checkpoint, Config, Error, TokenizerFiles, checkpoint, config, tokenizer};
use ::hub::{Hub, Settings, Tell, is_repository_id};

/// Fetches what an export reads of `model` at `revision`, `main` if `None`.
/// Where the hub cannot be reached, a whole checkpoint in the cache will do.
pub(super) fn fetch(model: &str, revision: Option<&str>, tell: Tell<'_>) -> Result<Source, Error> {
    if !is_repository_id(model) {
        return Err(Error::Model {
            model: model.into(),
            message: "is neither a folder, nor nano, nor a hub id such as \
                      Qwen/Qwen3-VL-2B-Instruct"
                .into(),
        });
    }
    let revision = revision.unwrap_or("main");
    let hub = Settings::from_env().and_then(Hub::new);
    let hub = hub.map_err(|error| failed(model, revision, error))?;
    fetch_from(&hub, model, revision, tell)
}

fn failed(model: &str, revision: &str, message: impl ToString) -> Error {
    Error::Hub {
        model: model.into(),
        revision: revision.into(),
        message: message.to_string(),
    }
}

fn fetch_from(hub: &Hub, model: &str, revision: &str, tell: Tell<'_>) -> Result<Source, Error> {
    let fail = |error: ::hub::Error| failed(model, revision, error);
    let repository = hub.repository(model, revision, tell).map_err(fail)?;
    let outage = repository.cached();
    if outage.is_none() && !repository.has(config::FILE) {
        return Err(Error::MissingFile {
            place: format!("{model} on the hub"),
            file: config::FILE.into(),
        });
    }
    repository.fetch(&[config::FILE]).map_err(fail)?;
    let mut source = Source::folder(repository.folder())?;
    source.model = model.into();
    source.revision = Some(repository.commit().into());
    // Before gigabytes are fetched.
    Config::load(&source)?;

    let mut wanted: Vec<String> = tokenizer::FILES.map(String::from).into();
    wanted.retain(|file| repository.has(file));
    // Without weights, opening the checkpoint says what is missing.
    if repository.has(checkpoint::SINGLE) {
        wanted.push(checkpoint::SINGLE.into());
    } else if repository.has(checkpoint::INDEX) {
        repository.fetch(&[checkpoint::INDEX]).map_err(fail)?;
        wanted.extend(checkpoint::shards(&source)?);
    }
    repository.fetch(&wanted).map_err(fail)?;
    match outage {
        None => repository.keep().map_err(fail)?,
        Some(why) => {
            let whole = Checkpoint::open(&source).and_then(|_| TokenizerFiles::load(&source));
            whole.map_err(|error| {
                failed(
                    model,
                    revision,
                    format!("{why}, and the cache has not all of it: {error}"),
                )
            })?;
        }
    }
    Ok(source)
}
