//! Sixteen numbers at once, whatever the processor calls them.
//!
//! A kernel is written once, over [`Lanes`], and compiled for each [`Level`].
//! All of them compute the same, to the bit: sums run in sixteen lanes, and
//! each product, or exact sum of a few, is added with one rounding.

use half::f16;

use super::fixed::FixedBlock;

pub(super) const WIDTH: usize = 16;

/// Elements of a row of si8 that share a scale.
pub(super) const BLOCK: usize = 2 * WIDTH;

/// Sixteen numbers of single precision.
///
/// The methods are safe to call only where the processor has the
/// instructions: kernels get a type of lanes from [`on_lanes!`] alone.
pub(super) trait Lanes: Copy {
    /// How many of them a tile of a product has side by side.
    const TILE: usize;

    fn splat(value: f32) -> Self;
    fn load(from: &[f32; WIDTH]) -> Self;
    /// From sixteen si8.
    fn load_i8(from: &[u8; WIDTH]) -> Self;
    fn load_f16(from: &[f16; WIDTH]) -> Self;
    /// The products of si8 with a block in fixed point, four to a lane: in the
    /// first eight lanes those with its high parts, in the others those with
    /// its low parts. None is rounded: no sum is beyond ±2²³.
    fn multiply_fixed(bytes: &[u8; BLOCK], x: &FixedBlock) -> Self;
    fn store(self, to: &mut [f32; WIDTH]);
    /// Rounds to the nearest, ties to even.
    fn store_f16(self, to: &mut [f16; WIDTH]);
    /// Integers that 16 bits hold; of others, levels differ.
    fn store_i16(self, to: &mut [i16; WIDTH]);
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    /// The lesser; `other` where one is no number.
    fn min(self, other: Self) -> Self;
    /// The greater; `other` where one is no number.
    fn max(self, other: Self) -> Self;
    /// `self · factor + sum`, rounded once.
    fn fma(self, factor: Self, sum: Self) -> Self;
    /// To the nearest integer, ties to even.
    fn round(self) -> Self;
    /// Two to the power of integers from −126 to 127.
    fn power_of_two(self) -> Self;

    /// Says that what begins here will be read soon.
    #[inline(always)]
    fn prefetch(_from: &[u8]) {}

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

    /// The greatest.
    #[inline(always)]
    fn greatest(self) -> f32 {
        let mut lanes = [0.0; WIDTH];
        self.store(&mut lanes);
        lanes.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }

    /// `e` to the power of each, to a unit in the last place or two; beyond
    /// ±87 as at ±87. What is no number stays none.
    #[inline(always)]
    fn exp(self) -> Self {
        let x = Self::splat(87.0).min(Self::splat(-87.0).max(self));
        let n = x.mul(Self::splat(std::f32::consts::LOG2_E)).round();
        // ln 2 in two parts, of which the first has few digits.
        let r = n.fma(Self::splat(-0.693_359_4), x);
        let r = n.fma(Self::splat(2.121_944_4e-4), r);
        // The series, its last terms moved to share the error out.
        let mut sum = Self::splat(1.987_569_2e-4);
        for term in [
            1.398_199_9e-3,
            8.333_452e-3,
            4.166_579_6e-2,
            0.166_666_65,
            0.5,
        ] {
            sum = sum.fma(r, Self::splat(term));
        }
        let y = sum.fma(r.mul(r), r).add(Self::splat(1.0));
        y.mul(n.power_of_two())
    }
}

/// A set of instructions that this processor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// Any processor. The others are compared with it.
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Level {
    /// Those that the processor has, the best first.
    pub fn all() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let more = {
            use std::arch::is_x86_feature_detected as has;
            let avx2 = has!("avx2") && has!("fma") && has!("f16c");
            let avx512 =
                avx2 && has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl");
            let known = [(avx512, Self::Avx512), (avx2, Self::Avx2)];
            known
                .into_iter()
                .filter_map(|(has, level)| has.then_some(level))
        };
        #[cfg(not(target_arch = "x86_64"))]
        let more = std::iter::empty();
        more.chain([Self::Scalar])
    }

    /// The best of them.
    pub fn best() -> Self {
        static BEST: std::sync::OnceLock<Level> = std::sync::OnceLock::new();
        *BEST.get_or_init(|| Self::all().next().unwrap_or(Self::Scalar))
    }
}

/// Defines a function that runs a kernel, `$any`, at a level.
macro_rules! on_lanes {
    (
        $(#[$doc:meta])*
        $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $out:ty)? = $any:ident
    ) => {
        $(#[$doc])*
        $vis fn $name(level: $crate::kernel::lanes::Level, $($arg: $type),*) $(-> $out)? {
            use $crate::kernel::lanes::Level;
            match level {
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => {
                    #[target_feature(
                        enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl"
                    )]
                    fn run($($arg: $type),*) $(-> $out)? {
                        $any::<$crate::kernel::avx512::Avx512>($($arg),*)
                    }
                    // SAFETY: levels come from `Level::all`, which asked.
                    unsafe { run($($arg),*) }
                }
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => {
                    #[target_feature(enable = "avx2,fma,f16c")]
                    fn run($($arg: $type),*) $(-> $out)? {
                        $any::<$crate::kernel::avx2::Avx2>($($arg),*)
                    }
                    // SAFETY: levels come from `Level::all`, which asked.
                    unsafe { run($($arg),*) }
                }
                Level::Scalar => $any::<$crate::kernel::scalar::Scalar>($($arg),*),
            }
        }
    };
}
pub(super) use on_lanes;
