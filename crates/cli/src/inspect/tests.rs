//! `inspect` on bundles that are whole, damaged or hostile.

use super::{Args, contents::Contents, run};
use crate::Refused;
use aimodel::{AssetBuilder, AssetMetadata, ElementType, TensorType};
use std::{fs, path::Path};

/// A bundle with one asset that doubles, and a tokenizer file.
fn bundle(out: &Path) {
    let mut asset = AssetBuilder::new();
    let mut graph = asset.graph("main");
    let x = graph
        .input("x", TensorType::fixed([3], ElementType::F16))
        .unwrap();
    let y = graph.add(x, x).unwrap();
    graph.finish(&[("y", y)]).unwrap();
    let module = asset.finish().unwrap();
    let metadata = AssetMetadata::new("a test", 0).unwrap();
    fs::create_dir_all(out.join("tokenizer")).unwrap();
    aimodel::write_asset(out.join("double.aimodel"), &module, &metadata).unwrap();
    fs::write(out.join("metadata.json"), br#"{"kind": "llm"}"#).unwrap();
    fs::write(out.join("tokenizer/vocab.json"), b"{}").unwrap();
}

fn args(path: &Path) -> Args {
    Args {
        path: path.to_owned(),
        ir: false,
        stored: false,
        json: false,
    }
}

#[test]
fn a_bundle_is_shown_whole() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("bundle");
    bundle(&out);
    let found = Contents::at(&out).unwrap();
    let text = found.text().unwrap();
    for expected in [
        "  kind: llm\n",
        "  tokenizer/vocab.json: 2 bytes\n",
        "  hash: ok, ",
        "  verify: ok\n",
        "    input  x: tensor<3xf16>\n",
        "    output y: tensor<3xf16>\n",
        "    @main: 2 = add 1, broadcasting_add 1\n",
    ] {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
    let json = found.json();
    assert_eq!(json["bundle"]["kind"], "llm");
    assert_eq!(json["assets"][0]["hash"]["ok"], true);
    assert_eq!(json["assets"][0]["operations"]["broadcasting_add"], 1);
    let input = &json["assets"][0]["functions"][0]["inputs"][0];
    assert_eq!(input["shape"], serde_json::json!([3]));
    run(args(&out.join("double.aimodel"))).unwrap();
    run(args(&out.join("double.aimodel/main.mlirb"))).unwrap();
}

#[test]
fn findings_of_the_lint_are_shown_and_refused() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("bundle");
    bundle(&out);
    let found = Contents::at(&out).unwrap();
    let text = found.text().unwrap();
    assert!(
        text.contains("lint\n  bundle-manifest: bundle/metadata.json\n    expected "),
        "{text}"
    );
    assert_eq!(found.json()["lint"][0]["rule"], "bundle-manifest");
    for json in [false, true] {
        let error = run(Args { json, ..args(&out) });
        let error = error.unwrap_err();
        assert!(error.downcast_ref::<Refused>().is_some(), "{error}");
        let text = error.to_string();
        assert!(text.contains("bundle-manifest: expected `meta"), "{text}");
        assert!(text.contains("; and 1 more"), "{text}");
    }
    let asset = Contents::at(&out.join("double.aimodel")).unwrap();
    let text = asset.text().unwrap();
    assert!(text.contains("lint\n  no finding, by "), "{text}");
    assert_eq!(asset.json()["lint"], serde_json::json!([]));
    // A program by itself is not an asset.
    let program = Contents::at(&out.join("double.aimodel/main.mlirb")).unwrap();
    assert!(!program.text().unwrap().contains("lint"));
}

#[test]
fn what_a_file_says_cannot_forge_the_report() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("bundle");
    bundle(&out);
    let lie = r#"{"assetVersion": "2.0", "description": "x\n  verify: ok\u001b[2J"}"#;
    fs::write(out.join("double.aimodel/metadata.json"), lie).unwrap();
    fs::write(out.join("metadata.json"), r#"{"kind": "a\r\nb"}"#).unwrap();
    let text = Contents::at(&out).unwrap().text().unwrap();
    assert_eq!(text.matches("\n  verify: ok").count(), 1, "{text}");
    assert!(
        text.contains("description: x⟨U+000A⟩  verify: ok⟨U+001B⟩[2J"),
        "{text}"
    );
    assert!(text.contains("kind: a⟨U+000D⟩⟨U+000A⟩b"), "{text}");
}

#[test]
fn endless_metadata_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("bundle");
    bundle(&out);
    let metadata = out.join("metadata.json");
    let refused = || {
        let error = run(args(&out)).unwrap_err().to_string();
        assert!(error.contains("metadata.json"), "{error}");
        let known = ["expected a", "is not a regular file"];
        assert!(known.iter().any(|words| error.contains(words)), "{error}");
    };
    fs::write(&metadata, "[]").unwrap();
    refused();
    // Sparse: it takes no room.
    let file = fs::File::create(&metadata).unwrap();
    file.set_len(1 << 40).unwrap();
    refused();
    fs::remove_file(&metadata).unwrap();
    #[cfg(unix)]
    {
        let made = std::process::Command::new("mkfifo").arg(&metadata).status();
        assert!(made.unwrap().success());
        refused();
    }
}

