//! What can go wrong.

use std::{
    io,
    path::{Path, PathBuf},
};

use mlir_bytecode::BlobError;

/// The result of an operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an asset could not be read, built or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytecode is malformed, or a module cannot be written.
    #[error(transparent)]
    Bytecode(mlir_bytecode::Error),
    /// The bytes of a large constant could not be made: the error of its
    /// [`BlobSource`](crate::BlobSource).
    #[error(transparent)]
    Blob(Box<dyn std::error::Error + Send + Sync>),
    /// The progress callback ended the work.
    #[error("interrupted: nothing was written")]
    Interrupted,
    /// The module breaks a rule of the AICode dialect, or a call got an argument
    /// that has no meaning. The text says where, what was found and what was
    /// expected; there is nothing in it to match on.
    #[error("{0}")]
    Invalid(String),
    /// An operation was built with operands that it does not take.
    #[error("`{op}`: {problem}")]
    Operands {
        /// The operation, as the `coreai` dialect calls it.
        op: String,
        /// What was expected and what was found.
        problem: String,
    },
    /// Reading or writing a file failed.
    #[error("{path}: {source}", path = .path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// Writing to an output that is not a file of an asset failed.
    #[error(transparent)]
    Output(#[from] io::Error),
    /// A file of an asset is not what it must be.
    #[error("{path}: {problem}", path = .path.display())]
    Asset {
        /// The file or folder.
        path: PathBuf,
        /// What was expected, what was found, and what to do.
        problem: String,
    },
}

impl Error {
    /// The same error of a file that is shown under another path, such as the
    /// one that it will have when a folder is renamed.
    #[must_use]
    pub fn map_path(mut self, map: impl FnOnce(&Path) -> PathBuf) -> Self {
        if let Self::File { path, .. } | Self::Asset { path, .. } = &mut self {
            *path = map(path);
        }
        self
    }
}

impl From<mlir_bytecode::Error> for Error {
    fn from(error: mlir_bytecode::Error) -> Self {
        match error {
            mlir_bytecode::Error::Blob(error) => match error.downcast::<Self>() {
                Ok(own) => *own,
                Err(other) => Self::Blob(other),
            },
            other => Self::Bytecode(other),
        }
    }
}

impl From<BlobError> for Error {
    fn from(error: BlobError) -> Self {
        mlir_bytecode::Error::from(error).into()
    }
}
