//! Comparison of the data of constants while they are made.

use std::io;

/// How the data of two constants differ.
#[derive(Clone, Copy)]
pub(super) struct Mismatch {
    /// The first byte that differs.
    pub first: u64,
    /// How many do.
    pub count: u64,
    /// Bytes found, and expected.
    pub lengths: [u64; 2],
}

/// Compares bytes that are written to it with those that are there.
pub(super) struct Compare<'b> {
    found: &'b [u8],
    at: usize,
    first: Option<u64>,
    count: u64,
}

impl<'b> Compare<'b> {
    pub fn new(found: &'b [u8]) -> Self {
        Self {
            found,
            at: 0,
            first: None,
            count: 0,
        }
    }

    pub fn take(&mut self, expected: &[u8]) {
        let rest = self.found.get(self.at..).unwrap_or_default();
        let common = rest.len().min(expected.len());
        if rest[..common] != expected[..common] {
            for (at, (a, b)) in rest.iter().zip(expected).enumerate() {
                if a != b {
                    self.first.get_or_insert((self.at + at) as u64);
                    self.count += 1;
                }
            }
        }
        self.at += expected.len();
    }

    pub fn end(&self) -> Mismatch {
        let (found, expected) = (self.found.len() as u64, self.at as u64);
        Mismatch {
            first: self.first.unwrap_or(found.min(expected)),
            count: self.count + found.abs_diff(expected),
            lengths: [found, expected],
        }
    }
}

impl io::Write for Compare<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.take(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Mismatch {
    pub fn text(self) -> String {
        let [found, expected] = self.lengths;
        if found != expected {
            return format!("has {found} bytes, expected {expected}");
        }
        format!(
            "{} of {expected} bytes differ, the first of them at byte {}",
            self.count, self.first
        )
    }
}
