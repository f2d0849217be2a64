//! The loops of `kernel` for x86-64 with AVX2: its conversions to and from f16
//! round as `element` does, subnormals included, and its integers pack in one
//! step. The compiler does not find either by itself.

use crate::element::{Bf16, Element, F16, F32, Load, OVERFLOW_BITS};
use crate::kernel::{self, LEAST_SCALE};
use crate::{BLOCK, Scheme};
use std::arch::x86_64::*;

/// Floats of a vector.
const LANES: usize = 8;

/// Rounds to nearest, ties to even.
const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT;

/// Whether the processor has what this module needs.
pub(crate) fn is_here() -> bool {
    use std::arch::is_x86_feature_detected as has;
    has!("avx2") && has!("fma") && has!("f16c")
}

/// Elements of a type, eight at a time.
trait Vector: Load {
    /// Eight elements, which begin at `from`.
    ///
    /// # Safety
    /// They can be read, and the processor has AVX2 and F16C.
    unsafe fn eight(from: *const u8) -> __m256;
}

impl Vector for Bf16 {
    #[inline(always)]
    unsafe fn eight(from: *const u8) -> __m256 {
        unsafe {
            let halves = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(halves))
        }
    }
}

impl Vector for F16 {
    #[inline(always)]
    unsafe fn eight(from: *const u8) -> __m256 {
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
    }
}

impl Vector for F32 {
    #[inline(always)]
    unsafe fn eight(from: *const u8) -> __m256 {
        unsafe { _mm256_loadu_ps(from.cast()) }
    }
}

/// As `kernel::quantize`.
///
/// # Safety
/// [`is_here`] holds.
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) unsafe fn quantize(
    element: Element,
    weights: &[u8],
    scheme: Scheme,
    data: &mut [u8],
    scales: &mut [u8],
) -> bool {
    unsafe {
        match element {
            Element::Bf16 => quantize_rows::<Bf16>(weights, scheme, data, scales),
            Element::F16 => quantize_rows::<F16>(weights, scheme, data, scales),
            Element::F32 => quantize_rows::<F32>(weights, scheme, data, scales),
        }
    }
}

/// As `kernel::to_f16`.
///
/// # Safety
/// [`is_here`] holds.
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) unsafe fn to_f16(element: Element, weights: &[u8], out: &mut [u8]) -> bool {
    unsafe {
        match element {
            Element::Bf16 => to_f16_rows::<Bf16>(weights, out),
            Element::F16 => to_f16_rows::<F16>(weights, out),
            Element::F32 => to_f16_rows::<F32>(weights, out),
        }
    }
}

#[inline(always)]
unsafe fn quantize_rows<T: Vector>(
    weights: &[u8],
    scheme: Scheme,
    data: &mut [u8],
    scales: &mut [u8],
) -> bool {
    let (mut largest_bits, scheme) = (0, (scheme.divisor(), scheme.min()));
    let groups = weights.chunks(LANES * BLOCK * T::SIZE);
    let data = data.chunks_mut(LANES * BLOCK);
    let scales = scales.chunks_mut(LANES * 2);
    for (weights, (data, scales)) in groups.zip(data.zip(scales)) {
        let blocks = weights.chunks_exact(BLOCK * T::SIZE);
        let mut largest = [0; LANES];
        for (largest, block) in largest.iter_mut().zip(blocks.clone()) {
            *largest = unsafe { largest_bits_of::<T>(block) };
            largest_bits = largest_bits.max(*largest);
        }
        let (bytes, steps, inverses) = unsafe { steps(largest, scheme.0) };
        scales.copy_from_slice(&bytes[..scales.len()]);
        let steps = steps.into_iter().zip(inverses);
        for ((block, data), step) in blocks.zip(data.chunks_exact_mut(BLOCK)).zip(steps) {
            unsafe { quantize_block::<T>(block, step, scheme.1, data) };
        }
    }
    largest_bits < OVERFLOW_BITS
}

/// The bits of the largest magnitude of a block; NaN is above all.
#[inline(always)]
unsafe fn largest_bits_of<T: Vector>(block: &[u8]) -> u32 {
    unsafe {
        let mut most = _mm256_setzero_si256();
        for eight in block.chunks_exact(LANES * T::SIZE) {
            most = _mm256_max_epi32(most, magnitudes(T::eight(eight.as_ptr())));
        }
        largest_of(most)
    }
}

