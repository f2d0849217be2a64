//! Recorded oracles, good and spoiled.

// Helpers outside test functions, which clippy.toml does not exempt.
#![allow(clippy::unwrap_used)]

use reference::oracle::Oracle;

use approx::assert_relative_eq;
use checkpoint::Source;
use models::qwen3_vl::Config;
use models::qwen3_vl::synth;
use ndarray::{array, s};
use reference::Error;
use reference::{cosine, row_cosines};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};

fn recorded() -> PathBuf {
    testkit::repository().join("oracles/nano/recorded")
}

/// A copy of nano's oracle with its text prompt alone.
fn copy() -> (tempfile::TempDir, Value) {
    let folder = tempfile::tempdir().unwrap();
    let index = fs::read(recorded().join("index.json")).unwrap();
    let mut index: Value = serde_json::from_slice(&index).unwrap();
    let prompts = index["prompts"].as_array_mut().unwrap();
    prompts.retain(|prompt| prompt["name"] == "count");
    fs::copy(
        recorded().join("count.safetensors"),
        folder.path().join("count.safetensors"),
    )
    .unwrap();
    (folder, index)
}

fn open(folder: &Path, index: &Value) -> Result<Oracle, Error> {
    fs::write(folder.join("index.json"), index.to_string()).unwrap();
    Oracle::open(folder)
}

#[test]
fn what_is_committed_can_be_read() {
    let oracle = Oracle::open(recorded()).unwrap();
    assert_eq!((oracle.model.as_str(), oracle.steps), ("nano", 24));
    let names: Vec<&str> = oracle.prompts.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["scene-1", "scene-7", "count"]);
    for entry in &oracle.prompts {
        let recorded = oracle.read(entry).unwrap();
        let total = entry.prompt_tokens + 23;
        assert_eq!(recorded.logits.dim(), (total, 512));
        assert_eq!(
            recorded.keys.shape(),
            [4, 1, 2, entry.prompt_tokens, 32],
            "{}",
            entry.name
        );
        assert_eq!(recorded.vision.is_some(), entry.image.is_some());
        let gated = &recorded.margins[entry.prompt_tokens - 1..];
        assert!(gated.iter().all(|margin| *margin > 8.0), "{gated:?}");
    }
}

#[test]
fn an_oracle_of_other_weights_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other");
    let config = Config::preset("nano").unwrap();
    synth::write(&config, &path, synth::Options::default(), |_, _| {}).unwrap();
    let other = models::qwen3_vl::open(&Source::folder(&path).unwrap()).unwrap();
    let error = Oracle::open(recorded()).unwrap().check(&other).unwrap_err();
    assert!(error.to_string().contains(&other.digest()), "{error}");
    assert!(error.to_string().contains("capture.py"), "{error}");
}

#[test]
fn a_wrong_index_is_refused() {
    let (folder, good) = copy();
    open(folder.path(), &good).unwrap();
    for (pointer, value, part) in [
        ("/version", json!(2), "version"),
        ("/version", json!("1"), "version"),
        ("/steps", json!(-1), "steps"),
        ("/steps", json!(1_u64 << 40), "steps"),
        ("/checkpoint", json!(null), "checkpoint"),
        ("/prompts", json!({}), "prompts"),
        ("/made_with", json!([]), "transformers"),
        ("/prompts/0/prompt_tokens", json!(0), "prompt_tokens"),
        ("/prompts/0/file", json!("../count.safetensors"), "file"),
        ("/prompts/0/file", json!(".safetensors"), "file"),
        (
            "/prompts/0",
            json!({"image": {"file": "a.png", "grid": [1]}}),
            "grid",
        ),
    ] {
        let mut index = good.clone();
        *index.pointer_mut(pointer).unwrap_or(&mut Value::Null) = value.clone();
        if pointer.ends_with("image") {
            index["prompts"][0]["image"] = value;
        }
        let error = open(folder.path(), &index).unwrap_err();
        assert!(matches!(error, Error::Oracle { .. }), "{pointer}: {error}");
        assert!(error.to_string().contains(part), "{pointer}: {error}");
    }
    fs::write(folder.path().join("index.json"), "{").unwrap();
    let error = Oracle::open(folder.path()).unwrap_err();
    assert!(matches!(error, Error::Json { .. }), "{error}");
    let error = Oracle::open(folder.path().join("absent")).unwrap_err();
    assert!(matches!(error, Error::File(_)), "{error}");
}

