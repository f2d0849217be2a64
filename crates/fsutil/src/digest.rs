//! SHA-256 of files and folders.

use std::{collections::BTreeMap, fs::File, io, path::Path};

use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// SHA-256 of some bytes, in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Length and SHA-256 of a file, in hexadecimal.
///
/// # Errors
/// [`Error::File`] if it cannot be read.
pub fn sha256_of_file(path: &Path) -> Result<(u64, String)> {
    let mut hash = Sha256::new();
    let bytes = File::open(path)
        .and_then(|mut file| io::copy(&mut file, &mut hash))
        .map_err(|error| Error::file(path, error))?;
    Ok((bytes, hex::encode(hash.finalize())))
}

/// SHA-256 of every file of a folder, by its path in the folder with `/`.
///
/// # Errors
/// [`Error::File`] if one cannot be read, [`Error::Refused`] for anything that
/// is neither a file nor a folder, links included, and for a name that is not
/// UTF-8.
pub fn sha256_of_folder(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    walk(folder, "", &mut files)?;
    Ok(files)
}

fn walk(folder: &Path, prefix: &str, files: &mut BTreeMap<String, String>) -> Result<()> {
    let wrong = |error| Error::file(folder, error);
    let entries = std::fs::read_dir(folder).map_err(wrong)?;
    for entry in entries.collect::<io::Result<Vec<_>>>().map_err(wrong)? {
        let (path, name) = (entry.path(), entry.file_name());
        let Some(name) = name.to_str() else {
            return Err(Error::refused(&path, "its name is not UTF-8"));
        };
        let name = format!("{prefix}{name}");
        let kind = entry.file_type().map_err(wrong)?;
        if kind.is_dir() {
            walk(&path, &format!("{name}/"), files)?;
        } else if kind.is_file() {
            files.insert(name, sha256_of_file(&path)?.1);
        } else {
            // A link could lead anywhere, and an asset behind one does not run.
            return Err(Error::refused(
                &path,
                "is neither a file nor a folder; expected plain files here",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_has_its_hash() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("b")).unwrap();
        std::fs::write(folder.path().join("a"), "").unwrap();
        std::fs::write(folder.path().join("b/c"), "abc").unwrap();
        let files = sha256_of_folder(folder.path()).unwrap();
        assert_eq!(files.keys().collect::<Vec<_>>(), ["a", "b/c"]);
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(files["b/c"], abc);
        assert_eq!(sha256(b"abc"), abc);
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("a", folder.path().join("link")).unwrap();
            let error = sha256_of_folder(folder.path()).unwrap_err().to_string();
            assert!(error.contains("link"), "{error}");
        }
    }
}
