//! From a hub into its cache.

use crate::cache::{self, Cache};
use crate::content::{self, Entry, MAX_ENTRIES, Sum};
use crate::name::{is_commit, is_safe};
use crate::retry::Failure;
use crate::{Error, Hub, Progress, ProgressFn};
use futures::{StreamExt, TryStreamExt};
use hf_hub::{HFRepository, RepoTypeModel};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// How much is asked for at a time. Where a file comes in chunks that are put
/// together here (xet), this bounds the memory for it.
const WINDOW: u64 = 256 << 20;
/// The hub adds this file to every repository.
pub(crate) const ATTRIBUTES: &str = ".gitattributes";

/// A repository at one commit.
pub struct Repository<'a> {
    hub: &'a Hub,
    model: HFRepository<RepoTypeModel>,
    progress: ProgressFn<'a>,
    id: String,
    revision: String,
    commit: String,
    cache: Cache,
    files: Files,
}

enum Files {
    /// What the hub lists.
    Listed(BTreeMap<String, Entry>),
    /// What the cache has, and why that must do.
    Cached(String),
}

/// What a hub says about a repository.
pub(crate) struct Listed {
    pub(crate) commit: String,
    pub(crate) entries: BTreeMap<String, Entry>,
    pub(crate) public: bool,
}

impl Hub {
    /// A repository at `revision`, a branch, tag or commit. Where the hub
    /// cannot be reached, or may not be asked, it is what the cache has.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Anonymous`] or [`Error::Denied`] if there
    /// is none for this token, [`Error::Listing`] if the hub lists what cannot
    /// be, an outage if there is none in the cache either.
    pub fn repository<'a>(
        &'a self,
        id: &str,
        revision: &str,
        progress: ProgressFn<'a>,
    ) -> Result<Repository<'a>, Error> {
        let model = self.model(id)?;
        if !is_safe(revision) {
            return Err(Error::Revision {
                revision: revision.into(),
            });
        }
        let cache = Cache::new(&self.settings.cache, id);
        let cached = |why: String| match cache.commit(revision) {
            Some(commit) if cache.snapshot(&commit).is_dir() => Some((commit, Files::Cached(why))),
            _ => None,
        };
        let (commit, files) = if self.settings.offline {
            let why = "HF_HUB_OFFLINE is set";
            cached(why.into()).ok_or_else(|| Error::NotCached {
                file: format!("{id} at revision {revision}"),
                cache: self.settings.cache.display().to_string(),
                why: why.into(),
            })?
        } else {
            match self.list(id, revision, progress) {
                Ok(listed) => (listed.commit, Files::Listed(listed.entries)),
                Err(outage) if outage.is_outage() => match cached(outage.to_string()) {
                    Some((commit, files)) => {
                        let note = format!("{id}: {outage}; using commit {commit} of the cache");
                        progress(Progress::Note(&note));
                        (commit, files)
                    }
                    None => return Err(outage),
                },
                Err(error) => return Err(error),
            }
        };
        Ok(Repository {
            hub: self,
            model,
            progress,
            id: id.into(),
            revision: revision.into(),
            commit,
            cache,
            files,
        })
    }

    /// The commit that a revision is, and its files.
    pub(crate) fn list(
        &self,
        id: &str,
        revision: &str,
        progress: ProgressFn<'_>,
    ) -> Result<Listed, Error> {
        let model = self.model(id)?;
        let what = format!("{id} at revision {revision}");
        self.runtime.block_on(async {
            let mut retry = self.retry(&what, progress).brief();
            let info = retry
                .until(|| model.info().revision(revision).send())
                .await
                .map_err(|failure| self.explain(id, &what, retry.tries, failure))?;
            let public = info.private == Some(false);
            let commit = info.sha.filter(|sha| is_commit(sha));
            let commit = commit.ok_or_else(|| Error::Listing {
                repository: id.into(),
                message: "it states no commit".into(),
            })?;
            // At the commit, lest the branch moves in between.
            let mut retry = self.retry(&what, progress);
            let listed = retry
                .until(|| async {
                    let tree = model.list_tree().revision(&commit).recursive(true);
                    tree.limit(MAX_ENTRIES + 1).send()?.try_collect().await
                })
                .await
                .map_err(|failure| self.explain(id, &what, retry.tries, failure))?;
            Ok(Listed {
                commit,
                entries: content::entries(id, listed)?,
                public,
            })
        })
    }
}

