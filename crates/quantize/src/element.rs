//! Element types of checkpoints, and their exact conversion to f16.
//!
//! Every function here is free of branches and library calls, so that the
//! compiler turns the loops of `kernel` into vector code on any target.

/// The type of one weight as stored in a checkpoint, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// The upper half of an f32.
    Bf16,
    /// IEEE 754 binary16.
    F16,
    /// IEEE 754 binary32.
    F32,
}

impl Element {
    /// Bytes that one weight takes.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Element::Bf16 | Element::F16 => 2,
            Element::F32 => 4,
        }
    }
}

/// Weights borrowed from a checkpoint: some rows of a matrix, row after row.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a> {
    pub(crate) element: Element,
    pub(crate) bytes: &'a [u8],
}

impl<'a> Weights<'a> {
    /// Weights of type `element`, little-endian, row-major, no padding. The
    /// bytes need no alignment.
    #[must_use]
    pub fn new(element: Element, bytes: &'a [u8]) -> Self {
        Weights { element, bytes }
    }
}

/// Bits of the smallest |f32| that f16 cannot hold: 65520 is the midpoint
/// between the largest f16 value and the next one, and ties go to even, up.
pub(crate) const OVERFLOW_BITS: u32 = 0x477f_f000;

/// Bits of 2⁻¹⁴, the smallest normal value of f16.
const MIN_NORMAL_BITS: u32 = 0x3880_0000;

/// How one stored element becomes an f32; implemented for each [`Element`] so
/// that the loops over a row know it at compile time.
pub(crate) trait Load {
    /// The element type.
    const ELEMENT: Element;
    /// Bytes of one element.
    const SIZE: usize;
    /// Exact value of one element; `bytes` has [`Self::SIZE`] bytes.
    fn load(bytes: &[u8]) -> f32;
    /// The largest magnitude of some elements; if one is NaN, that or infinity.
    fn max(bytes: &[u8]) -> f32;
    /// [`round_to_f16`] of a loaded value, without the steps that its type
    /// never needs.
    fn rounded(value: f32) -> f32;
}

/// The bits of the largest magnitude of elements of two bytes, sign bit first:
/// magnitudes compare as integers, and NaN is above all.
#[inline(always)]
fn max_of_two_bytes(bytes: &[u8]) -> [u8; 2] {
    let elements = bytes.as_chunks().0.iter();
    let magnitudes = elements.map(|bytes| u16::from_le_bytes(*bytes) & 0x7fff);
    magnitudes.fold(0, u16::max).to_le_bytes()
}

pub(crate) struct Bf16;
pub(crate) struct F16;
pub(crate) struct F32;

impl Load for Bf16 {
    const ELEMENT: Element = Element::Bf16;
    const SIZE: usize = 2;
    #[inline(always)]
    fn load(bytes: &[u8]) -> f32 {
        f32::from_bits(u32::from(u16::from_le_bytes([bytes[0], bytes[1]])) << 16)
    }
    #[inline(always)]
    fn max(bytes: &[u8]) -> f32 {
        Self::load(&max_of_two_bytes(bytes))
    }
    #[inline(always)]
    fn rounded(value: f32) -> f32 {
        // Fewer digits than f16 has, except below its normal values.
        if value.to_bits() & 0x7fff_ffff < MIN_NORMAL_BITS {
            round_subnormal(value)
        } else {
            value
        }
    }
}

impl Load for F16 {
    const ELEMENT: Element = Element::F16;
    const SIZE: usize = 2;
    #[inline(always)]
    fn load(bytes: &[u8]) -> f32 {
        let bits = u32::from(u16::from_le_bytes([bytes[0], bytes[1]]));
        // Exponent and fraction in the places that f32 has them, off by the
        // difference of the biases; the product corrects that, for
        // subnormals too. f16's infinities
        // and NaNs become at least 65536, which counts as overflow.
        let magnitude = f32::from_bits((bits & 0x7fff) << 13) * f32::from_bits(0x7780_0000);
        f32::from_bits(magnitude.to_bits() | ((bits & 0x8000) << 16))
    }
    #[inline(always)]
    fn max(bytes: &[u8]) -> f32 {
        Self::load(&max_of_two_bytes(bytes))
    }
    #[inline(always)]
    fn rounded(value: f32) -> f32 {
        value
    }
}

