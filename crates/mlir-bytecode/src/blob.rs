//! Large constant data that is not held in memory.

use std::{fmt, io, ops::Range, sync::Arc};

use memmap2::Mmap;

/// Why a blob could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlobError {
    /// The output refused the bytes.
    #[error(transparent)]
    Output(#[from] io::Error),
    /// The bytes could not be made, for a reason that only the source knows.
    #[error(transparent)]
    Source(Box<dyn std::error::Error + Send + Sync>),
}

impl BlobError {
    /// The error of a source; [`downcast`](std::error::Error::downcast) gives
    /// it back where the error arrives.
    pub fn source(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Source(error.into())
    }
}

/// Data that can be written to a stream, more than once, with the same bytes
/// each time. Implement this to produce a blob only when it is written.
pub trait BlobSource: Send + Sync {
    /// The number of bytes that [`write_to`](Self::write_to) writes.
    fn len(&self) -> u64;

    /// Whether there are no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes exactly [`len`](Self::len) bytes.
    ///
    /// # Errors
    /// [`BlobError::Output`] if `out` fails, [`BlobError::Source`] if the bytes
    /// cannot be made.
    fn write_to(&self, out: &mut dyn io::Write) -> Result<(), BlobError>;

    /// The bytes, where they lie in memory or in a mapped file anyway.
    fn as_slice(&self) -> Option<&[u8]> {
        None
    }
}

impl BlobSource for Vec<u8> {
    fn len(&self) -> u64 {
        self.as_slice().len() as u64
    }
    fn write_to(&self, out: &mut dyn io::Write) -> Result<(), BlobError> {
        Ok(out.write_all(self)?)
    }
    fn as_slice(&self) -> Option<&[u8]> {
        Some(self)
    }
}

/// A shared handle to a [`BlobSource`].
#[derive(Clone)]
pub struct Blob(Arc<dyn BlobSource>);

impl Blob {
    /// Wraps a source.
    pub fn new(source: impl BlobSource + 'static) -> Self {
        Self(Arc::new(source))
    }

    /// The bytes of the blob, read into memory if they are not there yet.
    ///
    /// # Errors
    /// Those of the source.
    pub fn to_vec(&self) -> Result<Vec<u8>, BlobError> {
        let mut bytes = Vec::new();
        self.write_to(&mut bytes)?;
        Ok(bytes)
    }
}

impl std::ops::Deref for Blob {
    type Target = dyn BlobSource;
    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({} bytes)", self.len())
    }
}

/// The bytes of a whole file: mapped, or in memory.
#[derive(Clone)]
pub enum Source {
    Memory(Arc<[u8]>),
    Mapped(Arc<Mmap>),
}

impl Source {
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Memory(bytes) => bytes,
            Self::Mapped(map) => map,
        }
    }
}

/// A part of a file that was read.
pub struct Slice {
    pub source: Source,
    pub range: Range<usize>,
}

impl BlobSource for Slice {
    fn len(&self) -> u64 {
        self.range.len() as u64
    }
    fn write_to(&self, out: &mut dyn io::Write) -> Result<(), BlobError> {
        Ok(out.write_all(&self.source.bytes()[self.range.clone()])?)
    }
    fn as_slice(&self) -> Option<&[u8]> {
        Some(&self.source.bytes()[self.range.clone()])
    }
}
