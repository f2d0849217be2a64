//! The loops over one row, compiled for the vector unit at hand.

use crate::element::{Bf16, Element, F16, F32, Load, OVERFLOW_BITS, f16_bits, round_to_f16};
use crate::{BLOCK, Scheme};

/// The least scale, 2⁻²³: blocks of zeros or of tiny weights divide by it.
const LEAST_SCALE: f32 = f32::EPSILON;

/// 1.5 · 2²³: adding it to a small f32 rounds that to an integer, ties to
/// even, and leaves the integer in the low bits.
const ROUND: f32 = 12_582_912.0;

/// Quantizes whole rows: `weights` holds n elements, `data` takes n bytes,
/// `scales` 2 · n / [`BLOCK`] bytes. Returns false, with the outputs
/// unspecified, if some weight is not finite as f16.
pub(crate) fn quantize(
    element: Element,
    weights: &[u8],
    scheme: Scheme,
    data: &mut [u8],
    scales: &mut [u8],
) -> bool {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        #[target_feature(enable = "avx2")]
        fn avx2(
            element: Element,
            weights: &[u8],
            scheme: Scheme,
            data: &mut [u8],
            scales: &mut [u8],
        ) -> bool {
            quantize_any(element, weights, scheme, data, scales)
        }
        // SAFETY: the processor has avx2, as just asked.
        return unsafe { avx2(element, weights, scheme, data, scales) };
    }
    quantize_any(element, weights, scheme, data, scales)
}

/// Rounds n elements to f16: `out` takes 2 · n bytes. Returns false, with
/// the output unspecified, if some weight is not finite as f16.
pub(crate) fn to_f16(element: Element, weights: &[u8], out: &mut [u8]) -> bool {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        #[target_feature(enable = "avx2")]
        fn avx2(element: Element, weights: &[u8], out: &mut [u8]) -> bool {
            to_f16_any(element, weights, out)
        }
        // SAFETY: the processor has avx2, as just asked.
        return unsafe { avx2(element, weights, out) };
    }
    to_f16_any(element, weights, out)
}

/// The first element that is not finite as f16: its index and value.
pub(crate) fn first_not_finite(element: Element, weights: &[u8]) -> Option<(usize, f32)> {
    let value = |bytes: &[u8]| match element {
        Element::Bf16 => Bf16::load(bytes),
        Element::F32 => F32::load(bytes),
        // `Load` keeps only the fact of an f16's infinity or NaN.
        Element::F16 => half::f16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
    };
    weights
        .chunks_exact(element.size())
        .map(value)
        .enumerate()
        .find(|(_, value)| value.to_bits() & 0x7fff_ffff >= OVERFLOW_BITS)
}

#[inline(always)]
fn quantize_any(
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

#[inline(always)]
fn quantize_rows<T: Load>(
    weights: &[u8],
    scheme: Scheme,
    data: &mut [u8],
    scales: &mut [u8],
) -> bool {
    let (divisor, least) = (scheme.divisor(), scheme.least());
    let mut finite = true;
    let blocks = weights.chunks_exact(BLOCK * T::SIZE);
    let outputs = data.chunks_exact_mut(BLOCK).zip(scales.chunks_exact_mut(2));
    for (block, (data, scale_out)) in blocks.zip(outputs) {
        let mut values = [0f32; BLOCK];
        for (value, bytes) in values.iter_mut().zip(block.chunks_exact(T::SIZE)) {
            *value = T::load(bytes);
        }
        // Magnitudes compare as integers, and NaN is above all. Rounding keeps
        // order, so the maximum can be taken before it.
        let mut bits = 0u32;
        for value in &values {
            bits = bits.max(value.to_bits() & 0x7fff_ffff);
        }
        finite &= bits < OVERFLOW_BITS;
        let max = round_to_f16(f32::from_bits(bits));
        let scale = round_to_f16((max / divisor).max(LEAST_SCALE));
        scale_out.copy_from_slice(&f16_bits(scale).to_le_bytes());
        for (out, value) in data.iter_mut().zip(&values) {
            let scaled = (round_to_f16(*value) / scale).max(least).min(127.0);
            *out = (scaled + ROUND).to_bits() as u8;
        }
    }
    finite
}

#[inline(always)]
fn to_f16_any(element: Element, weights: &[u8], out: &mut [u8]) -> bool {
    match element {
        Element::Bf16 => to_f16_rows::<Bf16>(weights, out),
        Element::F16 => to_f16_rows::<F16>(weights, out),
        Element::F32 => to_f16_rows::<F32>(weights, out),
    }
}

#[inline(always)]
fn to_f16_rows<T: Load>(weights: &[u8], out: &mut [u8]) -> bool {
    let mut bits = 0u32;
    let elements = weights.chunks_exact(T::SIZE);
    for (bytes, out) in elements.zip(out.chunks_exact_mut(2)) {
        let value = T::load(bytes);
        bits = bits.max(value.to_bits() & 0x7fff_ffff);
        out.copy_from_slice(&f16_bits(value).to_le_bytes());
    }
    bits < OVERFLOW_BITS
}
