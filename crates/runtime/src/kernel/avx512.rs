//! Lanes as one register of AVX-512.

use std::arch::x86_64::*;

use half::f16;

use super::lanes::{BLOCK, FixedBlock, Lanes, Simd, WIDTH};

/// Proves that the CPU has AVX-512 F, BW, DQ and VL, and what [`Avx2`] proves.
///
/// [`Avx2`]: super::avx2::Avx2
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Avx512(());

impl Avx512 {
    /// The proof, where the CPU has them.
    pub fn detect() -> Option<Self> {
        use std::arch::is_x86_feature_detected as has;
        super::avx2::Avx2::detect()?;
        (has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl"))
            .then_some(Self(()))
    }
}

/// Made by [`Avx512`] alone, and as good a proof.
#[derive(Clone, Copy)]
pub(super) struct Avx512Lanes(__m512);

impl Simd for Avx512 {
    type Lanes = Avx512Lanes;

    const TILE: usize = 4;

    #[inline(always)]
    fn splat(self, value: f32) -> Avx512Lanes {
        // SAFETY: `self` proves AVX-512 F.
        Avx512Lanes(unsafe { _mm512_set1_ps(value) })
    }

    #[inline(always)]
    fn load(self, from: &[f32; WIDTH]) -> Avx512Lanes {
        // SAFETY: `self` proves AVX-512 F; the load of 16 elements needs no
        // alignment.
        Avx512Lanes(unsafe { _mm512_loadu_ps(from.as_ptr()) })
    }

    #[inline(always)]
    fn load_i8(self, from: &[u8; WIDTH]) -> Avx512Lanes {
        // SAFETY: `self` proves AVX-512 F; the load of 16 bytes needs no
        // alignment.
        Avx512Lanes(unsafe {
            let bytes = _mm_loadu_si128(from.as_ptr().cast());
            _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes))
        })
    }

    #[inline(always)]
    fn load_f16(self, from: &[f16; WIDTH]) -> Avx512Lanes {
        // SAFETY: `self` proves AVX-512 F; the load of 16 elements of 2 bytes
        // needs no alignment.
        Avx512Lanes(unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast())) })
    }

    #[inline(always)]
    fn multiply_fixed(self, bytes: &[u8; BLOCK], x: &FixedBlock) -> Avx512Lanes {
        // SAFETY: `self` proves AVX-512 F and BW; a block has 32 bytes and as
        // many numbers of 2 bytes, which is what each load reads, and none
        // needs alignment.
        Avx512Lanes(unsafe {
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
    fn prefetch(self, from: &[u8]) {
        for line in from.chunks(64) {
            // SAFETY: every x86-64 CPU has SSE, and a prefetch reads nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) }
        }
    }
}

impl Lanes for Avx512Lanes {
    type Simd = Avx512;

    #[inline(always)]
    fn simd(self) -> Avx512 {
        Avx512(())
    }

    #[inline(always)]
    fn store(self, to: &mut [f32; WIDTH]) {
        // SAFETY: `self` proves AVX-512 F; the store of 16 elements needs no
        // alignment.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), self.0) }
    }

    #[inline(always)]
    fn store_f16(self, to: &mut [f16; WIDTH]) {
        // SAFETY: `self` proves AVX-512 F; the store of 16 elements of 2 bytes
        // needs no alignment.
        unsafe {
            let rounded = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0);
            _mm256_storeu_si256(to.as_mut_ptr().cast(), rounded);
        }
    }

    #[inline(always)]
    fn store_i16(self, to: &mut [i16; WIDTH]) {
        // SAFETY: `self` proves AVX-512 F; the store of 16 elements of 2 bytes
        // needs no alignment.
        unsafe {
            let packed = _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(self.0));
            _mm256_storeu_si256(to.as_mut_ptr().cast(), packed);
        }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: `self` proves AVX-512 F.
        Self(unsafe { _mm512_add_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: `self` proves AVX-512 F.
        Self(unsafe { _mm512_sub_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: `self` proves AVX-512 F.
        Self(unsafe { _mm512_mul_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        // SAFETY: `self` proves AVX-512 F.
        Self(unsafe { _mm512_div_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        // SAFETY: `self` proves AVX-512 F.
        Self(unsafe { _mm512_min_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: `self` proves AVX-512 F.
        Self(unsafe { _mm512_max_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn fma(self, factor: Self, sum: Self) -> Self {
        // SAFETY: `self` proves AVX-512 F.
        Self(unsafe { _mm512_fmadd_ps(self.0, factor.0, sum.0) })
    }

    #[inline(always)]
    fn round(self) -> Self {
        const HOW: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        // SAFETY: `self` proves AVX-512 F.
        Self(unsafe { _mm512_roundscale_ps::<HOW>(self.0) })
    }

    #[inline(always)]
    fn power_of_two(self) -> Self {
        // SAFETY: `self` proves AVX-512 F.
        Self(unsafe {
            let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(self.0), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent))
        })
    }
}
