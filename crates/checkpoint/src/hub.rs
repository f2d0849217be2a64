//! Checkpoints from the Hugging Face hub: which files are needed.

use crate::{CONFIG, Checkpoint, Error, Naming, Source, TokenizerFiles, weights};
use ::hub::{Hub, ProgressFn, Settings, is_repository_id};

/// Fetches what an export reads of `model` at `revision`, `main` if `None`.
/// Where the hub cannot be reached, a whole checkpoint in the cache will do.
pub(crate) fn fetch<E: From<Error>>(
    model: &str,
    revision: Option<&str>,
    progress: ProgressFn<'_>,
    check: impl FnOnce(&Source) -> Result<(), E>,
) -> Result<Source, E> {
    if !is_repository_id(model) {
        return Err(Error::Model {
            model: model.into(),
            message: "is neither a folder, nor nano, nor a hub id such as \
                      organization/name"
                .into(),
        }
        .into());
    }
    let revision = revision.unwrap_or("main");
    let hub = Settings::from_env().and_then(Hub::new);
    let hub = hub.map_err(|error| failed(model, revision, error))?;
    fetch_from(&hub, model, revision, progress, check)
}

fn failed(model: &str, revision: &str, message: impl ToString) -> Error {
    Error::Hub {
        model: model.into(),
        revision: revision.into(),
        message: message.to_string(),
    }
}

pub(crate) fn fetch_from<E: From<Error>>(
    hub: &Hub,
    model: &str,
    revision: &str,
    progress: ProgressFn<'_>,
    check: impl FnOnce(&Source) -> Result<(), E>,
) -> Result<Source, E> {
    let fail = |error: ::hub::Error| failed(model, revision, error);
    let repository = hub.repository(model, revision, progress).map_err(fail)?;
    let outage = repository.cached();
    if outage.is_none() && !repository.has(CONFIG) {
        return Err(Error::MissingFile {
            place: format!("{model} on the hub"),
            file: CONFIG.into(),
        }
        .into());
    }
    repository.fetch(&[CONFIG]).map_err(fail)?;
    let source = Source::folder(repository.folder())?;
    let source = source.called(model, Some(repository.commit().into()));
    // Before gigabytes are fetched.
    check(&source)?;

    let mut wanted: Vec<String> = TokenizerFiles::NAMES.map(String::from).into();
    wanted.retain(|file| repository.has(file));
    // Without weights, opening the checkpoint says what is missing.
    if repository.has(weights::SINGLE) {
        wanted.push(weights::SINGLE.into());
    } else if repository.has(weights::INDEX) {
        repository.fetch(&[weights::INDEX]).map_err(fail)?;
        wanted.extend(weights::shards(&source)?);
    }
    repository.fetch(&wanted).map_err(fail)?;
    match outage {
        None => repository.keep().map_err(fail)?,
        Some(why) => {
            let any = Naming {
                canonical: |name| Some(name.to_owned()),
                accepted: |name| vec![name.to_owned()],
            };
            let whole = Checkpoint::open(&source, any).and_then(|_| TokenizerFiles::load(&source));
            whole.map_err(|error| {
                failed(
                    model,
                    revision,
                    format!("{why}, and the cache lacks a part of it: {error}"),
                )
            })?;
        }
    }
    Ok(source)
}
