//! Checkpoints from a hub on loopback.
#![allow(clippy::unwrap_used)]

use checkpoint::{Source, TokenizerFiles};
use hub::Progress;
use hub::{Hub, Settings};
use models::Error;
use models::qwen3_vl::{self, Config, synth};
use std::path::Path;
use testkit::hub::{Fault, Server};

const ID: &str = "org/tiny";

fn quiet(_: Progress<'_>) {}

struct Bench {
    server: Server,
    folder: tempfile::TempDir,
}

impl Bench {
    /// A checkpoint in several files, and one that no export needs.
    fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let remote = folder.path().join("remote");
        let config = Config::preset("nano").unwrap();
        let options = synth::Options::default().shard_bytes(1 << 20);
        synth::write(&config, &remote, options, |_, _| {}).unwrap();
        std::fs::write(remote.join("README.md"), "not needed").unwrap();
        let server = Server::start().unwrap();
        server.add(ID, &remote).unwrap();
        Bench { server, folder }
    }

    fn fetch(&self, endpoint: &str, cache: &str, revision: &str) -> Result<Source, Error> {
        let mut settings = Settings::new(endpoint).unwrap();
        settings.cache = self.folder.path().join(cache);
        settings.pause = std::time::Duration::from_millis(5);
        settings.tries = 2;
        Source::fetch(
            &Hub::new(settings).unwrap(),
            ID,
            revision,
            &quiet,
            |source| Config::load(source).map(|_| ()),
        )
    }
}

fn is_whole(source: &Source) -> bool {
    qwen3_vl::open(source).is_ok() && TokenizerFiles::load(source).is_ok()
}

#[test]
fn a_checkpoint_is_fetched_whole_and_found_again_without_the_hub() {
    let bench = Bench::new();
    let endpoint = bench.server.endpoint();
    let source = bench.fetch(endpoint, "cache", "main").unwrap();
    let commit = source.revision().unwrap().to_owned();
    assert_eq!((source.model(), commit.len()), (ID, 40));
    assert!(is_whole(&source));
    assert!(source.map("README.md").unwrap().is_none());
    let shards = |source: &Source| {
        let folder = std::fs::read_dir(source.place()).unwrap().flatten();
        let names = folder.map(|entry| entry.file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".safetensors")).count()
    };
    assert!(shards(&source) > 1);

    // Nobody listens there: port 9 is for discarding.
    let offline = "http://127.0.0.1:9";
    for revision in ["main", &commit] {
        let source = bench.fetch(offline, "cache", revision).unwrap();
        assert_eq!(source.revision(), Some(commit.as_str()));
    }
    let error = bench
        .fetch(offline, "empty", "main")
        .unwrap_err()
        .to_string();
    for words in [ID, "cannot be reached", "can be named instead"] {
        assert!(error.contains(words), "{error}");
    }
    let error = bench.fetch(endpoint, "cache", "no-such").unwrap_err();
    assert!(error.to_string().contains("no-such"), "{error}");

    // A cache that lost a part of it does not do, and is made whole again.
    let lost = Path::new(&source.place()).join("model-00001-of-00003.safetensors");
    std::fs::remove_file(&lost).unwrap();
    let error = bench
        .fetch(offline, "cache", "main")
        .unwrap_err()
        .to_string();
    assert!(error.contains("not in the cache"), "{error}");
    bench.fetch(endpoint, "cache", "main").unwrap();
    assert!(lost.is_file());
}

#[test]
fn a_checkpoint_that_broke_off_is_not_taken_for_a_whole_one() {
    let bench = Bench::new();
    let endpoint = bench.server.endpoint();
    bench.server.fault("GET", "/cdn/", 1, 99, Fault::Drop);
    let error = bench
        .fetch(endpoint, "cache", "main")
        .unwrap_err()
        .to_string();
    assert!(error.contains("what is done is kept"), "{error}");
    assert!(bench.fetch("http://127.0.0.1:9", "cache", "main").is_err());
    bench.server.calm();
    assert!(is_whole(&bench.fetch(endpoint, "cache", "main").unwrap()));
}

#[test]
fn another_architecture_is_refused_before_its_weights_are_fetched() {
    let bench = Bench::new();
    let remote = bench.folder.path().join("other");
    std::fs::create_dir(&remote).unwrap();
    std::fs::write(remote.join("config.json"), r#"{"model_type": "llama"}"#).unwrap();
    std::fs::write(remote.join("model.safetensors"), vec![1; 100_000]).unwrap();
    bench.server.add(ID, &remote).unwrap();
    let error = bench
        .fetch(bench.server.endpoint(), "cache", "main")
        .unwrap_err();
    assert!(matches!(error, Error::Architecture { .. }), "{error}");
    let requests = bench.server.requests();
    assert!(
        !requests.iter().any(|r| r.contains("safetensors")),
        "{requests:?}"
    );
    std::fs::remove_file(remote.join("config.json")).unwrap();
    bench.server.add(ID, &remote).unwrap();
    let error = bench
        .fetch(bench.server.endpoint(), "cache", "main")
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::Checkpoint(checkpoint::Error::MissingFile { .. })
        ),
        "{error}"
    );
}

#[test]
fn shards_that_lead_elsewhere_are_not_followed() {
    let bench = Bench::new();
    let remote = bench.folder.path().join("remote");
    let index = remote.join("model.safetensors.index.json");
    let text = std::fs::read_to_string(&index).unwrap();
    let hostile = text.replace("model-00001-of-00003", "../../../../secret");
    assert_ne!(text, hostile);
    std::fs::write(&index, hostile).unwrap();
    bench.server.add(ID, &remote).unwrap();
    let error = bench
        .fetch(bench.server.endpoint(), "cache", "main")
        .unwrap_err();
    assert!(error.to_string().contains("secret"), "{error}");
    assert!(!bench.folder.path().join("secret.safetensors").exists());
}
