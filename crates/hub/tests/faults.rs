//! A hub, or a network, that misbehaves: what arrives is right, or nothing is.

// Helpers outside test functions, which clippy.toml does not exempt.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Bench, LARGE, assert_says, noise};
use std::time::{Duration, Instant};
use testkit::hub::Fault;

#[test]
fn each_fault_is_overcome() {
    let faults = [
        Fault::Drop,
        Fault::Cut(1_000),
        Fault::Cut(0),
        Fault::Short(1_000),
        Fault::Short(0),
        Fault::Flip(1234),
        Fault::Status(500, ""),
        Fault::Status(502, ""),
        Fault::Status(503, ""),
        Fault::Status(429, ""),
        Fault::Status(408, ""),
    ];
    for fault in faults {
        for path in ["/cdn/", "/resolve/", "tokenizer.json"] {
            let bench = Bench::new();
            bench.server.fault("GET", path, 0, 2, fault.clone());
            // Two flipped bits in a row are one too many for one file, but
            // these hit two files, or the second try.
            let result = bench.fetch(&bench.hub());
            match (&fault, result) {
                (Fault::Flip(_), Err(error)) => {
                    assert_says(&error, &["other bytes than the hub states"]);
                    bench.fetch(&bench.hub()).unwrap();
                }
                (_, result) => result.unwrap(),
            }
            assert!(bench.server.pending().is_empty(), "{fault:?} {path}");
            bench.assert_no_blob_is_wrong();
        }
        if !matches!(fault, Fault::Flip(_)) {
            let bench = Bench::new();
            bench.server.fault("GET", "/revision/", 0, 1, fault.clone());
            bench.server.fault("GET", "/tree/", 1, 2, fault.clone());
            bench.server.fault("HEAD", "", 0, 2, fault);
            let result = bench.fetch(&bench.hub());
            assert!(result.is_ok(), "{result:?}");
        }
    }
}

#[test]
fn a_download_goes_on_where_it_broke_off() {
    let bench = Bench::new();
    bench
        .server
        .fault("GET", "/cdn/", 0, 3, Fault::Cut(110_000));
    bench.fetch(&bench.hub()).unwrap();
    let requests = bench.server.requests();
    let from = |at: u64| {
        requests
            .iter()
            .any(|r| r.contains("/cdn/") && r.contains(&format!("[bytes={at}-")))
    };
    assert!(!from(LARGE as u64), "{requests:?}");
    assert!(requests.iter().filter(|r| r.contains("[bytes=0-")).count() >= 2);
    let resumed = requests
        .iter()
        .filter(|r| r.contains("GET /cdn/") && !r.contains("[bytes=0-"));
    assert_eq!(resumed.count(), 3, "{requests:?}");
}

#[test]
fn another_run_goes_on_where_the_last_one_ended() {
    let bench = Bench::new();
    // More often than anyone tries.
    bench
        .server
        .fault("GET", "/cdn/", 0, 1, Fault::Cut(150_000));
    bench.server.fault("GET", "/cdn/", 0, 99, Fault::Drop);
    let error = bench.fetch(&bench.hub()).unwrap_err();
    assert_says(
        &error,
        &["weights.bin of org/tiny", "4 tries", "what is done is kept"],
    );
    assert!(error.is_outage());
    bench.assert_no_blob_is_wrong();
    bench.server.calm();
    bench.fetch(&bench.hub()).unwrap();
    let requests = bench.server.requests();
    let whole = requests
        .iter()
        .filter(|r| r.contains("GET /cdn/") && r.contains("[bytes=0-"));
    assert_eq!(whole.count(), 1, "{requests:?}");
}

#[test]
fn what_an_earlier_run_left_is_not_trusted() {
    for left in [noise(77, 1_000), noise(78, LARGE * 2), vec![0; LARGE / 2]] {
        let bench = Bench::new();
        let hub = bench.hub();
        bench.server.fault("GET", "/cdn/", 0, 99, Fault::Drop);
        assert!(bench.fetch(&hub).is_err());
        bench.server.calm();
        let blobs = bench.cache().join("models--org--tiny/blobs");
        let mut count = 0;
        for entry in std::fs::read_dir(&blobs).unwrap().flatten() {
            if entry
                .path()
                .extension()
                .is_some_and(|one| one == "incomplete")
            {
                std::fs::write(entry.path(), &left).unwrap();
                count += 1;
            }
        }
        assert_eq!(count, 1);
        bench.fetch(&hub).unwrap();
        bench.assert_no_blob_is_wrong();
    }
}

