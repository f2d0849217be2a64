//! Files of a repository come whole, once, and only what was asked for.

// Helpers outside test functions, which clippy.toml does not exempt.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Bench, ID, LARGE, assert_says, contents, noise};
use hub::{Hub, Settings};
use std::collections::BTreeMap;
use testkit::hub::{Access, Fault};

#[test]
fn what_is_there_is_not_fetched_again() {
    let bench = Bench::new();
    let hub = bench.hub();
    bench.fetch(&hub).unwrap();
    assert!(bench.server.requests().iter().any(|r| r.contains("/cdn/")));
    bench.server.calm();
    bench.fetch(&hub).unwrap();
    let requests = bench.server.requests();
    assert!(
        requests.iter().all(|r| r.contains("/api/models/")),
        "{requests:?}"
    );
    assert!(bench.notes().is_empty(), "{}", bench.notes());

    // Another commit: only what changed.
    let mut files = contents();
    files.insert("README.md".into(), b"# other\n".to_vec());
    let remote = bench.folder.path().join("other");
    common::write(&remote, &files);
    bench.server.add(ID, &remote).unwrap();
    bench.server.calm();
    let repository = hub.repository(ID, "main", &|_| ()).unwrap();
    let names = repository.names().unwrap();
    repository.fetch(&names).unwrap();
    let requests = bench.server.requests();
    let fetched: Vec<_> = requests
        .iter()
        .filter(|r| !r.contains("/api/models/"))
        .collect();
    assert!(
        fetched
            .iter()
            .all(|r| r.ends_with("README.md [bytes=0-7]") || r.starts_with("HEAD")),
        "{fetched:?}"
    );
    // The old one is still to be had by its commit.
    let old = hub.repository(ID, &bench.commit, &|_| ()).unwrap();
    assert_eq!(
        std::fs::read(old.folder().join("README.md")).unwrap(),
        b"# tiny\n"
    );
}

#[test]
fn only_what_is_asked_for_is_fetched() {
    let bench = Bench::new();
    let hub = bench.hub();
    let repository = hub.repository(ID, "main", &|_| ()).unwrap();
    assert!(repository.has("model.safetensors") && !repository.has("no-such"));
    repository.fetch(&["config.json"]).unwrap();
    assert!(
        !bench
            .server
            .requests()
            .iter()
            .any(|r| r.contains("safetensors"))
    );
    let error = repository.fetch(&["no-such"]).unwrap_err();
    assert_says(&error, &["no-such of org/tiny", "not on the hub"]);
}

#[test]
fn a_file_in_the_cache_with_other_bytes_is_fetched_again() {
    for large in [false, true] {
        let name = if large {
            "model.safetensors"
        } else {
            "tokenizer.json"
        };
        let bench = Bench::new();
        let hub = bench.hub();
        bench.fetch(&hub).unwrap();
        let path = bench
            .cache()
            .join("models--org--tiny/snapshots")
            .join(&bench.commit)
            .join(name);
        let blob = std::fs::canonicalize(&path).unwrap();
        let mut bytes = std::fs::read(&blob).unwrap();
        bytes[17] ^= 1;
        std::fs::write(&blob, &bytes).unwrap();
        bench.fetch(&hub).unwrap();
        assert!(bench.notes().contains("damaged"), "{}", bench.notes());
        // Half a file.
        std::fs::write(&blob, &bytes[..99]).unwrap();
        bench.fetch(&hub).unwrap();
        bench.assert_no_blob_is_wrong();
        // A link that leads nowhere, as when blobs were removed by hand.
        std::fs::remove_file(&blob).unwrap();
        bench.fetch(&hub).unwrap();
    }
}

#[test]
fn without_the_network_the_cache_will_do() {
    let bench = Bench::new();
    bench.fetch(&bench.hub()).unwrap();
    let mut settings = bench.settings();
    // Nobody listens there: port 9 is for discarding.
    settings.endpoint = "http://127.0.0.1:9".into();
    bench.fetch(&Hub::new(settings.clone()).unwrap()).unwrap();
    assert!(
        bench.notes().contains("cannot be reached"),
        "{}",
        bench.notes()
    );
    settings.offline = true;
    bench.fetch(&Hub::new(settings.clone()).unwrap()).unwrap();

    let hub = Hub::new(settings.clone()).unwrap();
    let repository = hub.repository(ID, "main", &|_| ()).unwrap();
    let error = repository.fetch(&["../../../secrets"]).unwrap_err();
    assert_says(&error, &["not in the cache", "HF_HUB_OFFLINE"]);
    let error = hub
        .repository("org/other", "main", &|_| ())
        .map(|_| ())
        .unwrap_err();
    assert_says(&error, &["org/other", "not in the cache", "HF_HUB_OFFLINE"]);

    let blob = repository.folder().join("model.safetensors");
    std::fs::write(std::fs::canonicalize(blob).unwrap(), noise(9, LARGE)).unwrap();
    let error = repository.fetch(&["model.safetensors"]).unwrap_err();
    assert_says(&error, &["damaged", "blobs"]);

    settings.offline = false;
    settings.cache = bench.folder.path().join("empty");
    let hub = Hub::new(settings).unwrap();
    let error = hub.repository(ID, "main", &|_| ()).map(|_| ()).unwrap_err();
    assert_says(&error, &["127.0.0.1:9", "cannot be reached", "HF_ENDPOINT"]);
}

