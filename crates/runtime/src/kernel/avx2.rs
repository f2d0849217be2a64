//! Lanes as two registers of AVX.

use std::arch::x86_64::*;

use half::f16;

use super::lanes::{BLOCK, FixedBlock, Lanes, Simd, WIDTH};

/// Proves that the CPU has AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Avx2(());

impl Avx2 {
    /// The proof, where the CPU has them.
    pub fn detect() -> Option<Self> {
        use std::arch::is_x86_feature_detected as has;
        (has!("avx2") && has!("fma") && has!("f16c")).then_some(Self(()))
    }
}

/// Made by [`Avx2`] alone, and as good a proof.
#[derive(Clone, Copy)]
pub(super) struct Avx2Lanes {
    low: __m256,
    high: __m256,
}

impl Avx2Lanes {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(__m256, __m256) -> __m256) -> Self {
        Self {
            low: f(self.low, other.low),
            high: f(self.high, other.high),
        }
    }
}

impl Simd for Avx2 {
    type Lanes = Avx2Lanes;

    const TILE: usize = 1;

    #[inline(always)]
    fn splat(self, value: f32) -> Avx2Lanes {
        // SAFETY: `self` proves AVX.
        let all = unsafe { _mm256_set1_ps(value) };
        Avx2Lanes {
            low: all,
            high: all,
        }
    }

    #[inline(always)]
    fn load(self, from: &[f32; WIDTH]) -> Avx2Lanes {
        let from = from.as_ptr();
        // SAFETY: `self` proves AVX; two loads of 8 elements, which need no
        // alignment, cover the 16.
        unsafe {
            Avx2Lanes {
                low: _mm256_loadu_ps(from),
                high: _mm256_loadu_ps(from.add(8)),
            }
        }
    }

    #[inline(always)]
    fn load_i8(self, from: &[u8; WIDTH]) -> Avx2Lanes {
        let from: *const __m128i = from.as_ptr().cast();
        // SAFETY: `self` proves AVX2; two loads of 8 bytes, which need no
        // alignment, cover the 16.
        unsafe {
            let low = _mm256_cvtepi8_epi32(_mm_loadl_epi64(from));
            let high = _mm256_cvtepi8_epi32(_mm_loadl_epi64(from.byte_add(8)));
            Avx2Lanes {
                low: _mm256_cvtepi32_ps(low),
                high: _mm256_cvtepi32_ps(high),
            }
        }
    }

    #[inline(always)]
    fn load_f16(self, from: &[f16; WIDTH]) -> Avx2Lanes {
        let from: *const __m128i = from.as_ptr().cast();
        // SAFETY: `self` proves AVX and F16C; two loads of 8 elements of 2
        // bytes, which need no alignment, cover the 16.
        unsafe {
            let (low, high) = (_mm_loadu_si128(from), _mm_loadu_si128(from.add(1)));
            Avx2Lanes {
                low: _mm256_cvtph_ps(low),
                high: _mm256_cvtph_ps(high),
            }
        }
    }

    #[inline(always)]
    fn multiply_fixed(self, bytes: &[u8; BLOCK], x: &FixedBlock) -> Avx2Lanes {
        let bytes: *const __m128i = bytes.as_ptr().cast();
        // SAFETY: `self` proves AVX2; a block has 32 bytes, which two loads of
        // 16 cover, and as many numbers of 2 bytes, which two loads of 32 do.
        // None of the loads needs alignment.
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
            Avx2Lanes {
                low: multiply(&x.high),
                high: multiply(&x.low),
            }
        }
    }

    #[inline(always)]
    fn prefetch(self, from: &[u8]) {
        for line in from.chunks(64) {
            // SAFETY: every x86-64 CPU has SSE, and a prefetch reads nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) }
        }
    }
}

impl Lanes for Avx2Lanes {
    type Simd = Avx2;

    #[inline(always)]
    fn simd(self) -> Avx2 {
        Avx2(())
    }

    #[inline(always)]
    fn store(self, to: &mut [f32; WIDTH]) {
        let to = to.as_mut_ptr();
        // SAFETY: `self` proves AVX; two stores of 8 elements, which need no
        // alignment, cover the 16.
        unsafe {
            _mm256_storeu_ps(to, self.low);
            _mm256_storeu_ps(to.add(8), self.high);
        }
    }

    #[inline(always)]
    fn store_f16(self, to: &mut [f16; WIDTH]) {
        let to: *mut __m128i = to.as_mut_ptr().cast();
        // SAFETY: `self` proves AVX and F16C; two stores of 8 elements of 2
        // bytes, which need no alignment, cover the 16.
        unsafe {
            let low = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.low);
            let high = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.high);
            _mm_storeu_si128(to, low);
            _mm_storeu_si128(to.add(1), high);
        }
    }

    #[inline(always)]
    fn store_i16(self, to: &mut [i16; WIDTH]) {
        // SAFETY: `self` proves AVX2; one store of 32 bytes, which needs no
        // alignment, covers the 16 elements of 2.
        unsafe {
            let (low, high) = (_mm256_cvtps_epi32(self.low), _mm256_cvtps_epi32(self.high));
            // Packed in two halves, each of a half of either.
            let packed = _mm256_packs_epi32(low, high);
            let packed = _mm256_permute4x64_epi64::<0b11_01_10_00>(packed);
            _mm256_storeu_si256(to.as_mut_ptr().cast(), packed);
        }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: `self` proves AVX.
        self.zip(other, |a, b| unsafe { _mm256_add_ps(a, b) })
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: `self` proves AVX.
        self.zip(other, |a, b| unsafe { _mm256_sub_ps(a, b) })
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: `self` proves AVX.
        self.zip(other, |a, b| unsafe { _mm256_mul_ps(a, b) })
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        // SAFETY: `self` proves AVX.
        self.zip(other, |a, b| unsafe { _mm256_div_ps(a, b) })
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        // SAFETY: `self` proves AVX.
        self.zip(other, |a, b| unsafe { _mm256_min_ps(a, b) })
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: `self` proves AVX.
        self.zip(other, |a, b| unsafe { _mm256_max_ps(a, b) })
    }

    #[inline(always)]
    fn fma(self, factor: Self, sum: Self) -> Self {
        // SAFETY: `self` proves FMA.
        unsafe {
            Self {
                low: _mm256_fmadd_ps(self.low, factor.low, sum.low),
                high: _mm256_fmadd_ps(self.high, factor.high, sum.high),
            }
        }
    }

    #[inline(always)]
    fn round(self) -> Self {
        const HOW: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        // SAFETY: `self` proves AVX.
        self.zip(self, |x, _| unsafe { _mm256_round_ps::<HOW>(x) })
    }

    #[inline(always)]
    fn power_of_two(self) -> Self {
        // SAFETY: `self` proves AVX2.
        self.zip(self, |n, _| unsafe {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
        })
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: `self` proves AVX.
        unsafe {
            let eight = _mm256_add_ps(self.low, self.high);
            let high = _mm256_extractf128_ps::<1>(eight);
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), high);
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }
}
