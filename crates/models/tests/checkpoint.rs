//! Weights in good and bad files.

// Helpers outside test functions, which clippy.toml does not exempt.
#![allow(clippy::unwrap_used)]

use models::Architecture;
use models::qwen3_vl::names::EMBED_TOKENS;

use models::qwen3_vl::names::FINAL_NORM;

use checkpoint::Checkpoint;
use checkpoint::Element;
use checkpoint::Error;
use checkpoint::Source;
use checkpoint::TokenizerFiles;
use models::qwen3_vl::Config;
use models::qwen3_vl::names;
use models::qwen3_vl::names::LM_HEAD;
use serde_json::{Map, Value, json};
use std::fs;
use std::path::Path;

/// A safetensors file of the given tensors; byte k of the data is k.
fn safetensors(tensors: &[(&str, &str, &[usize])]) -> Vec<u8> {
    let (mut header, mut end) = (Map::new(), 0);
    for (name, dtype, shape) in tensors {
        let size = match *dtype {
            "F32" => 4,
            "I64" => 8,
            "BF16" | "F16" => 2,
            _ => 1,
        };
        let start = end;
        end += shape.iter().product::<usize>() * size;
        header.insert(
            (*name).into(),
            json!({"dtype": dtype, "shape": shape, "data_offsets": [start, end]}),
        );
    }
    file(&Value::from(header).to_string(), end)
}

fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend((0..data).map(|k| k as u8));
    bytes
}

fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn open(path: &Path) -> Result<Checkpoint, Error> {
    models::qwen3_vl::open(&Source::folder(path).unwrap())
}

fn single(bytes: &[u8]) -> Result<Checkpoint, Error> {
    open(folder(&[("model.safetensors", bytes)]).path())
}

fn index(map: Value) -> Vec<u8> {
    json!({"metadata": {}, "weight_map": map})
        .to_string()
        .into_bytes()
}

const INDEX: &str = "model.safetensors.index.json";

#[test]
fn tensors_are_found_under_any_published_prefix() {
    let checkpoint = single(&safetensors(&[
        ("language_model.model.embed_tokens.weight", "BF16", &[4, 2]),
        ("visual.merger.norm.bias", "F16", &[3]),
        ("model.lm_head.weight", "F32", &[4, 2]),
        ("unrelated", "I64", &[1]),
    ]));
    let checkpoint = checkpoint.unwrap();
    let table = checkpoint.tensor(EMBED_TOKENS, &[4, 2]).unwrap();
    assert_eq!(
        table.stored_name(),
        "language_model.model.embed_tokens.weight"
    );
    assert!(table.file().ends_with("model.safetensors"));
    assert_eq!(table.element(), Element::Bf16);
    assert_eq!(table.shape(), [4, 2]);
    assert_eq!(table.bytes(), (0..16).collect::<Vec<u8>>());
    let bias = checkpoint
        .tensor("model.visual.merger.norm.bias", &[3])
        .unwrap();
    assert_eq!(bias.element(), Element::F16);
    assert_eq!(bias.bytes(), [16, 17, 18, 19, 20, 21]);
    assert_eq!(
        checkpoint.tensor(LM_HEAD, &[4, 2]).unwrap().element(),
        Element::F32
    );
    assert!(!checkpoint.contains(FINAL_NORM) && !checkpoint.contains("unrelated"));
    // A handle outlives its checkpoint; what is released is read again.
    drop(checkpoint);
    table.release(4..9);
    table.release(12..1000);
    table.release(usize::MAX - 1..usize::MAX);
    table.release_all();
    assert_eq!(table.bytes(), (0..16).collect::<Vec<u8>>());
}

