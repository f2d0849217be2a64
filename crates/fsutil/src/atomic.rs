//! Files that appear whole under their name, or not at all.

use std::{
    io::{self, Write},
    path::Path,
};

use tempfile::NamedTempFile;

use crate::{Error, Result};

/// Writes a new file. One that exists is not overwritten, not even one that
/// appears meanwhile.
///
/// # Errors
/// [`Error::Exists`], or [`Error::File`] if it cannot be written.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    check_new(path)?;
    let file = filled(path, bytes)?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Err(exists(path)),
        Err(error) => Err(Error::file(path, error.error)),
    }
}

/// Writes a file in the place of one that may exist; the folder is made.
///
/// # Errors
/// [`Error::File`] if it cannot be written.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| Error::file(folder, error))?;
    }
    let file = filled(path, bytes)?;
    file.persist(path)
        .map(|_| ())
        .map_err(|error| Error::file(path, error.error))
}

/// Whether [`write_new`] could write this file: asked before work that takes
/// long.
///
/// # Errors
/// [`Error::Exists`], or [`Error::File`] if no file can be made there.
pub fn check_new(path: &Path) -> Result<()> {
    if path.symlink_metadata().is_ok() {
        return Err(exists(path));
    }
    beside(path)
        .map(|_| ())
        .map_err(|error| Error::file(path, error))
}

fn exists(path: &Path) -> Error {
    Error::Exists {
        path: path.to_owned(),
    }
}

fn filled(path: &Path, bytes: &[u8]) -> Result<NamedTempFile> {
    let write = || {
        let mut file = beside(path)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        Ok(file)
    };
    write().map_err(|error| Error::file(path, error))
}

/// A file in the folder of another, removed unless it is renamed.
fn beside(path: &Path) -> io::Result<NamedTempFile> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_never_takes_the_place_of_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write_new(&path, b"1").unwrap();
        for result in [write_new(&path, b"2"), check_new(&path)] {
            assert!(matches!(result, Err(Error::Exists { .. })));
        }
        assert_eq!(std::fs::read(&path).unwrap(), b"1");
        replace(&path, b"3").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"3");
        // Nothing else is left in the folder.
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(check_new(&folder.path().join("none/b")).is_err());
        replace(&folder.path().join("made/b"), b"4").unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_link_that_leads_nowhere_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("none", &link).unwrap();
        assert!(matches!(write_new(&link, b""), Err(Error::Exists { .. })));
    }
}
