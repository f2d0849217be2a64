//! Numbers that look random and are the same in every run.

/// Bytes that do not repeat, the same for the same seed.
pub fn noise(seed: u32, size: usize) -> Vec<u8> {
    let mut noise = Noise::new(u64::from(seed));
    let mut bytes = Vec::with_capacity(size + 4);
    while bytes.len() < size {
        bytes.extend_from_slice(&noise.next_u32().to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// A linear congruential generator with Knuth's multiplier; its upper bits are
/// used.
#[derive(Clone, Debug)]
pub struct Noise(u64);

impl Noise {
    /// A generator; the same seed gives the same numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next_u32(&mut self) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 32) as u32
    }

    /// The next number from -1 to 1.
    pub fn next_f32(&mut self) -> f32 {
        (self.next_u32() >> 8) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// A level from 0 to 255 for an index: the hash that `oracles/record.py` makes
/// inputs with.
pub fn recorded_level(index: u32) -> u32 {
    let x = index.wrapping_mul(2_654_435_761);
    let x = (x ^ (x >> 15)).wrapping_mul(2_246_822_519);
    (x ^ (x >> 13)) >> 24
}

#[cfg(test)]
mod tests {
    use super::{Noise, noise};

    #[test]
    fn it_repeats_for_a_seed_and_not_within() {
        let bytes = noise(1, 10_001);
        assert_eq!((bytes.len(), &bytes), (10_001, &noise(1, 10_001)));
        assert_ne!(bytes[..5000], bytes[5000..10_000]);
        assert_ne!(bytes, noise(2, 10_001));
        let mut noise = Noise::new(7);
        let (mut negative, mut positive) = (0, 0);
        for _ in 0..1000 {
            let value = noise.next_f32();
            assert!((-1.0..=1.0).contains(&value));
            if value < 0.0 {
                negative += 1;
            } else {
                positive += 1;
            }
        }
        assert!(negative > 400 && positive > 400);
    }
}
