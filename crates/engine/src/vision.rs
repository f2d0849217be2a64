//! Vision encoders: what a decoder is given in place of a picture.

use std::{fmt, sync::Arc};

use bundle::{
    Manifest, PictureGeometry, Vision,
    contract::{IMAGE_FEATURES, MAIN, PATCHES},
};
use candle_core::{Device, Tensor};
use picture::{Image, PatchSpec, Patches};
use runtime::{Program, States};

use crate::{Error, Result, StaticInputs};

/// How a model takes pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureSpec {
    /// Rows and columns of a picture, in tokens.
    pub grid: usize,
    /// How it is cut into patches.
    pub patches: PatchSpec,
}

impl From<&PictureGeometry> for PictureSpec {
    fn from(geometry: &PictureGeometry) -> Self {
        Self {
            grid: geometry.grid,
            patches: geometry.patches,
        }
    }
}

impl PictureSpec {
    /// How a bundle takes pictures; the section `vision` of its manifest says so
    /// where `user_data` does not, as in bundles that Apple's exporter makes.
    ///
    /// # Errors
    /// [`Error::Bundle`] if the manifest states no geometry, [`Error::Mismatch`]
    /// for a section `vision` whose pictures this crate does not make.
    pub fn of(manifest: &Manifest) -> Result<Self> {
        match (&manifest.vision, manifest.geometry()) {
            (_, Ok(geometry)) => Ok(Self::from(&geometry)),
            (Some(vision), Err(_)) if !PictureGeometry::is_in(&manifest.user_data) => {
                Self::of_pixels(vision)
            }
            (_, Err(error)) => Err(error.into()),
        }
    }

    /// The squares of a section `vision`. A host gives pixels, so that nobody
    /// sees how they were cut in between. Such a manifest has no grid, so it is the
    /// root of the number of tokens: pictures are squares in Apple's package.
    fn of_pixels(vision: &Vision) -> Result<Self> {
        let unlike = |what: &str, expected: &dyn fmt::Debug, found: &dyn fmt::Debug| {
            Err(Error::Mismatch(format!(
                "vision.{what} is {found:?}, and pictures are made with {expected:?} here"
            )))
        };
        for (key, found) in [
            ("image_mean", vision.image_mean),
            ("image_std", vision.image_std),
        ] {
            if found != [0.5; 3] {
                return unlike(key, &[0.5; 3], &found);
            }
        }
        if vision.rescale_factor != 1.0 {
            return unlike("rescale_factor", &1.0, &vision.rescale_factor);
        }
        if vision.image_strategy != "stretch" {
            return unlike("image_strategy", &"stretch", &vision.image_strategy);
        }
        let grid = vision.image_token_count.isqrt();
        let merge_size = vision.image_size.checked_div(vision.patch_size);
        let merge_size = merge_size.and_then(|patches| patches.checked_div(grid));
        let spec = Self {
            grid,
            patches: PatchSpec {
                patch_size: vision.patch_size,
                merge_size: merge_size.unwrap_or_default(),
                temporal_patch_size: 1,
            },
        };
        let is_square = grid.checked_mul(grid) == Some(vision.image_token_count);
        let is_bounded = spec.patches.check(grid).is_ok();
        if !(is_square && is_bounded && spec.pixels() == vision.image_size) {
            return Err(Error::Mismatch(format!(
                "a picture of {} pixels a side in patches of {} does not make a square of {} \
                 tokens",
                vision.image_size, vision.patch_size, vision.image_token_count
            )));
        }
        Ok(spec)
    }

    /// Pixels along a side of the square to which a picture is resized.
    #[must_use]
    pub fn pixels(&self) -> usize {
        self.patches.side(self.grid)
    }

    /// Cuts a picture.
    ///
    /// # Errors
    /// As [`Image::patches`].
    pub fn cut(&self, image: &Image) -> Result<Patches> {
        Ok(image.patches(self.grid, self.patches)?)
    }
}

