//! How a block of weights becomes integers.

use std::fmt;

/// How many weights along the input axis share one scale.
pub const BLOCK: usize = 32;

/// How the weights of a block map to integers.
///
/// Both schemes are symmetric around zero; they differ in the divisor that
/// makes the scale and in the range that values are clamped to. The names are
/// those of Core AI's optimizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// For the decoder layers: scale = f16(max|w| / 127), values −127 to 127.
    SymmetricWithClipping,
    /// For the head: scale = f16(max|w| / 127.5), values −128 to 127.
    Symmetric,
}

impl Scheme {
    /// What max|w| is divided by to make the scale of an int8 block.
    pub(crate) fn divisor(self) -> f32 {
        match self {
            Scheme::SymmetricWithClipping => 127.0,
            Scheme::Symmetric => 127.5,
        }
    }

    /// The smallest int8 value; the largest is 127 in both schemes.
    pub(crate) fn min(self) -> f32 {
        match self {
            Scheme::SymmetricWithClipping => -127.0,
            Scheme::Symmetric => -128.0,
        }
    }
}

/// Integers with one f16 scale per block along the input axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockFormat {
    /// Bits of one integer. Only 8 is implemented.
    pub bits: u8,
    /// Weights that share a scale. Only [`BLOCK`] is implemented.
    pub block: usize,
    /// How weights map to integers.
    pub scheme: Scheme,
}

impl BlockFormat {
    /// Int8 in blocks of [`BLOCK`].
    #[must_use]
    pub const fn int8(scheme: Scheme) -> Self {
        Self {
            bits: 8,
            block: BLOCK,
            scheme,
        }
    }

    /// Bytes that the integers of so many weights take, packed.
    #[must_use]
    pub const fn data_bytes(self, weights: usize) -> usize {
        (weights * self.bits as usize).div_ceil(8)
    }

    /// Bytes that the scales of so many weights take, whole blocks of them.
    #[must_use]
    pub const fn scale_bytes(self, weights: usize) -> usize {
        match weights.checked_div(self.block) {
            Some(blocks) => blocks * 2,
            None => 0,
        }
    }
}

impl fmt::Display for BlockFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "int{} in blocks of {}", self.bits, self.block)
    }
}
