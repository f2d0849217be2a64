//! The loops over one row, compiled for the vector unit at hand.

use crate::element::{Bf16, Element, F16, F32, Load, OVERFLOW_BITS, f16_bits, round_to_f16};
use crate::{BLOCK, Scheme};

/// The least scale, 2⁻²³: blocks of zeros or of tiny weights divide by it.
const LEAST_SCALE: f32 = f32::EPSILON;

/// 1.5 · 2²³: adding it to a small f32 rounds that to an integer, ties to
/// even, and leaves the integer in the low bits.
const ROUND: f32 = 12_582_912.0;

/// Defines a function that runs `$any` as compiled for the widest vector unit
/// that the processor has. The arithmetic is the same, element by element, so
/// the bytes are too.
macro_rules! widest {
    (
        $(#[$doc:meta])*
        fn $name:ident($($arg:ident: $type:ty),*) = $any:ident
    ) => {
        $(#[$doc])*
        pub(crate) fn $name($($arg: $type),*) -> bool {
            #[cfg(target_arch = "x86_64")]
            {
                use std::arch::is_x86_feature_detected as has;
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
                fn avx512($($arg: $type),*) -> bool {
                    $any($($arg),*)
                }
                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $type),*) -> bool {
                    $any($($arg),*)
                }
                let wide = has!("avx512f") && has!("avx512bw");
                if wide && has!("avx512dq") && has!("avx512vl") {
                    // SAFETY: the processor has them all, as just asked.
                    return unsafe { avx512($($arg),*) };
                }
                if has!("avx2") {
                    // SAFETY: the processor has avx2, as just asked.
                    return unsafe { avx2($($arg),*) };
                }
            }
            $any($($arg),*)
        }
    };
}

widest! {
    /// Quantizes whole rows: `weights` holds n elements, `data` takes n bytes,
    /// `scales` 2 · n / [`BLOCK`] bytes. Returns false, with the outputs
    /// unspecified, if some weight is not finite as f16.
    fn quantize(
        element: Element,
        weights: &[u8],
        scheme: Scheme,
        data: &mut [u8],
        scales: &mut [u8]
    ) = quantize_any
}

widest! {
    /// Rounds n elements to f16: `out` takes 2 · n bytes. Returns false, with
    /// the output unspecified, if some weight is not finite as f16.
    fn to_f16(element: Element, weights: &[u8], out: &mut [u8]) = to_f16_any
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vector_code_gives_the_bytes_of_plain_code() {
        // Every finite f16 and more bf16 than f16 can hold in small blocks.
        let bits: Vec<u8> = (0..0x7c00u16)
            .flat_map(|bits| [bits, bits | 0x8000])
            .flat_map(u16::to_le_bytes)
            .collect();
        let count = bits.len() / 2;
        for element in [Element::F16, Element::Bf16] {
            for scheme in [Scheme::SymmetricWithClipping, Scheme::Symmetric] {
                let (mut data, mut scales) = (vec![0; count], vec![0; count / 16]);
                let finite = quantize(element, &bits, scheme, &mut data, &mut scales);
                let (mut plain, mut plain_scales) = (data.clone(), scales.clone());
                plain.fill(1);
                plain_scales.fill(1);
                let again = quantize_any(element, &bits, scheme, &mut plain, &mut plain_scales);
                assert_eq!((finite, data, scales), (again, plain, plain_scales));
            }
            let (mut out, mut plain) = (vec![0; 2 * count], vec![1; 2 * count]);
            let finite = to_f16(element, &bits, &mut out);
            assert_eq!(finite, to_f16_any(element, &bits, &mut plain));
            assert_eq!(finite, element == Element::F16);
            assert_eq!(out, plain);
        }
    }
}
