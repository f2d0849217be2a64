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

pub use error::Error;

use half::f16;
use std::path::Path;

/// The largest file of a picture that is read, in bytes.
const MAX_FILE: u64 = 1 << 28;
/// The largest grid that makes sense: positions are interpolated, and beyond
/// this an image alone fills the longest contexts.
pub const MAX_GRID: usize = 64;

/// Red, green and blue.
const COLOURS: usize = 3;

/// A picture: RGB, 8 bits each, row-major.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    width: usize,
    height: usize,
    /// 3 · width · height levels.
    rgb: Vec<u8>,
}

/// What the vision tower reads: [rows, cols], row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Patches {
    /// 4 · grid²: 2 × 2 blocks in row order, and the patches of a block
    /// likewise.
    pub rows: usize,
    /// C · T · P · P: colour, frame, row, column.
    pub cols: usize,
    /// Levels from −1 to 1.
    pub values: Vec<f16>,
}

/// How pictures are cut for a vision tower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatchSpec {
    /// P: a patch is P × P pixels.
    pub patch_size: usize,
    /// Patches along each side of a merged token.
    pub merge_size: usize,
    /// T: frames in a patch; a still picture is repeated.
    pub temporal_patch_size: usize,
}

impl PatchSpec {
    /// How many patches a square of `grid` × `grid` merged tokens has.
    #[must_use]
    pub fn rows(self, grid: usize) -> usize {
        grid * grid * self.merge_size * self.merge_size
    }

    /// Pixels along a side of a square of `grid` × `grid` merged tokens.
    #[must_use]
    pub fn side(self, grid: usize) -> usize {
        grid * self.merge_size * self.patch_size
    }

    /// How many values a patch has.
    #[must_use]
    pub fn cols(self) -> usize {
        COLOURS * self.temporal_patch_size * self.patch_size * self.patch_size
    }
}

impl Image {
    /// A picture of `rgb` levels, row-major; none if they are not
    /// 3 · `width` · `height`, or if it has no pixels.
    pub fn from_rgb(width: usize, height: usize, rgb: Vec<u8>) -> Option<Image> {
        let levels = width.checked_mul(height)?.checked_mul(COLOURS)?;
        (levels > 0 && rgb.len() == levels).then_some(Image { width, height, rgb })
    }

    /// Reads a PNG or JPEG file.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be read, or as [`Image::decode`].
    pub fn load(path: &Path) -> Result<Image, Error> {
        let name = path.display().to_string();
        Image::decode(&fsutil::read(path, MAX_FILE)?, &name)
    }

    /// Decodes a PNG or JPEG file; `name` names it in errors. The camera's
    /// orientation is applied, and what is transparent shows white. Gray levels
    /// become colours, 16 bits become 8, and CMYK becomes RGB without a colour
    /// profile.
    ///
    /// # Errors
    /// [`Error::Image`] if it is neither, broken or cut off, or too large: more
    /// than 2¹⁵ pixels along a side or 2²⁸ in all.
    pub fn decode(bytes: &[u8], name: &str) -> Result<Image, Error> {
        decode::decode(bytes, name)
    }

    /// Width and height in pixels.
    pub fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// 3 · width · height levels, row-major.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// The picture stretched to `width` by `height` pixels, both at least 1,
    /// bicubic with antialiasing, in Pillow's own arithmetic: 22 bits for a
    /// weight, and 8 for what the first direction gives the second.
    pub fn resize(&self, width: usize, height: usize) -> Image {
        let wide = Image {
            width,
            height: self.height,
            rgb: resample(&self.rgb, self.width, width, 3),
        };
        Image {
            width,
            height,
            rgb: resample(&wide.rgb, wide.height, height, 3 * width),
        }
    }

    /// The picture stretched to a square of `grid` tokens a side, as patches;
    /// the one frame stands for every frame of a patch. `cut` is what a
    /// configuration or a bundle states.
    ///
    /// # Errors
    /// [`Error::Grid`] if `grid` is 0 or beyond [`MAX_GRID`].
    pub fn patches(&self, grid: usize, cut: impl Into<PatchSpec>) -> Result<Patches, Error> {
        if grid == 0 || grid > MAX_GRID {
            return Err(Error::Grid { grid });
        }
        let cut = cut.into();
        let (patch, frames) = (cut.patch_size, cut.temporal_patch_size);
        let side = cut.side(grid);
        let square = self.resize(side, side);
        let (rows, cols) = (cut.rows(grid), cut.cols());
        let mut values = Vec::with_capacity(rows * cols);
        for row in 0..rows {
            let (top, left) = corner(row, grid, cut);
            for colour in 0..COLOURS {
                for _frame in 0..frames {
                    for y in top..top + patch {
                        let line = &square.rgb[3 * (y * side + left)..][..3 * patch];
                        values
                            .extend(line.chunks_exact(3).map(|pixel| {
                                f16::from_f32(f32::from(pixel[colour]) / 127.5 - 1.0)
                            }));
                    }
                }
            }
        }
        Ok(Patches { rows, cols, values })
    }
}

