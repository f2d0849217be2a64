//! Squares of pixels, cut into the patches that a vision encoder reads.

use crate::{
    Error,
    image::{COLOURS, Image},
};
use half::f16;

/// The largest grid that makes sense: positions are interpolated, and beyond
/// this an image alone fills the longest contexts.
pub const MAX_GRID: usize = 64;

/// The most values that the patches of a picture may have: 0.5 GB of f32. Patches
/// of the published models have 25 million at the largest grid.
const MAX_VALUES: usize = 1 << 27;

/// What the vision tower reads: [rows, cols], row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Patches {
    /// 4 · grid²: 2 × 2 blocks in row order, and the patches of a block
    /// likewise.
    pub rows: usize,
    /// C · T · P · P: colour, frame, row, column.
    pub cols: usize,
    /// Levels from −1 to 1.
    pub values: Vec<f32>,
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
    /// Checks that a square of `grid` × `grid` merged tokens can be cut so.
    ///
    /// # Errors
    /// [`Error::Grid`] if `grid` is 0 or beyond [`MAX_GRID`]; [`Error::Cut`] for
    /// patches without pixels, or of more values than memory should be asked for.
    pub fn check(self, grid: usize) -> Result<(), Error> {
        if grid == 0 || grid > MAX_GRID {
            return Err(Error::Grid {
                grid,
                max: MAX_GRID,
            });
        }
        let Self {
            patch_size,
            merge_size,
            temporal_patch_size,
        } = self;
        let sides = [grid, grid, merge_size, merge_size, patch_size, patch_size];
        let extents = sides.into_iter().chain([temporal_patch_size, COLOURS]);
        let values = extents.fold(1_usize, usize::saturating_mul);
        if (1..=MAX_VALUES).contains(&values) {
            return Ok(());
        }
        Err(Error::Cut {
            grid,
            patch_size,
            merge_size,
            frames: temporal_patch_size,
            max: MAX_VALUES,
        })
    }

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
    /// The picture stretched to a square of `grid` tokens a side, as patches;
    /// the one frame stands for every frame of a patch. `cut` is what a
    /// configuration or a bundle states.
    ///
    /// # Errors
    /// As [`PatchSpec::check`].
    pub fn patches(&self, grid: usize, cut: impl Into<PatchSpec>) -> Result<Patches, Error> {
        let cut = cut.into();
        cut.check(grid)?;
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
                        values.extend(
                            line.chunks_exact(3)
                                .map(|pixel| f32::from(pixel[colour]) / 127.5 - 1.0),
                        );
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
        let fits = cut.check(grid).is_ok()
            && (self.rows, self.cols) == (cut.rows(grid), cut.cols())
            && self.values.len() == self.rows * self.cols;
        if !fits {
            return None;
        }
        let side = cut.side(grid);
        let mut pixels = vec![0.0; COLOURS * side * side];
        for (row, values) in self.values.chunks_exact(cut.cols()).enumerate() {
            let (top, left) = corner(row, grid, cut);
            for (colour, frame) in values.chunks_exact(frames * patch * patch).enumerate() {
                for (y, line) in frame.chunks_exact(patch).take(patch).enumerate() {
                    let start = (colour * side + top + y) * side + left;
                    let place = pixels.get_mut(start..start + patch)?;
                    place.copy_from_slice(line);
                }
            }
        }
        Some(pixels)
    }

    /// The values as f16, which is what encoders that take patches take.
    pub fn to_f16(&self) -> Vec<f16> {
        let values = self.values.iter();
        values.map(|value| f16::from_f32(*value)).collect()
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