/// Bits without the sign, which compare as integers do.
#[inline(always)]
unsafe fn magnitudes(values: __m256) -> __m256i {
    unsafe { _mm256_and_si256(_mm256_castps_si256(values), _mm256_set1_epi32(i32::MAX)) }
}

#[inline(always)]
unsafe fn largest_of(bits: __m256i) -> u32 {
    unsafe {
        let four = _mm_max_epi32(
            _mm256_castsi256_si128(bits),
            _mm256_extracti128_si256::<1>(bits),
        );
        let two = _mm_max_epi32(four, _mm_shuffle_epi32::<0b_01_00_11_10>(four));
        let one = _mm_max_epi32(two, _mm_shuffle_epi32::<0b_10_11_00_01>(two));
        _mm_cvtsi128_si32(one) as u32
    }
}

/// The scales of eight blocks, as f16 and as f32, and their inverses.
#[inline(always)]
unsafe fn steps(largest: [u32; LANES], divisor: f32) -> ([u8; 16], [f32; LANES], [f32; LANES]) {
    let (mut bytes, mut steps, mut inverses) = ([0; 16], [0.0; LANES], [0.0; LANES]);
    unsafe {
        // Rounding keeps order, so the maximum can be taken before it.
        let most = _mm256_loadu_ps(largest.as_ptr().cast());
        let most = _mm256_cvtph_ps(_mm256_cvtps_ph::<NEAREST>(most));
        let step = _mm256_div_ps(most, _mm256_set1_ps(divisor));
        let step = _mm256_max_ps(step, _mm256_set1_ps(LEAST_SCALE));
        let step = _mm256_cvtps_ph::<NEAREST>(step);
        _mm_storeu_si128(bytes.as_mut_ptr().cast(), step);
        let step = _mm256_cvtph_ps(step);
        _mm256_storeu_ps(steps.as_mut_ptr(), step);
        let inverse = _mm256_div_ps(_mm256_set1_ps(1.0), step);
        _mm256_storeu_ps(inverses.as_mut_ptr(), inverse);
    }
    (bytes, steps, inverses)
}

#[inline(always)]
unsafe fn quantize_block<T: Vector>(
    block: &[u8],
    (step, inverse): (f32, f32),
    least: f32,
    data: &mut [u8],
) {
    let Some((block, data)) = block.get(..BLOCK * T::SIZE).zip(data.get_mut(..BLOCK)) else {
        return;
    };
    unsafe {
        let (step, inverse) = (_mm256_set1_ps(step), _mm256_set1_ps(inverse));
        let (least, most) = (_mm256_set1_ps(least), _mm256_set1_ps(127.0));
        let eight = |at: usize| {
            let value = T::eight(block.as_ptr().add(at * LANES * T::SIZE));
            let value = _mm256_cvtph_ps(_mm256_cvtps_ph::<NEAREST>(value));
            // As `quotient` in `kernel`.
            let near = _mm256_mul_ps(value, inverse);
            let left = _mm256_fnmadd_ps(near, step, value);
            let scaled = _mm256_fmadd_ps(left, inverse, near);
            _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(scaled, least), most))
        };
        // Packing takes the halves of registers by turns.
        let low = _mm256_packs_epi32(eight(0), eight(1));
        let high = _mm256_packs_epi32(eight(2), eight(3));
        let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        let bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), order);
        _mm256_storeu_si256(data.as_mut_ptr().cast(), bytes);
    }
}

#[inline(always)]
unsafe fn to_f16_rows<T: Vector>(weights: &[u8], out: &mut [u8]) -> bool {
    let eights = weights.chunks_exact(LANES * T::SIZE);
    let mut outs = out.chunks_exact_mut(LANES * 2);
    let (rest, mut most) = (eights.remainder(), unsafe { _mm256_setzero_si256() });
    for (eight, out) in eights.zip(&mut outs) {
        unsafe {
            let value = T::eight(eight.as_ptr());
            most = _mm256_max_epi32(most, magnitudes(value));
            let halves = _mm256_cvtps_ph::<NEAREST>(value);
            _mm_storeu_si128(out.as_mut_ptr().cast(), halves);
        }
    }
    let held = unsafe { largest_of(most) } < OVERFLOW_BITS;
    kernel::to_f16_rows::<T>(rest, outs.into_remainder()) && held
}
