//! Every kind of bad input ends with one clear error, and nothing is left.

// Helpers outside test functions, which clippy.toml does not exempt.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::fs;

use bundle::{CallShape, Layout};
use common::{Bench, decoder_only, options, tiny, vision_only};
use export::Options;
use models::qwen3_vl::names::EMBED_TOKENS;
use models::qwen3_vl::names::FINAL_NORM;
use models::qwen3_vl::names::LM_HEAD;
use quantize::Recipe;
use serde_json::json;
use testkit::{assert_one_line, names, tensors::Tensors};

const GATE: &str = "model.language_model.layers.1.mlp.gate_proj.weight";
const K: &str = "model.language_model.layers.2.self_attn.k_proj.weight";
const FC2: &str = "model.visual.blocks.3.mlp.linear_fc2.weight";

#[test]
fn a_missing_tensor_is_named() {
    let bench = Bench::new(&tiny());
    for name in [GATE, K, FC2, EMBED_TOKENS, FINAL_NORM] {
        let path = bench.file("model.safetensors");
        let whole = fs::read(&path).unwrap();
        bench.edit(|weights| weights.tensors.retain(|tensor| tensor.name != name));
        let file = path.to_str().unwrap();
        bench.refuses(&options(), &["absent", name, file]);
        fs::write(path, whole).unwrap();
    }
    bench.accepts(&options());

    // Who leaves a half out does not need its tensors.
    bench.edit(|weights| weights.tensors.retain(|tensor| tensor.name != FC2));
    bench.accepts(&decoder_only(Recipe::named("fp16").unwrap()));
    bench.refuses(&vision_only(), &[FC2]);

    let mut untied = tiny();
    untied.tie_word_embeddings = false;
    let bench = Bench::new(&untied);
    bench.edit(|weights| weights.tensors.retain(|tensor| tensor.name != LM_HEAD));
    bench.refuses(&options(), &["absent", LM_HEAD]);
}

#[test]
fn a_wrong_shape_is_named_with_both_shapes() {
    let bench = Bench::new(&tiny());
    for (name, found, expected) in [
        (GATE, vec![64, 96], "[96, 64]"),
        (K, vec![4096], "[64, 64]"),
        (FINAL_NORM, vec![1, 64], "[64]"),
        (EMBED_TOKENS, vec![256, 128], "[512, 64]"),
        (FC2, vec![2048, 1], "[32, 64]"),
        ("model.visual.pos_embed.weight", vec![4, 4, 32], "[16, 32]"),
        (
            "model.visual.patch_embed.proj.weight",
            vec![32, 96],
            "[32, 3, 2, 4, 4]",
        ),
    ] {
        let mut right = Vec::new();
        bench.edit(|weights| {
            right = std::mem::replace(&mut weights.tensor(name).shape, found.clone());
        });
        bench.refuses(
            &options(),
            &[name, "model.safetensors", expected, &format!("{found:?}")],
        );
        bench.edit(|weights| weights.tensor(name).shape = right);
    }
    bench.accepts(&options());
}

#[test]
fn a_type_that_cannot_be_exported_is_named() {
    let bench = Bench::new(&tiny());
    bench.edit(|weights| weights.tensor(GATE).dtype = "I16".to_owned());
    bench.refuses(&options(), &[GATE, "I16", "BF16, F16 or F32"]);
}

