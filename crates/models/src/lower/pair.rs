//! Two blobs that one computation makes.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use aimodel::{Blob, BlobError, BlobSource};

/// Writes the first blob, and returns the second.
type Make = Box<dyn Fn(&mut dyn io::Write) -> Result<Vec<u8>, BlobError> + Send + Sync>;

/// Two blobs of these lengths, in bytes, that `make` makes: it writes the first
/// and returns the second.
///
/// The first is to be written before the second, as it is if the resources are
/// added to the program in this order: then `make` runs once, and the second is
/// kept for as long as it takes to get to it. A blob can be read at any time and
/// more than once, so the second is made anew where the first was not written
/// since; that costs a second computation, and gives the same bytes.
pub fn pair(
    lengths: [u64; 2],
    make: impl Fn(&mut dyn io::Write) -> Result<Vec<u8>, BlobError> + Send + Sync + 'static,
) -> [Blob; 2] {
    let pair = Arc::new(Pair {
        lengths,
        make: Box::new(make),
        second: Mutex::new(None),
    });
    [Blob::new(First(pair.clone())), Blob::new(Second(pair))]
}

struct Pair {
    lengths: [u64; 2],
    make: Make,
    /// The second blob, from when the first was written until it is.
    second: Mutex<Option<Vec<u8>>>,
}

impl Pair {
    /// Keeps `second`, or nothing; returns what was kept before.
    fn keep(&self, second: Option<Vec<u8>>) -> Option<Vec<u8>> {
        let mut kept = self.second.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut kept, second)
    }
}

struct First(Arc<Pair>);

impl BlobSource for First {
    fn len(&self) -> u64 {
        self.0.lengths[0]
    }

    fn write_to(&self, out: &mut dyn io::Write) -> Result<(), BlobError> {
        let second = (self.0.make)(out)?;
        self.0.keep(Some(second));
        Ok(())
    }
}

struct Second(Arc<Pair>);

impl BlobSource for Second {
    fn len(&self) -> u64 {
        self.0.lengths[1]
    }

    fn write_to(&self, out: &mut dyn io::Write) -> Result<(), BlobError> {
        let bytes = match self.0.keep(None) {
            Some(bytes) => bytes,
            None => (self.0.make)(&mut io::sink())?,
        };
        Ok(out.write_all(&bytes)?)
    }
}
