//! From what a user names to the files of a checkpoint.

#[cfg(feature = "hub")]
use crate::hub;
use crate::{Error, Source};
use std::path::Path;

impl Source {
    /// What a model argument names: `nano`, the checkpoint that comes with the
    /// program; else a folder that exists; else an id on the Hugging Face hub,
    /// `organization/name`, fetched at `revision` (a branch, tag or commit) or
    /// `main`.
    ///
    /// `check` judges a checkpoint of the hub by its `config.json`, before its
    /// weights are fetched.
    ///
    /// # Errors
    /// [`Error::Model`] if it is none of these, or if a revision is given for
    /// what is not on the hub; [`Error::Hub`] if fetching fails; what `check`
    /// says.
    pub fn open<E: From<Error>>(
        model: &str,
        revision: Option<&str>,
        check: impl FnOnce(&Source) -> Result<(), E>,
    ) -> Result<Source, E> {
        let elsewhere = || {
            #[cfg(feature = "hub")]
            return hub::fetch(model, revision, &|_| (), check);
            #[cfg(not(feature = "hub"))]
            {
                let _ = check;
                Err(Error::Model {
                    model: model.into(),
                    message:
                        "is not a folder, and this build cannot fetch from the hub; for a hub \
                              id such as organization/name, use a build with the feature hub"
                            .into(),
                }
                .into())
            }
        };
        Source::open_or(model, revision, elsewhere)
    }

    /// As [`open`](Source::open), with reports of how far fetching is.
    ///
    /// # Errors
    /// As those of [`open`](Source::open).
    #[cfg(feature = "hub")]
    pub fn open_with_progress<E: From<Error>>(
        model: &str,
        revision: Option<&str>,
        progress: ::hub::ProgressFn<'_>,
        check: impl FnOnce(&Source) -> Result<(), E>,
    ) -> Result<Source, E> {
        Source::open_or(model, revision, || {
            hub::fetch(model, revision, progress, check)
        })
    }

    /// Fetches what an export reads of `model` at `revision` from this hub.
    /// Where the hub cannot be reached, a whole checkpoint in the cache is
    /// enough.
    ///
    /// # Errors
    /// As those of [`open`](Source::open).
    #[cfg(feature = "hub")]
    pub fn fetch<E: From<Error>>(
        hub: &::hub::Hub,
        model: &str,
        revision: &str,
        progress: ::hub::ProgressFn<'_>,
        check: impl FnOnce(&Source) -> Result<(), E>,
    ) -> Result<Source, E> {
        hub::fetch_from(hub, model, revision, progress, check)
    }

    fn open_or<E: From<Error>>(
        model: &str,
        revision: Option<&str>,
        elsewhere: impl FnOnce() -> Result<Source, E>,
    ) -> Result<Source, E> {
        let wrong = |message: &str| Error::Model {
            model: model.into(),
            message: message.into(),
        };
        let local = model == "nano" || Path::new(model).is_dir();
        if local && revision.is_some() {
            return Err(
                wrong("is not on the hub, so it has no revisions; leave the revision out").into(),
            );
        }
        if model == "nano" {
            Ok(Source::nano())
        } else if local {
            Ok(Source::folder(model)?)
        } else if Path::new(model).exists() {
            Err(wrong("is a file; name the folder that it is in").into())
        } else {
            elsewhere()
        }
    }
}
