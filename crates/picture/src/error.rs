//! Everything that can be wrong with a picture.

/// Why a picture was refused.
///
/// Files are named by path, or by name alone if they are embedded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] fsutil::Error),
    /// A picture cannot be decoded.
    #[error("{file} is not a usable PNG or JPEG picture: {message}")]
    Image {
        /// The file.
        file: String,
        /// The decoder's message.
        message: String,
    },
    /// The grid is 0 or beyond reason.
    #[error("a grid of {grid} is not possible, expected 1 to {max}")]
    Grid {
        /// Merged image tokens along each side.
        grid: usize,
        /// The largest that is possible.
        max: usize,
    },
}
