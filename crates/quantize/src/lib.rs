//! Block quantization of weight matrices, to the bit, and the table of named
//! recipes that says how the matrices of a decoder are stored.
//!
//! Weights arrive as the little-endian bytes of a checkpoint (bf16, f16 or
//! f32), are rounded to f16 first (to nearest, ties to even), and leave as
//! int8 values with one f16 scale for every [`BLOCK`] of them along the input
//! axis. No matrix is copied whole: each row is converted where it is used, rows
//! run in parallel, and the result does not depend on the number of threads.
//!
//! * [`Matrix`] quantizes rows to a [`BlockFormat`], or rounds them to f16.
//! * [`recipe`] has the table of named recipes.
//!
//! ```
//! use quantize::{BlockFormat, Element, Matrix, Scheme, Weights};
//!
//! // One row of 32 ones, as bf16.
//! let bytes: Vec<u8> = [0x80, 0x3f].repeat(32);
//! let weights = Weights::new(Element::Bf16, &bytes);
//! let matrix = Matrix::new(&[weights], 32)?;
//!
//! let (mut data, mut scales) = (vec![0; 32], vec![0; 2]);
//! let format = BlockFormat::int8(Scheme::SymmetricWithClipping);
//! matrix.quantize(format, 0..1, &mut data, &mut scales)?;
//! assert_eq!(data, [127; 32]);
//! assert_eq!(scales, half::f16::from_f32(1.0 / 127.0).to_le_bytes());
//! # Ok::<(), quantize::Error>(())
//! ```
#![deny(missing_docs)]
#![warn(clippy::multiple_unsafe_ops_per_block)]

/// The example of the README, as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(target_arch = "x86_64")]
mod avx2;
mod element;
mod error;
mod format;
mod kernel;
mod matrix;
pub mod recipe;
mod scalar;

pub use element::{Element, Weights};
pub use error::Error;
pub use format::{BLOCK, BlockFormat, Scheme};
pub use matrix::Matrix;
pub use recipe::{RECIPES, Recipe, Storage};
