//! Writing of the container's primitives.

/// The largest alignment that data may have. Real files stay at the size of a
/// cache line; the bound keeps the padding small.
pub const MAX_ALIGNMENT: u64 = 1 << 20;

/// The byte that fills gaps before aligned data.
pub const PADDING: u8 = 0xcb;

/// Collects bytes.
#[derive(Default)]
pub struct Emitter {
    pub bytes: Vec<u8>,
}

impl Emitter {
    pub fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    pub fn varint(&mut self, value: u64) {
        let bits = 64 - value.leading_zeros() as usize;
        let width = bits.div_ceil(7).max(1);
        if width > 8 {
            self.byte(0);
            self.bytes.extend_from_slice(&value.to_le_bytes());
        } else {
            let encoded = ((value << 1) | 1) << (width - 1);
            self.bytes
                .extend_from_slice(&encoded.to_le_bytes()[..width]);
        }
    }

    pub fn varint_with_flag(&mut self, value: u64, flag: bool) {
        self.varint(value << 1 | u64::from(flag));
    }

    pub fn section(&mut self, code: u8, content: &Emitter) {
        self.byte(code);
        self.varint(content.bytes.len() as u64);
        self.bytes.extend_from_slice(&content.bytes);
    }
}

/// The number of padding bytes from `offset` to the next multiple of
/// `alignment`, a power of two.
pub fn padding(offset: u64, alignment: u64) -> u64 {
    offset.next_multiple_of(alignment) - offset
}