#[test]
fn wrong_tensors_are_named() {
    let checkpoint = single(&safetensors(&[
        ("model.norm.weight", "BF16", &[4]),
        ("lm_head.weight", "F8_E4M3", &[4, 2]),
    ]));
    let checkpoint = checkpoint.unwrap();

    let error = checkpoint.tensor(EMBED_TOKENS, &[4, 2]).unwrap_err();
    assert!(matches!(error, Error::MissingTensor { .. }), "{error}");
    for part in [
        EMBED_TOKENS,
        "language_model.model.embed_tokens.weight",
        "model.safetensors",
    ] {
        assert!(error.to_string().contains(part), "{error}");
    }
    let error = checkpoint.tensor(FINAL_NORM, &[5]).unwrap_err();
    assert!(matches!(error, Error::Shape { .. }), "{error}");
    for part in ["model.norm.weight", "[5]", "[4]", "model.safetensors"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    let error = checkpoint.tensor(LM_HEAD, &[4, 2]).unwrap_err();
    assert!(matches!(error, Error::Dtype { .. }), "{error}");
    assert!(error.to_string().contains("F8_E4M3"), "{error}");
}

#[test]
fn wrong_files_are_refused() {
    let good = safetensors(&[("model.norm.weight", "BF16", &[4])]);
    assert!(single(&good).is_ok());
    for length in [0, 7, 8, 20, good.len() - 1] {
        let error = single(&good[..length]).unwrap_err();
        assert!(
            matches!(error, Error::Truncated { .. }),
            "{length}: {error}"
        );
        assert!(error.to_string().contains("model.safetensors"), "{error}");
    }
    let longer = [good.as_slice(), b"x"].concat();
    assert!(matches!(single(&longer), Err(Error::Truncated { .. })));

    let huge = u64::MAX.to_le_bytes();
    assert!(matches!(single(&huge), Err(Error::Header { .. })));
    let one = |shape: &str, offsets: &str| {
        format!(
            r#"{{"model.norm.weight":{{"dtype":"BF16","shape":{shape},"data_offsets":{offsets}}}}}"#
        )
    };
    for header in [
        "{".into(),
        "[]".into(),
        one("[4]", "[0,9]"),
        one("[4]", "[1,9]"),
        one("[4]", "[8,0]"),
        one("[-4]", "[0,8]"),
        one("[18446744073709551615,18446744073709551615]", "[0,8]"),
        one("[4]", "[0,8]").replace("BF16", "Q4"),
        // The same key twice: the file would have a hole.
        format!(
            "{},{}",
            one("[4]", "[0,8]").trim_end_matches('}').to_owned() + "}",
            one("[4]", "[8,16]").trim_start_matches('{')
        ),
    ] {
        let error = single(&file(&header, 16)).unwrap_err();
        assert!(matches!(error, Error::Header { .. }), "{header}: {error}");
    }
}

#[test]
fn a_folder_without_weights_is_refused() {
    let error = open(folder(&[]).path()).unwrap_err();
    assert!(matches!(error, Error::MissingFile { .. }), "{error}");
    assert!(error.to_string().contains(INDEX), "{error}");
}

#[test]
fn shards_are_joined() {
    let a = safetensors(&[("model.norm.weight", "BF16", &[4])]);
    let b = safetensors(&[("lm_head.weight", "F16", &[2, 2])]);
    let map =
        index(json!({"model.norm.weight": "a.safetensors", "lm_head.weight": "b.safetensors"}));
    let folder = folder(&[("a.safetensors", &a), ("b.safetensors", &b), (INDEX, &map)]);
    let checkpoint = open(folder.path()).unwrap();
    assert!(checkpoint.tensor(FINAL_NORM, &[4]).is_ok());
    assert!(checkpoint.tensor(LM_HEAD, &[2, 2]).is_ok());

    // A single file comes before the index, as in transformers.
    fs::write(folder.path().join("model.safetensors"), &a).unwrap();
    assert!(!open(folder.path()).unwrap().contains(LM_HEAD));
}

#[cfg(unix)]
#[test]
fn shards_may_be_links_as_in_the_hubs_cache() {
    let a = safetensors(&[("model.norm.weight", "BF16", &[4])]);
    let blobs = folder(&[("0123", &a)]);
    let snapshot = tempfile::tempdir().unwrap();
    let link = snapshot.path().join("model.safetensors");
    std::os::unix::fs::symlink(blobs.path().join("0123"), &link).unwrap();
    assert!(open(snapshot.path()).unwrap().contains(FINAL_NORM));
    // A dangling one is an absent file.
    fs::remove_file(blobs.path().join("0123")).unwrap();
    assert!(matches!(
        open(snapshot.path()),
        Err(Error::MissingFile { .. })
    ));
}

#[test]
fn wrong_indexes_are_refused() {
    let a = safetensors(&[("model.norm.weight", "BF16", &[4])]);
    let norm = "model.norm.weight";
    let with = |map: Vec<u8>, b: &[u8]| {
        open(folder(&[("a.safetensors", &a), ("b.safetensors", b), (INDEX, &map)]).path())
            .unwrap_err()
    };
    let error = with(
        index(json!({norm: "a.safetensors", "x": "c.safetensors"})),
        &a,
    );
    assert!(matches!(error, Error::MissingShard { .. }), "{error}");
    assert!(error.to_string().contains("c.safetensors") && error.to_string().contains(INDEX));

    let error = with(
        index(json!({norm: "a.safetensors", "lm_head.weight": "a.safetensors"})),
        &a,
    );
    assert!(matches!(error, Error::Index { .. }), "{error}");
    assert!(error.to_string().contains("lm_head.weight"), "{error}");

    // The same parameter in two shards, under one name or two.
    let second = "model.language_model.norm.weight";
    for (map, first_shard, second_shard) in [
        (
            json!({"x": "a.safetensors", "y": "b.safetensors"}),
            safetensors(&[("x", "F16", &[1]), (norm, "BF16", &[4])]),
            safetensors(&[("y", "F16", &[1]), (norm, "BF16", &[4])]),
        ),
        (
            json!({norm: "a.safetensors", second: "b.safetensors"}),
            a.clone(),
            safetensors(&[(second, "BF16", &[4])]),
        ),
    ] {
        let folder = folder(&[
            ("a.safetensors", &first_shard),
            ("b.safetensors", &second_shard),
            (INDEX, &index(map)),
        ]);
        let error = open(folder.path()).unwrap_err();
        assert!(matches!(error, Error::DuplicateTensor { .. }), "{error}");
        let message = error.to_string();
        assert!(
            message.contains("a.safetensors") && message.contains("b.safetensors"),
            "{message}"
        );
    }

    for shard in [
        "../a.safetensors",
        "/etc/passwd",
        "..",
        ".",
        "",
        "sub/a",
        "sub\\a",
        "c:a",
    ] {
        let error = with(index(json!({norm: shard})), &a);
        assert!(matches!(error, Error::Index { .. }), "{shard}: {error}");
    }
    for map in [
        index(json!({})),
        index(json!([])),
        index(json!({norm: 1})),
        b"{}".to_vec(),
    ] {
        assert!(matches!(with(map, &a), Error::Index { .. }));
    }
    assert!(matches!(with(b"{".to_vec(), &a), Error::Json { .. }));
}

/// A configuration whose only interesting part is the head.
fn config(tied: bool) -> Config {
    let json = json!({
        "model_type": "qwen3_vl",
        "image_token_id": 0, "video_token_id": 0, "vision_start_token_id": 0, "vision_end_token_id": 0,
        "text_config": {
            "vocab_size": 4, "hidden_size": 2, "intermediate_size": 2, "num_hidden_layers": 1,
            "num_attention_heads": 1, "head_dim": 2, "tie_word_embeddings": tied,
            "rope_scaling": {"mrope_section": [1, 0, 0]}
        },
        "vision_config": {
            "depth": 1, "hidden_size": 4, "intermediate_size": 4, "num_heads": 1,
            "num_position_embeddings": 4, "out_hidden_size": 2, "deepstack_visual_indexes": [0]
        }
    });
    Config::parse(json.to_string().as_bytes(), "config.json").unwrap()
}

#[test]
fn the_head_is_the_table_or_its_own() {
    let table = ("model.embed_tokens.weight", "F16", [4, 2].as_slice());
    let head = ("lm_head.weight", "F16", [4, 2].as_slice());
    let alone = single(&safetensors(&[table])).unwrap();
    assert_eq!(
        names::head(&alone, &config(true)).unwrap().stored_name(),
        "model.embed_tokens.weight"
    );
    assert!(matches!(
        names::head(&alone, &config(false)),
        Err(models::Error::Checkpoint(Error::MissingTensor { .. }))
    ));
    // The data counts up, so this head differs from the table.
    let both = single(&safetensors(&[table, head])).unwrap();
    assert_eq!(
        names::head(&both, &config(false)).unwrap().stored_name(),
        "lm_head.weight"
    );
    let error = names::head(&both, &config(true)).unwrap_err();
    assert!(matches!(error, models::Error::TiedHead { .. }), "{error}");
}

#[test]
fn check_finds_the_first_missing_parameter() {
    let error = single(&safetensors(&[("lm_head.weight", "F16", &[4, 2])])).unwrap();
    let error = config(false).check(&error).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("model.visual.patch_embed.proj.weight"),
        "{error}"
    );
}

