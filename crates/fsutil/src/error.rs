//! What can go wrong.

use std::{
    io,
    path::{Path, PathBuf},
};

/// The result of an operation on files.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Something has the name already.
    #[error(
        "{path}: exists already and is not overwritten; remove it or choose another name",
        path = .path.display()
    )]
    Exists {
        /// The file or folder.
        path: PathBuf,
    },
    /// A path that cannot be what it is asked for.
    #[error("{path}: {problem}", path = .path.display())]
    Refused {
        /// The file or folder.
        path: PathBuf,
        /// What was expected, what was found, and what to do.
        problem: String,
    },
    /// A file is larger than any real one of its kind.
    #[error("{path}: has {found} bytes, expected at most {max}", path = .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes, or how many were read of it.
        found: u64,
        /// The limit in bytes.
        max: u64,
    },
    /// The system refused.
    #[error("{path}: {source}", path = .path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn refused(path: &Path, problem: impl Into<String>) -> Self {
        Self::Refused {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }

    /// The error of a file, which says what to do about a full disk.
    pub(crate) fn file(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Refused {
                path,
                problem: format!(
                    "the disk is full ({source}); nothing was written. Free some space or choose \
                     another place"
                ),
            },
            _ => Self::File { path, source },
        }
    }
}