#[test]
fn bytes_that_stay_wrong_are_never_taken() {
    for path in ["/cdn/", "tokenizer.json"] {
        let bench = Bench::new();
        bench.server.fault("GET", path, 0, 99, Fault::Flip(3));
        let error = bench.fetch(&bench.hub()).unwrap_err();
        assert_says(&error, &["other bytes than the hub states", "its hash is"]);
        bench.assert_no_blob_is_wrong();
        let blobs = bench.cache().join("models--org--tiny/blobs");
        let left = std::fs::read_dir(blobs).unwrap().flatten();
        let left: Vec<_> = left.filter(|e| e.path().extension().is_some()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn a_server_without_ranges_will_do() {
    let bench = Bench::new();
    bench
        .server
        .fault("GET", "/cdn/", 0, 1, Fault::Cut(150_000));
    bench
        .server
        .fault("GET", "/cdn/", 0, 99, Fault::IgnoreRange);
    bench.fetch(&bench.hub()).unwrap();
    bench.assert_no_blob_is_wrong();
}

#[test]
fn what_stays_wrong_is_said() {
    let statuses = [
        (500, vec!["it answers 500", "4 tries"]),
        (429, vec!["it answers 429", "4 tries"]),
        (401, vec!["401", "HF_TOKEN"]),
        (404, vec!["not on the hub"]),
        (451, vec!["it answers 451"]),
    ];
    for (status, words) in statuses {
        let bench = Bench::new();
        bench
            .server
            .fault("GET", "/cdn/", 0, 99, Fault::Status(status, ""));
        let error = bench.fetch(&bench.hub()).unwrap_err();
        assert_says(
            &error,
            &[&["weights.bin of org/tiny"], words.as_slice()].concat(),
        );
    }
}

#[test]
fn a_hub_that_asks_to_wait_is_given_the_time() {
    let bench = Bench::new();
    bench.server.fault(
        "GET",
        "/cdn/",
        0,
        1,
        Fault::Status(429, "Retry-After: 1\r\n"),
    );
    let began = Instant::now();
    bench.fetch(&bench.hub()).unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert!(
        bench.notes().contains("asks to slow down; again in 1.0 s"),
        "{}",
        bench.notes()
    );
    // But not a day.
    let bench = Bench::new();
    bench.server.fault(
        "GET",
        "/cdn/",
        0,
        9,
        Fault::Status(429, "Retry-After: 86400\r\n"),
    );
    let error = bench.fetch(&bench.hub()).unwrap_err();
    assert_says(&error, &["429"]);
}

#[test]
fn a_disk_that_cannot_be_written_is_named() {
    let bench = Bench::new();
    std::fs::write(bench.cache(), "a file").unwrap();
    let error = bench.fetch(&bench.hub()).unwrap_err();
    assert_says(&error, &[bench.cache().to_str().unwrap()]);
}

/// `/dev/full` is a disk without room.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told_with_the_way_out() {
    let bench = Bench::new();
    bench.server.fault("GET", "/cdn/", 0, 99, Fault::Drop);
    assert!(bench.fetch(&bench.hub()).is_err());
    bench.server.calm();
    let blobs = bench.cache().join("models--org--tiny/blobs");
    let entries = std::fs::read_dir(&blobs).unwrap().flatten();
    let begun = |path: &std::path::PathBuf| path.extension().is_some_and(|one| one == "incomplete");
    let begun = entries.map(|entry| entry.path()).find(begun).unwrap();
    std::fs::remove_file(&begun).unwrap();
    std::os::unix::fs::symlink("/dev/full", &begun).unwrap();
    let error = bench.fetch(&bench.hub()).unwrap_err();
    assert_says(&error, &["No space left", "make room there", "HF_HOME"]);
    std::fs::remove_file(&begun).unwrap();
    bench.fetch(&bench.hub()).unwrap();
}
