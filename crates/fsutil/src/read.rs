//! Reading files that somebody else wrote.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use crate::{Error, Result};

/// Reads a file of at most `max` bytes, whole.
///
/// A pipe or a device, which could block or never end, is refused before it is
/// opened; a file that grows while it is read is refused and never cut short.
/// Links are followed.
///
/// # Errors
/// [`Error::File`] if it cannot be read, [`Error::Refused`] if it is not a
/// regular file, and [`Error::TooLarge`] beyond `max` bytes.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("a.json");
/// std::fs::write(&path, "{}")?;
/// assert_eq!(fsutil::read(&path, 2)?, b"{}");
/// assert!(matches!(fsutil::read(&path, 1), Err(fsutil::Error::TooLarge { .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read(path: &Path, max: u64) -> Result<Vec<u8>> {
    let metadata = std::fs::metadata(path).map_err(|error| Error::file(path, error))?;
    if metadata.is_dir() {
        return Err(Error::file(path, io::ErrorKind::IsADirectory.into()));
    }
    if !metadata.is_file() {
        return Err(Error::refused(path, "is not a regular file"));
    }
    let too_large = |found: u64| Error::TooLarge {
        path: path.to_owned(),
        found,
        max,
    };
    if metadata.len() > max {
        return Err(too_large(metadata.len()));
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    File::open(path)
        .and_then(|file| file.take(max.saturating_add(1)).read_to_end(&mut bytes))
        .map_err(|error| Error::file(path, error))?;
    if bytes.len() as u64 > max {
        return Err(too_large(bytes.len() as u64));
    }
    Ok(bytes)
}

/// As [`read`], for UTF-8.
///
/// # Errors
/// As [`read`], and [`Error::Refused`] if it is not UTF-8.
pub fn read_text(path: &Path, max: u64) -> Result<String> {
    String::from_utf8(read(path, max)?).map_err(|_| Error::refused(path, "is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_block_or_never_end_is_refused_before_it_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(read(folder.path(), 9), Err(Error::File { .. })));
        let missing = read(&folder.path().join("none"), 9).unwrap_err();
        assert!(missing.to_string().contains("none"), "{missing}");
        #[cfg(unix)]
        {
            let pipe = folder.path().join("pipe");
            let made = std::process::Command::new("mkfifo").arg(&pipe).status();
            assert!(made.unwrap().success());
            let error = read(&pipe, 9).unwrap_err().to_string();
            assert!(error.contains("not a regular file"), "{error}");
            let endless = read(Path::new("/dev/zero"), 9).unwrap_err().to_string();
            assert!(endless.contains("not a regular file"), "{endless}");
        }
    }

    #[test]
    fn the_limit_is_exact_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, [0xff; 10]).unwrap();
        assert_eq!(read(&path, 10).unwrap().len(), 10);
        let error = read(&path, 9).unwrap_err().to_string();
        assert!(error.contains("10 bytes") && error.contains('9'), "{error}");
        let error = read_text(&path, 10).unwrap_err().to_string();
        assert!(error.contains("not UTF-8"), "{error}");
    }

    // Its length is 0, and it has content: the limit holds while it is read.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_that_is_longer_than_it_says_is_refused() {
        let path = Path::new("/proc/self/maps");
        assert!(matches!(read(path, 16), Err(Error::TooLarge { .. })));
    }
}
