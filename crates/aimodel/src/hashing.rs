//! Hashing bytes while they are written.

use std::io::{self, BufWriter, Write};

use sha2::{Digest, Sha256};

/// Smaller pieces than this are buffered; others are written directly.
const SMALL: usize = 64 << 10;

/// Writes to a file and hashes the same bytes; with the feature `rayon` at the
/// same time, on a second thread where one is free.
pub(crate) struct HashingWriter<W> {
    out: W,
    hash: Sha256,
    failed: bool,
}

impl<W: Write + Send> HashingWriter<W> {
    /// Runs `write` and returns the SHA-256 of what it wrote to `out`.
    ///
    /// # Errors
    /// That of `write`, and whether `out` failed.
    pub fn run<E: From<io::Error>>(
        out: W,
        write: impl FnOnce(&mut dyn Write) -> Result<(), E>,
    ) -> Result<[u8; 32], (E, bool)> {
        let mut writer = BufWriter::with_capacity(
            SMALL,
            Self {
                out,
                hash: Sha256::new(),
                failed: false,
            },
        );
        let result = write(&mut writer).and_then(|()| Ok(writer.flush()?));
        // What the buffer still holds after an error is not worth writing.
        let (writer, _) = writer.into_parts();
        match result {
            Ok(()) => Ok(writer.hash.finalize().into()),
            Err(error) => Err((error, writer.failed)),
        }
    }
}

impl<W: Write + Send> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Self { out, hash, failed } = self;
        #[cfg(feature = "rayon")]
        let (written, ()) = rayon::join(|| out.write_all(bytes), || hash.update(bytes));
        #[cfg(not(feature = "rayon"))]
        let (written, ()) = (out.write_all(bytes), hash.update(bytes));
        *failed |= written.is_err();
        written.map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.out.flush();
        self.failed |= flushed.is_err();
        flushed
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};

    use sha2::{Digest, Sha256};

    use super::{HashingWriter, SMALL};

    #[test]
    fn the_hash_is_that_of_what_was_written() {
        for length in [0, 1, SMALL - 1, SMALL, SMALL + 1, 9 * SMALL + 5] {
            let bytes: Vec<u8> = (0..length).map(|i| (i * 7 % 251) as u8).collect();
            let mut out = Vec::new();
            let hash = HashingWriter::run(&mut out, |out| {
                // A small piece, large ones, and what is left.
                let (first, rest) = bytes.split_at(length.min(1));
                out.write_all(first)?;
                rest.chunks(2 * SMALL)
                    .try_for_each(|piece| out.write_all(piece))
            })
            .unwrap();
            assert!(out == bytes);
            assert_eq!(hash, <[u8; 32]>::from(Sha256::digest(&bytes)));
        }
    }

    #[test]
    fn errors_say_whose_they_are() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let of = |result: Result<[u8; 32], (io::Error, bool)>| {
            result.map_err(|(error, failed)| (error.kind(), failed))
        };
        let written = of(HashingWriter::run(Full, |out| out.write_all(&[1])));
        assert_eq!(written, Err((io::ErrorKind::StorageFull, true)));
        let made = of(HashingWriter::run(Vec::new(), |_| {
            Err(io::ErrorKind::InvalidData.into())
        }));
        assert_eq!(made, Err((io::ErrorKind::InvalidData, false)));
    }
}