/// A vision encoder that is ready to run. Clones share the program.
#[derive(Clone, Debug)]
pub struct VisionEncoder {
    program: Arc<Program>,
    /// The shape of its patches.
    dims: [usize; 2],
    /// The name of its input.
    input: String,
    /// How the picture was cut, where the program takes pixels.
    pixels: Option<PictureSpec>,
}

impl VisionEncoder {
    /// Takes a vision encoder: a program whose `main` takes patches, or pixels
    /// that `spec` says how to put together from patches.
    ///
    /// # Errors
    /// [`Error::NotAVisionEncoder`] for any other program.
    pub fn new(program: Program, spec: PictureSpec) -> Result<Self> {
        let main = program.function(MAIN)?;
        let shape = |name| main.input(name).and_then(|ty| ty.static_dims());
        let wrong = |expected: &str| {
            let inputs = main.inputs().iter();
            let found: Vec<String> = inputs
                .map(|input| format!("{} {}", input.name, input.ty))
                .collect();
            Err(Error::NotAVisionEncoder(format!(
                "expected an input {expected}, found {}",
                found.join(", ")
            )))
        };
        let cut = [spec.patches.rows(spec.grid), spec.patches.cols()];
        // Hosts bind pixels by position, and patches by name.
        let by_position = match main.inputs() {
            [only] => Some(only.name.as_str()),
            _ => None,
        };
        let found = (shape(PATCHES), by_position.and_then(shape));
        let (dims, pixels) = match (found.0.as_deref(), found.1.as_deref()) {
            (Some([rows, cols]), _) => ([*rows as usize, *cols as usize], None),
            (None, Some([1, 3, height, width])) => {
                let side = spec.pixels() as u64;
                if [*height, *width] != [side; 2] {
                    return wrong(&format!("`pixel_values` [1, 3, {side}, {side}]"));
                }
                (cut, Some(spec))
            }
            _ => return wrong("`patches` [rows, columns] or `pixel_values` [1, 3, H, W]"),
        };
        let input = match (pixels, by_position) {
            (Some(_), Some(name)) => name.to_owned(),
            _ => PATCHES.to_owned(),
        };
        Ok(Self {
            program: Arc::new(program),
            dims,
            input,
            pixels,
        })
    }

    /// The shape of its patches: how many, and values of each.
    pub fn dims(&self) -> [usize; 2] {
        self.dims
    }

    /// Encodes a picture; returns the outputs, which are inputs of the decoder
    /// by the same names. Of a program that takes pixels it is the first, whatever
    /// its name.
    ///
    /// # Errors
    /// Patches of another shape than [`VisionEncoder::dims`], or a run that
    /// fails.
    pub fn encode(&self, patches: &Patches) -> Result<StaticInputs> {
        let main = self.program.function(MAIN)?;
        let input = match self.pixels {
            None => {
                let dims = (patches.rows, patches.cols);
                Tensor::from_vec(patches.to_f16(), dims, &Device::Cpu)?
            }
            Some(spec) => {
                let pixels = patches.pixels(spec.grid, spec.patches).ok_or_else(|| {
                    Error::Mismatch(format!(
                        "the picture has {} patches of {} values, expected {:?}",
                        patches.rows, patches.cols, self.dims
                    ))
                })?;
                let dims = (1, 3, spec.pixels(), spec.pixels());
                Tensor::from_vec(pixels, dims, &Device::Cpu)?
            }
        };
        let mut outputs = main.run(&[(&self.input, input)], &mut States::new())?;
        if self.pixels.is_some() {
            outputs.truncate(1);
            for (name, _) in &mut outputs {
                IMAGE_FEATURES.clone_into(name);
            }
        }
        Ok(outputs.into_iter().collect())
    }

    /// Waits until the device has done what it was given.
    ///
    /// # Errors
    /// The device failed.
    pub fn synchronize(&self) -> Result<()> {
        Ok(self.program.device().synchronize()?)
    }
}
