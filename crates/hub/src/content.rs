//! What the hub states about a file's bytes, and how that is checked.

use crate::Error;
use crate::name::{is_hex, is_safe, short_line};
use hf_hub::repository::RepoTreeEntry;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// More files than any checkpoint or release has.
pub(crate) const MAX_ENTRIES: usize = 10_000;

/// A file in a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its size.
    pub size: u64,
    /// The git id: that of the bytes, or, for an LFS file, of its pointer,
    /// which is a text that holds the SHA-256 and the size.
    pub(crate) oid: String,
    pub(crate) lfs: bool,
}

impl Entry {
    /// Whether these are the bytes of the file. `git` is asked for the git id
    /// of the bytes where that is what the hub states.
    pub(crate) fn is(
        &self,
        size: u64,
        sha256: &str,
        git: impl FnOnce() -> io::Result<String>,
    ) -> io::Result<bool> {
        if self.size != size {
            return Ok(false);
        }
        let oid = if self.lfs {
            pointer(sha256, size)
        } else {
            git()?
        };
        Ok(self.oid == oid)
    }

    /// A sum that says at its end whether these were the right bytes.
    pub(crate) fn sum(&self) -> Sum {
        if self.lfs {
            Sum::Lfs(Sha256::new())
        } else {
            Sum::Git(git_header(self.size))
        }
    }

    /// Whether a file on disk is this one, and its name in the cache.
    /// `progress` is called with the number of bytes that were read.
    pub(crate) fn check(
        &self,
        path: &Path,
        progress: &mut dyn FnMut(u64),
    ) -> io::Result<Option<String>> {
        let file = File::open(path)?;
        if file.metadata()?.len() != self.size {
            return Ok(None);
        }
        let mut sum = self.sum();
        read_into(file, &mut sum, progress)?;
        Ok(sum.end(self).ok())
    }
}

/// The hash of a file, as the hub states it.
pub(crate) enum Sum {
    Git(Sha1),
    Lfs(Sha256),
}

impl Sum {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        match self {
            Sum::Git(hash) => hash.update(bytes),
            Sum::Lfs(hash) => hash.update(bytes),
        }
    }

    /// The hash, which is the file's name in the cache; as an error if it is
    /// not what the hub states.
    pub(crate) fn end(self, entry: &Entry) -> Result<String, String> {
        let (found, stated) = match self {
            Sum::Git(hash) => {
                let hash = hex::encode(hash.finalize());
                (hash.clone(), hash)
            }
            Sum::Lfs(hash) => {
                let hash = hex::encode(hash.finalize());
                let stated = pointer(&hash, entry.size);
                (hash, stated)
            }
        };
        if stated == entry.oid {
            Ok(found)
        } else {
            Err(found)
        }
    }
}

/// Checks a file of the cache by its name, which is its SHA-256 or git id.
pub(crate) fn check_named(
    path: &Path,
    name: &str,
    progress: &mut dyn FnMut(u64),
) -> io::Result<bool> {
    let file = File::open(path)?;
    let mut sum = match name.len() {
        64 => Sum::Lfs(Sha256::new()),
        _ => Sum::Git(git_header(file.metadata()?.len())),
    };
    read_into(file, &mut sum, progress)?;
    let found = match sum {
        Sum::Git(hash) => hex::encode(hash.finalize()),
        Sum::Lfs(hash) => hex::encode(hash.finalize()),
    };
    Ok(found == name)
}

/// The git id of a file's bytes.
pub(crate) fn git_id(path: &Path) -> io::Result<String> {
    let file = File::open(path)?;
    let mut sum = Sum::Git(git_header(file.metadata()?.len()));
    read_into(file, &mut sum, &mut |_| ())?;
    Ok(match sum {
        Sum::Git(hash) => hex::encode(hash.finalize()),
        Sum::Lfs(hash) => hex::encode(hash.finalize()),
    })
}

pub(crate) fn read_into(
    mut file: impl Read,
    sum: &mut Sum,
    progress: &mut dyn FnMut(u64),
) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            count => {
                sum.add(&buffer[..count]);
                progress(count as u64);
            }
        }
    }
}

