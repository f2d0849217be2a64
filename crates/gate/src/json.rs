//! Files of JSON that come from elsewhere, or go there.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

use serde::{Serialize, de::DeserializeOwned};
use tempfile::NamedTempFile;

use crate::{Error, Result, report::shown};

/// The largest file that is read, in bytes: 8 runs of two prompts on a device
/// take some thousands.
pub(crate) const MOST_BYTES: u64 = 16 << 20;

/// Reads a file; `help` says what it should hold.
///
/// # Errors
/// It cannot be read, is longer than [`MOST_BYTES`], or holds something else.
pub(crate) fn read<T: DeserializeOwned>(path: &Path, help: &str) -> Result<T> {
    let mut text = Vec::new();
    let about = std::fs::metadata(path).map_err(|source| file_error(path, source))?;
    // Opening a pipe would wait for whoever writes to it.
    if !about.is_file() {
        return Err(Error::input(path.display(), format!("is no file; {help}")));
    }
    File::open(path)
        .and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut text))
        .map_err(|source| file_error(path, source))?;
    if text.len() as u64 > MOST_BYTES {
        let problem = format!("has more than {MOST_BYTES} bytes; {help}");
        return Err(Error::input(path.display(), problem));
    }
    serde_json::from_slice(&text).map_err(|error| {
        // It quotes what it does not know.
        let error = shown(&error.to_string());
        Error::input(path.display(), format!("{error}; {help}"))
    })
}

/// Whether a new file can be written: asked before work that takes long.
///
/// # Errors
/// It cannot, or is there.
pub(crate) fn writable(path: &Path) -> Result<()> {
    if path.symlink_metadata().is_ok() {
        let problem = "is there already and is not overwritten; name another file";
        return Err(Error::input(path.display(), problem));
    }
    match temporary_beside(path) {
        Ok(_) => Ok(()),
        Err(source) => Err(file_error(path, source)),
    }
}

/// Writes a new file, whole or not at all.
///
/// # Errors
/// The file exists or cannot be written.
pub(crate) fn write_new(path: &Path, value: &impl Serialize) -> Result<()> {
    let json = serde_json::to_string_pretty(value);
    let text = json.map_err(|error| Error::input(path.display(), error.to_string()))?;
    let write = || {
        let mut file = temporary_beside(path)?;
        writeln!(file, "{text}")?;
        file.as_file().sync_all()?;
        file.persist_noclobber(path).map_err(|error| error.error)?;
        Ok(())
    };
    write().map_err(|source| file_error(path, source))
}

/// A file that goes when it is dropped unless it is kept under a name, in the
/// folder of another.
///
/// # Errors
/// No file can be made there.
pub fn temporary_beside(path: &Path) -> io::Result<NamedTempFile> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    // It becomes a file like any other, so others may read it.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder)
}

fn file_error(path: &Path, source: io::Error) -> Error {
    let path = path.to_owned();
    Error::File { path, source }
}
