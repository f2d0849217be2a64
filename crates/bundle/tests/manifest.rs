//! `metadata.json` of bundles, as they are written and as others write them.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use bundle::{CallShape, Layout, Manifest, NewManifest};

fn parse(text: &str) -> Result<Manifest, String> {
    Manifest::parse(text.as_bytes(), "metadata.json").map_err(|error| error.to_string())
}

const GOOD: &str = r#"{"metadata_version":"0.2","kind":"llm","name":"a",
    "assets":{"main":"a.aimodel"},"other":1,
    "language":{"tokenizer":"t","vocab_size":512,"max_context_length":4096}}"#;

#[test]
fn a_manifest_is_written_as_hosts_read_it() {
    let manifest = Manifest::new(NewManifest {
        name: "nano_decode_int8hu_s1",
        model: "nano",
        revision: None,
        vocab_size: 512,
        max_context: 4096,
        layout: Layout::Pipelined(CallShape::Prefill(64)),
        vision: None,
        scheme: Some("int8hu"),
        created: 0,
        user_data: BTreeMap::from([("grid".to_owned(), "4".to_owned())]),
    })
    .unwrap();
    let expected = r#"{
  "metadata_version": "0.2",
  "kind": "llm",
  "name": "nano_decode_int8hu_s1",
  "assets": {
    "main": "nano_decode_int8hu_s1.aimodel"
  },
  "language": {
    "tokenizer": "nano",
    "vocab_size": 512,
    "max_context_length": 4096,
    "embedded_tokenizer": true,
    "function_map": {
      "main": [
        "main",
        "prefill"
      ]
    }
  },
  "source": {
    "model_definition": "torch",
    "hf_model_id": "nano"
  },
  "compression": {
    "scheme": "int8hu"
  },
  "compilation": {
    "date": "1970-01-01T00:00:00+00:00",
    "targets": []
  },
  "user_data": {
    "grid": "4"
  }
}
"#;
    let written = String::from_utf8(manifest.to_json().unwrap()).unwrap();
    assert_eq!(written, expected);
    assert_eq!(parse(&written).unwrap(), manifest);
}

#[test]
fn what_others_leave_out_has_apples_defaults() {
    let manifest = parse(GOOD).unwrap();
    assert_eq!(manifest.main_asset(), "a.aimodel");
    let language = &manifest.language;
    assert_eq!(
        (language.vocab_size, language.max_context_length),
        (512, 4096)
    );
    assert!(language.embedded_tokenizer && language.function_map.is_empty());
    assert_eq!(
        (
            manifest.compression.clone(),
            manifest.source.hf_revision.clone()
        ),
        (None, None)
    );
    let error = manifest.geometry().unwrap_err().to_string();
    assert!(error.contains("export it again"), "{error}");
}

#[test]
fn an_unusable_key_is_named() {
    for (from, to, part) in [
        (
            "0.2",
            "0.3",
            "metadata_version: expected \"0.2\", found \"0.3\"",
        ),
        (
            "llm",
            "other",
            "kind: expected \"llm\" or \"vlm\", found \"other\"",
        ),
        ("a.aimodel", "../b", "assets.main: expected the name"),
        ("a.aimodel", "/etc", "assets.main"),
        ("a.aimodel", "..", "assets.main"),
        ("a.aimodel", "", "assets.main"),
        ("4096", "0", "language.max_context_length"),
        ("512", "-1", "language.vocab_size: expected a whole number"),
        ("512", "\"512\"", "language.vocab_size"),
        ("vocab_size", "size", "language.vocab_size"),
        (
            "\"name\"",
            "\"nom\"",
            "name: expected a text, and it is absent",
        ),
        ("\"t\"", "7", "language.tokenizer: expected a text, found 7"),
        (
            "main",
            "first",
            "assets.main: expected the name of an asset in this folder, and it",
        ),
        (
            "\"other\":1",
            "\"user_data\":{\"grid\":4}",
            "user_data.grid: expected a text",
        ),
        ("\"other\":1", "\"source\":[]", "source: expected an object"),
        ("{\"metadata", "[\"metadata", "metadata.json"),
    ] {
        let problem = parse(&GOOD.replace(from, to)).unwrap_err();
        assert!(problem.contains(part), "{problem}");
        assert!(problem.contains("metadata.json"), "{problem}");
    }
}
