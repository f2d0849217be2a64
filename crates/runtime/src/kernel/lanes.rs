//! Sixteen numbers at once, whatever the CPU calls them.
//!
//! A kernel is written once, over [`Simd`] and its [`Lanes`], and compiled for
//! each [`Level`](super::level::Level). All of them compute the same, to the bit: sums run in
//! sixteen lanes, and each product, or exact sum of a few, is added with one
//! rounding.
//!
//! A value of a `Simd` type is a proof that the CPU has its instructions: the
//! type's `detect` alone makes one. Lanes are made by it alone, so that they
//! prove the same, and everything here is safe to call.

use half::f16;

pub(super) const WIDTH: usize = 16;

/// Elements of a row of si8 that share a scale.
pub(super) const BLOCK: usize = 2 * WIDTH;

/// A block of a vector in [fixed point](super::fixed), each number as two of 15
/// bits and a sign.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct FixedBlock {
    /// From −2¹⁴ to 2¹⁴.
    pub high: [i16; BLOCK],
    /// From −2¹⁴ to 2¹⁴.
    pub low: [i16; BLOCK],
}

/// A set of instructions that this CPU has, and what makes lanes of memory.
pub(super) trait Simd: Copy {
    type Lanes: Lanes<Simd = Self>;

    /// How many lanes a tile of a product has side by side.
    const TILE: usize;

    fn splat(self, value: f32) -> Self::Lanes;
    fn load(self, from: &[f32; WIDTH]) -> Self::Lanes;
    /// From sixteen si8.
    fn load_i8(self, from: &[u8; WIDTH]) -> Self::Lanes;
    fn load_f16(self, from: &[f16; WIDTH]) -> Self::Lanes;
    /// The products of si8 with a block in fixed point, four to a lane: in the
    /// first eight lanes those with its high parts, in the others those with
    /// its low parts. None is rounded: no sum is beyond ±2²³.
    fn multiply_fixed(self, bytes: &[u8; BLOCK], x: &FixedBlock) -> Self::Lanes;

    /// Asks for cache lines that will be read soon.
    #[inline(always)]
    fn prefetch(self, _from: &[u8]) {}
}

/// Sixteen numbers of f32.
pub(super) trait Lanes: Copy {
    type Simd: Simd<Lanes = Self>;

    /// What the lanes were made by.
    fn simd(self) -> Self::Simd;
    fn store(self, to: &mut [f32; WIDTH]);
    /// Rounds to the nearest, ties to even.
    fn store_f16(self, to: &mut [f16; WIDTH]);
    /// Stores integers. Those beyond 16 bits differ from level to level.
    fn store_i16(self, to: &mut [i16; WIDTH]);
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    /// The smaller of each pair; `other` where either is NaN.
    fn min(self, other: Self) -> Self;
    /// The larger of each pair; `other` where either is NaN.
    fn max(self, other: Self) -> Self;
    /// `self · factor + sum`, rounded once.
    fn fma(self, factor: Self, sum: Self) -> Self;
    /// To the nearest integer, ties to even.
    fn round(self) -> Self;
    /// Two to the power of integers from −126 to 127.
    fn power_of_two(self) -> Self;

    /// The sum of all, in the order of a tree.
    #[inline(always)]
    fn sum(self) -> f32 {
        let mut lanes = [0.0; WIDTH];
        self.store(&mut lanes);
        let mut width = WIDTH / 2;
        while width > 0 {
            for i in 0..width {
                lanes[i] += lanes[i + width];
            }
            width /= 2;
        }
        lanes[0]
    }

    /// The largest.
    #[inline(always)]
    fn reduce_max(self) -> f32 {
        let mut lanes = [0.0; WIDTH];
        self.store(&mut lanes);
        lanes.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }

    /// `e` to the power of each, to a unit in the last place or two; beyond
    /// ±87 as at ±87. NaN stays NaN.
    #[inline(always)]
    fn exp(self) -> Self {
        let s = self.simd();
        let x = s.splat(87.0).min(s.splat(-87.0).max(self));
        let n = x.mul(s.splat(std::f32::consts::LOG2_E)).round();
        // ln 2 in two parts, of which the first has few digits.
        let r = n.fma(s.splat(-0.693_359_4), x);
        let r = n.fma(s.splat(2.121_944_4e-4), r);
        // The series, its last terms moved to share the error out.
        let mut sum = s.splat(1.987_569_2e-4);
        for term in [
            1.398_199_9e-3,
            8.333_452e-3,
            4.166_579_6e-2,
            0.166_666_65,
            0.5,
        ] {
            sum = sum.fma(r, s.splat(term));
        }
        let y = sum.fma(r.mul(r), r).add(s.splat(1.0));
        y.mul(n.power_of_two())
    }
}

/// Two to the power of an integer from −126 to 127.
#[inline(always)]
pub(super) fn power_of_two(exponent: i32) -> f32 {
    f32::from_bits(((exponent + 127) as u32) << 23)
}
