//! What long operations report.

use std::{
    io::{self, Write},
    ops::ControlFlow,
};

/// What was done since the last report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes that were written.
    pub bytes: u64,
}

/// Gets reports, and says whether the operation goes on.
pub type ProgressFn<'a> = &'a mut dyn FnMut(Progress) -> ControlFlow<()>;

/// Large pieces are written and reported in pieces of this size.
const PIECE: usize = 1 << 20;

/// A writer that reports what it writes.
pub(crate) struct Metered<'a> {
    pub out: &'a mut dyn Write,
    pub progress: ProgressFn<'a>,
    /// Set when `progress` ends the operation.
    pub interrupted: &'a mut bool,
}

impl Write for Metered<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = &bytes[..bytes.len().min(PIECE)];
        let written = self.out.write(piece)?;
        let bytes = written as u64;
        if (self.progress)(Progress { bytes }).is_break() {
            *self.interrupted = true;
            return Err(io::Error::other("interrupted"));
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