#[test]
fn weights_that_f16_cannot_hold_are_named() {
    let bench = Bench::new(&tiny());
    let layer = |parameter: &str| format!("model.language_model.layers.0.{parameter}");
    let vision = |parameter: &str| format!("model.visual.{parameter}");
    let text = [
        Recipe::named("int8hu").unwrap(),
        Recipe::named("int8lin").unwrap(),
        Recipe::named("fp16").unwrap(),
    ];
    let mut cases: Vec<(String, Options)> = Vec::new();
    for parameter in [
        "self_attn.q_proj.weight",
        "self_attn.k_proj.weight",
        "self_attn.v_proj.weight",
        "self_attn.o_proj.weight",
        "mlp.down_proj.weight",
    ] {
        cases.push((layer(parameter), options()));
        cases.push((
            layer(parameter),
            decoder_only(Recipe::named("fp16").unwrap()),
        ));
    }
    for parameter in [
        "input_layernorm.weight",
        "self_attn.q_norm.weight",
        "self_attn.k_norm.weight",
        "post_attention_layernorm.weight",
    ] {
        cases.push((layer(parameter), options()));
    }
    cases.push((FINAL_NORM.to_owned(), options()));
    cases.extend(text.map(|mode| (EMBED_TOKENS.to_owned(), decoder_only(mode))));
    for parameter in [
        "patch_embed.proj.weight",
        "patch_embed.proj.bias",
        "pos_embed.weight",
        "blocks.1.norm1.weight",
        "blocks.1.attn.qkv.weight",
        "blocks.2.attn.qkv.bias",
        "deepstack_merger_list.1.norm.bias",
        "deepstack_merger_list.2.linear_fc1.weight",
        "merger.linear_fc2.weight",
    ] {
        cases.push((vision(parameter), options()));
        cases.push((vision(parameter), vision_only()));
    }
    // bf16. The last one is finite, and infinite as f16.
    let bad = [
        (0x7fc0, "NaN"),
        (0x7f80, "inf"),
        (0xff80, "-inf"),
        (0x47c3, "99840"),
    ];
    for (index, (name, options)) in cases.iter().enumerate() {
        let (bits, value) = bad[index % bad.len()];
        let (mut right, mut place) = (Vec::new(), String::new());
        bench.edit(|weights| {
            let tensor = weights.tensor(name);
            right = tensor.bytes.clone();
            tensor.set_last(bits);
            if let [rows, cols] = tensor.shape[..] {
                place = format!("row {}, column {}", rows - 1, cols - 1);
            }
        });
        bench.refuses(options, &[&format!("{name}: "), value, &place]);
        bench.edit(|weights| weights.tensor(name).bytes = right);
    }
    bench.accepts(&options());

    // Likewise where the checkpoint is f16.
    bench.edit(|weights| {
        let tensor = weights.tensor(GATE);
        tensor.dtype = "F16".to_owned();
        tensor.set_last(0xfe00);
    });
    bench.refuses(&options(), &[GATE, "NaN"]);
}

#[test]
fn a_head_that_the_table_contradicts_is_refused() {
    let bench = Bench::new(&tiny());
    let add = |weights: &mut Tensors| {
        let table = weights.tensor(EMBED_TOKENS);
        let head = testkit::tensors::Tensor {
            name: LM_HEAD.to_owned(),
            dtype: table.dtype.clone(),
            shape: table.shape.clone(),
            bytes: table.bytes.clone(),
        };
        weights.tensors.push(head);
    };
    bench.edit(add);
    bench.accepts(&options());
    bench.edit(|weights| weights.tensor(LM_HEAD).set_last(0x3f80));
    for mode in [
        Recipe::named("int8hu").unwrap(),
        Recipe::named("int8lin").unwrap(),
        Recipe::named("fp16").unwrap(),
    ] {
        bench.refuses(
            &decoder_only(mode),
            &[LM_HEAD, "model.safetensors", "tie_word_embeddings"],
        );
    }
}

#[test]
fn a_truncated_file_is_named_with_both_lengths() {
    let bench = Bench::new(&tiny());
    let path = bench.file("model.safetensors");
    let whole = fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    for length in [
        whole.len() - 1,
        whole.len() / 2,
        header,
        header - 1,
        8,
        7,
        0,
    ] {
        fs::write(&path, &whole[..length]).unwrap();
        let found = format!("{length} bytes");
        bench.refuses(
            &options(),
            &[path.to_str().unwrap(), &found, "promises", "incomplete"],
        );
    }
    // The bytes of a header that is none.
    let mut garbled = whole.clone();
    garbled[8] = b'[';
    fs::write(&path, garbled).unwrap();
    bench.refuses(
        &options(),
        &[path.to_str().unwrap(), "not a valid safetensors file"],
    );
}

