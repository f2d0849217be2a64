//! The loops over rows in plain code, which the compiler vectorizes.

use crate::element::{Bf16, Element, F16, F32, Load, OVERFLOW_BITS, f16_bits, round_to_f16};
use crate::{BLOCK, Scheme};

/// The smallest scale, 2⁻²³: blocks of zeros or of tiny weights divide by it.
pub(crate) const MIN_SCALE: f32 = f32::EPSILON;

/// 1.5 · 2²³: adding it to a small f32 rounds that to an integer, ties to
/// even, and leaves the integer in the low bits.
pub(crate) const ROUND: f32 = 12_582_912.0;

/// How many blocks are worked on together, so that what is done once per block
/// fills a vector too.
pub(crate) const GROUP: usize = 16;

/// Whether every CPU of this architecture has a fused multiply-add.
pub(crate) const FUSED: bool = cfg!(target_arch = "aarch64");

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

pub(crate) fn quantize_any<const FUSED: bool>(
    element: Element,
    weights: &[u8],
    scheme: Scheme,
    data: &mut [u8],
    scales: &mut [u8],
) -> bool {
    match element {
        Element::Bf16 => quantize_rows::<Bf16, FUSED>(weights, scheme, data, scales),
        Element::F16 => quantize_rows::<F16, FUSED>(weights, scheme, data, scales),
        Element::F32 => quantize_rows::<F32, FUSED>(weights, scheme, data, scales),
    }
}

#[inline(always)]
pub(crate) fn quantize_rows<T: Load, const FUSED: bool>(
    weights: &[u8],
    scheme: Scheme,
    data: &mut [u8],
    scales: &mut [u8],
) -> bool {
    let (divisor, min) = (scheme.divisor(), scheme.min());
    let mut max_bits = 0;
    let groups = weights.chunks(GROUP * BLOCK * T::SIZE);
    let outputs = data
        .chunks_mut(GROUP * BLOCK)
        .zip(scales.chunks_mut(GROUP * 2));
    for (weights, (data, scales)) in groups.zip(outputs) {
        let blocks = weights.chunks_exact(BLOCK * T::SIZE);
        let mut maxima = [0.0; GROUP];
        for (max, block) in maxima.iter_mut().zip(blocks.clone()) {
            *max = T::max(block);
        }
        let (mut steps, mut inverses) = ([0.0; GROUP], [0.0; GROUP]);
        for ((max, step), inverse) in maxima.iter().zip(&mut steps).zip(&mut inverses) {
            max_bits = max_bits.max(max.to_bits());
            // Rounding keeps order, so the maximum can be taken before it.
            let max = round_to_f16(*max);
            *step = round_to_f16(larger(max / divisor, MIN_SCALE));
            *inverse = 1.0 / *step;
        }
        let bytes = steps.map(|step| f16_bits(step).to_le_bytes());
        scales.copy_from_slice(&bytes.as_flattened()[..scales.len()]);
        let blocks = blocks.zip(data.chunks_exact_mut(BLOCK));
        for ((block, data), (step, inverse)) in blocks.zip(steps.into_iter().zip(inverses)) {
            for (out, bytes) in data.iter_mut().zip(block.chunks_exact(T::SIZE)) {
                let value = T::rounded(T::load(bytes));
                let scaled = if FUSED {
                    quotient(value, step, inverse)
                } else {
                    value / step
                };
                let held = smaller(larger(scaled, min), 127.0);
                *out = (held + ROUND).to_bits() as u8;
            }
        }
    }
    max_bits < OVERFLOW_BITS
}

/// A value that rounds to the same integer as `value / scale`, without a
/// division: the product with the inverse, corrected by the remainder. Both
/// operands are f16 values, so a quotient that is not a tie is further from one
/// than the error of the product; and a tie, which f32 holds exactly, comes out
/// exactly.
#[inline(always)]
pub(crate) fn quotient(value: f32, scale: f32, inverse: f32) -> f32 {
    let near = value * inverse;
    let left = (-near).mul_add(scale, value);
    left.mul_add(inverse, near)
}

/// The larger one; unlike `f32::max`, one instruction. Not for NaN.
#[inline(always)]
pub(crate) fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// The smaller one, likewise.
#[inline(always)]
pub(crate) fn smaller(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

pub(crate) fn to_f16_any(element: Element, weights: &[u8], out: &mut [u8]) -> bool {
    match element {
        Element::Bf16 => to_f16_rows::<Bf16>(weights, out),
        Element::F16 => to_f16_rows::<F16>(weights, out),
        Element::F32 => to_f16_rows::<F32>(weights, out),
    }
}

#[inline(always)]
pub(crate) fn to_f16_rows<T: Load>(weights: &[u8], out: &mut [u8]) -> bool {
    let mut bits = 0u32;
    let elements = weights.chunks_exact(T::SIZE);
    for (bytes, out) in elements.zip(out.chunks_exact_mut(2)) {
        let value = T::load(bytes);
        bits = bits.max(value.to_bits() & 0x7fff_ffff);
        out.copy_from_slice(&f16_bits(value).to_le_bytes());
    }
    bits < OVERFLOW_BITS
}
