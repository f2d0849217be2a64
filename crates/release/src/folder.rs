//! What lies in a folder, file by file.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use rayon::prelude::*;

use crate::{
    error::{Error, Problems, Result},
    path,
};

/// What git and the hub's tools keep beside a published folder's files. It is
/// not part of the release: it is not looked at, and not uploaded.
pub const IGNORED: [&str; 3] = [".git", ".gitattributes", ".cache"];

/// More files than any release has.
const MAX_FILES: usize = 1000;

/// The files of a folder, by path.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// std::fs::write(folder.path().join("NOTICE"), "hello")?;
/// let listing = release::Listing::read(folder.path())?;
/// assert_eq!(listing.files[0].path, "NOTICE");
/// assert_eq!(listing.files[0].bytes, 5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// In the order of their paths' bytes.
    pub files: Vec<Entry>,
}

/// A file of a [`Listing`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its path in the folder, with `/`. Safe to join to a folder on any
    /// system.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its content, in hexadecimal.
    pub sha256: String,
}

impl Listing {
    /// Lists a folder and hashes every file.
    ///
    /// # Errors
    /// There is no such folder, a file cannot be read, or the folder holds
    /// something that a release cannot: a link, a name that leads elsewhere,
    /// two names that differ by case alone.
    pub fn read(folder: &Path) -> Result<Listing> {
        let files = Listing::paths(folder)?.into_par_iter();
        let files = files.map(|path| entry(folder, path));
        Ok(Listing {
            files: files.collect::<Result<_>>()?,
        })
    }

    /// The paths of a folder's files, in order.
    ///
    /// # Errors
    /// As [`Listing::read`].
    pub(crate) fn paths(folder: &Path) -> Result<Vec<String>> {
        if !folder.is_dir() {
            return Err(Error::input(folder.display(), "there is no such folder"));
        }
        let mut problems = Problems::default();
        let mut paths = Vec::new();
        walk(folder, "", &mut paths, &mut problems)?;
        paths.sort();
        let mut folded: BTreeMap<String, &str> = BTreeMap::new();
        for path in &paths {
            if let Some(other) = folded.insert(path.to_ascii_lowercase(), path) {
                problems.add(
                    path,
                    format!("differs from {other} by upper and lower case alone"),
                );
            }
        }
        drop(folded);
        problems.none()?;
        Ok(paths)
    }

    /// Adds a file that was written since.
    pub(crate) fn add(&mut self, folder: &Path, path: &str) -> Result<()> {
        self.files.push(entry(folder, path.to_owned())?);
        self.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(())
    }

    /// A file by its path.
    pub fn get(&self, path: &str) -> Option<&Entry> {
        let at = self
            .files
            .binary_search_by(|entry| entry.path.as_str().cmp(path));
        self.files.get(at.ok()?)
    }

    /// The files below a folder, by their paths in it.
    pub fn below<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = (&'a str, &'a Entry)> {
        self.files.iter().filter_map(move |entry| {
            let path = entry.path.strip_prefix(folder)?.strip_prefix('/')?;
            Some((path, entry))
        })
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|entry| entry.bytes).sum()
    }
}

/// Collects the paths of plain files. Nothing is followed.
fn walk(
    folder: &Path,
    prefix: &str,
    paths: &mut Vec<String>,
    problems: &mut Problems,
) -> Result<()> {
    let mut entries = fs::read_dir(folder)
        .map_err(Error::file(folder))?
        .peekable();
    if !prefix.is_empty() && entries.peek().is_none() {
        // The hub has no such thing, and nothing says what it is for.
        problems.add(prefix, "is an empty folder");
    }
    for entry in entries {
        let entry = entry.map_err(Error::file(folder))?;
        let name = entry.file_name();
        let shown = format!("{prefix}{}", name.to_string_lossy());
        if prefix.is_empty() && IGNORED.iter().any(|ignored| name == *ignored) {
            continue;
        }
        let Some(name) = name.to_str() else {
            problems.add(format!("{shown:?}"), "its name is not UTF-8");
            continue;
        };
        let path = format!("{prefix}{name}");
        if let Err(why) = path::check(&path) {
            problems.add(format!("{path:?}"), why);
            continue;
        }
        let kind = entry.file_type().map_err(Error::file(entry.path()))?;
        if kind.is_dir() {
            walk(&entry.path(), &format!("{path}/"), paths, problems)?;
        } else if kind.is_file() {
            paths.push(path);
        } else {
            // A link could lead anywhere, and an asset behind one does not run.
            let what = if kind.is_symlink() {
                "a symbolic link"
            } else {
                "not a regular file"
            };
            problems.add(path, format!("is {what}; a release has regular files only"));
        }
        if paths.len() > MAX_FILES {
            return Err(Error::input(
                folder.display(),
                format!("holds more than {MAX_FILES} files, which no release does"),
            ));
        }
    }
    Ok(())
}

fn entry(folder: &Path, path: String) -> Result<Entry> {
    let (bytes, sha256) = fsutil::sha256_of_file(&folder.join(&path))?;
    Ok(Entry {
        bytes,
        sha256,
        path,
    })
}

/// Reads a small text file of a folder; its absence is a problem.
pub(crate) fn read_text(folder: &Path, name: &str, max: u64) -> Result<String> {
    let path: PathBuf = folder.join(name);
    let refuse = |message: String| {
        let mut problems = Problems::default();
        problems.add(name, message);
        Err(problems.refusal())
    };
    // Not followed, and not opened where it could block.
    match fs::symlink_metadata(&path) {
        Ok(file) if !file.is_file() => {
            return refuse("is not a regular file".to_owned());
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return refuse("is missing".to_owned());
        }
        Err(source) => return Err(Error::File { path, source }),
    }
    match fsutil::read_text(&path, max) {
        Ok(text) => Ok(text),
        Err(fsutil::Error::TooLarge { found, .. }) => {
            refuse(format!("expected {max} bytes at most, found {found}"))
        }
        Err(fsutil::Error::Refused { problem, .. }) => refuse(problem),
        Err(error) => Err(error.into()),
    }
}