/// How far a fetch is.
struct Meter<'a> {
    progress: ProgressFn<'a>,
    done: Cell<u64>,
    total: u64,
}

impl Meter<'_> {
    fn add(&self, bytes: u64) {
        self.done.set(self.done.get() + bytes);
        let (done, total) = (self.done.get(), self.total);
        (self.progress)(Progress::Bytes { done, total });
    }

    /// Runs `work`; if it was in vain, so were the bytes.
    fn or_roll_back<T, E>(
        &self,
        work: impl FnOnce() -> Result<Option<T>, E>,
    ) -> Result<Option<T>, E> {
        let before = self.done.get();
        let result = work();
        if !matches!(result, Ok(Some(_))) {
            self.done.set(before);
        }
        result
    }
}

impl Repository<'_> {
    /// The commit.
    pub fn commit(&self) -> &str {
        &self.commit
    }

    /// Why this is only what the cache has, if it is.
    pub fn cached(&self) -> Option<&str> {
        match &self.files {
            Files::Listed(_) => None,
            Files::Cached(why) => Some(why),
        }
    }

    /// The folder in the cache that fetched files are in.
    pub fn folder(&self) -> PathBuf {
        self.cache.snapshot(&self.commit)
    }

    /// Whether there is such a file.
    pub fn has(&self, name: &str) -> bool {
        match &self.files {
            Files::Listed(entries) => entries.contains_key(name),
            Files::Cached(_) => is_safe(name) && self.folder().join(name).is_file(),
        }
    }

    /// All files, but for the one with git attributes, which is the hub's own.
    ///
    /// # Errors
    /// [`Error::Disk`] if the cache cannot be read.
    pub fn names(&self) -> Result<Vec<String>, Error> {
        let mut names = match &self.files {
            Files::Listed(entries) => entries.keys().cloned().collect(),
            Files::Cached(_) => {
                let mut names = Vec::new();
                walk(&self.folder(), "", &mut names).map_err(Error::disk(self.folder()))?;
                names
            }
        };
        names.retain(|name| name != ATTRIBUTES);
        names.sort();
        Ok(names)
    }

    /// Brings files into the cache, where they are not there already, and
    /// checks every one of them.
    ///
    /// # Errors
    /// Whatever keeps a file from being there with the right bytes.
    pub fn fetch<S: AsRef<str>>(&self, names: &[S]) -> Result<(), Error> {
        let names = || names.iter().map(|name| -> &str { name.as_ref() });
        match &self.files {
            Files::Listed(entries) => {
                let mut wanted = Vec::new();
                for name in names() {
                    let entry = entries.get(name).ok_or_else(|| Error::Missing {
                        what: format!("{name} of {}", self.id),
                        server_message: String::new(),
                    })?;
                    wanted.push((name, entry));
                }
                let meter = Meter {
                    progress: self.progress,
                    done: Cell::new(0),
                    total: wanted.iter().map(|(_, entry)| entry.size).sum(),
                };
                wanted
                    .into_iter()
                    .try_for_each(|(name, entry)| self.fetch_one(name, entry, &meter))
            }
            Files::Cached(why) => {
                let mut sizes = Vec::new();
                for name in names() {
                    let path = self.folder().join(name);
                    match fs::metadata(&path) {
                        Ok(data) if is_safe(name) && data.is_file() => sizes.push(data.len()),
                        _ => {
                            return Err(Error::NotCached {
                                file: format!("{name} of {}", self.id),
                                cache: self.cache.place().display().to_string(),
                                why: why.clone(),
                            });
                        }
                    }
                }
                let meter = Meter {
                    progress: self.progress,
                    done: Cell::new(0),
                    total: sizes.iter().sum(),
                };
                names().try_for_each(|name| self.check_cached(name, &meter))
            }
        }
    }

    /// Notes in the cache which commit the revision is, so that it is found
    /// without the hub. To be done when all that is needed has been fetched.
    ///
    /// # Errors
    /// [`Error::Disk`] if the cache cannot be written.
    pub fn keep(&self) -> Result<(), Error> {
        self.cache.note(&self.revision, &self.commit)
    }

    /// Makes fetched files plain files below `folder`.
    ///
    /// # Errors
    /// [`Error::Disk`] if one is there already, or cannot be made.
    pub fn place<S: AsRef<str>>(&self, names: &[S], folder: &Path) -> Result<(), Error> {
        for name in names.iter().map(|name| -> &str { name.as_ref() }) {
            if !is_safe(name) {
                return Err(Error::Listing {
                    repository: self.id.clone(),
                    message: format!("it has a file named {name:?}"),
                });
            }
            let pointer = self.folder().join(name);
            let from = match self.cache.linked(&pointer) {
                Some(blob) => self.cache.blobs().join(blob),
                None => pointer,
            };
            let to = folder.join(name);
            let place = || {
                if fs::symlink_metadata(&from)?.is_symlink() {
                    return Err(io::Error::other("is a link that leads out of the cache"));
                }
                if let Some(parent) = to.parent() {
                    fs::create_dir_all(parent)?;
                }
                cache::place(&from, &to)
            };
            place().map_err(Error::disk(&to))?;
        }
        Ok(())
    }

    fn check_cached(&self, name: &str, meter: &Meter<'_>) -> Result<(), Error> {
        let path = self.folder().join(name);
        // Where links are not used, nothing states the hash.
        let Some(blob) = self.cache.linked(&path) else {
            return Ok(());
        };
        let right = content::check_named(&path, &blob, &mut |bytes| meter.add(bytes))
            .map_err(Error::disk(&path))?;
        if right {
            Ok(())
        } else {
            Err(Error::DamagedCache {
                file: self.cache.blobs().join(blob).display().to_string(),
            })
        }
    }

    fn fetch_one(&self, name: &str, entry: &Entry, meter: &Meter<'_>) -> Result<(), Error> {
        if self.is_there(name, entry, meter)? {
            return Ok(());
        }
        let note = format!("{name}: another process fetches it, too; waiting for that");
        let _lock = self
            .cache
            .lock(&entry.oid, || (self.progress)(Progress::Note(&note)))?;
        if self.is_there(name, entry, meter)? {
            return Ok(());
        }
        let blob = self.download(name, entry, meter)?;
        self.cache.link(&blob, &self.commit, name)
    }

    /// Whether the right bytes are in the cache, be it under another commit.
    /// What is there instead of them is removed.
    fn is_there(&self, name: &str, entry: &Entry, meter: &Meter<'_>) -> Result<bool, Error> {
        let pointer = self.folder().join(name);
        let check = |path: &Path| {
            meter
                .or_roll_back(|| entry.check(path, &mut |bytes| meter.add(bytes)))
                .map_err(Error::disk(path))
        };
        if pointer.is_file() {
            if check(&pointer)?.is_some() {
                return Ok(true);
            }
            let note = format!("{name}: the cache has it damaged; fetching it again");
            (self.progress)(Progress::Note(&note));
            if let Some(blob) = self.cache.linked(&pointer) {
                let blob = self.cache.blobs().join(blob);
                cache::remove(&blob).map_err(Error::disk(&blob))?;
            }
            cache::remove(&pointer).map_err(Error::disk(&pointer))?;
        }
        for blob in self.cache.blobs_of(entry.size) {
            if let Some(blob) = check(&blob)? {
                self.cache.link(&blob, &self.commit, name)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Fetches a content; gives its name among the blobs.
    fn download(&self, name: &str, entry: &Entry, meter: &Meter<'_>) -> Result<String, Error> {
        let blobs = self.cache.blobs();
        let path = blobs.join(format!("{}.incomplete", entry.oid));
        let disk = || Error::disk(&path);
        fs::create_dir_all(&blobs).map_err(disk())?;
        let mut window = WINDOW;
        loop {
            let before = meter.done.get();
            let mut partial = Partial::open(&path, entry, meter).map_err(disk())?;
            let began = partial.have;
            let filled = self.fill(name, entry, &mut partial, window, meter);
            self.hub.runtime.block_on(filled)?;
            partial.file.sync_data().map_err(disk())?;
            match partial.sum.end(entry) {
                Ok(blob) => {
                    let whole = blobs.join(&blob);
                    fs::rename(&path, &whole).map_err(Error::disk(&whole))?;
                    return Ok(blob);
                }
                Err(found) => {
                    cache::remove(&path).map_err(disk())?;
                    if window == u64::MAX {
                        return Err(Error::Damaged {
                            file: format!("{name} of {}", self.id),
                            found,
                        });
                    }
                    // What an earlier run left may be at fault, or a server
                    // that knows no ranges: once more, in one piece.
                    window = u64::MAX;
                    meter.done.set(before);
                    let from = match began {
                        0 => "",
                        _ => " (some of it from an earlier run)",
                    };
                    let note = format!("{name}: arrived damaged{from}; fetching it once more");
                    (self.progress)(Progress::Note(&note));
                }
            }
        }
    }

    async fn fill(
        &self,
        name: &str,
        entry: &Entry,
        partial: &mut Partial,
        window: u64,
        meter: &Meter<'_>,
    ) -> Result<(), Error> {
        let what = format!("{name} of {}", self.id);
        let mut retry = self.hub.retry(&what, self.progress);
        while partial.have < entry.size {
            let before = partial.have;
            let end = entry.size.min(before.saturating_add(window));
            let failure = match self.read(name, partial, end, meter).await {
                Ok(()) if partial.have == end => continue,
                Ok(()) => Failure::Short,
                Err(Stop::Disk(error)) => return Err(Error::disk(&partial.path)(error)),
                Err(Stop::Failure(failure)) => failure,
            };
            if partial.have > before {
                retry.reset();
            }
            if let Err(failure) = retry.wait_after(failure).await {
                return Err(self.hub.explain(&self.id, &what, retry.tries, failure));
            }
        }
        Ok(())
    }

    /// Reads up to `end`, as far as one answer goes.
    async fn read(
        &self,
        name: &str,
        partial: &mut Partial,
        end: u64,
        meter: &Meter<'_>,
    ) -> Result<(), Stop> {
        let failure = |error| Stop::Failure(Failure::Hub(error));
        let ask = self.model.download_file_stream().filename(name);
        let ask = ask.revision(&self.commit).range(partial.have..end);
        let (_, mut stream) = ask.send().await.map_err(failure)?;
        while partial.have < end {
            let Some(chunk) = stream.next().await else {
                break;
            };
            let chunk = chunk.map_err(failure)?;
            let room = usize::try_from(end - partial.have).unwrap_or(usize::MAX);
            let bytes = &chunk[..chunk.len().min(room)];
            partial.add(bytes).map_err(Stop::Disk)?;
            meter.add(bytes.len() as u64);
        }
        Ok(())
    }
}

enum Stop {
    Disk(io::Error),
    Failure(Failure),
}

/// A file on its way.
struct Partial {
    path: PathBuf,
    file: File,
    sum: Sum,
    have: u64,
}

impl Partial {
    /// Goes on where an earlier run ended.
    fn open(path: &Path, entry: &Entry, meter: &Meter<'_>) -> io::Result<Partial> {
        let mut options = OpenOptions::new();
        let mut file = options.read(true).append(true).create(true).open(path)?;
        let mut have = file.metadata()?.len();
        if have > entry.size {
            file.set_len(0)?;
            have = 0;
        }
        let mut sum = entry.sum();
        // Not a byte more, whatever kind of file it is.
        content::read_into((&mut file).take(have), &mut sum, &mut |bytes| {
            meter.add(bytes)
        })?;
        Ok(Partial {
            path: path.to_owned(),
            file,
            sum,
            have,
        })
    }

    fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.sum.add(bytes);
        self.have += bytes.len() as u64;
        Ok(())
    }
}

/// The paths of all files below a folder.
fn walk(folder: &Path, prefix: &str, names: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Some(name) = entry
            .file_name()
            .to_str()
            .map(|name| format!("{prefix}{name}"))
        else {
            continue;
        };
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), &format!("{name}/"), names)?;
        } else if is_safe(&name) && names.len() < MAX_ENTRIES {
            names.push(name);
        }
    }
    Ok(())
}