#[test]
fn an_index_must_have_its_shards() {
    let bench = Bench::sharded(&tiny(), 100_000);
    let shards: Vec<String> = names(&bench.model())
        .into_iter()
        .filter(|name| name.ends_with(".safetensors"))
        .collect();
    assert!(shards.len() > 2, "{shards:?}");
    let index = bench.file("model.safetensors.index.json");
    for shard in &shards {
        let whole = fs::read(bench.file(shard)).unwrap();
        fs::remove_file(bench.file(shard)).unwrap();
        bench.refuses(&options(), &[index.to_str().unwrap(), shard, "absent"]);
        fs::write(bench.file(shard), &whole[..whole.len() - 2]).unwrap();
        bench.refuses(&options(), &[shard, "promises"]);
        fs::write(bench.file(shard), whole).unwrap();
    }
    bench.accepts(&options());
    fs::remove_file(&index).unwrap();
    bench.refuses(
        &options(),
        &["model.safetensors", "model.safetensors.index.json"],
    );
}

#[test]
fn a_tokenizer_is_needed_for_the_decoder() {
    let bench = Bench::new(&tiny());
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        let whole = fs::read(bench.file(name)).unwrap();
        fs::remove_file(bench.file(name)).unwrap();
        let place = format!("tiny has no {name}");
        bench.refuses(&options(), &[&place, "chat_template.jinja", "vocab.json"]);
        bench.accepts(&vision_only());
        fs::write(bench.file(name), &whole[..whole.len() / 2]).unwrap();
        bench.refuses(&options(), &[name, "not valid JSON"]);
        fs::write(bench.file(name), whole).unwrap();
    }
}

#[test]
fn another_architecture_is_refused() {
    let bench = Bench::new(&tiny());
    let path = bench.file("config.json");
    let right = fs::read(&path).unwrap();
    for (key, value) in [
        ("model_type", json!("qwen2_5_vl")),
        ("model_type", json!("qwen3_vl_moe")),
        ("model_type", json!(null)),
        ("architectures", json!(["LlamaForCausalLM"])),
    ] {
        bench.edit_config(|config| config[key] = value.clone());
        let found = value.to_string();
        bench.refuses(
            &options(),
            &[path.to_str().unwrap(), key, &found, "not supported"],
        );
        fs::write(&path, &right).unwrap();
    }
    for (pointer, value, key) in [
        ("/text_config", json!(3), "text_config"),
        (
            "/text_config/hidden_size",
            json!(-4),
            "text_config.hidden_size",
        ),
        (
            "/text_config/attention_bias",
            json!(true),
            "text_config.attention_bias",
        ),
        (
            "/vision_config/deepstack_visual_indexes",
            json!([]),
            "vision_config.deepstack_visual_indexes",
        ),
    ] {
        bench.edit_config(|config| *config.pointer_mut(pointer).unwrap() = value);
        bench.refuses(&options(), &[path.to_str().unwrap(), key]);
        fs::write(&path, &right).unwrap();
    }
    fs::write(&path, "{").unwrap();
    bench.refuses(&options(), &[path.to_str().unwrap(), "not valid JSON"]);
    fs::remove_file(&path).unwrap();
    bench.refuses(&options(), &["config.json", "is it a checkpoint?"]);
}