#[cfg(unix)]
#[test]
fn what_is_no_regular_file_is_refused_at_once() {
    for name in ["model.safetensors", "config.json", "tokenizer.json"] {
        let folder = folder(&[]);
        let pipe = folder.path().join(name);
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        let source = Source::folder(folder.path()).unwrap();
        let error = match name {
            "config.json" => Config::load(&source).unwrap_err().to_string(),
            "tokenizer.json" => TokenizerFiles::load(&source).unwrap_err().to_string(),
            _ => models::qwen3_vl::open(&source).unwrap_err().to_string(),
        };
        assert!(error.contains("not a regular file"), "{error}");
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn a_tokenizer_beyond_reason_is_refused() {
    let folder = folder(&[("tokenizer.json", b"{}"), ("tokenizer_config.json", b"{}")]);
    let vocab = fs::File::create(folder.path().join("vocab.json")).unwrap();
    // Sparse: it takes no room.
    vocab.set_len(1 << 30).unwrap();
    let source = Source::folder(folder.path()).unwrap();
    let error = TokenizerFiles::load(&source).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
}

#[test]
fn the_tokenizers_files_are_collected_and_nothing_else() {
    let folder = folder(&[
        ("vocab.json", b"{}".as_slice()),
        ("tokenizer.json", b"{\"a\": 1}"),
        ("tokenizer_config.json", b"{}"),
        ("chat_template.jinja", b"x"),
        ("preprocessor_config.json", b"{}"),
        ("README.md", b""),
    ]);
    let source = Source::folder(folder.path()).unwrap();
    let files = TokenizerFiles::load(&source).unwrap();
    let names: Vec<_> = files.files.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        names,
        [
            "tokenizer.json",
            "tokenizer_config.json",
            "chat_template.jinja",
            "vocab.json"
        ]
    );
    assert_eq!(files.get("tokenizer.json"), Some(b"{\"a\": 1}".as_slice()));

    fs::write(folder.path().join("tokenizer.json"), "nonsense").unwrap();
    assert!(matches!(
        TokenizerFiles::load(&source),
        Err(Error::Json { .. })
    ));
    fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
    let error = TokenizerFiles::load(&source).unwrap_err();
    assert!(
        matches!(
            error,
            Error::NoTokenizer {
                missing: "tokenizer.json",
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("merges.txt"), "{error}");
}
