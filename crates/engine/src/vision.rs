//! Vision encoders: what a decoder is given in place of a picture.

use std::sync::Arc;

use bundle::{
    PictureGeometry,
    contract::{MAIN, PATCHES},
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
    /// The shape of its input.
    dims: [usize; 2],
}

impl VisionEncoder {
    /// Takes a vision encoder: a program whose `main` takes patches.
    ///
    /// # Errors
    /// [`Error::NotAVisionEncoder`] for any other program.
    pub fn new(program: Program) -> Result<Self> {
        let input = program.function(MAIN)?.input(PATCHES);
        let dims = input.and_then(|ty| ty.static_dims());
        let dims = match dims.as_deref() {
            Some([rows, cols]) => [*rows as usize, *cols as usize],
            _ => {
                let found = input.map_or_else(|| "nothing".to_owned(), ToString::to_string);
                return Err(Error::NotAVisionEncoder(format!(
                    "expected an input `patches` [rows, columns], found {found}"
                )));
            }
        };
        Ok(Self {
            program: Arc::new(program),
            dims,
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
        let dims = (patches.rows, patches.cols);
        let patches = Tensor::from_vec(patches.values.clone(), dims, &Device::Cpu)?;
        let main = self.program.function(MAIN)?;
        let outputs = main.run(&[(PATCHES, patches)], &mut States::new())?;
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