#[test]
fn a_width_that_blocks_do_not_divide_is_for_fp16() {
    let mut mlp = tiny();
    mlp.text_config.intermediate_size = 80;
    let down = "model.language_model.layers.0.mlp.down_proj.weight";
    let mut hidden = tiny();
    hidden.text_config.hidden_size = 72;
    hidden.vision_config.out_hidden_size = 72;
    let q = "model.language_model.layers.0.self_attn.q_proj.weight";
    let mut heads = tiny();
    heads.text_config.head_dim = 20;
    heads.text_config.mrope_section = [4, 3, 3];
    let o = "model.language_model.layers.0.self_attn.o_proj.weight";
    for (config, tensor, width) in [(mlp, down, "80"), (hidden, q, "72"), (heads, o, "80")] {
        let bench = Bench::new(&config);
        for mode in [
            Recipe::named("int8hu").unwrap(),
            Recipe::named("int8lin").unwrap(),
        ] {
            bench.refuses(&decoder_only(mode), &[tensor, width, "32", "fp16"]);
            bench.refuses(
                &Options {
                    recipe: mode,
                    ..options()
                },
                &[tensor, width],
            );
        }
        bench.accepts(&Options {
            recipe: Recipe::named("fp16").unwrap(),
            ..options()
        });
    }
}

#[test]
fn unknown_modes_and_queries_are_refused() {
    for text in ["", "int8", "INT8HU", "int4", "fp32", "int8hu "] {
        let error = text.parse::<&'static Recipe>().unwrap_err().to_string();
        assert_one_line(&error, &[&format!("`{text}`"), "fp16, int8lin or int8hu"]);
    }
    for mode in ["fp16", "int8lin", "int8hu"] {
        assert_eq!(mode.parse::<&'static Recipe>().unwrap().to_string(), mode);
    }
    let bad = [
        "",
        "s2",
        "S1",
        "pf",
        "pf0",
        "pf1",
        "pf4097",
        "pf-8",
        "pf+8",
        "pf08",
        "pf8x",
        "pf99999999999999999999",
        "s1,dynamic",
        " s1",
    ];
    for text in bad {
        let error = text.parse::<CallShape>().unwrap_err().to_string();
        assert_one_line(&error, &[&format!("`{text}`"), "s1, dynamic"]);
    }
    for query in ["s1", "dynamic", "pf2", "pf64", "pf4096"] {
        assert_eq!(query.parse::<CallShape>().unwrap().to_string(), query);
    }
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let bench = Bench::new(&tiny());
    for grid in [0, 65, u64::MAX] {
        let found = format!("found {grid}");
        for base in [
            options(),
            vision_only(),
            decoder_only(Recipe::named("fp16").unwrap()),
        ] {
            bench.refuses(&Options { grid, ..base }, &["grid", "1 to 64", &found]);
        }
    }
    for max_context in [0, 4097, u64::MAX] {
        let found = format!("found {max_context}");
        let options = Options {
            max_context,
            ..options()
        };
        bench.refuses(&options, &["max_context", "1 to 4096", &found]);
    }
    for name in [
        "", ".", "..", ".hidden", "a/b", "/a", "../a", "a\\b", "a b", "a\0b", "ä", "a\nb", "-x",
    ] {
        let options = Options {
            name: Some(name.to_owned()),
            ..options()
        };
        bench.refuses(&options, &["name", &format!("{name:?}")]);
    }
    let long = Options {
        name: Some("a".repeat(129)),
        ..options()
    };
    bench.refuses(&long, &["name"]);
    let nothing = Options {
        vision: false,
        ..vision_only()
    };
    bench.refuses(&nothing, &["vision", "decoder"]);
    let with_shapes = |shapes: &[CallShape]| Options {
        layouts: shapes.iter().copied().map(Layout::Pipelined).collect(),
        ..options()
    };
    bench.refuses(&with_shapes(&[]), &["layouts", "at least one"]);
    let twice = [CallShape::Prefill(8), CallShape::One, CallShape::Prefill(8)];
    bench.refuses(&with_shapes(&twice), &["layouts", "pf8", "twice"]);
    for rows in [0, 1, 4097, u64::MAX] {
        let found = format!("pf{rows}");
        bench.refuses(
            &with_shapes(&[CallShape::Prefill(rows)]),
            &["layouts", &found, "pf2 to pf4096"],
        );
    }
    for base in [options(), vision_only()] {
        let options = Options {
            created: 253_402_300_800,
            ..base
        };
        bench.refuses(&options, &["253402300800", "9999"]);
    }
}
