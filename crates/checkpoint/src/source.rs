//! Where the files of a checkpoint are.

use crate::Error;
use memmap2::Mmap;
use std::fs::File;
use std::io::ErrorKind;
use std::ops::Deref;
use std::path::{Path, PathBuf};

#[cfg(feature = "hub")]
mod hub;
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
    /// What a model argument names: `nano`, the checkpoint that comes with the
    /// program; else a folder that exists; else an id on the Hugging Face hub,
    /// `organization/name`, fetched at `revision` (a branch, tag or commit) or
    /// `main`.
    ///
    /// `check` judges a checkpoint of the hub by its `config.json`, before its
    /// weights are fetched.
    ///
    /// # Errors
    /// [`Error::Model`] if it is none of these, or if a revision is given for
    /// what is not on the hub; [`Error::Hub`] if fetching fails; what `check`
    /// says.
    pub fn open<E: From<Error>>(
        model: &str,
        revision: Option<&str>,
        check: impl FnOnce(&Source) -> Result<(), E>,
    ) -> Result<Source, E> {
        let elsewhere = || {
            #[cfg(feature = "hub")]
            return hub::fetch(model, revision, &|_| (), check);
            #[cfg(not(feature = "hub"))]
            {
                let _ = check;
                Err(Error::Model {
                    model: model.into(),
                    message:
                        "is not a folder, and this build cannot fetch from the hub; for a hub \
                              id such as organization/name, use a build with the feature hub"
                            .into(),
                }
                .into())
            }
        };
        Source::open_or(model, revision, elsewhere)
    }

    /// As [`open`](Source::open), with reports of how far fetching is.
    ///
    /// # Errors
    /// As those of [`open`](Source::open).
    #[cfg(feature = "hub")]
    pub fn open_with_progress<E: From<Error>>(
        model: &str,
        revision: Option<&str>,
        progress: ::hub::ProgressFn<'_>,
        check: impl FnOnce(&Source) -> Result<(), E>,
    ) -> Result<Source, E> {
        Source::open_or(model, revision, || {
            hub::fetch(model, revision, progress, check)
        })
    }

    /// Fetches what an export reads of `model` at `revision` from this hub.
    /// Where the hub cannot be reached, a whole checkpoint in the cache is
    /// enough.
    ///
    /// # Errors
    /// As those of [`open`](Source::open).
    #[cfg(feature = "hub")]
    pub fn fetch<E: From<Error>>(
        hub: &::hub::Hub,
        model: &str,
        revision: &str,
        progress: ::hub::ProgressFn<'_>,
        check: impl FnOnce(&Source) -> Result<(), E>,
    ) -> Result<Source, E> {
        hub::fetch_from(hub, model, revision, progress, check)
    }

    fn open_or<E: From<Error>>(
        model: &str,
        revision: Option<&str>,
        elsewhere: impl FnOnce() -> Result<Source, E>,
    ) -> Result<Source, E> {
        let wrong = |message: &str| Error::Model {
            model: model.into(),
            message: message.into(),
        };
        let local = model == "nano" || Path::new(model).is_dir();
        if local && revision.is_some() {
            return Err(
                wrong("is not on the hub, so it has no revisions; leave the revision out").into(),
            );
        }
        if model == "nano" {
            Ok(Source::nano())
        } else if local {
            Ok(Source::folder(model)?)
        } else if Path::new(model).exists() {
            Err(wrong("is a file; name the folder that it is in").into())
        } else {
            elsewhere()
        }
    }

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
    /// # Errors
    /// [`Error::Io`] if it is there and cannot be read.
    pub fn map(&self, name: &str) -> Result<Option<Bytes>, Error> {
        let folder = match &self.files {
            Files::Folder(folder) => folder,
            Files::Embedded(files) => {
                let found = files.iter().find(|(file, _)| *file == name);
                return Ok(found.map(|(_, bytes)| Bytes::Static(bytes)));
            }
        };
        let path = folder.join(name);
        let fail = || Error::io(path.display().to_string());
        // Looked at before it is opened: a pipe would wait for a writer for ever.
        let metadata = match std::fs::metadata(&path) {
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
        let file = File::open(&path).map_err(fail())?;
        if metadata.len() == 0 {
            return Ok(Some(Bytes::Static(&[])));
        }
        // SAFETY: the map is only read. Whoever truncates the file meanwhile
        // ends the process with a signal, as with every mapped checkpoint.
        let map = unsafe { Mmap::map(&file) }.map_err(fail())?;
        Ok(Some(Bytes::Mapped(map)))
    }

    /// Reads a small file whole, if there is one of that name.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::TooLarge`] beyond `max` bytes.
    pub fn read(&self, name: &str, max: u64) -> Result<Option<Vec<u8>>, Error> {
        let Some(bytes) = self.map(name)? else {
            return Ok(None);
        };
        if bytes.len() as u64 > max {
            return Err(Error::TooLarge {
                file: self.label(name),
                found: bytes.len() as u64,
                max,
            });
        }
        Ok(Some(bytes.to_vec()))
    }
}
