//! What a `config.json` may say.

// Helpers outside test functions, which clippy.toml does not exempt.
#![allow(clippy::unwrap_used)]

use models::qwen3_vl::Config;

use models::Error;

use checkpoint::Source;
use serde_json::{Value, json};

fn base() -> Value {
    json!({
        "architectures": ["Qwen3VLForConditionalGeneration"],
        "model_type": "qwen3_vl",
        "image_token_id": 504, "video_token_id": 505,
        "vision_start_token_id": 506, "vision_end_token_id": 507,
        "text_config": {
            "vocab_size": 512, "hidden_size": 128, "intermediate_size": 256,
            "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
            "head_dim": 32, "hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 5000000,
            "rope_scaling": {"mrope_interleaved": true, "mrope_section": [6, 5, 5], "rope_type": "default"},
            "tie_word_embeddings": true
        },
        "vision_config": {
            "depth": 4, "hidden_size": 64, "intermediate_size": 128, "num_heads": 4,
            "num_position_embeddings": 64, "out_hidden_size": 128,
            "deepstack_visual_indexes": [0, 1, 2]
        }
    })
}

/// The base with the value at `pointer` replaced, or removed if `None`.
fn with(pointer: &str, value: Option<Value>) -> Value {
    let mut config = base();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let map = config.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match value {
        Some(value) => map.insert(key.into(), value),
        None => map.remove(key),
    };
    config
}

fn parse(config: &Value) -> Result<Config, Error> {
    Config::parse(config.to_string().as_bytes(), "config.json")
}

#[test]
fn a_usual_configuration_parses() {
    let config = parse(&base()).unwrap();
    assert_eq!(config.text_config.head_dim, 32);
    assert_eq!(config.text_config.mrope_section, [6, 5, 5]);
    assert_eq!(config.text_config.rope_theta, 5e6);
    assert!(config.tie_word_embeddings);
    let vision = &config.vision_config;
    assert_eq!(vision.head_dim(), 16);
    assert_eq!(vision.patch_len(), 1536);
    assert_eq!(vision.merged_size(), 256);
    assert_eq!(vision.token_pixels(), 32);
    assert_eq!(vision.position_side(), 8);
}

#[test]
fn the_spelling_of_transformers_5_means_the_same() {
    let mut config = base();
    let text = config["text_config"].as_object_mut().unwrap();
    text.remove("rope_theta");
    let mut rope = text.remove("rope_scaling").unwrap();
    rope["rope_theta"] = json!(5e6);
    text.insert("rope_parameters".into(), rope);
    assert_eq!(parse(&config).unwrap(), parse(&base()).unwrap());
    config["text_config"]["rope_parameters"]["rope_theta"] = json!(1e4);
    assert_eq!(parse(&config).unwrap().text_config.rope_theta, 1e4);
}

#[test]
fn absent_keys_have_the_defaults_of_transformers() {
    let absent = |pointer| parse(&with(pointer, None)).unwrap();
    assert!(!absent("/text_config/tie_word_embeddings").tie_word_embeddings);
    assert_eq!(
        absent("/text_config/rope_theta").text_config.rope_theta,
        5e6
    );
    assert_eq!(
        absent("/text_config/num_key_value_heads")
            .text_config
            .num_key_value_heads,
        4
    );
    assert_eq!(
        absent("/text_config/rms_norm_eps").text_config.rms_norm_eps,
        1e-6
    );
    let mut config = with("/text_config/head_dim", None);
    config["text_config"]["rope_scaling"]["mrope_section"] = json!([24, 20, 20]);
    assert_eq!(parse(&config).unwrap().text_config.head_dim, 128);
    config["text_config"]["head_dim"] = Value::Null;
    config["text_config"]["rope_scaling"]["mrope_section"] = json!([6, 5, 5]);
    assert_eq!(parse(&config).unwrap().text_config.head_dim, 32);
}

#[test]
fn the_decoders_tie_flag_comes_before_the_models() {
    for (text, root, tied) in [
        (Some(true), Some(false), true),
        (Some(false), Some(true), false),
        (None, Some(true), true),
        (None, None, false),
    ] {
        let mut config = with("/text_config/tie_word_embeddings", text.map(Value::from));
        config["tie_word_embeddings"] = root.into();
        assert_eq!(parse(&config).unwrap().tie_word_embeddings, tied);
    }
}

#[test]
fn other_architectures_are_refused() {
    for (model_type, architecture) in [
        ("qwen2_vl", "Qwen2VLForConditionalGeneration"),
        ("qwen3_vl_moe", "Qwen3VLMoeForConditionalGeneration"),
        ("llama", "LlamaForCausalLM"),
    ] {
        let mut config = base();
        config["model_type"] = model_type.into();
        config["architectures"] = json!([architecture]);
        let error = parse(&config).unwrap_err();
        assert!(matches!(error, Error::Architecture { .. }), "{error}");
        let message = error.to_string();
        assert!(
            message.contains(model_type) && message.contains("config.json"),
            "{message}"
        );
    }
    let error = parse(&with("/architectures", Some(json!(["Other"])))).unwrap_err();
    assert!(matches!(error, Error::Architecture { .. }), "{error}");
    assert!(parse(&with("/architectures", None)).is_ok());
    // A text-only configuration says so at once, not by a missing section.
    let error = parse(&json!({"model_type": "qwen3", "hidden_size": 64})).unwrap_err();
    assert!(error.to_string().contains("\"qwen3\""), "{error}");
}

