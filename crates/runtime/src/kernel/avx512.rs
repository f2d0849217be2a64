//! Lanes as one register of AVX-512.

use std::arch::x86_64::*;

use half::f16;

use super::{
    fixed::FixedBlock,
    lanes::{BLOCK, Lanes, WIDTH},
};

#[derive(Clone, Copy)]
pub(super) struct Avx512(__m512);

// SAFETY of every block below: `on_lanes!` uses this type only where the
// processor has the instructions, and loads and stores stay in arrays of
// sixteen elements, which need no alignment.
impl Lanes for Avx512 {
    const TILE: usize = 4;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self(unsafe { _mm512_set1_ps(value) })
    }

    #[inline(always)]
    fn load(from: &[f32; WIDTH]) -> Self {
        Self(unsafe { _mm512_loadu_ps(from.as_ptr()) })
    }

    #[inline(always)]
    fn load_i8(from: &[u8; WIDTH]) -> Self {
        Self(unsafe {
            let bytes = _mm_loadu_si128(from.as_ptr().cast());
            _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes))
        })
    }

    #[inline(always)]
    fn load_f16(from: &[f16; WIDTH]) -> Self {
        Self(unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast())) })
    }

    #[inline(always)]
    fn multiply_fixed(bytes: &[u8; BLOCK], x: &FixedBlock) -> Self {
        // SAFETY: a block has 32 bytes, and as many numbers of 16 bits.
        Self(unsafe {
            let bytes = _mm512_cvtepi8_epi16(_mm256_loadu_si256(bytes.as_ptr().cast()));
            let high = _mm512_madd_epi16(bytes, _mm512_loadu_si512(x.high.as_ptr().cast()));
            let low = _mm512_madd_epi16(bytes, _mm512_loadu_si512(x.low.as_ptr().cast()));
            // The halves of each are summed: high parts first, then low ones.
            let first = _mm512_shuffle_i64x2::<0b01_00_01_00>(high, low);
            let second = _mm512_shuffle_i64x2::<0b11_10_11_10>(high, low);
            _mm512_cvtepi32_ps(_mm512_add_epi32(first, second))
        })
    }

    #[inline(always)]
    fn store(self, to: &mut [f32; WIDTH]) {
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), self.0) }
    }

    #[inline(always)]
    fn store_f16(self, to: &mut [f16; WIDTH]) {
        unsafe {
            let halves = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0);
            _mm256_storeu_si256(to.as_mut_ptr().cast(), halves);
        }
    }

    #[inline(always)]
    fn store_i16(self, to: &mut [i16; WIDTH]) {
        unsafe {
            let packed = _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(self.0));
            _mm256_storeu_si256(to.as_mut_ptr().cast(), packed);
        }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(unsafe { _mm512_add_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(unsafe { _mm512_sub_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self(unsafe { _mm512_mul_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        Self(unsafe { _mm512_div_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Self(unsafe { _mm512_min_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Self(unsafe { _mm512_max_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn fma(self, factor: Self, sum: Self) -> Self {
        Self(unsafe { _mm512_fmadd_ps(self.0, factor.0, sum.0) })
    }

    #[inline(always)]
    fn round(self) -> Self {
        const HOW: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        Self(unsafe { _mm512_roundscale_ps::<HOW>(self.0) })
    }

    #[inline(always)]
    fn power_of_two(self) -> Self {
        Self(unsafe {
            let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(self.0), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent))
        })
    }

    #[inline(always)]
    fn prefetch(from: &[u8]) {
        for line in from.chunks(64) {
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) }
        }
    }
}
