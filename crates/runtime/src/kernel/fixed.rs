//! A vector in fixed point, for products with si8.
//!
//! A CPU multiplies integers of 16 bits faster than it widens bytes to f32. Each number of a vector is held as `high · 2¹⁵ + low` units
//! of its block; the products with either part are summed without rounding. A
//! number that is at least a thirty-second of the block's largest is exactly
//! what it was in single precision, a smaller one is off by at most 2⁻²⁹ of the
//! largest; where all are below 2⁻⁹⁰, by at most 2⁻¹²⁰.

use super::{
    lanes::{BLOCK, FixedBlock, Lanes, Simd, power_of_two},
    level::{Level, on_lanes},
};

/// What a unit of the high parts is in units of the low parts.
pub(super) const HIGH: f32 = (1 << 15) as f32;

/// Units are no smaller than for this exponent, so that the product with any
/// f16 scale is exact.
const MIN_EXPONENT: i32 = -90;

/// A vector of whole blocks.
pub(super) struct Fixed {
    pub blocks: Vec<FixedBlock>,
    /// A power of two for each block.
    pub units: Vec<f32>,
}

impl Fixed {
    /// The vector, unless a number of it is not finite.
    pub fn new(level: Level, x: &[f32]) -> Option<Self> {
        let (blocks, rest) = x.as_chunks::<BLOCK>();
        debug_assert!(rest.is_empty());
        let empty = FixedBlock {
            high: [0; BLOCK],
            low: [0; BLOCK],
        };
        let mut fixed = Self {
            blocks: vec![empty; blocks.len()],
            units: vec![0.0; blocks.len()],
        };
        fix(level, blocks, &mut fixed).then_some(fixed)
    }
}

on_lanes! {
    /// Fills `fixed`, and gives whether all numbers are finite; if not, what it
    /// holds means nothing.
    fn fix(x: &[[f32; BLOCK]], fixed: &mut Fixed) -> bool = any_fix
}

#[inline(always)]
fn any_fix<S: Simd>(s: S, x: &[[f32; BLOCK]], fixed: &mut Fixed) -> bool {
    let mut finite = true;
    let places = fixed.blocks.iter_mut().zip(&mut fixed.units);
    for (x, (block, unit)) in x.iter().zip(places) {
        // Bits of magnitudes order as the numbers do, those that are not
        // finite above all others.
        let largest = x.iter().fold(0, |max, x| max.max(x.abs().to_bits()));
        finite &= largest < f32::INFINITY.to_bits();
        // All are less than two to the power of this.
        let exponent = ((largest >> 23) as i32 - 126).max(MIN_EXPONENT);
        let to_high = s.splat(power_of_two(14 - exponent));
        *unit = power_of_two(exponent - 29);
        let high = block.high.as_chunks_mut().0;
        let low = block.low.as_chunks_mut().0;
        for ((x, high), low) in x.as_chunks().0.iter().zip(high).zip(low) {
            let x = s.load(x).mul(to_high);
            let whole = x.round();
            whole.store_i16(high);
            // What is left is at most a half, and exact.
            x.sub(whole).mul(s.splat(HIGH)).round().store_i16(low);
        }
    }
    finite
}