#[test]
fn damage_is_refused_and_bad_input_is_an_error() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("bundle");
    bundle(&out);
    let asset = out.join("double.aimodel");
    fs::write(asset.join("main.hash"), [0; 32]).unwrap();
    let error = run(args(&asset)).unwrap_err();
    assert!(error.downcast_ref::<Refused>().is_some(), "{error}");
    assert!(
        error.to_string().contains("does not have the hash"),
        "{error}"
    );

    fs::write(asset.join("main.mlirb"), "no bytecode").unwrap();
    let nowhere = parent.path().join("nowhere");
    for path in [asset.as_path(), nowhere.as_path(), parent.path()] {
        let error = run(args(path)).unwrap_err();
        assert!(error.downcast_ref::<Refused>().is_none(), "{error}");
        assert!(
            error.to_string().starts_with(path.to_str().unwrap()),
            "{error}"
        );
    }
}

/// What the programs of a bundle are, as text and as JSON.
fn model(bundle: &Path) -> (String, serde_json::Value) {
    let found = Contents::at(bundle).unwrap();
    (found.text().unwrap(), found.json()["model"].clone())
}

#[test]
fn what_apples_export_leaves_out_is_said() {
    let (text, json) = model(&testkit::foreign_bundle("nano_vlm"));
    for expected in [
        "  DeepStack: missing: rows are 128 wide and an embedding 128, so that",
        "  M-RoPE: missing: positions have one dimension, and nothing tells the decoder where",
        "  cache: fixed at 512 tokens: 524.3 kB from the first token on, and no room for more\n",
        "  vision encoder: pictures of 128 × 128 pixels, 16 tokens each; stored as f32, 1.3 MB \
         where f16 takes half; computed in f32\n",
    ] {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
    assert_eq!(json["takes_pictures"], true);
    assert_eq!(json["deepstack_parts"], 0);
    assert_eq!(json["position_coordinates"], 1);
    assert_eq!(json["cache"]["tokens"], 512);
    assert_eq!(json["vision"]["stored"], "f32");

    let (text, json) = model(&testkit::foreign_bundle("nano_llm"));
    assert!(
        text.contains("  pictures: missing: the decoder takes the ids"),
        "{text}"
    );
    assert!(
        text.contains("  cache: fixed at 1024 tokens: 1.0 MB"),
        "{text}"
    );
    assert_eq!(json["takes_pictures"], false);
    assert_eq!(json["deepstack_parts"], serde_json::Value::Null);

    // Names do not matter: the whole model, by another exporter.
    let (text, json) = model(&testkit::foreign_bundle("nano_wide"));
    for expected in [
        "  DeepStack: there: rows are 544 wide, with an embedding of 128 and 3 parts",
        "  M-RoPE: there: ",
        "  cache: grows with the conversation, by 1.3 kB a token\n",
    ] {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
    assert_eq!(json["deepstack_parts"], 3);
    assert_eq!(json["position_coordinates"], 3);
    assert_eq!(json["cache"]["tokens"], serde_json::Value::Null);
}

#[test]
fn bundles_of_our_own_have_everything() {
    let folder = tempfile::tempdir().unwrap();
    let options = export::Options {
        layouts: vec![
            bundle::Layout::Vlm,
            bundle::Layout::Pipelined(bundle::CallShape::One),
        ],
        vision: false,
        ..testkit::nano::options()
    };
    let bundles = testkit::nano::export(folder.path(), &options);
    for (bundle, stored) in bundles.iter().zip(["f16".into(), serde_json::Value::Null]) {
        let (text, json) = model(&bundle.path);
        assert_eq!(json["deepstack_parts"], 3, "{text}");
        assert_eq!(json["position_coordinates"], 3, "{text}");
        assert_eq!(json["cache"]["tokens"], serde_json::Value::Null, "{text}");
        assert_eq!(json["vision"]["stored"], stored, "{text}");
    }
}

#[test]
fn a_program_that_is_no_model_is_not_called_one() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("bundle");
    bundle(&out);
    for metadata in [
        r#"{"kind": "llm"}"#,
        r#"{"kind": "llm", "assets": {"main": "double.aimodel"}}"#,
        r#"{"kind": "vlm", "assets": {"main": "double.aimodel", "embedding": "double.aimodel"}}"#,
        r#"{"kind": "vlm", "assets": {"main": "../bundle/double.aimodel", "vision": 3}}"#,
    ] {
        fs::write(out.join("metadata.json"), metadata).unwrap();
        let (text, json) = model(&out);
        assert!(!text.contains("\nmodel\n"), "{text}");
        assert_eq!(json, serde_json::Value::Null);
    }
}