impl Load for F32 {
    const ELEMENT: Element = Element::F32;
    const SIZE: usize = 4;
    #[inline(always)]
    fn load(bytes: &[u8]) -> f32 {
        f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }
    #[inline(always)]
    fn max(bytes: &[u8]) -> f32 {
        let magnitudes = bytes
            .chunks_exact(4)
            .map(|bytes| Self::load(bytes).to_bits() & 0x7fff_ffff);
        f32::from_bits(magnitudes.fold(0, u32::max))
    }
    #[inline(always)]
    fn rounded(value: f32) -> f32 {
        round_to_f16(value)
    }
}

/// `x` rounded to the nearest f16 value, ties to even, as an f32.
///
/// |x| must be below 65520; the caller refuses the rest.
#[inline(always)]
pub(crate) fn round_to_f16(x: f32) -> f32 {
    let bits = x.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    // Half of the last place that is kept, minus one unless that place is
    // odd.
    let normal = magnitude.wrapping_add(0xfff + ((magnitude >> 13) & 1)) & !0x1fff;
    if magnitude < MIN_NORMAL_BITS {
        round_subnormal(x)
    } else {
        f32::from_bits(normal | (bits & 0x8000_0000))
    }
}

/// [`round_to_f16`] of a value below the smallest normal f16.
#[inline(always)]
fn round_subnormal(x: f32) -> f32 {
    // Near 0.5 an f32's last place is 2⁻²⁴, the step of f16's subnormals.
    let half = 0.5_f32.copysign(x);
    ((x + half) - half).copysign(x)
}

/// The bits of the f16 nearest to `x`, ties to even.
///
/// |x| must be below 65520; the caller refuses the rest.
#[inline(always)]
pub(crate) fn f16_bits(x: f32) -> u16 {
    let bits = x.to_bits();
    let sign = (bits >> 16) & 0x8000;
    let magnitude = bits & 0x7fff_ffff;
    let normal = (magnitude.wrapping_add(0xfff + ((magnitude >> 13) & 1)) >> 13)
        .wrapping_sub((127 - 15) << 10);
    let subnormal = (f32::from_bits(magnitude) + 0.5)
        .to_bits()
        .wrapping_sub(0.5_f32.to_bits());
    let rounded = if magnitude < MIN_NORMAL_BITS {
        subnormal
    } else {
        normal
    };
    (rounded | sign) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::{bf16, f16};

    #[test]
    fn every_f16_and_bf16_converts_as_the_half_crate_does() {
        for bits in 0..=u16::MAX {
            let (from_f16, from_bf16) = (f16::from_bits(bits), bf16::from_bits(bits));
            if from_f16.is_finite() {
                let value = F16::load(&bits.to_le_bytes());
                assert_eq!(value.to_bits(), from_f16.to_f32().to_bits());
                assert_eq!(f16_bits(value), bits);
                assert_eq!(round_to_f16(value).to_bits(), value.to_bits());
            } else {
                assert!(F16::load(&bits.to_le_bytes()).to_bits() & 0x7fff_ffff >= OVERFLOW_BITS);
            }
            let value = Bf16::load(&bits.to_le_bytes());
            let expected = f16::from_f32(from_bf16.to_f32());
            if expected.is_finite() {
                assert_eq!(f16_bits(value), expected.to_bits());
                assert_eq!(round_to_f16(value).to_bits(), expected.to_f32().to_bits());
            } else {
                assert!(value.to_bits() & 0x7fff_ffff >= OVERFLOW_BITS);
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn any_f32_converts_as_the_half_crate_does(bits: u32) {
            let value = f32::from_bits(bits);
            let expected = f16::from_f32(value);
            if expected.is_finite() {
                assert_eq!(f16_bits(value), expected.to_bits());
                assert_eq!(round_to_f16(value).to_bits(), expected.to_f32().to_bits());
            } else {
                assert!(bits & 0x7fff_ffff >= OVERFLOW_BITS);
            }
        }

        /// Midpoints between neighbouring f16 values, and their f32 neighbours.
        #[test]
        fn ties_go_to_even(bits in 0u16..0x7bff, step in -1i32..=1, negative: bool) {
            let low = f16::from_bits(bits).to_f32();
            let high = f16::from_bits(bits + 1).to_f32();
            let middle = low + (high - low) / 2.0;
            let value = f32::from_bits((middle.to_bits() as i32 + step) as u32);
            let value = if negative { -value } else { value };
            assert_eq!(f16_bits(value), f16::from_f32(value).to_bits());
            assert_eq!(round_to_f16(value).to_bits(), f16::from_f32(value).to_f32().to_bits());
        }
    }
}
