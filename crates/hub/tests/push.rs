//! A folder is published as it is, or the repository stays as it was.

// Helpers outside test functions, which clippy.toml does not exempt.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Bench, assert_says, noise, write};
use hub::{Error, File, Hub, Push, Pushed};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use testkit::hub::{Access, Fault, Server};

const NEW: &str = "me/release";

struct Release {
    bench: Bench,
    folder: PathBuf,
    contents: BTreeMap<String, Vec<u8>>,
}

fn release() -> Release {
    let bench = Bench::new();
    let folder = bench.folder.path().join("release");
    let mut contents = common::contents();
    // More than the hub takes in a commit.
    contents.insert("main.mlirb".into(), noise(7, 11_000_000));
    write(&folder, &contents);
    Release {
        bench,
        folder,
        contents,
    }
}

fn files(folder: &Path, contents: &BTreeMap<String, Vec<u8>>) -> Vec<File> {
    let file = |path: &String| {
        let bytes = std::fs::read(folder.join(path)).unwrap();
        let hash = Sha256::digest(&bytes);
        File {
            path: path.clone(),
            size: bytes.len() as u64,
            sha256: hash.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    };
    contents.keys().map(file).collect()
}

impl Release {
    fn with<T>(&self, act: impl FnOnce(&Push<'_>) -> T) -> T {
        let files = files(&self.folder, &self.contents);
        act(&Push {
            repository: NEW,
            folder: &self.folder,
            files: &files,
            message: "a release",
            private: false,
            prune: false,
        })
    }

    fn push(&self) -> Result<Pushed, Error> {
        let report = self.bench.report();
        self.with(|push| self.bench.hub_with_token().push(push, &report))
    }

    fn server(&self) -> &Server {
        &self.bench.server
    }

    /// The repository equals the folder.
    fn assert_published(&self) {
        let mut published = self.server().files(NEW);
        published.remove(".gitattributes").unwrap();
        assert!(published == self.contents);
    }
}

#[test]
fn a_folder_is_published_in_one_commit_and_read_back() {
    let release = release();
    let pushed = release.push().unwrap();
    assert_eq!((pushed.sent, pushed.kept), (7, 0));
    assert_eq!(
        pushed.page,
        format!("{}/{NEW}", release.server().endpoint())
    );
    release.assert_published();
    assert_eq!(
        release.server().commits(NEW),
        ["initial commit", "a release"]
    );
    // Again: nothing is sent.
    release.server().calm();
    let again = release.push().unwrap();
    assert_eq!(
        (again.sent, again.kept, &again.commit),
        (0, 7, &pushed.commit)
    );
    let requests = release.server().requests();
    assert!(
        requests.iter().all(|r| r.starts_with("GET /api/models/")),
        "{requests:?}"
    );

    // Read by others, from where large files are, and chunk by chunk.
    for by_xet in [false, true] {
        release.server().read_by_xet(by_xet);
        release.server().calm();
        let mut settings = release.bench.settings();
        settings.cache = release.bench.folder.path().join(format!("reader {by_xet}"));
        let hub = Hub::new(settings).unwrap();
        let repository = hub.repository(NEW, "main", &|_| ()).unwrap();
        let names = repository.names().unwrap();
        repository.fetch(&names).unwrap();
        for (name, bytes) in &release.contents {
            assert!(
                std::fs::read(repository.folder().join(name)).unwrap() == *bytes,
                "{name}"
            );
        }
        let requests = release.server().requests();
        let chunks = requests.iter().any(|r| r.starts_with("GET /xorbs/"));
        assert_eq!(chunks, by_xet, "{requests:?}");
    }
}

#[test]
fn a_dry_run_only_reads() {
    let release = release();
    let plan = |hub: &Hub| release.with(|push| hub.plan(push, &|_| ()).unwrap());
    let first = plan(&release.bench.hub());
    assert!(first.create);
    assert_eq!((first.send.len(), first.keep.len()), (7, 0));
    let requests = release.server().requests();
    assert!(
        requests.iter().all(|r| r.starts_with("GET ")),
        "{requests:?}"
    );
    release.push().unwrap();
    let second = plan(&release.bench.hub());
    assert!(!second.create && second.send.is_empty() && second.foreign.is_empty());
    assert_eq!(second.keep.len(), 7);
}

#[test]
fn what_the_hub_has_is_not_sent_again() {
    let mut release = release();
    release.push().unwrap();
    for (name, bytes) in [
        ("README.md", b"# new\n".to_vec()),
        ("model.safetensors", noise(8, 50_000)),
    ] {
        release.contents.insert(name.into(), bytes);
    }
    write(&release.folder, &release.contents);
    let pushed = release.push().unwrap();
    assert_eq!((pushed.sent, pushed.kept), (2, 5));
    release.assert_published();
}

#[test]
fn files_of_others_are_not_removed_unasked() {
    let mut release = release();
    release.push().unwrap();
    release.contents.remove("README.md");
    let error = release.push().unwrap_err();
    assert_says(&error, &["README.md", "another repository"]);
    assert_eq!(release.server().commits(NEW).len(), 2);
    let files = files(&release.folder, &release.contents);
    let push = Push {
        repository: NEW,
        folder: &release.folder,
        files: &files,
        message: "fewer",
        private: false,
        prune: true,
    };
    release.bench.hub_with_token().push(&push, &|_| ()).unwrap();
    release.assert_published();
}

#[test]
fn each_fault_is_overcome() {
    let faults = [
        ("GET", "/revision/", Fault::Status(503, "")),
        ("GET", "/tree/", Fault::Cut(20)),
        ("POST", "/repos/create", Fault::Status(500, "")),
        ("POST", "/repos/create", Fault::LoseAnswer),
        (
            "POST",
            "/objects/batch",
            Fault::Status(429, "Retry-After: 0\r\n"),
        ),
        ("POST", "/objects/batch", Fault::Drop),
        ("POST", "/preupload/", Fault::Status(502, "")),
        ("POST", "/preupload/", Fault::Drop),
        ("GET", "/xet-write-token/", Fault::Status(500, "")),
        ("POST", "/commit/", Fault::Status(500, "")),
        ("POST", "/commit/", Fault::Status(429, "Retry-After: 1\r\n")),
        ("POST", "/commit/", Fault::Drop),
        ("POST", "/commit/", Fault::LoseAnswer),
    ];
    for (method, path, fault) in faults {
        let release = release();
        release.server().fault(method, path, 0, 1, fault.clone());
        release
            .push()
            .unwrap_or_else(|error| panic!("{path} {fault:?}: {error}"));
        assert!(release.server().pending().is_empty(), "{path} {fault:?}");
        release.assert_published();
        // A lost answer does not make a second commit.
        assert_eq!(
            release.server().commits(NEW),
            ["initial commit", "a release"]
        );
    }
}

/// hf-xet tries again by itself, after some seconds.
#[test]
fn chunks_that_get_lost_are_sent_again_and_wrong_ones_are_not_taken() {
    let release = release();
    let server = release.server();
    server.fault("POST", "/v1/xorbs/", 0, 1, Fault::Drop);
    server.fault("POST", "/v1/shards", 0, 1, Fault::Status(503, ""));
    release.push().unwrap();
    assert!(server.pending().is_empty());
    release.assert_published();
    assert_eq!(server.commits(NEW).len(), 2);

    server.read_by_xet(true);
    let read = |cache: &str| {
        let mut settings = release.bench.settings();
        settings.cache = release.bench.folder.path().join(cache);
        settings.tries = 2;
        let hub = Hub::new(settings).unwrap();
        let repository = hub.repository(NEW, "main", &|_| ()).unwrap();
        let result = repository.fetch(&["main.mlirb"]);
        let path = repository.folder().join("main.mlirb");
        (result, std::fs::read(path))
    };
    server.fault("GET", "/v1/reconstructions/", 0, 1, Fault::Status(503, ""));
    let (result, bytes) = read("lost");
    result.unwrap();
    assert!(bytes.unwrap() == release.contents["main.mlirb"]);
    server.fault("GET", "/xorbs/", 0, 99, Fault::Flip(5_000));
    let (result, bytes) = read("wrong");
    assert!(result.is_err() && bytes.is_err());
}

#[test]
fn a_push_that_failed_is_repeated_and_ends_well() {
    let release = release();
    release
        .server()
        .fault("POST", "/commit/", 0, 99, Fault::Status(503, ""));
    let error = release.push().unwrap_err();
    assert_says(
        &error,
        &["the commit to me/release", "503", "try again later"],
    );
    assert_eq!(release.server().commits(NEW), ["initial commit"]);
    release.server().calm();
    release.push().unwrap();
    release.assert_published();
}

#[test]
fn what_may_not_be_written_is_said() {
    let release = release();
    let error = release.with(|push| release.bench.hub().push(push, &|_| ()).unwrap_err());
    assert_says(&error, &["no token", "HF_TOKEN"]);
    assert!(release.server().requests().is_empty());

    for (path, status) in [
        ("/repos/create", 403),
        ("/commit/", 403),
        ("/preupload/", 401),
    ] {
        let release = self::release();
        release
            .server()
            .fault("POST", path, 0, 99, Fault::Status(status, ""));
        let error = release.push().unwrap_err();
        assert_says(&error, &[&status.to_string(), "may not do this"]);
        assert!(release.server().commits(NEW).len() < 2);
    }

    // A hub without xet would be sent gigabytes in one request.
    release.server().offer_xet(false);
    let error = release.push().unwrap_err();
    assert_says(&error, &["does not take large files by xet", "git-lfs"]);
    assert!(
        !release
            .server()
            .requests()
            .iter()
            .any(|r| r.contains("/commit/"))
    );

    let mut settings = release.bench.settings();
    settings.offline = true;
    let hub = Hub::new(settings).unwrap();
    let error = release.with(|push| hub.push(push, &|_| ()).unwrap_err());
    assert_says(&error, &["HF_HUB_OFFLINE"]);
}

#[test]
fn private_means_private() {
    let release = release();
    let files = files(&release.folder, &release.contents);
    let push = Push {
        repository: NEW,
        folder: &release.folder,
        files: &files,
        message: "quiet",
        private: true,
        prune: false,
    };
    let hub = release.bench.hub_with_token();
    hub.push(&push, &|_| ()).unwrap();
    assert!(release.server().is_private(NEW));
    release.server().access(NEW, Access::Open);
    let error = hub.push(&push, &|_| ()).unwrap_err();
    assert_says(&error, &["public", "make it private"]);
}

#[test]
fn only_what_is_as_it_was_said_to_be_is_sent() {
    let release = release();
    let hub = release.bench.hub_with_token();
    let refuse = |change: &dyn Fn(&mut Vec<File>), words: &[&str]| {
        let mut files = files(&release.folder, &release.contents);
        change(&mut files);
        let push = Push {
            repository: NEW,
            folder: &release.folder,
            files: &files,
            message: "a release",
            private: false,
            prune: false,
        };
        assert_says(&hub.push(&push, &|_| ()).unwrap_err(), words);
        assert!(release.server().requests().is_empty());
    };
    refuse(&|files| files.clear(), &["no file in the folder"]);
    refuse(&|files| files[0].size += 1, &["is not a file of"]);
    refuse(&|files| files[0].sha256 = "x".into(), &["no SHA-256"]);
    refuse(&|files| files.push(files[0].clone()), &["twice"]);
    for path in ["../x", "/etc/passwd", "a\\b", ".gitattributes", "C:x"] {
        refuse(
            &|files| files[0].path = path.into(),
            &["cannot be a file of it"],
        );
    }
    refuse(
        &|files| files[0].path = "deep".into(),
        &["is not a file of"],
    );
    #[cfg(unix)]
    {
        let link = release.folder.join("link");
        std::os::unix::fs::symlink(release.folder.join("README.md"), link).unwrap();
        refuse(
            &|files| files[0].path = "link".into(),
            &["is not a file of"],
        );
    }
    // Other bytes of the same size: the hub then lists another hash.
    std::fs::write(release.folder.join("config.json"), br#"{"a": 2}"#).unwrap();
    let mut files = files(&release.folder, &release.contents);
    let config = files
        .iter_mut()
        .find(|file| file.path == "model.safetensors")
        .unwrap();
    config.sha256 = "0".repeat(64);
    let push = Push {
        repository: NEW,
        folder: &release.folder,
        files: &files,
        message: "a release",
        private: false,
        prune: false,
    };
    let error = hub.push(&push, &|_| ()).unwrap_err();
    assert_says(&error, &["still lists other bytes", "model.safetensors"]);
}
