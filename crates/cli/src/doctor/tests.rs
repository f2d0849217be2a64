#![allow(clippy::unwrap_used)]

use super::capability::{Capability, within};
use super::{environment, machine};
use checkpoint::Source;
use std::{
    fs,
    net::TcpListener,
    path::Path,
    thread,
    time::{Duration, Instant},
};

#[test]
fn what_takes_too_long_is_left_behind() {
    let started = Instant::now();
    let slow = within(Duration::from_millis(50), || {
        thread::sleep(Duration::from_secs(60))
    });
    assert_eq!(slow, None);
    assert_eq!(within(Duration::from_secs(60), || 7), Some(7));
    assert!(started.elapsed() < Duration::from_secs(30));
}

#[test]
fn memory_and_disk_are_held_against_what_models_take() {
    const GB: u64 = 1_000_000_000;
    for (found, here, text) in [
        (
            machine::enough_memory(64 * GB, 64 * GB),
            true,
            "to export 2b, 4b, 8b, to gate 2b, 4b, 8b, with the ladder 2b, 4b, 8b",
        ),
        (
            machine::enough_memory(4 * GB, 8 * GB),
            true,
            "to export 2b, 4b, 8b, to gate 2b, with the ladder none",
        ),
        (
            machine::enough_memory(GB, 8 * GB),
            false,
            "to export 2b, to gate none",
        ),
        (
            machine::enough_disk(9 * GB, "x"),
            true,
            "bundles of 2b, 4b, with the checkpoint for 2b",
        ),
        (machine::enough_disk(GB, "x"), false, "bundles of none"),
    ] {
        assert!(found.needed);
        assert_eq!(
            (found.here, found.remedy.is_none()),
            (here, here),
            "{}",
            found.found
        );
        assert!(found.found.contains(text), "{}", found.found);
    }
    // A folder that is not there yet is on the disk of the one above it.
    let found = machine::disk(Path::new("not/there/yet"));
    assert!(
        found.found.contains("free at not/there/yet"),
        "{}",
        found.found
    );
}

#[test]
fn the_hub_is_reached_or_not() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let endpoint = format!("http://user:secret@{address}/hub");
    let found = environment::reach(&endpoint, false, true);
    assert!(found.here, "{}", found.found);
    assert!(!found.text().contains("secret"), "{}", found.text());
    drop(listener);
    let found = environment::reach(&endpoint, false, false);
    assert!(!found.here);
    assert!(!found.text().contains("secret"), "{}", found.text());
    assert!(found.remedy.unwrap().contains("--model"));
    for (endpoint, offline) in [(endpoint.as_str(), true), ("no address", false)] {
        assert!(!environment::reach(endpoint, offline, false).here);
    }
}

#[test]
fn addresses_are_read() {
    let host = |text: &str| environment::host_of(text);
    let some = |host: &str, port| Some((host.to_owned(), port));
    assert_eq!(host("https://huggingface.co"), some("huggingface.co", 443));
    assert_eq!(host("http://127.0.0.1:8080/a/b"), some("127.0.0.1", 8080));
    assert_eq!(
        host("https://a:b@hub.example:1?x=@y"),
        some("hub.example", 1)
    );
    assert_eq!(host("http://[::1]:9"), some("::1", 9));
    assert_eq!(host("http://[::1]"), some("::1", 80));
    for wrong in [
        "",
        "huggingface.co",
        "ftp://a",
        "http://",
        "http://a:b",
        "http://:1",
    ] {
        assert_eq!(host(wrong), None, "{wrong}");
    }
}

#[cfg(unix)]
#[test]
fn a_python_is_asked_what_it_has() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let python = |name: &str, script: &str| {
        let path = folder.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    let ask = |path: &Path| -> Capability { environment::recorder(path, Duration::from_secs(10)) };
    let whole = "printf 'torch 2\\ntransformers 4\\nnumpy 2\\npillow 9\\n'";
    assert!(ask(&python("whole", whole)).here);
    let part = "printf 'torch -\\ntransformers 4\\nnumpy 2\\npillow -\\n'";
    let found = ask(&python("part", part));
    assert!(
        found.found.contains("lacks torch, pillow"),
        "{}",
        found.found
    );
    assert!(!ask(&python("fails", "exit 3")).here);
    assert!(!ask(&folder.path().join("absent")).here);

    let started = Instant::now();
    let stuck = environment::recorder(
        &python("stuck", "exec sleep 600"),
        Duration::from_millis(100),
    );
    assert!(stuck.found.contains("no answer"), "{}", stuck.found);
    // One whose child holds on to the pipe.
    let held = environment::recorder(&python("held", "sleep 5 &"), Duration::from_secs(10));
    assert!(!held.here);
    assert!(started.elapsed() < Duration::from_secs(60));
}

#[test]
fn whole_checkpoints_of_the_cache_are_found() {
    let cache = tempfile::tempdir().unwrap();
    let snapshot = |name: &str| cache.path().join(name).join("snapshots/0123");
    fs::create_dir_all(snapshot("models--some--part")).unwrap();
    fs::write(snapshot("models--some--part").join("config.json"), "{}").unwrap();
    fs::create_dir_all(snapshot("datasets--some--set")).unwrap();
    let nano = Source::nano();
    fs::create_dir_all(snapshot("models--Qwen--Qwen3-VL")).unwrap();
    for name in ["config.json", "model.safetensors"] {
        let bytes = nano.map(name).unwrap().unwrap();
        fs::write(snapshot("models--Qwen--Qwen3-VL").join(name), &*bytes).unwrap();
    }
    assert_eq!(environment::cached(cache.path()), ["Qwen/Qwen3-VL, cached"]);
    assert!(environment::cached(Path::new("absent")).is_empty());
}
