//! The loops of `kernel` for x86-64 with AVX2, FMA and F16C. The conversions to
//! and from f16 round as `element` does, subnormals included, and integers are
//! packed in one step; the compiler finds neither by itself.
//!
//! Everything here is a safe function that asks for those instructions, so that
//! only loads, stores and the calls from `kernel` need a proof.

use crate::element::{Bf16, Element, F16, F32, Load, OVERFLOW_BITS};
use crate::scalar::{self, MIN_SCALE};
use crate::{BLOCK, Scheme};
use std::arch::x86_64::*;

/// Floats of a vector.
const LANES: usize = 8;

/// Rounds to nearest, ties to even.
const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT;

/// Whether the CPU has the instructions that this module uses.
pub(crate) fn is_available() -> bool {
    use std::arch::is_x86_feature_detected as has;
    has!("avx2") && has!("fma") && has!("f16c")
}

/// As `kernel::quantize`.
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn quantize(
    element: Element,
    weights: &[u8],
    scheme: Scheme,
    data: &mut [u8],
    scales: &mut [u8],
) -> bool {
    match element {
        Element::Bf16 => quantize_rows::<Bf16>(weights, scheme, data, scales),
        Element::F16 => quantize_rows::<F16>(weights, scheme, data, scales),
        Element::F32 => quantize_rows::<F32>(weights, scheme, data, scales),
    }
}

/// As `kernel::to_f16`.
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn to_f16(element: Element, weights: &[u8], out: &mut [u8]) -> bool {
    match element {
        Element::Bf16 => to_f16_rows::<Bf16>(weights, out),
        Element::F16 => to_f16_rows::<F16>(weights, out),
        Element::F32 => to_f16_rows::<F32>(weights, out),
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn quantize_rows<T: Load>(
    weights: &[u8],
    scheme: Scheme,
    data: &mut [u8],
    scales: &mut [u8],
) -> bool {
    let (mut max_bits, divisor, min) = (0, scheme.divisor(), scheme.min());
    let groups = weights.chunks(LANES * BLOCK * T::SIZE);
    let data = data.chunks_mut(LANES * BLOCK);
    let scales = scales.chunks_mut(LANES * 2);
    for (weights, (data, scales)) in groups.zip(data.zip(scales)) {
        let blocks = weights.chunks_exact(BLOCK * T::SIZE);
        let mut max = [0; LANES];
        for (max, block) in max.iter_mut().zip(blocks.clone()) {
            *max = max_bits_of::<T>(block);
            max_bits = max_bits.max(*max);
        }
        let (bytes, steps, inverses) = steps(max, divisor);
        scales.copy_from_slice(&bytes[..scales.len()]);
        let steps = steps.into_iter().zip(inverses);
        for ((block, data), step) in blocks.zip(data.as_chunks_mut().0).zip(steps) {
            quantize_block::<T>(block, step, min, data);
        }
    }
    max_bits < OVERFLOW_BITS
}

/// The bits of the largest magnitude of a block; NaN is above all.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn max_bits_of<T: Load>(block: &[u8]) -> u32 {
    let mut max = _mm256_setzero_si256();
    for eight in block.chunks_exact(LANES * T::SIZE) {
        max = _mm256_max_epi32(max, magnitudes(load::<T>(eight)));
    }
    max_lane(max)
}

/// Bits without the sign, which compare as integers do.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn magnitudes(values: __m256) -> __m256i {
    _mm256_and_si256(_mm256_castps_si256(values), _mm256_set1_epi32(i32::MAX))
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn max_lane(bits: __m256i) -> u32 {
    let four = _mm_max_epi32(
        _mm256_castsi256_si128(bits),
        _mm256_extracti128_si256::<1>(bits),
    );
    let two = _mm_max_epi32(four, _mm_shuffle_epi32::<0b_01_00_11_10>(four));
    let one = _mm_max_epi32(two, _mm_shuffle_epi32::<0b_10_11_00_01>(two));
    _mm_cvtsi128_si32(one) as u32
}

/// The scales of eight blocks, as f16 and as f32, and their inverses.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn steps(max_bits: [u32; LANES], divisor: f32) -> ([u8; 16], [f32; LANES], [f32; LANES]) {
    // Rounding keeps order, so the maximum can be taken before it.
    let max = _mm256_castsi256_ps(load_u32(&max_bits));
    let max = _mm256_cvtph_ps(_mm256_cvtps_ph::<NEAREST>(max));
    let step = _mm256_div_ps(max, _mm256_set1_ps(divisor));
    let step = _mm256_max_ps(step, _mm256_set1_ps(MIN_SCALE));
    let step = _mm256_cvtps_ph::<NEAREST>(step);
    let mut bytes = [0; 16];
    store_128(&mut bytes, step);
    let step = _mm256_cvtph_ps(step);
    let inverse = _mm256_div_ps(_mm256_set1_ps(1.0), step);
    (bytes, store_f32(step), store_f32(inverse))
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn quantize_block<T: Load>(
    block: &[u8],
    (step, inverse): (f32, f32),
    min: f32,
    data: &mut [u8; BLOCK],
) {
    // One check of the length for all loads.
    let block = &block[..BLOCK * T::SIZE];
    let (step, inverse) = (_mm256_set1_ps(step), _mm256_set1_ps(inverse));
    let (min, max) = (_mm256_set1_ps(min), _mm256_set1_ps(127.0));
    let eight = |at: usize| {
        let value = load::<T>(&block[at * LANES * T::SIZE..]);
        let value = _mm256_cvtph_ps(_mm256_cvtps_ph::<NEAREST>(value));
        // As `quotient` in `kernel`.
        let near = _mm256_mul_ps(value, inverse);
        let left = _mm256_fnmadd_ps(near, step, value);
        let scaled = _mm256_fmadd_ps(left, inverse, near);
        _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(scaled, min), max))
    };
    // Packing takes the halves of its operands by turns.
    let low = _mm256_packs_epi32(eight(0), eight(1));
    let high = _mm256_packs_epi32(eight(2), eight(3));
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    let bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), order);
    store_256(data, bytes);
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn to_f16_rows<T: Load>(weights: &[u8], out: &mut [u8]) -> bool {
    let eights = weights.chunks_exact(LANES * T::SIZE);
    let (outs, out_rest) = out.as_chunks_mut();
    let (rest, mut max) = (eights.remainder(), _mm256_setzero_si256());
    for (eight, out) in eights.zip(outs) {
        let value = load::<T>(eight);
        max = _mm256_max_epi32(max, magnitudes(value));
        store_128(out, _mm256_cvtps_ph::<NEAREST>(value));
    }
    let held = max_lane(max) < OVERFLOW_BITS;
    scalar::to_f16_rows::<T>(rest, out_rest) && held
}

