//! Lanes as two registers of AVX.

use std::arch::x86_64::*;

use half::f16;

use super::{
    fixed::FixedBlock,
    lanes::{BLOCK, Lanes, WIDTH},
};

#[derive(Clone, Copy)]
pub(super) struct Avx2(__m256, __m256);

impl Avx2 {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(__m256, __m256) -> __m256) -> Self {
        Self(f(self.0, other.0), f(self.1, other.1))
    }
}

// SAFETY of every block below: `on_lanes!` uses this type only where the
// processor has the instructions, and loads and stores stay in arrays of
// sixteen elements, which need no alignment.
impl Lanes for Avx2 {
    const TILE: usize = 1;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        let all = unsafe { _mm256_set1_ps(value) };
        Self(all, all)
    }

    #[inline(always)]
    fn load(from: &[f32; WIDTH]) -> Self {
        let from = from.as_ptr();
        unsafe { Self(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))) }
    }

    #[inline(always)]
    fn load_i8(from: &[u8; WIDTH]) -> Self {
        unsafe {
            let from: *const __m128i = from.as_ptr().cast();
            let low = _mm256_cvtepi8_epi32(_mm_loadl_epi64(from));
            let high = _mm256_cvtepi8_epi32(_mm_loadl_epi64(from.byte_add(8)));
            Self(_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high))
        }
    }

    #[inline(always)]
    fn load_f16(from: &[f16; WIDTH]) -> Self {
        let from: *const __m128i = from.as_ptr().cast();
        unsafe {
            let (low, high) = (_mm_loadu_si128(from), _mm_loadu_si128(from.add(1)));
            Self(_mm256_cvtph_ps(low), _mm256_cvtph_ps(high))
        }
    }

    #[inline(always)]
    fn multiply_fixed(bytes: &[u8; BLOCK], x: &FixedBlock) -> Self {
        let bytes: *const __m128i = bytes.as_ptr().cast();
        // SAFETY: a block has 32 bytes, and as many numbers of 16 bits.
        unsafe {
            let first = _mm256_cvtepi8_epi16(_mm_loadu_si128(bytes));
            let second = _mm256_cvtepi8_epi16(_mm_loadu_si128(bytes.add(1)));
            let multiply = |x: &[i16; BLOCK]| {
                let x: *const __m256i = x.as_ptr().cast();
                let products = _mm256_add_epi32(
                    _mm256_madd_epi16(first, _mm256_loadu_si256(x)),
                    _mm256_madd_epi16(second, _mm256_loadu_si256(x.add(1))),
                );
                _mm256_cvtepi32_ps(products)
            };
            Self(multiply(&x.high), multiply(&x.low))
        }
    }

    #[inline(always)]
    fn store(self, to: &mut [f32; WIDTH]) {
        let to = to.as_mut_ptr();
        unsafe {
            _mm256_storeu_ps(to, self.0);
            _mm256_storeu_ps(to.add(8), self.1);
        }
    }

    #[inline(always)]
    fn store_f16(self, to: &mut [f16; WIDTH]) {
        let to: *mut __m128i = to.as_mut_ptr().cast();
        unsafe {
            _mm_storeu_si128(to, _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0));
            _mm_storeu_si128(
                to.add(1),
                _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.1),
            );
        }
    }

    #[inline(always)]
    fn store_i16(self, to: &mut [i16; WIDTH]) {
        unsafe {
            let (low, high) = (_mm256_cvtps_epi32(self.0), _mm256_cvtps_epi32(self.1));
            // Packed in two halves, each of a half of either.
            let packed = _mm256_packs_epi32(low, high);
            let packed = _mm256_permute4x64_epi64::<0b11_01_10_00>(packed);
            _mm256_storeu_si256(to.as_mut_ptr().cast(), packed);
        }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| unsafe { _mm256_add_ps(a, b) })
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| unsafe { _mm256_sub_ps(a, b) })
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| unsafe { _mm256_mul_ps(a, b) })
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| unsafe { _mm256_div_ps(a, b) })
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| unsafe { _mm256_min_ps(a, b) })
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| unsafe { _mm256_max_ps(a, b) })
    }

    #[inline(always)]
    fn fma(self, factor: Self, sum: Self) -> Self {
        unsafe {
            Self(
                _mm256_fmadd_ps(self.0, factor.0, sum.0),
                _mm256_fmadd_ps(self.1, factor.1, sum.1),
            )
        }
    }

    #[inline(always)]
    fn round(self) -> Self {
        const HOW: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        unsafe {
            Self(
                _mm256_round_ps::<HOW>(self.0),
                _mm256_round_ps::<HOW>(self.1),
            )
        }
    }

    #[inline(always)]
    fn power_of_two(self) -> Self {
        self.zip(self, |n, _| unsafe {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
        })
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        unsafe {
            let eight = _mm256_add_ps(self.0, self.1);
            let high = _mm256_extractf128_ps::<1>(eight);
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), high);
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }

    #[inline(always)]
    fn prefetch(from: &[u8]) {
        for line in from.chunks(64) {
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) }
        }
    }
}
