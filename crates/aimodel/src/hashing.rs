//! Hashing what is written while it is written.

use std::{
    io::{self, Write},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use sha2::{Digest, Sha256};

/// How much is handed over at a time.
const CHUNK: usize = 1 << 20;

/// How many chunks may wait for the hash.
const WAITING: usize = 3;

/// Writes to a file and hands what it wrote to a thread that hashes it, so that
/// making, writing and hashing a large file overlap.
pub(crate) struct HashingWriter<W> {
    out: W,
    chunk: Vec<u8>,
    hasher: SyncSender<Vec<u8>>,
    /// Chunks that were hashed, to be filled again.
    empty: Receiver<Vec<u8>>,
    failed: bool,
}

impl<W: Write> HashingWriter<W> {
    /// Runs `write` and returns the SHA-256 of what it wrote to `out`.
    ///
    /// # Errors
    /// That of `write`, and whether `out` failed.
    pub fn run<E: From<io::Error>>(
        out: W,
        write: impl FnOnce(&mut dyn Write) -> Result<(), E>,
    ) -> Result<[u8; 32], (E, bool)> {
        thread::scope(|scope| {
            let (hasher, chunks) = sync_channel::<Vec<u8>>(WAITING);
            let (hashed, empty) = sync_channel::<Vec<u8>>(WAITING + 2);
            let thread = scope.spawn(move || {
                let mut hash = Sha256::new();
                for chunk in chunks {
                    hash.update(&chunk);
                    // There is room for every chunk that exists.
                    let _ = hashed.try_send(chunk);
                }
                <[u8; 32]>::from(hash.finalize())
            });
            let mut writer = Self {
                out,
                chunk: Vec::with_capacity(CHUNK),
                hasher,
                empty,
                failed: false,
            };
            let result = write(&mut writer).and_then(|()| Ok(writer.flush()?));
            let failed = writer.failed;
            // The thread ends when nothing can be sent to it any more.
            drop(writer);
            let hash = thread.join();
            result.map_err(|error| (error, failed))?;
            hash.map_err(|_| (io::Error::other("the hash was not computed").into(), false))
        })
    }

    fn hand_over(&mut self) -> io::Result<()> {
        let written = self.out.write_all(&self.chunk);
        self.failed |= written.is_err();
        written?;
        let mut next = self
            .empty
            .try_recv()
            .unwrap_or_else(|_| Vec::with_capacity(CHUNK));
        next.clear();
        let full = std::mem::replace(&mut self.chunk, next);
        self.hasher
            .send(full)
            .map_err(|_| io::Error::other("the hash was not computed"))
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(CHUNK - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..taken]);
        if self.chunk.len() == CHUNK {
            self.hand_over()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.chunk.is_empty() {
            self.hand_over()?;
        }
        let flushed = self.out.flush();
        self.failed |= flushed.is_err();
        flushed
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};

    use sha2::{Digest, Sha256};

    use super::{CHUNK, HashingWriter};

    #[test]
    fn the_hash_is_that_of_what_was_written() {
        for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 9 * CHUNK + 5] {
            let bytes: Vec<u8> = (0..length).map(|i| (i * 7 % 251) as u8).collect();
            let mut out = Vec::new();
            let hash = HashingWriter::run(&mut out, |out| out.write_all(&bytes)).unwrap();
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
