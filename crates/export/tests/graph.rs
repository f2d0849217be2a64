//! What an export writes: layout, metadata, interfaces, declarations, weights.

// Helpers outside test functions, which clippy.toml does not exempt.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::{fs, path::Path};

use aimodel::{Asset, Form, Module, ResourceValue, Summary, open_asset, print_ir, verify};
use approx::assert_abs_diff_eq;
use bundle::short_name;
use bundle::{CallShape, Layout};
use checkpoint::Source;
use common::{Bench, decoder_only, options, quiet, tiny, vision_only};
use export::Options;
use half::{bf16, f16};
use models::qwen3_vl::Config;
use models::qwen3_vl::names::EMBED_TOKENS;
use quantize::Recipe;
use sha2::{Digest, Sha256};
use testkit::{names, tensors::Tensors};

const RECIPES: &[Recipe] = quantize::RECIPES;
const QUERIES: [CallShape; 3] = [CallShape::One, CallShape::Dynamic, CallShape::Prefill(8)];

/// Shapes that differ from the published ones in one way each, with a grid.
fn shapes() -> Vec<(&'static str, u64, Config)> {
    let made = |change: &dyn Fn(&mut Config)| {
        let mut config = tiny();
        change(&mut config);
        config
    };
    vec![
        ("nano", 4, Config::preset("nano").unwrap()),
        ("a grid of one token", 1, tiny()),
        (
            "an untied head, and rows that 32 does not divide",
            3,
            made(&|config| {
                config.tie_word_embeddings = false;
                config.text_config.vocab_size = 500;
                config.image_token_id = 490;
                config.video_token_id = 491;
                config.vision_start_token_id = 492;
                config.vision_end_token_id = 493;
            }),
        ),
        (
            "heads that are not hidden / heads wide",
            2,
            made(&|config| {
                config.text_config.head_dim = 48;
                config.text_config.mrope_section = [10, 8, 6];
            }),
        ),
        (
            "one key and value head",
            2,
            made(&|config| config.text_config.num_key_value_heads = 1),
        ),
        (
            "as many key and value heads as query heads",
            2,
            made(&|config| config.text_config.num_key_value_heads = 4),
        ),
        (
            "a deep tower with other taps",
            5,
            made(&|config| {
                config.text_config.num_hidden_layers = 5;
                config.vision_config.depth = 6;
                config.vision_config.deepstack_visual_indexes = vec![1, 3, 4];
            }),
        ),
        (
            "two taps, the last one after the last block",
            3,
            made(&|config| config.vision_config.deepstack_visual_indexes = vec![0, 3]),
        ),
        (
            "one tap, one layer",
            2,
            made(&|config| {
                config.text_config.num_hidden_layers = 1;
                config.vision_config.deepstack_visual_indexes = vec![2];
            }),
        ),
        (
            "a tower with heads of 12",
            3,
            made(&|config| {
                config.vision_config.hidden_size = 36;
                config.vision_config.num_heads = 3;
                config.vision_config.num_position_embeddings = 49;
            }),
        ),
    ]
}

/// A function as a line for each parameter.
fn interface(summary: &Summary) -> Vec<String> {
    let mut lines = Vec::new();
    for function in &summary.functions {
        lines.push(function.name.clone());
        for (kind, parameters) in [
            ("input", &function.inputs),
            ("state", &function.states),
            ("output", &function.outputs),
        ] {
            lines.extend(parameters.iter().map(|p| format!("  {kind} {p}")));
        }
    }
    lines
}