/// The first eight elements.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn load<T: Load>(bytes: &[u8]) -> __m256 {
    match T::ELEMENT {
        Element::Bf16 => {
            let bits = _mm256_cvtepu16_epi32(load_128(bytes));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
        }
        Element::F16 => _mm256_cvtph_ps(load_128(bytes)),
        Element::F32 => {
            let bytes = &bytes[..32];
            // SAFETY: `bytes` has the 32 bytes that are read, and the load
            // needs no alignment.
            unsafe { _mm256_loadu_ps(bytes.as_ptr().cast()) }
        }
    }
}

/// The first 16 bytes.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn load_128(bytes: &[u8]) -> __m128i {
    let bytes = &bytes[..16];
    // SAFETY: `bytes` has the 16 bytes that are read, and the load needs no
    // alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn load_u32(values: &[u32; LANES]) -> __m256i {
    // SAFETY: the array is the 32 bytes that are read, and the load needs no
    // alignment.
    unsafe { _mm256_loadu_si256(values.as_ptr().cast()) }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn store_128(out: &mut [u8; 16], value: __m128i) {
    // SAFETY: the array is the 16 bytes that are written, and the store needs
    // no alignment.
    unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), value) }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn store_256(out: &mut [u8; 32], value: __m256i) {
    // SAFETY: the array is the 32 bytes that are written, and the store needs
    // no alignment.
    unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), value) }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn store_f32(values: __m256) -> [f32; LANES] {
    let mut out = [0.0; LANES];
    // SAFETY: the array is the 32 bytes that are written, and the store needs
    // no alignment.
    unsafe { _mm256_storeu_ps(out.as_mut_ptr(), values) };
    out
}
