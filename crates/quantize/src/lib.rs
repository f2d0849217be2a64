//! Int8 block quantization of weight matrices, to the bit.
//!
//! Weights arrive as the little-endian bytes of a checkpoint (bf16, f16 or
//! f32), are rounded to f16 first (to nearest, ties to even), and leave as
//! int8 values with one f16 scale for every [`BLOCK`] of them along the input
//! axis. Nothing is copied whole: each row is converted where it is used, rows
//! run in parallel, and the result does not depend on how many threads there
//! are.
//!
//! ```
//! use quantize::{Element, Matrix, Scheme, Weights};
//!
//! // One row of 32 ones, as bf16.
//! let bytes: Vec<u8> = [0x80, 0x3f].repeat(32);
//! let weights = Weights::new(Element::Bf16, &bytes);
//! let matrix = Matrix::new(&[weights], 32)?;
//!
//! let (mut data, mut scales) = (vec![0; 32], vec![0; 2]);
//! matrix.quantize(Scheme::SymmetricWithClipping, 0..1, &mut data, &mut scales)?;
//! assert_eq!(data, [127; 32]);
//! assert_eq!(scales, half::f16::from_f32(1.0 / 127.0).to_le_bytes());
//! # Ok::<(), quantize::Error>(())
//! ```
#![deny(missing_docs)]

#[cfg(target_arch = "x86_64")]
mod avx2;
mod element;
mod error;
mod kernel;
mod matrix;

pub use element::{Element, Weights};
pub use error::Error;
pub use matrix::Matrix;

/// How many weights along the input axis share one scale.
pub const BLOCK: usize = 32;

/// How a block of weights becomes int8.
///
/// Both are symmetric around zero; they differ in the divisor that makes the
/// scale and in the range that values are clamped to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// The decoder body: scale = f16(max|w| / 127), values −127 to 127.
    SymmetricWithClipping,
    /// The head: scale = f16(max|w| / 127.5), values −128 to 127.
    Symmetric,
}

impl Scheme {
    /// What max|w| is divided by to make the scale.
    pub(crate) fn divisor(self) -> f32 {
        match self {
            Scheme::SymmetricWithClipping => 127.0,
            Scheme::Symmetric => 127.5,
        }
    }

    /// The least int8 value; the greatest is 127 in both schemes.
    pub(crate) fn least(self) -> f32 {
        match self {
            Scheme::SymmetricWithClipping => -127.0,
            Scheme::Symmetric => -128.0,
        }
    }
}