impl Patches {
    /// The picture `[C, H, W]` that was cut as `cut` says into a square of `grid`
    /// tokens a side, normalized, from the first frame of each patch; `None` if
    /// these are not the patches of such a square.
    pub fn pixels(&self, grid: usize, cut: PatchSpec) -> Option<Vec<f32>> {
        let (patch, frames) = (cut.patch_size, cut.temporal_patch_size);
        let side = cut.side(grid);
        let fits = (self.rows, self.cols) == (cut.rows(grid), cut.cols())
            && self.values.len() == self.rows * self.cols;
        let mut pixels = vec![0.0; if fits { COLOURS * side * side } else { 0 }];
        for (row, values) in self.values.chunks_exact(cut.cols().max(1)).enumerate() {
            let (top, left) = corner(row, grid, cut);
            for (colour, frame) in values.chunks_exact(frames * patch * patch).enumerate() {
                for (y, line) in frame.chunks_exact(patch).take(patch).enumerate() {
                    let start = (colour * side + top + y) * side + left;
                    let place = pixels.get_mut(start..start + patch)?;
                    for (pixel, value) in place.iter_mut().zip(line) {
                        *pixel = value.to_f32();
                    }
                }
            }
        }
        fits.then_some(pixels)
    }

    /// The values as little-endian bytes.
    pub fn to_le_bytes(&self) -> Vec<u8> {
        self.values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect()
    }
}

/// The first row and column of pixels of a patch.
fn corner(row: usize, grid: usize, cut: PatchSpec) -> (usize, usize) {
    let (merge, patch) = (cut.merge_size, cut.patch_size);
    let (block, within) = (row / (merge * merge), row % (merge * merge));
    let top = (block / grid * merge + within / merge) * patch;
    let left = (block % grid * merge + within % merge) * patch;
    (top, left)
}

/// The cubic convolution kernel with a = −0.5.
fn cubic(x: f64) -> f64 {
    let x = x.abs();
    if x < 1.0 {
        (1.5 * x - 2.5) * x * x + 1.0
    } else if x < 2.0 {
        ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    } else {
        0.0
    }
}

/// Bits after the point of a weight, as in Pillow: sums of 8-bit levels fit.
const WEIGHT_BITS: u32 = 22;

/// Resamples the one axis of `from` entries to `to`. Before it, `levels` may
/// have any number of entries; after it, `inner`.
fn resample(levels: &[u8], from: usize, to: usize, inner: usize) -> Vec<u8> {
    let scale = from as f64 / to as f64;
    // Shrinking widens the kernel, which is the antialiasing.
    let stretch = scale.max(1.0);
    let taps: Vec<(usize, Vec<i64>)> = (0..to)
        .map(|target| {
            let centre = (target as f64 + 0.5) * scale;
            let first = (centre - 2.0 * stretch).floor().max(0.0) as usize;
            let last = ((centre + 2.0 * stretch).ceil() as usize).min(from);
            let weights: Vec<f64> = (first..last)
                .map(|source| cubic((source as f64 + 0.5 - centre) / stretch))
                .collect();
            let unit = f64::from(1 << WEIGHT_BITS) / weights.iter().sum::<f64>();
            let fixed = |weight: f64| (weight * unit).round() as i64;
            (first, weights.into_iter().map(fixed).collect())
        })
        .collect();
    let mut out = Vec::with_capacity(levels.len() / from * to);
    let mut sums = vec![0; inner];
    for plane in levels.chunks_exact(from * inner) {
        for (first, weights) in &taps {
            // A half, for rounding.
            sums.fill(1 << (WEIGHT_BITS - 1));
            let lines = plane[first * inner..].chunks_exact(inner);
            for (line, weight) in lines.zip(weights) {
                for (sum, level) in sums.iter_mut().zip(line) {
                    *sum += weight * i64::from(*level);
                }
            }
            let level = |sum: &i64| (sum >> WEIGHT_BITS).clamp(0, 255) as u8;
            out.extend(sums.iter().map(level));
        }
    }
    out
}
