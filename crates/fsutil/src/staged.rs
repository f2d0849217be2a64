//! A folder that appears whole or not at all.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use crate::{Error, Result};

/// A folder in the making. It is filled under a hidden name beside its final
/// one, and gets its final name when it is complete; until then, dropping it
/// removes it and everything in it.
///
/// ```
/// use fsutil::StagedDir;
///
/// let parent = tempfile::tempdir()?;
/// let out = parent.path().join("bundle");
/// let staged = StagedDir::create(&out)?;
/// staged.write_file("tokenizer/vocab.json", b"{}")?;
/// assert!(!out.exists());
/// staged.commit()?;
/// assert!(out.join("tokenizer/vocab.json").exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct StagedDir {
    /// Where it is filled; `None` once it has its name.
    temporary: Option<tempfile::TempDir>,
    target: PathBuf,
    /// Folders above it that were made for it, the outermost first.
    made: Vec<PathBuf>,
}

impl StagedDir {
    /// Starts a folder that will be called `target`. Folders above it are made
    /// where they are missing.
    ///
    /// # Errors
    /// Something is there under that name already, or nothing can be made
    /// beside it.
    pub fn create(target: impl AsRef<Path>) -> Result<Self> {
        let target = target.as_ref();
        let Some(name) = target.file_name() else {
            return Err(Error::Refused {
                path: target.to_owned(),
                problem: "expected the name of a new folder".to_owned(),
            });
        };
        refuse_existing(target)?;
        let parent = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mut made: Vec<PathBuf> = parent
            .ancestors()
            .take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists())
            .map(Path::to_owned)
            .collect();
        made.reverse();
        let mut staged = Self {
            temporary: None,
            target: target.to_owned(),
            made,
        };
        fs::create_dir_all(parent).map_err(|error| Error::file(parent, error))?;
        let mut prefix = std::ffi::OsString::from(".");
        prefix.push(name);
        prefix.push(".");
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix);
        // It becomes a folder like any other, so others may read it.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o777));
        }
        let temporary = builder
            .tempdir_in(parent)
            .map_err(|error| Error::file(parent, error))?;
        staged.temporary = Some(temporary);
        Ok(staged)
    }

    /// Where it lies until it is complete.
    #[must_use]
    pub fn path(&self) -> &Path {
        match &self.temporary {
            Some(temporary) => temporary.path(),
            None => &self.target,
        }
    }

    /// The name that it will have.
    #[must_use]
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Writes a file into it, `name` deep; folders on the way are made.
    ///
    /// # Errors
    /// The file exists or cannot be written; the message has its final name.
    pub fn write_file(&self, name: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
        let name = name.as_ref();
        let mut file = self.create_file(name)?;
        io::Write::write_all(&mut file, bytes).map_err(|error| self.failed(name, error))
    }

    /// Opens a new file in it for writing.
    ///
    /// # Errors
    /// The file exists or cannot be written; the message has its final name.
    pub fn create_file(&self, name: impl AsRef<Path>) -> Result<File> {
        let name = name.as_ref();
        let path = self.path().join(name);
        let open = || {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            File::create_new(&path)
        };
        open().map_err(|error| self.failed(name, error))
    }

    /// The path that something in it will have: the temporary one is gone when
    /// somebody reads a message with it. Other paths stay as they are.
    #[must_use]
    pub fn final_path(&self, path: &Path) -> PathBuf {
        match path.strip_prefix(self.path()) {
            Ok(name) if name.as_os_str().is_empty() => self.target.clone(),
            Ok(name) => self.target.join(name),
            Err(_) => path.to_owned(),
        }
    }

    /// The error of a file in it, under its final name.
    pub fn failed(&self, name: impl AsRef<Path>, error: io::Error) -> Error {
        Error::file(&self.final_path(&self.path().join(name)), error)
    }

    /// Writes everything through to the disk and gives the folder its name.
    ///
    /// # Errors
    /// The disk refuses, or something got that name in the meantime. Nothing
    /// is left behind then.
    pub fn commit(mut self) -> Result<()> {
        sync_tree(self.path()).map_err(|error| self.failed("", error))?;
        let from = self.path().to_owned();
        rename_new(&from, &self.target).map_err(|error| {
            refuse_existing(&self.target)
                .err()
                .unwrap_or_else(|| Error::file(&self.target, error))
        })?;
        if let Some(temporary) = self.temporary.take() {
            // What was there has moved away.
            let _ = temporary.keep();
        }
        self.made.clear();
        if let Some(parent) = from.parent() {
            sync_dir(parent).map_err(|error| Error::file(parent, error))?;
        }
        Ok(())
    }
}

impl Drop for StagedDir {
    fn drop(&mut self) {
        drop(self.temporary.take());
        for folder in self.made.iter().rev() {
            // Not ours to remove if somebody put something into it.
            let _ = fs::remove_dir(folder);
        }
    }
}

fn refuse_existing(target: &Path) -> Result<()> {
    match fs::symlink_metadata(target) {
        Ok(_) => Err(Error::Exists {
            path: target.to_owned(),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::file(target, error)),
    }
}

/// Renames, unless something has the new name.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    {
        use rustix::{
            fs::{CWD, RenameFlags, renameat_with},
            io::Errno,
        };
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // File systems that cannot do it in one step.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
            other => return Ok(other?),
        }
    }
    if fs::symlink_metadata(to).is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    fs::rename(from, to)
}

fn sync_tree(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())?;
        } else {
            // Windows syncs only what is open for writing.
            File::options()
                .append(true)
                .open(entry.path())?
                .sync_all()?;
        }
    }
    sync_dir(folder)
}

#[cfg(unix)]
fn sync_dir(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        // Some file systems do not sync folders; the rename orders itself.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        other => other,
    }
}

#[cfg(not(unix))]
fn sync_dir(_: &Path) -> io::Result<()> {
    Ok(())
}