fn decoder_interface(config: &Config, grid: u64, query: CallShape) -> Vec<String> {
    let text = &config.text_config;
    let taps = config.vision_config.deepstack_visual_indexes.len() as u64;
    let (h, v, n) = (text.hidden_size, text.vocab_size, grid * grid);
    let functions = match query {
        CallShape::One => vec![("main", "1".to_owned())],
        CallShape::Dynamic => vec![("main", "?".to_owned())],
        CallShape::Prefill(rows) => vec![("main", "1".to_owned()), ("prefill", rows.to_string())],
    };
    let cache = format!(
        "{}x1x{}x?x{}xf16",
        text.num_hidden_layers, text.num_key_value_heads, text.head_dim
    );
    let of = |(name, s): (&str, String)| {
        [
            name.to_owned(),
            format!("  input input_ids: tensor<1x{s}xsi32>"),
            "  input position_ids: tensor<1x?xsi32>".to_owned(),
            format!("  input image_embeds: tensor<{n}x{h}xf16>"),
            format!("  input deepstack_embeds: tensor<{}x{h}xf16>", taps * n),
            "  input rope_shift_start: tensor<1xsi32>".to_owned(),
            "  input rope_shift_amount: tensor<1xsi32>".to_owned(),
            format!("  state keyCache: tensor<{cache}>"),
            format!("  state valueCache: tensor<{cache}>"),
            format!("  output logits: tensor<1x{s}x{v}xf16>"),
        ]
    };
    functions.into_iter().flat_map(of).collect()
}

fn vision_interface(config: &Config, grid: u64) -> Vec<String> {
    let vision = &config.vision_config;
    let taps = vision.deepstack_visual_indexes.len() as u64;
    let (h, n) = (vision.out_hidden_size, grid * grid);
    vec![
        "main".to_owned(),
        format!(
            "  input patches: tensor<{}x{}xf16>",
            4 * n,
            vision.patch_len()
        ),
        format!("  output image_embeds: tensor<{n}x{h}xf16>"),
        format!("  output deepstack_embeds: tensor<{}x{h}xf16>", taps * n),
    ]
}

/// Opens an asset and checks all that can be checked of any.
fn opened(path: &Path) -> Asset {
    let asset = open_asset(path).unwrap();
    asset.check_hash().unwrap();
    verify(&asset.module).unwrap();
    asset
}

#[test]
fn every_shape_mode_and_query_verifies_and_has_its_interface() {
    for (what, grid, config) in shapes() {
        let bench = Bench::new(&config);
        for mode in RECIPES {
            let options = Options {
                recipe: mode,
                layouts: QUERIES.map(Layout::Pipelined).to_vec(),
                grid,
                // It is the same in every mode.
                vision: mode == Recipe::named("fp16").unwrap(),
                ..options()
            };
            let bundles = bench.export(&options).unwrap();
            let expected = QUERIES.map(|query| decoder_interface(&config, grid, query));
            let mut expected = expected.to_vec();
            expected.extend(options.vision.then(|| vision_interface(&config, grid)));
            assert_eq!(bundles.len(), expected.len(), "{what}");
            for (bundle, expected) in bundles.iter().zip(expected) {
                let asset = opened(&bundle.asset);
                let summary = Summary::of(&asset.module).unwrap();
                assert_eq!(interface(&summary), expected, "{what}, {mode}");
                let size = fs::metadata(bundle.asset.join("main.mlirb")).unwrap().len();
                assert_eq!(bundle.bytes, size);
            }
        }
    }
}

#[test]
fn larger_grids_verify_too() {
    let bench = Bench::new(&tiny());
    for grid in [6, 14] {
        let options = Options { grid, ..options() };
        for bundle in bench.export(&options).unwrap() {
            opened(&bundle.asset);
        }
        fs::remove_dir_all(bench.out()).unwrap();
    }
}

