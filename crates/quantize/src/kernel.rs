//! The loops over one row, compiled for the vector unit at hand.

use crate::element::{Bf16, Element, F16, F32, Load, OVERFLOW_BITS, f16_bits, round_to_f16};
use crate::{BLOCK, Scheme};

/// The least scale, 2⁻²³: blocks of zeros or of tiny weights divide by it.
const LEAST_SCALE: f32 = f32::EPSILON;

/// 1.5 · 2²³: adding it to a small f32 rounds that to an integer, ties to
/// even, and leaves the integer in the low bits.
const ROUND: f32 = 12_582_912.0;

/// How many blocks take each step together, so that what is done once a block
/// fills a vector too.
const GROUP: usize = 16;

/// Defines a function that runs `$any` as compiled for the widest vector unit
/// that the processor has, with or without multiplication and addition in one.
/// The results are the same, element by element, so the bytes are too.
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
                    $any::<true>($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $type),*) -> bool {
                    $any::<true>($($arg),*)
                }
                let wide = has!("avx512f") && has!("avx512bw");
                if wide && has!("avx512dq") && has!("avx512vl") {
                    // SAFETY: the processor has them all, as just asked.
                    return unsafe { avx512($($arg),*) };
                }
                if has!("avx2") && has!("fma") {
                    // SAFETY: the processor has both, as just asked.
                    return unsafe { avx2($($arg),*) };
                }
            }
            // Every 64-bit Arm fuses.
            $any::<{ cfg!(target_arch = "aarch64") }>($($arg),*)
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
fn quantize_any<const FUSED: bool>(
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
fn quantize_rows<T: Load, const FUSED: bool>(
    weights: &[u8],
    scheme: Scheme,
    data: &mut [u8],
    scales: &mut [u8],
) -> bool {
    let (divisor, least) = (scheme.divisor(), scheme.least());
    let mut largest_bits = 0;
    let groups = weights.chunks(GROUP * BLOCK * T::SIZE);
    let outputs = data
        .chunks_mut(GROUP * BLOCK)
        .zip(scales.chunks_mut(GROUP * 2));
    for (weights, (data, scales)) in groups.zip(outputs) {
        let blocks = weights.chunks_exact(BLOCK * T::SIZE);
        let mut largest = [0.0; GROUP];
        for (largest, block) in largest.iter_mut().zip(blocks.clone()) {
            *largest = T::largest(block);
        }
        let (mut steps, mut inverses) = ([0.0; GROUP], [0.0; GROUP]);
        for ((largest, step), inverse) in largest.iter().zip(&mut steps).zip(&mut inverses) {
            largest_bits = largest_bits.max(largest.to_bits());
            // Rounding keeps order, so the maximum can be taken before it.
            let max = round_to_f16(*largest);
            *step = round_to_f16(larger(max / divisor, LEAST_SCALE));
            *inverse = 1.0 / *step;
        }
        let bytes = steps.map(|step| f16_bits(step).to_le_bytes());
        scales.copy_from_slice(&bytes.as_flattened()[..scales.len()]);
        let blocks = blocks.zip(data.chunks_exact_mut(BLOCK));
        for ((block, data), (step, inverse)) in blocks.zip(steps.into_iter().zip(inverses)) {
            for (out, bytes) in data.iter_mut().zip(block.chunks_exact(T::SIZE)) {
                let value = T::rounded(T::load(bytes));
                let scaled = match FUSED {
                    true => quotient(value, step, inverse),
                    false => value / step,
                };
                let held = smaller(larger(scaled, least), 127.0);
                *out = (held + ROUND).to_bits() as u8;
            }
        }
    }
    largest_bits < OVERFLOW_BITS
}

/// What rounds to the same integer as `value / scale` does, without a division:
/// the product with the inverse, mended by what that leaves over. Both operands
/// are f16 values, so a quotient that is no tie is further from one than the
/// error of the product; and a tie, which f32 holds exactly, comes out exactly.
#[inline(always)]
fn quotient(value: f32, scale: f32, inverse: f32) -> f32 {
    let near = value * inverse;
    let left = (-near).mul_add(scale, value);
    left.mul_add(inverse, near)
}

/// The larger one; unlike `f32::max`, one instruction. Not for NaN.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// The smaller one, likewise.
#[inline(always)]
fn smaller(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

#[inline(always)]
fn to_f16_any<const FUSED: bool>(element: Element, weights: &[u8], out: &mut [u8]) -> bool {
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
                let again =
                    quantize_any::<false>(element, &bits, scheme, &mut plain, &mut plain_scales);
                assert_eq!((finite, data, scales), (again, plain, plain_scales));
            }
            let (mut out, mut plain) = (vec![0; 2 * count], vec![1; 2 * count]);
            let finite = to_f16(element, &bits, &mut out);
            assert_eq!(finite, to_f16_any::<false>(element, &bits, &mut plain));
            assert_eq!(finite, element == Element::F16);
            assert_eq!(out, plain);
        }
    }

    /// All there are, up to powers of two, which change neither side's digits:
    /// an f16 has 11.
    #[test]
    fn quotients_round_as_divisions_do() {
        let round = |x: f32| (x + ROUND).to_bits();
        for scale in 1..2048 {
            let scale = scale as f32;
            let inverse = 1.0 / scale;
            for value in 1..2048 {
                for shift in 0..=8 {
                    let value = (value << shift) as f32;
                    let (near, exact) = (quotient(value, scale, inverse), value / scale);
                    if exact < 1024.0 {
                        assert_eq!(round(near), round(exact), "{value} / {scale}");
                    }
                }
            }
        }
    }
}
