//! Bounds-checked reading of the container's primitives.

use crate::{Error, Result, format::section};

/// Reads forward through one section.
#[derive(Clone)]
pub struct Cursor<'a> {
    data: &'a [u8],
    position: usize,
    /// Where `data` starts in the file.
    start: u64,
    section: &'static str,
}

impl<'a> Cursor<'a> {
    pub fn new(data: &'a [u8], start: u64, section: &'static str) -> Self {
        Self {
            data,
            position: 0,
            start,
            section,
        }
    }

    pub fn error(&self, problem: impl Into<String>) -> Error {
        Error::Malformed {
            section: self.section,
            offset: self.offset(),
            problem: problem.into(),
        }
    }

    /// The offset in the file of the next byte.
    pub fn offset(&self) -> u64 {
        self.start + self.position as u64
    }

    pub fn remaining(&self) -> usize {
        self.data.len() - self.position
    }

    pub fn is_empty(&self) -> bool {
        self.remaining() == 0
    }

    /// Checks that all bytes were used.
    pub fn finish(&self) -> Result<()> {
        match self.remaining() {
            0 => Ok(()),
            n => Err(self.error(format!("{n} bytes are left over after the last item"))),
        }
    }

    pub fn byte(&mut self) -> Result<u8> {
        Ok(self.bytes(1)?[0])
    }

    pub fn bytes(&mut self, count: u64) -> Result<&'a [u8]> {
        let rest = &self.data[self.position..];
        match usize::try_from(count).ok().and_then(|n| rest.get(..n)) {
            Some(bytes) => {
                self.position += bytes.len();
                Ok(bytes)
            }
            None => Err(self.error(format!("expected {count} more bytes, found {}", rest.len()))),
        }
    }

    /// A variable-width integer: the number of trailing zero bits of the first
    /// byte is the number of bytes that follow it.
    pub fn varint(&mut self) -> Result<u64> {
        let first = self.byte()?;
        let extra = first.trailing_zeros().min(8) as usize;
        let mut value = [0; 8];
        if extra == 8 {
            value.copy_from_slice(self.bytes(8)?);
            return Ok(u64::from_le_bytes(value));
        }
        value[0] = first;
        value[1..=extra].copy_from_slice(self.bytes(extra as u64)?);
        Ok(u64::from_le_bytes(value) >> (extra + 1))
    }

    /// A varint whose lowest bit is a flag.
    pub fn varint_with_flag(&mut self) -> Result<(u64, bool)> {
        let value = self.varint()?;
        Ok((value >> 1, value & 1 == 1))
    }

    /// A count of items that take at least one byte each, so that a count
    /// beyond the bytes left is refused before anything is allocated for it.
    pub fn count(&mut self, what: &str) -> Result<usize> {
        let count = self.varint()?;
        self.check_count(count, what)
    }

    pub fn check_count(&self, count: u64, what: &str) -> Result<usize> {
        match usize::try_from(count) {
            Ok(n) if n <= self.remaining() => Ok(n),
            _ => Err(self.error(format!(
                "{count} {what} are announced, but only {} bytes are left",
                self.remaining()
            ))),
        }
    }

    /// An index into a table of `len` entries.
    pub fn index(&mut self, len: usize, what: &str) -> Result<usize> {
        let index = self.varint()?;
        self.check_index(index, len, what)
    }

    pub fn check_index(&self, index: u64, len: usize, what: &str) -> Result<usize> {
        match usize::try_from(index) {
            Ok(i) if i < len => Ok(i),
            _ => Err(self.error(format!("{what} {index} is out of range: there are {len}"))),
        }
    }

    pub fn nul_terminated(&mut self) -> Result<&'a [u8]> {
        let rest = &self.data[self.position..];
        match rest.iter().position(|&b| b == 0) {
            Some(end) => {
                self.position += end + 1;
                Ok(&rest[..end])
            }
            None => Err(self.error("a string has no terminating NUL")),
        }
    }

    pub fn text(&self, bytes: &[u8]) -> Result<String> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(self.error("a string is not UTF-8")),
        }
    }

    /// Skips padding up to a multiple of `alignment` in the file.
    pub fn align(&mut self, alignment: u64) -> Result<()> {
        if !alignment.is_power_of_two() || alignment > crate::emit::MAX_ALIGNMENT {
            return Err(self.error(format!("{alignment} is not an alignment")));
        }
        while !self.offset().is_multiple_of(alignment) {
            let padding = self.byte()?;
            if padding != crate::emit::PADDING {
                return Err(self.error(format!("expected padding 0xcb, found {padding:#04x}")));
            }
        }
        Ok(())
    }

    /// A nested section: its code and its content.
    pub fn section(&mut self) -> Result<(u8, Cursor<'a>)> {
        let code = self.byte()?;
        let length = self.varint()?;
        if code & 0x80 != 0 {
            let alignment = self.varint()?;
            self.align(alignment)?;
        }
        let code = code & 0x7f;
        if code as usize >= section::COUNT {
            return Err(self.error(format!("unknown section code {code}")));
        }
        let start = self.offset();
        let data = self.bytes(length)?;
        Ok((code, Cursor::new(data, start, section::name(code))))
    }
}

#[cfg(test)]
mod tests {
    use super::Cursor;
    use crate::emit::Emitter;

    proptest::proptest! {
        #[test]
        fn varints_come_back(value: u64, shift in 0_u32..64) {
            let value = value >> shift;
            let mut out = Emitter::default();
            out.varint(value);
            let mut cursor = Cursor::new(&out.bytes, 0, "test");
            assert_eq!(cursor.varint().unwrap(), value);
            assert!(cursor.finish().is_ok());
            // The fewest bytes that can hold it.
            let bits = 64 - value.leading_zeros() as usize;
            assert_eq!(out.bytes.len(), bits.div_ceil(7).clamp(1, 9));
        }
    }
}
