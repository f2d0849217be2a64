//! Large constant data that is not held in memory.

use std::{fmt, io, ops::Range, sync::Arc};

#[cfg(feature = "mmap")]
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
    /// The error of a source. Whoever gets it can downcast it to its own type
    /// again.
    #[must_use]
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
    #[must_use]
    pub fn new(source: impl BlobSource + 'static) -> Self {
        Self(Arc::new(source))
    }

    /// The number of bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes, where they lie in memory or in a mapped file anyway.
    #[must_use]
    pub fn as_slice(&self) -> Option<&[u8]> {
        self.0.as_slice()
    }

    /// Writes the bytes.
    ///
    /// # Errors
    /// As [`BlobSource::write_to`].
    pub fn write_to(&self, out: &mut dyn io::Write) -> Result<(), BlobError> {
        self.0.write_to(out)
    }

    /// The bytes, made or copied into memory.
    ///
    /// # Errors
    /// [`BlobError::Source`] if the bytes cannot be made.
    pub fn to_vec(&self) -> Result<Vec<u8>, BlobError> {
        let mut bytes = Vec::new();
        self.write_to(&mut bytes)?;
        Ok(bytes)
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
    #[cfg(feature = "mmap")]
    Mapped(Arc<Mmap>),
}

impl Source {
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Memory(bytes) => bytes,
            #[cfg(feature = "mmap")]
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
