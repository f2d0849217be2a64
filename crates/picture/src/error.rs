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
    /// Patches of no extent, or more values than memory should be asked for.
    #[error(
        "patches of {patch_size} pixels a side and {frames} frames, {merge_size} along a side of \
         a token, do not cut a square of {grid} tokens a side: expected numbers from 1 on, and at \
         most {max} values in all"
    )]
    Cut {
        /// Merged image tokens along each side.
        grid: usize,
        /// Pixels along a side of a patch.
        patch_size: usize,
        /// Patches along a side of a token.
        merge_size: usize,
        /// Frames in a patch.
        frames: usize,
        /// The most values that all patches may have.
        max: usize,
    },
}
