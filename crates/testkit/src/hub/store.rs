//! Repositories, in memory.

use super::xet::Cas;

use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// From this size on, a file that is added from a folder is an LFS file.
pub(super) const LFS_FROM: usize = 20_000;

#[derive(Clone)]
pub(super) struct Stored {
    pub(super) bytes: Arc<Vec<u8>>,
    pub(super) git: String,
    pub(super) sha256: String,
    pub(super) lfs: bool,
    /// Its name in the content-addressed store, if it is there.
    pub(super) xet: Option<String>,
}

impl Stored {
    pub(super) fn new(bytes: Vec<u8>, lfs: bool) -> Stored {
        let sha256 = hex::encode(Sha256::digest(&bytes));
        let git = if lfs {
            pointer(&sha256, bytes.len() as u64)
        } else {
            git_id(&bytes)
        };
        Stored {
            bytes: Arc::new(bytes),
            git,
            sha256,
            lfs,
            xet: None,
        }
    }
}

/// The git id of the pointer that stands for an LFS file.
fn pointer(sha256: &str, size: u64) -> String {
    let text =
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n");
    git_id(text.as_bytes())
}

fn git_id(bytes: &[u8]) -> String {
    let header = format!("blob {}\0", bytes.len());
    hex::encode(Sha1::new_with_prefix(header).chain_update(bytes).finalize())
}

pub(super) type Files = BTreeMap<String, Stored>;

pub(super) struct Commit {
    pub(super) id: String,
    pub(super) message: String,
    pub(super) files: Files,
}

/// Who may read a repository.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Anyone.
    #[default]
    Open,
    /// Whoever has the token.
    Private,
    /// Anyone may see what there is, but nobody has accepted the terms.
    Gated,
}

#[derive(Default)]
pub(super) struct Repository {
    pub(super) access: Access,
    pub(super) commits: Vec<Commit>,
}

impl Repository {
    pub(super) fn at(&self, revision: &str) -> Option<&Commit> {
        match revision {
            "main" => self.commits.last(),
            commit => self.commits.iter().find(|one| one.id == commit),
        }
    }

    pub(super) fn commit(&mut self, message: &str, files: Files) -> String {
        let mut hash = Sha1::new_with_prefix(format!("commit {}", self.commits.len()));
        for (name, file) in &files {
            hash.update(format!("{name} {}\n", file.git));
        }
        let id = hex::encode(hash.finalize());
        let message = message.to_owned();
        self.commits.push(Commit {
            id: id.clone(),
            message,
            files,
        });
        id
    }
}

#[derive(Default)]
pub(super) struct Store {
    pub(super) endpoint: String,
    pub(super) files_endpoint: String,
    pub(super) cas_endpoint: String,
    pub(super) read_by_xet: bool,
    pub(super) no_xet: bool,
    pub(super) repositories: BTreeMap<String, Repository>,
    pub(super) cas: Cas,
}

impl Store {
    pub(super) fn repository(&mut self, id: &str) -> &mut Repository {
        self.repositories.entry(id.to_owned()).or_default()
    }

    /// A repository as the hub makes it.
    pub(super) fn create(&mut self, id: &str, access: Access) {
        let attributes = "*.safetensors filter=lfs diff=lfs merge=lfs -text\n";
        let repository = self.repository(id);
        repository.access = access;
        let files = [(
            ".gitattributes".to_owned(),
            Stored::new(attributes.into(), false),
        )];
        repository.commit("initial commit", files.into());
    }

    pub(super) fn add(&mut self, id: &str, files: BTreeMap<String, Vec<u8>>) -> String {
        let files = files.into_iter().map(|(name, bytes)| {
            let lfs = bytes.len() >= LFS_FROM;
            (name, Stored::new(bytes, lfs))
        });
        let files = files.collect();
        self.repository(id).commit("added", files)
    }

    pub(super) fn list_also(&mut self, id: &str, name: &str) {
        let file = Stored::new(b"{}".to_vec(), false);
        if let Some(commit) = self.repository(id).commits.last_mut() {
            commit.files.insert(name.to_owned(), file);
        }
    }

    pub(super) fn files(&self, id: &str) -> BTreeMap<String, Vec<u8>> {
        let commit = self.repositories.get(id).and_then(|one| one.at("main"));
        let files = commit
            .map(|commit| commit.files.iter())
            .into_iter()
            .flatten();
        files
            .map(|(name, file)| (name.clone(), file.bytes.to_vec()))
            .collect()
    }

    pub(super) fn messages(&self, id: &str) -> Vec<String> {
        let commits = self.repositories.get(id).map(|one| one.commits.iter());
        let commits = commits.into_iter().flatten();
        commits.map(|commit| commit.message.clone()).collect()
    }

    /// A large file of any repository, by its SHA-256.
    pub(super) fn large(&self, sha256: &str) -> Option<&Stored> {
        let repositories = self.repositories.values();
        let commits = repositories.flat_map(|one| one.commits.iter());
        let mut files = commits.flat_map(|commit| commit.files.values());
        files.find(|file| file.sha256 == sha256)
    }
}

pub(super) fn read(
    folder: &Path,
    prefix: &str,
    files: &mut BTreeMap<String, Vec<u8>>,
) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            read(&entry.path(), &format!("{name}/"), files)?;
        } else {
            files.insert(name, fs::read(entry.path())?);
        }
    }
    Ok(())
}