#[test]
fn what_may_not_be_had_is_said() {
    let bench = Bench::new();
    let open = |hub: &Hub, id: &str, revision: &str| {
        hub.repository(id, revision, &|_| ())
            .map(|_| ())
            .unwrap_err()
    };
    let (anyone, known) = (bench.hub(), bench.hub_with_token());
    assert_says(
        &open(&known, "org/none", "main"),
        &["org/none", "not on the hub"],
    );
    assert_says(
        &open(&anyone, "org/none", "main"),
        &["org/none", "401", "HF_TOKEN"],
    );
    assert_says(
        &open(&anyone, ID, "v9"),
        &["org/tiny at revision v9", "not on the hub"],
    );
    for revision in ["../main", "", "a/../b", "/x"] {
        assert_says(
            &open(&anyone, ID, revision),
            &["not a branch, tag or commit"],
        );
    }
    for id in ["../x", "org", "org/../x", "a/b/c"] {
        assert_says(&open(&anyone, id, "main"), &["organization/name"]);
    }

    bench.server.access(ID, Access::Private);
    assert_says(&open(&anyone, ID, "main"), &["401", "HF_TOKEN"]);
    bench.fetch(&known).unwrap();

    let bench = Bench::new();
    bench.server.access(ID, Access::Gated);
    let error = bench.fetch(&bench.hub()).unwrap_err();
    assert_says(
        &error,
        &[
            "401",
            "HF_TOKEN",
            &format!("{}/{ID}", bench.server.endpoint()),
        ],
    );
    let error = bench.fetch(&bench.hub_with_token()).unwrap_err();
    assert_says(&error, &["403", "accept the terms", "may not do this"]);
    assert!(bench.server.leaks().is_empty());
}

#[test]
fn the_token_stays_with_the_hub() {
    let bench = Bench::new();
    bench.fetch(&bench.hub_with_token()).unwrap();
    assert!(bench.server.requests().iter().any(|r| r.contains("/cdn/")));
    assert_eq!(bench.server.leaks(), [""; 0]);
    // A hub that repeats what it was sent.
    for status in [400, 401, 403, 404, 418] {
        let header = "X-Error-Message: you sent hf_local0secret0token0\r\n";
        bench
            .server
            .fault("GET", "/api/models/", 0, 1, Fault::Status(status, header));
        let hub = bench.hub_with_token();
        let error = hub.repository(ID, "main", &|_| ()).map(|_| ()).unwrap_err();
        assert_says(&error, &["you sent [token]"]);
    }
    assert!(!format!("{:?}", bench.hub_with_token()).contains("secret0"));
}

#[test]
fn a_listing_that_leads_elsewhere_is_refused_whole() {
    for name in [
        "../x.json",
        "/etc/x.json",
        "a/../../x.json",
        "..",
        "a\\..\\..\\x",
        "C:\\x",
        "x:y",
        "a//b",
        "new\nline",
        "nul",
    ] {
        let bench = Bench::new();
        bench.server.list_also(ID, name);
        let hub = bench.hub();
        let error = hub.repository(ID, "main", &|_| ()).map(|_| ()).unwrap_err();
        assert_says(&error, &["not to be trusted", "a file named"]);
        assert!(!bench.cache().exists());
    }
    // Nor is anything outside touched through a name that is asked for.
    let bench = Bench::new();
    let hub = bench.hub();
    let repository = hub.repository(ID, "main", &|_| ()).unwrap();
    assert!(repository.fetch(&["../config.json"]).is_err());
    assert!(
        repository
            .place(&["../config.json"], bench.folder.path())
            .is_err()
    );
}

#[test]
fn placed_files_are_plain_and_never_overwrite() {
    let bench = Bench::new();
    let hub = bench.hub();
    bench.fetch(&hub).unwrap();
    let repository = hub.repository(ID, "main", &|_| ()).unwrap();
    let names = repository.names().unwrap();
    let folder = bench.folder.path().join("placed");
    repository.place(&names, &folder).unwrap();
    let mut found = BTreeMap::new();
    for name in &names {
        let path = folder.join(name);
        assert!(!path.is_symlink());
        found.insert(name.clone(), std::fs::read(path).unwrap());
    }
    assert!(found == contents());
    assert!(repository.place(&names, &folder).is_err());

    // A link in the cache that leads out of it is not followed.
    #[cfg(unix)]
    {
        let secret = bench.folder.path().join("secret");
        std::fs::write(&secret, "secret").unwrap();
        let pointer = repository.folder().join("config.json");
        std::fs::remove_file(&pointer).unwrap();
        std::os::unix::fs::symlink(&secret, &pointer).unwrap();
        let other = bench.folder.path().join("elsewhere");
        assert!(repository.place(&["config.json"], &other).is_err());
        assert!(!other.join("config.json").exists());
    }
}

#[test]
fn two_at_once_fetch_each_file_once() {
    let bench = Bench::new();
    let settings = bench.settings();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let settings: Settings = settings.clone();
            scope.spawn(move || {
                let hub = Hub::new(settings).unwrap();
                let repository = hub.repository(ID, "main", &|_| ()).unwrap();
                repository.fetch(&repository.names().unwrap()).unwrap();
            });
        }
    });
    let requests = bench.server.requests();
    let reads = requests
        .iter()
        .filter(|r| r.starts_with("GET /cdn/"))
        .count();
    assert_eq!(reads, 2, "{requests:?}");
    bench.fetch(&bench.hub()).unwrap();
}