#[test]
fn a_bundle_has_the_published_layout() {
    let bench = Bench::new(&tiny());
    // All that a tokenizer may consist of, and what has no business there.
    let optional = [
        "added_tokens.json",
        "chat_template.json",
        "merges.txt",
        "special_tokens_map.json",
        "vocab.json",
    ];
    for name in optional.into_iter().chain(["README.md", "tokenizer.model"]) {
        fs::write(bench.file(name), format!("{name} \r\n\u{feff} as it is")).unwrap();
    }
    let options = Options {
        layouts: QUERIES.map(Layout::Pipelined).to_vec(),
        ..options()
    };
    let bundles = bench.export(&options).unwrap();
    assert_eq!(
        names(&bench.out()),
        [
            "tiny_decode_int8hu",
            "tiny_decode_int8hu_pf8",
            "tiny_decode_int8hu_s1",
            "tiny_vision"
        ]
    );
    let found: Vec<_> = bundles.iter().map(|bundle| bundle.path.clone()).collect();
    let expected = [
        "tiny_decode_int8hu_s1",
        "tiny_decode_int8hu",
        "tiny_decode_int8hu_pf8",
        "tiny_vision",
    ];
    assert_eq!(found, expected.map(|name| bench.out().join(name)));
    for (bundle, name) in bundles.iter().zip(expected) {
        let asset = format!("{name}.aimodel");
        assert_eq!(bundle.asset, bundle.path.join(&asset));
        assert_eq!(
            names(&bundle.asset),
            ["main.hash", "main.mlirb", "metadata.json"]
        );
        let program = fs::read(bundle.asset.join("main.mlirb")).unwrap();
        let hash = fs::read(bundle.asset.join("main.hash")).unwrap();
        assert_eq!(hash, Sha256::digest(&program).as_slice());
        if name == "tiny_vision" {
            assert_eq!(names(&bundle.path), [asset]);
            continue;
        }
        assert_eq!(names(&bundle.path), ["metadata.json", &asset, "tokenizer"]);
        let tokenizer = bundle.path.join("tokenizer");
        let mut all = optional.to_vec();
        all.extend([
            "chat_template.jinja",
            "tokenizer.json",
            "tokenizer_config.json",
        ]);
        all.sort_unstable();
        assert_eq!(names(&tokenizer), all);
        for file in all {
            let copy = fs::read(tokenizer.join(file)).unwrap();
            assert_eq!(copy, fs::read(bench.file(file)).unwrap(), "{file}");
        }
    }
}

#[test]
fn metadata_says_what_hosts_read() {
    let bench = Bench::new(&tiny());
    let options = Options {
        layouts: vec![Layout::Pipelined(CallShape::Prefill(64))],
        max_context: 2048,
        name: Some("my-Model.v2".to_owned()),
        license: Some("Apache-2.0".to_owned()),
        created: 1_795_374_656,
        ..options()
    };
    let bundles = bench.export(&options).unwrap();
    let read = |path: &Path| fs::read_to_string(path.join("metadata.json")).unwrap();
    assert_eq!(
        read(&bundles[0].path),
        r#"{
  "metadata_version": "0.2",
  "kind": "llm",
  "name": "my-Model.v2_decode_int8hu_pf64",
  "assets": {
    "main": "my-Model.v2_decode_int8hu_pf64.aimodel"
  },
  "language": {
    "tokenizer": "tiny",
    "vocab_size": 512,
    "max_context_length": 2048,
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
    "hf_model_id": "tiny"
  },
  "compression": {
    "scheme": "int8hu"
  },
  "compilation": {
    "date": "2026-11-22T19:10:56+00:00",
    "targets": []
  },
  "user_data": {
    "deepstack_layers": "0,1,2",
    "first_image_id": "512",
    "grid": "2",
    "hidden_size": "64",
    "image_mean": "0.5,0.5,0.5",
    "image_std": "0.5,0.5,0.5",
    "image_tokens": "4",
    "merge_size": "2",
    "patch_size": "4",
    "resampling": "bicubic",
    "temporal_patch_size": "2"
  }
}
"#
    );
    let stated = |what: &str| {
        let version = env!("CARGO_PKG_VERSION");
        format!(
            r#"{{
  "assetVersion": "2.0",
  "creationDate": "20261122T191056Z",
  "producer": "aimodel {version}",
  "license": "Apache-2.0",
  "description": "{what}"
}}
"#
        )
    };
    assert_eq!(
        read(&bundles[0].asset),
        stated("tiny text decoder, int8hu, query pf64")
    );
    assert_eq!(
        read(&bundles[1].asset),
        stated("tiny vision encoder, 4 tokens")
    );

    // What differs from that by mode and query.
    for (mode, scheme) in [
        (Recipe::named("fp16").unwrap(), "null"),
        (
            Recipe::named("int8lin").unwrap(),
            "{\n    \"scheme\": \"int8lin\"\n  }",
        ),
    ] {
        let bundles = bench.export(&decoder_only(mode)).unwrap();
        let text = read(&bundles[0].path);
        assert!(
            text.contains(&format!("\"compression\": {scheme},")),
            "{text}"
        );
        assert!(
            text.contains("\"main\": [\n        \"main\"\n      ]"),
            "{text}"
        );
        assert!(
            text.contains(&format!("\"tiny_decode_{mode}_s1\"")),
            "{text}"
        );
    }
}

