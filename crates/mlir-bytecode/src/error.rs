//! What can go wrong.

use std::io;

use crate::BlobError;

/// The result of reading or writing bytecode.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file does not start with the magic number `ML\xEFR`.
    #[error("not MLIR bytecode: expected the magic bytes 4d 4c ef 52 at its start, found {found}")]
    NotBytecode {
        /// The first bytes of the file, in hexadecimal.
        found: String,
    },
    /// The file is of a bytecode version that this crate does not know.
    #[error(
        "MLIR bytecode version {found} is not supported: this reader knows version {}",
        crate::VERSION
    )]
    Version {
        /// The version that the file states.
        found: u64,
    },
    /// The bytes contradict the format.
    #[error("{section} at byte {offset}: {problem}")]
    Malformed {
        /// The section that was being read.
        section: &'static str,
        /// Offset in the file at which the problem was noticed.
        offset: u64,
        /// What was expected and what was found.
        problem: String,
    },
    /// The module cannot be written as it is.
    #[error("the module cannot be written: {0}")]
    Unwritable(String),
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The bytes of a blob could not be made: the error of its
    /// [`BlobSource`](crate::BlobSource).
    #[error(transparent)]
    Blob(Box<dyn std::error::Error + Send + Sync>),
}

impl From<BlobError> for Error {
    fn from(error: BlobError) -> Self {
        match error {
            BlobError::Output(error) => Self::Io(error),
            BlobError::Source(error) => Self::Blob(error),
        }
    }
}
