//! Everything that can be wrong with a picture.

/// Why a picture was refused.
///
/// Files are named by path, or by name alone if they are embedded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused to read or write a file.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: String,
        /// The system's message.
        source: std::io::Error,
    },
    /// A picture cannot be decoded.
    #[error("{file} is not a usable PNG or JPEG picture: {message}")]
    Image {
        /// The file.
        file: String,
        /// The decoder's message.
        message: String,
    },
    /// The grid is 0 or beyond reason.
    #[error("a grid of {grid} is not possible, expected 1 to {}", crate::MAX_GRID)]
    Grid {
        /// Merged image tokens along each side.
        grid: usize,
    },
}

impl Error {
    /// An [`Error::Io`] at `path`.
    pub(crate) fn io(path: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.into();
        |source| Error::Io { path, source }
    }
}