fn git_header(size: u64) -> Sha1 {
    Sha1::new_with_prefix(format!("blob {size}\0"))
}

/// The git id of the pointer that stands for an LFS file.
pub(crate) fn pointer(sha256: &str, size: u64) -> String {
    let text =
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n");
    hex::encode(git_header(text.len() as u64).chain_update(text).finalize())
}

/// The files of a listing, by path. A listing with a path that leads
/// elsewhere is refused as a whole: it is hostile.
pub(crate) fn entries(
    repository: &str,
    listed: Vec<RepoTreeEntry>,
) -> Result<BTreeMap<String, Entry>, Error> {
    let wrong = |message: String| Error::Listing {
        repository: repository.into(),
        message,
    };
    if listed.len() > MAX_ENTRIES {
        return Err(wrong(format!("it has more than {MAX_ENTRIES} files")));
    }
    let mut entries = BTreeMap::new();
    for entry in listed {
        let RepoTreeEntry::File {
            oid,
            size,
            path,
            lfs,
            ..
        } = entry
        else {
            continue;
        };
        if !is_safe(&path) {
            return Err(wrong(format!(
                "it has a file named {:?}",
                short_line(&path)
            )));
        }
        if !is_hex(&oid, 40) {
            return Err(wrong(format!("it states no hash for {path}")));
        }
        let lfs = match lfs {
            None => false,
            // The pointer's id pins both; where the hub repeats them, they must agree.
            Some(lfs) => {
                let size = lfs.size.unwrap_or(size);
                let stated = lfs.sha256.map(|sha256| pointer(&sha256, size));
                if stated.is_some_and(|stated| stated != oid) {
                    return Err(wrong(format!(
                        "the hashes that it states for {path} disagree"
                    )));
                }
                true
            }
        };
        if entries
            .insert(path.clone(), Entry { size, oid, lfs })
            .is_some()
        {
            return Err(wrong(format!("it has {path} twice")));
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files on the public hub: SHA-256, size, and git id as it lists them.
    #[test]
    fn the_listed_id_of_an_lfs_file_is_that_of_its_pointer() {
        let listed = [
            (
                "16d28f2b37109f222cdc33620fdd262102ac32112be0352a7f77e9614b35a394",
                1_216_064_769,
                "c8835557a0d3af583cb06c7c154b7e54a069c41d",
            ),
            (
                "dcf4507d99b88db73f3916e2a20169fe74ada6b5582e9af56cfa80f5f3141765",
                334_711_857,
                "d2343d78b33ac03dade1d525538b02b130d0a3a0",
            ),
        ];
        for (sha256, size, oid) in listed {
            assert_eq!(pointer(sha256, size), oid);
        }
    }

    #[test]
    fn bytes_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, "hello\n").unwrap();
        // `git hash-object` and `sha256sum` of these bytes.
        let git = "ce013625030ba8dba906f756967f9e9ca394464a";
        let sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        assert_eq!(git_id(&path).unwrap(), git);
        let plain = Entry {
            size: 6,
            oid: git.into(),
            lfs: false,
        };
        let large = Entry {
            size: 6,
            oid: pointer(sha256, 6),
            lfs: true,
        };
        for (entry, name) in [(&plain, git), (&large, sha256)] {
            assert_eq!(
                entry.check(&path, &mut |_| ()).unwrap().as_deref(),
                Some(name)
            );
            assert!(check_named(&path, name, &mut |_| ()).unwrap());
            assert!(entry.is(6, sha256, || git_id(&path)).unwrap());
        }
        for wrong in ["hellO\n", "hello", "hello\n\n"] {
            std::fs::write(&path, wrong).unwrap();
            for (entry, name) in [(&plain, git), (&large, sha256)] {
                assert_eq!(entry.check(&path, &mut |_| ()).unwrap(), None);
                assert!(!check_named(&path, name, &mut |_| ()).unwrap());
            }
        }
    }
}
