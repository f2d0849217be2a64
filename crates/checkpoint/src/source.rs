//! Where the files of a checkpoint are.

use crate::Error;
use memmap2::Mmap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::ops::Deref;
use std::path::{Path, PathBuf};

mod nano;

/// A place that holds the files of one checkpoint.
#[derive(Clone, Debug)]
pub struct Source {
    files: Files,
    model: String,
    revision: Option<String>,
}

#[derive(Clone, Debug)]
enum Files {
    Folder(PathBuf),
    Embedded(&'static [(&'static str, &'static [u8])]),
}

/// The content of one file: memory-mapped, or part of the program.
#[derive(Debug)]
pub enum Bytes {
    /// Pages of a file, read when touched.
    Mapped(Mmap),
    /// Embedded bytes, or those of an empty file.
    Static(&'static [u8]),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Static(bytes) => bytes,
        }
    }
}

impl Source {
    /// The trained checkpoint that comes with the program.
    pub fn nano() -> Source {
        Source::embedded("nano", nano::FILES)
    }

    /// A folder on disk. Its name stands in for the model id.
    ///
    /// # Errors
    /// [`Error::Model`] if it is not a folder.
    pub fn folder(path: impl AsRef<Path>) -> Result<Source, Error> {
        let path = path.as_ref();
        if !path.is_dir() {
            return Err(Error::Model {
                model: path.display().to_string(),
                message: "is not a folder".into(),
            });
        }
        // Canonical only to learn the name of "." and the like; the path
        // itself is kept as given, so that messages show what was asked for.
        let named = path
            .canonicalize()
            .map_err(Error::io(path.display().to_string()))?;
        let model = named
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        Ok(Source {
            files: Files::Folder(path.to_owned()),
            model,
            revision: None,
        })
    }

    /// The same files under another name: those of a folder that holds a
    /// model of the hub, at a commit where that is known.
    pub fn called(self, model: impl Into<String>, revision: Option<String>) -> Source {
        Source {
            model: model.into(),
            revision,
            ..self
        }
    }

    /// Files that are part of the program, by name; `model` stands for the id.
    pub fn embedded(
        model: impl Into<String>,
        files: &'static [(&'static str, &'static [u8])],
    ) -> Source {
        Source {
            files: Files::Embedded(files),
            model: model.into(),
            revision: None,
        }
    }

    /// The files that are part of the program, by name; none of a folder.
    pub fn embedded_files(&self) -> &'static [(&'static str, &'static [u8])] {
        match &self.files {
            Files::Folder(_) => &[],
            Files::Embedded(files) => files,
        }
    }

    /// What the model is called: the hub id, a folder's name, or `nano`.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The commit on the hub, if the files came from there.
    pub fn revision(&self) -> Option<&str> {
        self.revision.as_deref()
    }

    /// The folder, or "the embedded checkpoint"; for messages.
    pub fn place(&self) -> String {
        match &self.files {
            Files::Folder(folder) => folder.display().to_string(),
            Files::Embedded(_) => "the embedded checkpoint".into(),
        }
    }

    /// A file's path, or its name if it is embedded; for messages.
    pub fn label(&self, name: &str) -> String {
        match &self.files {
            Files::Folder(folder) => folder.join(name).display().to_string(),
            Files::Embedded(_) => name.into(),
        }
    }

    /// Maps a file, if there is one of that name. Symlinks are followed, as
    /// the hub's cache is made of them.
    ///
    /// The file must stay as it is until the [`Bytes`] are dropped: nobody may
    /// write into it or truncate it. To change a checkpoint that is in use,
    /// write a new file and rename it into place. Nothing in this workspace
    /// writes into a checkpoint's files; downloads have a name of their own
    /// until they are whole.
    ///
    /// # Errors
    /// [`Error::Io`] if it is there and cannot be read.
    pub fn map(&self, name: &str) -> Result<Option<Bytes>, Error> {
        let folder = match &self.files {
            Files::Folder(folder) => folder,
            Files::Embedded(files) => return Ok(embedded(files, name).map(Bytes::Static)),
        };
        let path = folder.join(name);
        let Some((file, size)) = open_file(&path)? else {
            return Ok(None);
        };
        if size == 0 {
            return Ok(Some(Bytes::Static(&[])));
        }
        // SAFETY: the map is private to this program, which only reads it and
        // never writes into the file below it. That no other process does is
        // what this function, and the documentation of the program, ask of the
        // user; no system lets us enforce it. If somebody does all the same,
        // nothing that memory safety rests on is read from the map twice: any
        // bytes are valid as `[u8]`, the header is copied before it is parsed,
        // offsets are checked against the length of the map, which does not
        // change, and the elements are numbers of which every value is
        // handled. A write then gives wrong weights, and pages that a
        // truncation took away end the process with a signal (SIGBUS).
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io(path.display().to_string()))?;
        Ok(Some(Bytes::Mapped(map)))
    }

    /// Reads a small file whole, if there is one of that name.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::TooLarge`] beyond `max` bytes.
    pub fn read(&self, name: &str, max: u64) -> Result<Option<Vec<u8>>, Error> {
        let too_large = |found| Error::TooLarge {
            file: self.label(name),
            found,
            max,
        };
        let folder = match &self.files {
            Files::Folder(folder) => folder,
            Files::Embedded(files) => {
                return match embedded(files, name) {
                    Some(bytes) if bytes.len() as u64 > max => Err(too_large(bytes.len() as u64)),
                    found => Ok(found.map(<[u8]>::to_vec)),
                };
            }
        };
        let path = folder.join(name);
        let Some((file, size)) = open_file(&path)? else {
            return Ok(None);
        };
        if size > max {
            return Err(too_large(size));
        }
        let mut bytes = Vec::new();
        // The file may have grown since its size was looked at.
        file.take(max.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(Error::io(path.display().to_string()))?;
        if bytes.len() as u64 > max {
            return Err(too_large(bytes.len() as u64));
        }
        Ok(Some(bytes))
    }
}

fn embedded(files: &'static [(&'static str, &'static [u8])], name: &str) -> Option<&'static [u8]> {
    let found = files.iter().find(|(file, _)| *file == name);
    found.map(|(_, bytes)| *bytes)
}

/// Opens a regular file, if it is there, and says how large it is.
fn open_file(path: &Path) -> Result<Option<(File, u64)>, Error> {
    let fail = || Error::io(path.display().to_string());
    // Looked at before it is opened: a pipe would wait for a writer for ever.
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail()(error)),
    };
    if metadata.is_dir() {
        return Err(fail()(ErrorKind::IsADirectory.into()));
    }
    if !metadata.is_file() {
        return Err(fail()(std::io::Error::other("is not a regular file")));
    }
    let file = File::open(path).map_err(fail())?;
    Ok(Some((file, metadata.len())))
}
