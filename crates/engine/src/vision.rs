//! Vision encoders: what a decoder is given in place of a picture.

use std::sync::Arc;

use bundle::{
    PictureGeometry,
    contract::{MAIN, PATCHES, PIXEL_VALUES},
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
        let (dims, pixels) = match (shape(PATCHES).as_deref(), shape(PIXEL_VALUES).as_deref()) {
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
        Ok(Self {
            program: Arc::new(program),
            dims,
            pixels,
        })
    }

    /// The shape of its patches: how many, and values of each.
    pub fn dims(&self) -> [usize; 2] {
        self.dims
    }

    /// Encodes a picture; returns the outputs, which are inputs of the decoder
    /// by the same names.
    ///
    /// # Errors
    /// Patches of another shape than [`VisionEncoder::dims`], or a run that
    /// fails.
    pub fn encode(&self, patches: &Patches) -> Result<StaticInputs> {
        let main = self.program.function(MAIN)?;
        let input = match self.pixels {
            None => {
                let dims = (patches.rows, patches.cols);
                let values = Tensor::from_vec(patches.values.clone(), dims, &Device::Cpu)?;
                (PATCHES, values)
            }
            Some(spec) => {
                let pixels = patches.pixels(spec.grid, spec.patches).ok_or_else(|| {
                    Error::Mismatch(format!(
                        "the picture has {} patches of {} values, expected {:?}",
                        patches.rows, patches.cols, self.dims
                    ))
                })?;
                let dims = (1, 3, spec.pixels(), spec.pixels());
                (PIXEL_VALUES, Tensor::from_vec(pixels, dims, &Device::Cpu)?)
            }
        };
        let outputs = main.run(&[input], &mut States::new())?;
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
