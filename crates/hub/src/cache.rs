//! The hub's usual cache on disk: `blobs/` has each content once, under its
//! SHA-256 or git id, `snapshots/COMMIT/` links to them, and `refs/REVISION`
//! holds a commit.

use crate::Error;
use crate::name::{is_commit, is_hex, is_safe};
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// The largest file with a commit that is read, in bytes.
const MAX_REF: u64 = 4096;

/// The folder of one repository in the cache.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    root: PathBuf,
    folder: String,
}

impl Cache {
    pub(crate) fn new(root: &Path, id: &str) -> Cache {
        Cache {
            root: root.to_owned(),
            folder: format!("models--{}", id.replace('/', "--")),
        }
    }

    pub(crate) fn place(&self) -> PathBuf {
        self.root.join(&self.folder)
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.place().join("blobs")
    }

    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.place().join("snapshots").join(commit)
    }

    /// The commit that a revision was when it was last fetched.
    pub(crate) fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let text = fsutil::read_text(&self.place().join("refs").join(revision), MAX_REF).ok()?;
        let commit = text.trim();
        is_commit(commit).then(|| commit.to_owned())
    }

    /// Records which commit a revision is.
    pub(crate) fn note(&self, revision: &str, commit: &str) -> Result<(), Error> {
        if is_commit(revision) {
            return Ok(());
        }
        let path = self.place().join("refs").join(revision);
        Ok(fsutil::replace(&path, commit.as_bytes())?)
    }

    /// The blob that a file of a snapshot links to, if it links to one.
    pub(crate) fn linked(&self, pointer: &Path) -> Option<String> {
        let target = fs::read_link(pointer).ok()?;
        let name = target.file_name()?.to_str()?;
        is_blob(name).then(|| name.to_owned())
    }

    /// Blobs of this size: the content may be there under another commit.
    pub(crate) fn blobs_of(&self, size: u64) -> Vec<PathBuf> {
        let Ok(folder) = fs::read_dir(self.blobs()) else {
            return Vec::new();
        };
        let mut found: Vec<PathBuf> = folder
            .flatten()
            .filter(|entry| entry.file_name().to_str().is_some_and(is_blob))
            .filter(|entry| {
                entry
                    .metadata()
                    .is_ok_and(|data| data.is_file() && data.len() == size)
            })
            .map(|entry| entry.path())
            .collect();
        found.sort();
        found
    }

    /// Puts a blob into a snapshot.
    pub(crate) fn link(&self, blob: &str, commit: &str, name: &str) -> Result<(), Error> {
        debug_assert!(is_safe(name));
        let pointer = self.snapshot(commit).join(name);
        let link = || {
            if let Some(parent) = pointer.parent() {
                fs::create_dir_all(parent)?;
            }
            remove(&pointer)?;
            symlink(&self.blobs().join(blob), blob, name, &pointer)
        };
        link().map_err(Error::disk(&pointer))
    }

    /// Waits until no other process fetches this content.
    pub(crate) fn lock(&self, content: &str, waits: impl FnOnce()) -> Result<File, Error> {
        let folder = self.root.join(".locks").join(&self.folder);
        let path = folder.join(format!("{content}.lock"));
        let lock = || {
            fs::create_dir_all(&folder)?;
            let file = File::create(&path)?;
            if file.try_lock().is_err() {
                waits();
                file.lock()?;
            }
            Ok(file)
        };
        lock().map_err(Error::disk(&path))
    }
}

fn is_blob(name: &str) -> bool {
    is_hex(name, 40) || is_hex(name, 64)
}

/// Removes a file, if it is there.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(unix)]
fn symlink(_: &Path, blob: &str, name: &str, pointer: &Path) -> io::Result<()> {
    let up = "../".repeat(2 + name.split('/').count() - 1);
    std::os::unix::fs::symlink(format!("{up}blobs/{blob}"), pointer)
}

/// Links need a privilege elsewhere.
#[cfg(not(unix))]
fn symlink(blob: &Path, _: &str, _: &str, pointer: &Path) -> io::Result<()> {
    place(blob, pointer)
}

/// Makes `to` a plain file with the content of `from`, without another copy
/// where the disk can do that.
pub(crate) fn place(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(error),
        Err(_) => {
            let mut target = File::create_new(to)?;
            io::copy(&mut File::open(from)?, &mut target).map(|_| ())
        }
        Ok(()) => Ok(()),
    }
}
