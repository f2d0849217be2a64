//! A local hub with a few files, and clients of it.

// Each test file uses a part of this.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

use hub::{Hub, Progress, Settings, Token};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use testkit::hub::{Server, TOKEN};
pub use testkit::noise;

pub const ID: &str = "org/tiny";
/// Larger than what the local hub keeps in git itself.
pub const LARGE: usize = 700_000;

pub struct Bench {
    pub server: Server,
    pub folder: tempfile::TempDir,
    pub commit: String,
    notes: RefCell<Vec<String>>,
}

pub fn contents() -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    files.insert("README.md".into(), b"# tiny\n".to_vec());
    files.insert("config.json".into(), br#"{"a": 1}"#.to_vec());
    files.insert("empty.txt".into(), Vec::new());
    files.insert("model.safetensors".into(), noise(1, LARGE));
    files.insert("deep/er/weights.bin".into(), noise(2, LARGE / 2));
    files.insert("tokenizer.json".into(), noise(3, 5_000));
    files
}

pub fn write(folder: &Path, files: &BTreeMap<String, Vec<u8>>) {
    for (name, bytes) in files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

impl Bench {
    pub fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let remote = folder.path().join("remote");
        write(&remote, &contents());
        let server = Server::start().unwrap();
        let commit = server.add(ID, &remote).unwrap();
        Bench {
            server,
            folder,
            commit,
            notes: RefCell::default(),
        }
    }

    pub fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    pub fn settings(&self) -> Settings {
        let mut settings = Settings::new(self.server.endpoint()).unwrap();
        settings.cache = self.cache();
        settings.pause = Duration::from_millis(10);
        settings.tries = 4;
        settings
    }

    pub fn hub(&self) -> Hub {
        Hub::new(self.settings()).unwrap()
    }

    pub fn hub_with_token(&self) -> Hub {
        let mut settings = self.settings();
        settings.token = Token::new(TOKEN);
        Hub::new(settings).unwrap()
    }

    pub fn report(&self) -> impl Fn(Progress<'_>) + '_ {
        move |event: Progress<'_>| {
            if let Progress::Note(note) = event {
                self.notes.borrow_mut().push(note.to_owned());
            }
            if let Progress::Bytes { done, total } = event {
                assert!(done <= total, "{done} of {total}");
            }
        }
    }

    pub fn notes(&self) -> String {
        self.notes.borrow().join("\n")
    }

    /// Fetches all files, and compares them.
    pub fn fetch(&self, hub: &Hub) -> Result<(), hub::Error> {
        let report = self.report();
        let repository = hub.repository(ID, "main", &report)?;
        let names = repository.names()?;
        repository.fetch(&names)?;
        repository.keep()?;
        assert_eq!(repository.commit(), self.commit);
        let files = contents();
        assert_eq!(names, files.keys().cloned().collect::<Vec<_>>());
        for (name, bytes) in &files {
            let path = repository.folder().join(name);
            assert!(std::fs::read(&path).unwrap() == *bytes, "{name}");
        }
        Ok(())
    }

    /// Nothing below the cache has wrong bytes under a right name.
    pub fn assert_no_blob_is_wrong(&self) {
        let files = contents();
        let blobs = self.cache().join("models--org--tiny/blobs");
        for entry in std::fs::read_dir(blobs).into_iter().flatten().flatten() {
            let name = entry.file_name().into_string().unwrap();
            if !name.ends_with(".incomplete") {
                let bytes = std::fs::read(entry.path()).unwrap();
                assert!(files.values().any(|file| *file == bytes), "{name}");
            }
        }
    }
}

#[track_caller]
pub fn assert_says(error: &hub::Error, words: &[&str]) {
    let text = error.to_string();
    testkit::assert_contains(&text, words);
    for secret in [TOKEN, "secret0"] {
        let shown = format!("{text} {error:?}");
        assert!(!shown.contains(secret), "a secret is shown: {shown}");
    }
}