#[test]
fn a_wrong_recording_is_refused() {
    let (folder, good) = copy();
    let path = folder.path().join("count.safetensors");
    let bytes = fs::read(&path).unwrap();
    // `keep` leaves the digest of the index as it is.
    let refused = |index: &Value, bytes: &[u8], keep: bool| {
        let mut index = index.clone();
        fs::write(&path, bytes).unwrap();
        if !keep {
            let digest = Sha256::digest(bytes);
            let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            index["prompts"][0]["sha256"] = hex.into();
        }
        let oracle = open(folder.path(), &index).unwrap();
        let error = oracle.read(&oracle.prompts[0]).unwrap_err();
        assert!(matches!(error, Error::Oracle { .. }), "{error}");
        error.to_string()
    };
    let mut spoiled = bytes.clone();
    *spoiled.last_mut().unwrap() ^= 1;
    assert!(refused(&good, &spoiled, true).contains("SHA-256"));
    assert!(!refused(&good, &bytes[..100], false).is_empty());

    let mut index = good.clone();
    index["steps"] = 25.into();
    assert!(refused(&index, &bytes, true).contains("expected"));
    index = good.clone();
    index["prompts"][0]["prompt_tokens"] = 15.into();
    assert!(refused(&index, &bytes, true).contains("expected"));
    index = good.clone();
    index["prompts"][0]["image"] = json!({
        "file": "a.png", "grid": [4, 4], "start": 4, "patches_sha256": ""
    });
    assert!(refused(&index, &bytes, true).contains("patches"));

    // The margins are the last of the file: those of the greedy tokens.
    let mut narrow = bytes.clone();
    let end = narrow.len();
    narrow[end - 4..].copy_from_slice(&0.05_f32.to_le_bytes());
    assert!(refused(&good, &narrow, false).contains("greedy token 23 leads by 0.05"));
    // Where nothing is gated, nothing has to lead.
    index = good.clone();
    index["steps"] = 0.into();
    assert!(refused(&index, &narrow, false).contains("expected"));
}

#[test]
fn cosines_are_those_of_f64() {
    for (a, b, expected) in [
        ([3.0_f32, 4.0], [6.0_f32, 8.0], 1.0),
        ([1.0, 0.0], [0.0, 1.0], 0.0),
        ([0.0, 0.0], [0.0, 0.0], 1.0),
        ([0.0, 0.0], [0.0, 1.0], 0.0),
        ([f32::NAN, 1.0], [1.0, 1.0], 0.0),
        ([f32::INFINITY, 1.0], [1.0, 1.0], 0.0),
    ] {
        assert_eq!(cosine(&a, &b), expected, "{a:?} {b:?}");
    }
    assert_eq!(cosine(&[1.0_f32], &[1.0_f32, 0.0]), 0.0);
    // The squares overflow f32. The product of two roots rounds twice.
    let found = cosine(&[1e30_f32, 1e30], &[1e30_f32, 0.0]);
    assert_relative_eq!(found, 0.5_f64.sqrt(), max_relative = 1e-12);
}

#[test]
fn rows_of_other_shapes_have_no_cosine() {
    let (a, b) = (
        array![[3.0, 4.0], [1.0, 0.0]],
        array![[6.0, 8.0], [0.0, 1.0]],
    );
    assert_eq!(row_cosines(a.view(), b.view()), [1.0, 0.0]);
    assert_eq!(row_cosines(a.view(), b.slice(s![..1, ..])), [0.0]);
    assert_eq!(row_cosines(a.view(), b.slice(s![.., ..1])), [0.0]);
}
