//! How a program is run.

/// How a program is run.
///
/// ```
/// use runtime::{Accumulate, Options};
///
/// let mut options = Options::unfused();
/// options.accumulate = Accumulate::F16;
/// assert_eq!(options, Options::as_core_ai());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// Whether a composite graph, and a product with a constant matrix, is
    /// computed as one operation. The results differ by less than a rounding of
    /// the intermediate values to f16.
    pub fuse: bool,
    /// How products of f16 are summed where they are not fused.
    pub accumulate: Accumulate,
}

impl Default for Options {
    /// Fused, with sums in f32.
    fn default() -> Self {
        Self {
            fuse: true,
            accumulate: Accumulate::F32,
        }
    }
}

impl Options {
    /// Every operation by itself, with sums in f32.
    #[must_use]
    pub const fn unfused() -> Self {
        Self {
            fuse: false,
            accumulate: Accumulate::F32,
        }
    }

    /// As Core AI's own runtime computes on a CPU: nothing is fused, and sums
    /// of f16 are rounded to f16 after each term. This is slow, and meant for
    /// comparisons.
    #[must_use]
    pub const fn as_core_ai() -> Self {
        Self {
            fuse: false,
            accumulate: Accumulate::F16,
        }
    }
}

/// How the products of a row and a column of f16 are summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Accumulate {
    /// In f32, rounded once.
    F32,
    /// In f16, one after the other; each product is rounded too. Only the CPU
    /// can do this; other devices sum as [`Accumulate::F32`] says.
    F16,
}
