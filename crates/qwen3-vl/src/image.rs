//! Pictures: decoded, resized as transformers does, cut into patches.

use crate::{Error, VisionConfig};
use half::f16;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits};
use std::io::Cursor;
use std::path::Path;

/// Most pixels along one side, and most bytes that decoding may take.
const MOST_SIDE: u32 = 1 << 15;
const MOST_BYTES: u64 = 1 << 30;
/// The largest grid that makes sense: positions are interpolated, and beyond
/// this an image alone fills the longest contexts.
pub const MOST_GRID: usize = 64;

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

impl Image {
    /// Reads a PNG or JPEG file.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read, or what [`Image::decode`] says.
    pub fn load(path: &Path) -> Result<Image, Error> {
        let name = path.display().to_string();
        let bytes = std::fs::read(path).map_err(Error::io(name.clone()))?;
        Image::decode(&bytes, &name)
    }

    /// Decodes a PNG or JPEG file; `name` names it in errors. The camera's
    /// orientation is applied, and what is transparent shows white.
    ///
    /// # Errors
    /// [`Error::Image`] if it is neither, broken, or too large.
    pub fn decode(bytes: &[u8], name: &str) -> Result<Image, Error> {
        let wrong = |error: image::ImageError| Error::Image {
            file: name.into(),
            message: error.to_string(),
        };
        let mut limits = Limits::default();
        limits.max_image_width = Some(MOST_SIDE);
        limits.max_image_height = Some(MOST_SIDE);
        limits.max_alloc = Some(MOST_BYTES);
        let mut reader = ImageReader::new(Cursor::new(bytes))
            .with_guessed_format()
            .map_err(Error::io(name))?;
        reader.limits(limits);
        let mut decoder = reader.into_decoder().map_err(wrong)?;
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        let mut decoded = DynamicImage::from_decoder(decoder).map_err(wrong)?;
        decoded.apply_orientation(orientation);
        let rgba = decoded.into_rgba8();
        let on_white = |pixel: &image::Rgba<u8>| {
            let [r, g, b, alpha] = pixel.0.map(u32::from);
            [r, g, b].map(|level| ((level * alpha + 255 * (255 - alpha) + 127) / 255) as u8)
        };
        let (width, height) = rgba.dimensions();
        if width == 0 || height == 0 {
            return Err(Error::Image {
                file: name.into(),
                message: "it has no pixels".into(),
            });
        }
        Ok(Image {
            width: width as usize,
            height: height as usize,
            rgb: rgba.pixels().flat_map(on_white).collect(),
        })
    }

    /// Width and height in pixels.
    pub fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// The picture stretched to `width` by `height` pixels, both at least 1,
    /// bicubic with antialiasing, rounding to 8 bits after each direction as
    /// Pillow and torchvision do.
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
    /// the one frame stands for every frame of a patch.
    ///
    /// # Errors
    /// [`Error::Grid`] if `grid` is 0 or beyond [`MOST_GRID`].
    pub fn patches(&self, grid: usize, config: &VisionConfig) -> Result<Patches, Error> {
        if grid == 0 || grid > MOST_GRID {
            return Err(Error::Grid { grid });
        }
        let side = grid * config.token_pixels();
        let square = self.resize(side, side);
        let (merge, patch) = (config.spatial_merge_size, config.patch_size);
        let (rows, cols) = (grid * grid * merge * merge, config.patch_len());
        let mut values = Vec::with_capacity(rows * cols);
        for row in 0..rows {
            let (block, within) = (row / (merge * merge), row % (merge * merge));
            let top = (block / grid * merge + within / merge) * patch;
            let left = (block % grid * merge + within % merge) * patch;
            for colour in 0..config.in_channels {
                for _frame in 0..config.temporal_patch_size {
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
    /// The values as little-endian bytes.
    pub fn to_le_bytes(&self) -> Vec<u8> {
        self.values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect()
    }
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

/// Resamples the one axis of `from` entries to `to`. Before it, `levels` may
/// have any number of entries; after it, `inner`.
fn resample(levels: &[u8], from: usize, to: usize, inner: usize) -> Vec<u8> {
    let scale = from as f64 / to as f64;
    // Shrinking widens the kernel, which is the antialiasing.
    let stretch = scale.max(1.0);
    let taps: Vec<(usize, Vec<f64>)> = (0..to)
        .map(|target| {
            let centre = (target as f64 + 0.5) * scale;
            let first = (centre - 2.0 * stretch).floor().max(0.0) as usize;
            let last = ((centre + 2.0 * stretch).ceil() as usize).min(from);
            let mut weights: Vec<f64> = (first..last)
                .map(|source| cubic((source as f64 + 0.5 - centre) / stretch))
                .collect();
            let sum: f64 = weights.iter().sum();
            weights.iter_mut().for_each(|weight| *weight /= sum);
            (first, weights)
        })
        .collect();
    let mut out = Vec::with_capacity(levels.len() / from * to);
    let mut sums = vec![0.0; inner];
    for plane in levels.chunks_exact(from * inner) {
        for (first, weights) in &taps {
            sums.fill(0.0);
            let lines = plane[first * inner..].chunks_exact(inner);
            for (line, weight) in lines.zip(weights) {
                for (sum, level) in sums.iter_mut().zip(line) {
                    *sum += weight * f64::from(*level);
                }
            }
            out.extend(
                sums.iter()
                    .map(|sum| (sum + 0.5).floor().clamp(0.0, 255.0) as u8),
            );
        }
    }
    out
}
