//! What can go wrong.

use std::{io, path::PathBuf};

/// The result of an export.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a checkpoint could not be exported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The checkpoint is not what it should be.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// The model is not what it should be.
    #[error(transparent)]
    Model(models::Error),
    /// A graph or an asset could not be made.
    #[error(transparent)]
    Asset(aimodel::Error),
    /// A folder cannot be made.
    #[error(transparent)]
    Folder(#[from] fsutil::Error),
    /// The bundle's manifest cannot be written.
    #[error(transparent)]
    Manifest(#[from] bundle::Error),
    /// The caller broke the export off.
    #[error("interrupted: nothing was written")]
    Interrupted,
    /// A value of [`Options`](crate::Options) that makes no sense.
    #[error("{option}: {problem}")]
    Option {
        /// The field.
        option: &'static str,
        /// What was expected, what was found, and what to do.
        problem: String,
    },
    /// The folder of the vision encoder is there already.
    #[error(
        "{path} exists already and is not overwritten; remove it or choose another name, or keep \
         it and leave the vision encoder out: it is the same for every recipe",
        path = .path.display()
    )]
    VisionExists {
        /// The folder.
        path: PathBuf,
    },
    /// Reading or writing a file failed.
    #[error("{path}: {source}", path = .path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The system's message.
        source: io::Error,
    },
}

impl From<aimodel::Error> for Error {
    /// A blob that this crate could not make gives its own error back.
    fn from(error: aimodel::Error) -> Self {
        match error {
            aimodel::Error::Blob(error) => match error.downcast::<Self>() {
                Ok(own) => *own,
                Err(other) => match other.downcast::<models::Error>() {
                    Ok(model) => (*model).into(),
                    Err(other) => Self::Asset(aimodel::Error::Blob(other)),
                },
            },
            other => Self::Asset(other),
        }
    }
}

impl From<models::Error> for Error {
    fn from(error: models::Error) -> Self {
        match error {
            models::Error::Checkpoint(error) => Self::Checkpoint(error),
            models::Error::Graph(error) => error.into(),
            other => Self::Model(other),
        }
    }
}