#[test]
fn bundles_are_named_after_the_model() {
    for (model, name) in [
        ("Qwen/Qwen3-VL-2B-Instruct", "qwen3_vl_2b_instruct"),
        ("nano", "nano"),
        ("someone/My.Tune-v1.5/", "my_tune_v1_5"),
        ("a b\u{e4}", "a_b_"),
    ] {
        assert_eq!(short_name(model), name);
    }
    let bench = Bench::new(&tiny());
    let renamed = bench.folder.path().join("Qwen3-VL-0.1B");
    fs::rename(bench.model(), &renamed).unwrap();
    let source = Source::folder(&renamed).unwrap();
    export::export(&source, &bench.out(), &options(), quiet()).unwrap();
    assert_eq!(
        names(&bench.out()),
        ["qwen3_vl_0_1b_decode_int8hu_s1", "qwen3_vl_0_1b_vision"]
    );
}

#[test]
fn composites_are_declared_as_the_compiler_knows_them() {
    let bench = Bench::new(&tiny());
    let bundles = bench.export(&options()).unwrap();
    let declared = |path: &Path| {
        let mut text = Vec::new();
        print_ir(&opened(path).module, Form::Dialect, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let declaration = |line: &str| {
            let (_, rest) = line.split_once("composite_declaration<")?;
            assert!(line.contains("private noinline"), "{line}");
            Some(rest.split_once(">}").unwrap().0.to_owned())
        };
        text.lines().filter_map(declaration).collect::<Vec<_>>()
    };
    let rms_norm = r#""rms_norm" = {input_names = ["input", "scale"], op_attrs = {axes = -1 : si64, eps = 1e-6 : f32, version = 1 : si64}, output_names = ["output"]}"#;
    let layer_norm = r#""layer_norm" = {input_names = ["input", "gamma", "beta"], op_attrs = {axes = [1 : si64], eps = 1e-6 : f32, version = 1 : si64}, output_names = ["output"]}"#;
    let rope = r#""rope" = {input_names = ["input", "position_ids"], op_attrs = {base = 5000000.0 : f32, interleaved = false, scale = 1.0 : f32, version = 1 : si64}, output_names = ["output"]}"#;
    let attention = |causal: bool| {
        format!(
            r#""scaled_dot_product_attention" = {{input_names = ["query", "key", "value"], op_attrs = {{is_causal = {causal}, version = 1 : si64, window_size = 0 : si64}}, output_names = ["output"]}}"#
        )
    };
    assert_eq!(
        declared(&bundles[0].asset),
        [rms_norm, &attention(true), rope, rms_norm]
    );
    assert_eq!(
        declared(&bundles[1].asset),
        [layer_norm, layer_norm, &attention(false)]
    );
}

fn resource(module: &Module, key: &str) -> Vec<u8> {
    let found = module.resources.iter().find(|(_, r)| r.key.as_ref() == key);
    match found.map(|(_, resource)| &resource.value) {
        Some(ResourceValue::Blob { data, .. }) => data.to_vec().unwrap(),
        _ => panic!("no blob `{key}`"),
    }
}

/// A parameter as f16.
fn f16_values(weights: &mut Tensors, name: &str) -> Vec<f16> {
    let bytes = weights.tensor(name).bytes.chunks(2);
    bytes
        .map(|b| f16::from_f32(bf16::from_le_bytes([b[0], b[1]]).to_f32()))
        .collect()
}

fn bytes(values: &[f16]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// int8 and scales of rows whose length 32 divides: `max` is 127 for the body
/// and 127.5 for the head, `min` the smallest integer.
fn quantized(values: &[f16], max: f32, min: f32) -> (Vec<u8>, Vec<u8>) {
    let (mut data, mut scales) = (Vec::new(), Vec::new());
    for block in values.chunks(32) {
        let largest = block.iter().fold(0_f32, |m, w| m.max(w.to_f32().abs()));
        let scale = f16::from_f32((largest / max).max(2_f32.powi(-23)));
        scales.extend(scale.to_le_bytes());
        let q = |w: &f16| {
            let q = (w.to_f32() / scale.to_f32()).round_ties_even();
            q.clamp(min, 127.0) as i8 as u8
        };
        data.extend(block.iter().map(q));
    }
    (data, scales)
}

#[test]
fn weights_are_those_of_the_checkpoint() {
    // Large enough for scales to be resources as well.
    let bench = Bench::new(&Config::preset("nano").unwrap());
    let mut weights = Tensors::read(&bench.file("model.safetensors"));
    let module = |options: &Options| {
        let bundle = &bench.export(options).unwrap()[0];
        opened(&bundle.asset).module
    };
    let [fp16, lin, hu] = ["fp16", "int8lin", "int8hu"]
        .map(|name| module(&decoder_only(Recipe::named(name).unwrap())));
    let table = f16_values(&mut weights, EMBED_TOKENS);
    let (data, scales) = quantized(&table, 127.5, -128.0);
    assert!(resource(&hu, "lm_head.weight.data") == data);
    assert!(resource(&hu, "lm_head.weight.scale") == scales);
    let has_head = |module: &Module| {
        let mut keys = module.resources.iter().map(|(_, r)| r.key.as_ref());
        keys.any(|key: &str| key.starts_with("lm_head"))
    };
    assert!(!has_head(&fp16) && !has_head(&lin));

    for layer in 0..4 {
        let name = |part: &str| format!("model.language_model.layers.{layer}.{part}.weight");
        let mut qkv = Vec::new();
        for part in ["q", "k", "v"] {
            let name = name(&format!("self_attn.{part}_proj"));
            qkv.extend(f16_values(&mut weights, &name));
        }
        let mut matrices = vec![(name("self_attn.qkv_proj"), qkv)];
        for part in [
            "self_attn.o_proj",
            "mlp.gate_proj",
            "mlp.up_proj",
            "mlp.down_proj",
        ] {
            matrices.push((name(part), f16_values(&mut weights, &name(part))));
        }
        for (key, matrix) in matrices {
            assert!(resource(&fp16, &key) == bytes(&matrix), "{key}");
            let (data, scales) = quantized(&matrix, 127.0, -127.0);
            for module in [&lin, &hu] {
                assert!(resource(module, &format!("{key}.data")) == data, "{key}");
                assert!(resource(module, &format!("{key}.scale")) == scales, "{key}");
            }
        }
    }
    for module in [&fp16, &lin, &hu] {
        assert!(resource(module, EMBED_TOKENS) == bytes(&table));
    }

    let vision = module(&vision_only());
    let mut compared = 0;
    for (_, resource) in &vision.resources {
        let key: &str = resource.key.as_ref();
        if weights.tensors.iter().any(|tensor| tensor.name == key) {
            assert!(self::resource(&vision, key) == bytes(&f16_values(&mut weights, key)));
            compared += 1;
        }
    }
    // Five matrices in each of four blocks and at the start, two in each of
    // four mergers, and the longer vectors.
    assert!(compared > 30, "{compared}");
}

#[test]
fn an_untied_head_is_the_checkpoint_s_own() {
    let mut config = Config::preset("nano").unwrap();
    config.tie_word_embeddings = false;
    let bench = Bench::new(&config);
    let mut weights = Tensors::read(&bench.file("model.safetensors"));
    let head = f16_values(&mut weights, "lm_head.weight");
    assert!(head != f16_values(&mut weights, EMBED_TOKENS));
    for mode in RECIPES {
        let bundle = &bench.export(&decoder_only(mode)).unwrap()[0];
        let module = opened(&bundle.asset).module;
        if mode == Recipe::named("int8hu").unwrap() {
            let (data, scales) = quantized(&head, 127.5, -128.0);
            assert!(resource(&module, "lm_head.weight.data") == data);
            assert!(resource(&module, "lm_head.weight.scale") == scales);
        } else {
            assert!(resource(&module, "lm_head.weight") == bytes(&head));
        }
    }
}

#[test]
fn a_tower_s_positions_are_constants() {
    let config = tiny();
    let bench = Bench::new(&config);
    let mut weights = Tensors::read(&bench.file("model.safetensors"));
    let (grid, hidden, side, dim) = (3_usize, 32, 4, 16);
    let options = Options {
        grid: grid as u64,
        ..vision_only()
    };
    let bundle = &bench.export(&options).unwrap()[0];
    let module = opened(&bundle.asset).module;
    let read = |key: &str| -> Vec<f64> {
        let bytes = resource(&module, key);
        let values = bytes.chunks(2).map(|b| f16::from_le_bytes([b[0], b[1]]));
        values.map(f64::from).collect()
    };
    let (cos, sin) = (read("rotary.cos"), read("rotary.sin"));
    let positions = read("patch_embed.bias_and_positions");
    let table = f16_values(&mut weights, "model.visual.pos_embed.weight");
    let bias = f16_values(&mut weights, "model.visual.patch_embed.proj.bias");
    let patches = 4 * grid * grid;
    assert_eq!(cos.len(), patches * dim);
    assert_eq!(positions.len(), patches * hidden);
    for patch in 0..patches {
        // Blocks of 2 × 2 row by row, and within a block row by row.
        let (block, within) = (patch / 4, patch % 4);
        let row = block / grid * 2 + within / 2;
        let col = block % grid * 2 + within % 2;
        for i in 0..dim {
            let quarter = dim / 4;
            let position = if i / quarter % 2 == 0 { row } else { col };
            let frequency = 1e4_f64.powf(-((i % quarter) as f64) / quarter as f64);
            let angle = position as f64 * frequency;
            // Two units of an f16 below 1.
            assert_abs_diff_eq!(cos[patch * dim + i], angle.cos(), epsilon = 1e-3);
            assert_abs_diff_eq!(sin[patch * dim + i], angle.sin(), epsilon = 1e-3);
        }
        let spread = |at: usize| at as f64 * (side - 1) as f64 / (2 * grid - 1) as f64;
        let (y, x) = (spread(row), spread(col));
        for i in 0..hidden {
            let at = |row: f64, col: f64| {
                let row = (row as usize).min(side - 1);
                let col = (col as usize).min(side - 1);
                f64::from(table[(row * side + col) * hidden + i])
            };
            let (dy, dx) = (y.fract(), x.fract());
            let upper = at(y, x) * (1.0 - dx) + at(y, x + 1.0) * dx;
            let lower = at(y + 1.0, x) * (1.0 - dx) + at(y + 1.0, x + 1.0) * dx;
            let expected = upper * (1.0 - dy) + lower * dy + f64::from(bias[i]);
            let found = positions[patch * hidden + i];
            // Half a unit of an f16 below 2^-4, twice, and subnormals.
            assert_abs_diff_eq!(found, expected, epsilon = 1.5e-4);
        }
    }
}
