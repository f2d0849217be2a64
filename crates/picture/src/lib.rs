//! Pictures: decoded, turned upright, resized as transformers does, and cut into
//! patches for a vision encoder.
//!
//! ```
//! use picture::{Image, PatchSpec};
//!
//! let image = Image::from_rgb(2, 1, vec![255, 0, 0, 0, 0, 255]).ok_or("no pixels")?;
//! let spec = PatchSpec { patch_size: 16, merge_size: 2, temporal_patch_size: 2 };
//! let patches = image.patches(4, spec)?;
//! assert_eq!((patches.rows, patches.cols), (4 * 4 * 4, 3 * 2 * 16 * 16));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![deny(missing_docs)]

mod decode;
mod error;
mod image;
mod patches;
mod resize;

pub use error::Error;
pub use image::Image;
pub use patches::{MAX_GRID, PatchSpec, Patches};
