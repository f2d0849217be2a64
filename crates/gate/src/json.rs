//! Files of JSON that come from elsewhere, or go there.

use std::path::Path;

use serde::{Serialize, de::DeserializeOwned};

use crate::{Error, Result};

/// The max size of a file that is read, in bytes: 8 runs of two prompts on a device
/// take some thousands.
pub(crate) const MAX_BYTES: u64 = 16 << 20;

/// Reads a file; `help` says what it should hold.
///
/// # Errors
/// It cannot be read, is longer than [`MAX_BYTES`], or holds something else.
pub(crate) fn read<T: DeserializeOwned>(path: &Path, help: &str) -> Result<T> {
    let text = fsutil::read(path, MAX_BYTES)?;
    serde_json::from_slice(&text).map_err(|error| {
        // It quotes what it does not know.
        let error = fsutil::visible(&error.to_string());
        Error::input(path.display(), format!("{error}; {help}"))
    })
}

/// Writes a new file, whole or not at all.
///
/// # Errors
/// The file exists or cannot be written.
pub(crate) fn write_new(path: &Path, value: &impl Serialize) -> Result<()> {
    let json = serde_json::to_string_pretty(value);
    let text = json.map_err(|error| Error::input(path.display(), error.to_string()))?;
    fsutil::write_new(path, format!("{text}\n").as_bytes())?;
    Ok(())
}
