//! What can go wrong, as opposed to what a gate says no to.

use std::{io, path::PathBuf};

/// The result of preparing or running gates.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why gates could not be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The checkpoint, its tokenizer, a picture or an oracle.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// The reference model or a recorded oracle cannot serve.
    #[error(transparent)]
    Reference(Box<reference::Error>),
    /// A picture cannot be used.
    #[error(transparent)]
    Picture(#[from] picture::Error),
    /// A file of a bundle cannot be read.
    #[error(transparent)]
    Files(#[from] fsutil::Error),
    /// A bundle's manifest cannot be used.
    #[error(transparent)]
    Bundle(#[from] bundle::Error),
    /// The model is not what it should be.
    #[error(transparent)]
    Architecture(Box<models::Error>),
    /// An asset.
    #[error(transparent)]
    Asset(#[from] aimodel::Error),
    /// Executing an asset.
    #[error(transparent)]
    Runtime(#[from] runtime::Error),
    /// The decoder was not driven.
    #[error(transparent)]
    Engine(Box<::engine::Error>),
    /// Numbers on a device.
    #[error(transparent)]
    Compute(#[from] runtime::candle_core::Error),
    /// An option cannot be followed.
    #[error("{option}: {problem}")]
    Option {
        /// Which: a field of [`crate::Settings`], or `layout`.
        option: &'static str,
        /// What was expected, and what was found.
        problem: String,
    },
    /// A file that is not what it must be.
    #[error("{place}: {problem}")]
    Input {
        /// The file or folder.
        place: String,
        /// What was expected, what was found, and what to do.
        problem: String,
    },
    /// Reading a file failed.
    #[error("{path}: {source}", path = .path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of answers of Core AI's runtime does not serve: they must be asked
    /// for again.
    #[error("{path}: {problem}; ask Core AI's runtime again, and keep its answers in a new file", path = .path.display())]
    Answers {
        /// The file.
        path: PathBuf,
        /// What was expected, and what was found.
        problem: String,
    },
    /// What was asked for outside of this program failed: Python, a device.
    #[error("{0}")]
    ExternalTools(String),
}

impl Error {
    /// An [`Error::Option`].
    pub fn option(option: &'static str, problem: impl Into<String>) -> Error {
        Error::Option {
            option,
            problem: problem.into(),
        }
    }

    /// An [`Error::Input`].
    pub fn input(place: impl ToString, problem: impl Into<String>) -> Error {
        Error::Input {
            place: place.to_string(),
            problem: problem.into(),
        }
    }
}

impl From<reference::Error> for Error {
    fn from(error: reference::Error) -> Self {
        Self::Reference(Box::new(error))
    }
}

impl From<models::Error> for Error {
    fn from(error: models::Error) -> Self {
        Self::Architecture(Box::new(error))
    }
}

impl From<::engine::Error> for Error {
    fn from(error: ::engine::Error) -> Self {
        Self::Engine(Box::new(error))
    }
}
