//! The loops over rows: in plain code here, which the compiler vectorizes, and
//! with intrinsics in `avx2`. Both give the same bytes.

#[cfg(target_arch = "x86_64")]
use crate::avx2;
use crate::element::{Bf16, Element, F16, F32, Load, OVERFLOW_BITS, f16_bits, round_to_f16};
use crate::{BLOCK, Scheme};

/// The smallest scale, 2⁻²³: blocks of zeros or of tiny weights divide by it.
pub(crate) const MIN_SCALE: f32 = f32::EPSILON;

/// 1.5 · 2²³: adding it to a small f32 rounds that to an integer, ties to
/// even, and leaves the integer in the low bits.
const ROUND: f32 = 12_582_912.0;

/// How many blocks are worked on together, so that what is done once per block
/// fills a vector too.
const GROUP: usize = 16;

/// Whether every CPU of this architecture has a fused multiply-add.
const FUSED: bool = cfg!(target_arch = "aarch64");

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
    if avx2::is_available() {
        // SAFETY: the CPU has the instructions, as was just checked.
        return unsafe { avx2::quantize(element, weights, scheme, data, scales) };
    }
    quantize_any::<FUSED>(element, weights, scheme, data, scales)
}

/// Rounds n elements to f16: `out` takes 2 · n bytes. Returns false, with
/// the output unspecified, if some weight is not finite as f16.
pub(crate) fn to_f16(element: Element, weights: &[u8], out: &mut [u8]) -> bool {
    #[cfg(target_arch = "x86_64")]
    if avx2::is_available() {
        // SAFETY: the CPU has the instructions, as was just checked.
        return unsafe { avx2::to_f16(element, weights, out) };
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

fn to_f16_any(element: Element, weights: &[u8], out: &mut [u8]) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the code that `quantize` and `to_f16` choose here is not the
    /// plain code, which it is compared with: a machine without the
    /// instructions fails the tests instead of comparing plain code with itself.
    fn assert_vector_code_runs() {
        #[cfg(target_arch = "x86_64")]
        assert!(
            avx2::is_available(),
            "this CPU has no AVX2, FMA and F16C, so that `avx2` cannot be tested on it"
        );
        #[cfg(target_arch = "aarch64")]
        const {
            assert!(FUSED)
        };
    }

    /// Runs all variants, and compares what they give. Whether the weights are
    /// finite as f16.
    fn same(element: Element, weights: &[u8]) -> bool {
        assert_vector_code_runs();
        let count = weights.len() / element.size();
        let mut finite_by = Vec::new();
        for scheme in [Scheme::SymmetricWithClipping, Scheme::Symmetric] {
            let (mut data, mut scales) = (vec![0; count], vec![0; count / 16]);
            let finite = quantize(element, weights, scheme, &mut data, &mut scales);
            for variant in [quantize_any::<false>, quantize_any::<true>] {
                let (mut plain, mut plain_scales) = (vec![1; count], vec![1; count / 16]);
                let again = variant(element, weights, scheme, &mut plain, &mut plain_scales);
                assert_eq!(finite, again);
                // The bytes of weights that f16 cannot hold are unspecified.
                assert!(!finite || (&data, &scales) == (&plain, &plain_scales));
            }
            finite_by.push(finite);
        }
        let (mut out, mut plain) = (vec![0; 2 * count], vec![1; 2 * count]);
        finite_by.push(to_f16(element, weights, &mut out));
        finite_by.push(to_f16_any(element, weights, &mut plain));
        assert!(!finite_by[0] || out == plain);
        assert!(finite_by.iter().all(|finite| *finite == finite_by[0]));
        finite_by[0]
    }

    #[test]
    fn vector_code_gives_the_bytes_of_plain_code() {
        // Every value that f16 can hold.
        for (element, end) in [(Element::F16, 0x7c00), (Element::Bf16, 0x4780_u16)] {
            let bits = (0..end).flat_map(|bits| [bits, bits | 0x8000]);
            let bits: Vec<u8> = bits.flat_map(u16::to_le_bytes).collect();
            assert!(same(element, &bits));
            assert!(same(element, &bits[..7 * BLOCK * element.size()]));
            for beyond in [end, end | 0x8000, 0x7fff] {
                let mut bits = bits.clone();
                bits[640..642].copy_from_slice(&beyond.to_le_bytes());
                assert!(!same(element, &bits));
            }
        }
    }

    #[test]
    fn vector_code_gives_the_bytes_of_plain_code_for_f32() {
        // Blocks of every size of number, with all kinds of digits.
        let mut state = 1_u32;
        for exponent in (0..255).step_by(3) {
            let next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let exponent = (exponent + (state >> 29)) << 23;
                (state & 0x807f_ffff | exponent).to_le_bytes()
            };
            let weights: Vec<u8> = std::iter::repeat_with(next)
                .take(37 * BLOCK)
                .flatten()
                .collect();
            assert_eq!(same(Element::F32, &weights), exponent < 136);
        }
        let ties = (0..0x7bff_u16).map(|bits| {
            let [low, high] = [bits, bits + 1].map(|bits| half::f16::from_bits(bits).to_f32());
            (low + (high - low) / 2.0).to_le_bytes()
        });
        let ties: Vec<u8> = ties.take(0x7be0).flatten().collect();
        assert!(same(Element::F32, &ties));
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
