//! Lanes as an array, on any CPU: what the others are compared with.
//!
//! Where vectors and the product that is added with one rounding belong to
//! every CPU of a kind, as NEON does, the compiler makes them of this.
//! Elsewhere it is slow.

use half::f16;

use super::lanes::{BLOCK, FixedBlock, Lanes, Simd, WIDTH, power_of_two};

/// Instructions that every CPU has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scalar;

#[derive(Clone, Copy)]
pub(super) struct ScalarLanes([f32; WIDTH]);

impl ScalarLanes {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

/// Sums of four products each; in this shape the compiler makes vectors of it.
#[inline(always)]
fn fours(bytes: &[u8; BLOCK], part: &[i16; BLOCK]) -> [i32; WIDTH / 2] {
    let products: [i32; BLOCK] =
        std::array::from_fn(|i| i32::from(bytes[i] as i8) * i32::from(part[i]));
    std::array::from_fn(|lane| {
        let (first, second) = (2 * lane, WIDTH + 2 * lane);
        products[first] + products[first + 1] + products[second] + products[second + 1]
    })
}

impl Simd for Scalar {
    type Lanes = ScalarLanes;

    const TILE: usize = 1;

    #[inline(always)]
    fn splat(self, value: f32) -> ScalarLanes {
        ScalarLanes([value; WIDTH])
    }

    #[inline(always)]
    fn load(self, from: &[f32; WIDTH]) -> ScalarLanes {
        ScalarLanes(*from)
    }

    #[inline(always)]
    fn load_i8(self, from: &[u8; WIDTH]) -> ScalarLanes {
        ScalarLanes(from.map(|byte| f32::from(byte as i8)))
    }

    #[inline(always)]
    fn load_f16(self, from: &[f16; WIDTH]) -> ScalarLanes {
        ScalarLanes(from.map(f16::to_f32))
    }

    #[inline(always)]
    fn multiply_fixed(self, bytes: &[u8; BLOCK], x: &FixedBlock) -> ScalarLanes {
        let (high, low) = (fours(bytes, &x.high), fours(bytes, &x.low));
        ScalarLanes(std::array::from_fn(|lane| {
            if lane < WIDTH / 2 {
                high[lane] as f32
            } else {
                low[lane - WIDTH / 2] as f32
            }
        }))
    }
}

impl Lanes for ScalarLanes {
    type Simd = Scalar;

    #[inline(always)]
    fn simd(self) -> Scalar {
        Scalar
    }

    #[inline(always)]
    fn store(self, to: &mut [f32; WIDTH]) {
        *to = self.0;
    }

    #[inline(always)]
    fn store_f16(self, to: &mut [f16; WIDTH]) {
        *to = self.0.map(f16::from_f32);
    }

    #[inline(always)]
    fn store_i16(self, to: &mut [i16; WIDTH]) {
        *to = self.0.map(|number| number as i16);
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn fma(self, factor: Self, sum: Self) -> Self {
        Self(std::array::from_fn(|i| {
            self.0[i].mul_add(factor.0[i], sum.0[i])
        }))
    }

    #[inline(always)]
    fn round(self) -> Self {
        Self(self.0.map(f32::round_ties_even))
    }

    #[inline(always)]
    fn power_of_two(self) -> Self {
        Self(self.0.map(|n| power_of_two(n as i32)))
    }
}
