//! The loops over rows: in plain code in `scalar`, which the compiler vectorizes,
//! and with intrinsics in `avx2`. Both give the same bytes; here the one is chosen
//! that the CPU has.

use crate::Scheme;
#[cfg(target_arch = "x86_64")]
use crate::avx2;
use crate::element::Element;
use crate::scalar::{FUSED, quantize_any, to_f16_any};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BLOCK;
    use crate::scalar::*;

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