#[test]
fn unusable_values_are_named_by_key() {
    for (pointer, value) in [
        ("/text_config", None),
        ("/vision_config", Some(json!(3))),
        ("/text_config/vocab_size", None),
        ("/text_config/vocab_size", Some(json!(0))),
        ("/text_config/vocab_size", Some(json!(1e9))),
        ("/text_config/hidden_size", Some(json!("128"))),
        ("/text_config/hidden_size", Some(json!(-128))),
        ("/text_config/hidden_size", Some(json!(10_000_000))),
        ("/text_config/num_hidden_layers", Some(json!(0))),
        ("/text_config/num_key_value_heads", Some(json!(3))),
        ("/text_config/head_dim", Some(json!(33))),
        ("/text_config/head_dim", Some(json!(0))),
        ("/text_config/hidden_act", Some(json!("gelu"))),
        ("/text_config/attention_bias", Some(json!(true))),
        ("/text_config/rms_norm_eps", Some(json!(0))),
        ("/text_config/rope_theta", Some(json!("big"))),
        ("/text_config/partial_rotary_factor", Some(json!(0.5))),
        ("/text_config/rope_scaling", None),
        ("/text_config/rope_scaling/mrope_section", None),
        (
            "/text_config/rope_scaling/mrope_section",
            Some(json!([6, 5, 6])),
        ),
        (
            "/text_config/rope_scaling/mrope_section",
            Some(json!([8, 8])),
        ),
        (
            "/text_config/rope_scaling/mrope_section",
            Some(json!([6, 5, "5"])),
        ),
        ("/text_config/rope_scaling/rope_type", Some(json!("yarn"))),
        (
            "/text_config/rope_scaling/mrope_interleaved",
            Some(json!(false)),
        ),
        ("/text_config/tie_word_embeddings", Some(json!("yes"))),
        ("/vision_config/depth", Some(json!(0))),
        ("/vision_config/num_heads", Some(json!(5))),
        ("/vision_config/num_heads", Some(json!(32))),
        ("/vision_config/hidden_act", Some(json!("quick_gelu"))),
        ("/vision_config/in_channels", Some(json!(4))),
        ("/vision_config/spatial_merge_size", Some(json!(4))),
        ("/vision_config/patch_size", Some(json!(0))),
        ("/vision_config/temporal_patch_size", Some(json!(0))),
        ("/vision_config/out_hidden_size", Some(json!(64))),
        ("/vision_config/num_position_embeddings", Some(json!(65))),
        (
            "/vision_config/deepstack_visual_indexes",
            Some(json!([0, 4])),
        ),
        (
            "/vision_config/deepstack_visual_indexes",
            Some(json!([1, 1])),
        ),
        (
            "/vision_config/deepstack_visual_indexes",
            Some(json!([2, 1])),
        ),
        ("/vision_config/deepstack_visual_indexes", Some(json!([]))),
        ("/image_token_id", Some(json!(512))),
        ("/quantization_config", Some(json!({"quant_method": "fp8"}))),
    ] {
        let error = parse(&with(pointer, value.clone())).unwrap_err();
        let Error::Config { file, key, .. } = &error else {
            panic!("{pointer} {value:?}: {error}");
        };
        let expected = pointer[1..].replace('/', ".");
        assert_eq!((file.as_str(), key), ("config.json", &expected), "{error}");
    }
    // Messages quote a value, and its limits, as far as they can be read.
    let endless = vec![0; 100_000];
    for (pointer, value) in [
        ("/vision_config/deepstack_visual_indexes", json!(endless)),
        ("/text_config/hidden_size", json!(endless)),
        ("/text_config/rms_norm_eps", json!(0)),
    ] {
        let error = parse(&with(pointer, Some(value))).unwrap_err().to_string();
        assert!(error.len() < 600, "{} bytes: {error:.900}", error.len());
    }
    // More taps than decoder layers.
    let error = parse(&with("/text_config/num_hidden_layers", Some(json!(2)))).unwrap_err();
    assert!(
        error.to_string().contains("deepstack_visual_indexes"),
        "{error}"
    );
}

#[test]
fn files_that_are_no_configuration_are_refused() {
    for json in ["", "{", "[]", "\"x\"", "{\"a\": 1} x"] {
        let error = Config::parse(json.as_bytes(), "config.json").unwrap_err();
        assert!(matches!(error, Error::Json { .. }), "{json}: {error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let source = Source::folder(folder.path()).unwrap();
    let error = Config::load(&source).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Checkpoint(checkpoint::Error::MissingFile { .. })
        ),
        "{error}"
    );
    assert!(error.to_string().contains("config.json"));
    std::fs::write(folder.path().join("config.json"), vec![b' '; 2 << 20]).unwrap();
    let error = Config::load(&source).unwrap_err();
    assert!(
        matches!(error, Error::Checkpoint(checkpoint::Error::TooLarge { .. })),
        "{error}"
    );
    assert!(Source::folder(folder.path().join("absent")).is_err());
}
