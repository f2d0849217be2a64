//! The fp32 model against what transformers computed for nano.

// Helpers outside test functions, which clippy.toml does not exempt.
#![allow(clippy::unwrap_used)]

use bundle::{CallShape, Layout};
use candle_core::{Device, Tensor};
use checkpoint::Source;
use checkpoint::TokenizerFiles;
use models::TokenizedPrompt;
use models::qwen3_vl::Chat;
use models::qwen3_vl::Config;
use models::qwen3_vl::positions;
use models::qwen3_vl::positions::GraphRope;
use models::qwen3_vl::positions::from_tokens;
use models::qwen3_vl::positions::in_graph;
use models::qwen3_vl::synth;
use ndarray::{Array2, ArrayView, ArrayView1, Axis, Dimension, concatenate, s};
use picture::Image;
use reference::Error;
use reference::oracle::MIN_MARGIN;
use reference::oracle::Oracle;
use reference::oracle::Recorded;
use reference::qwen3_vl::Cache;
use reference::qwen3_vl::TextModel;
use reference::qwen3_vl::TextOutput;
use reference::qwen3_vl::VisionModel;
use reference::qwen3_vl::VisionOutput;
use reference::qwen3_vl::to_rows;
use reference::{cosine, row_cosines};
use safetensors::SafeTensors;
use serde_json::Value;
use std::path::PathBuf;

/// What the gate chain asks for.
const BAR: f64 = 0.9999;
/// What two programs in fp32 reach.
const EXPECTED: f64 = 1.0 - 1e-9;

const PIPELINED: Layout = Layout::Pipelined(CallShape::One);

struct Nano {
    config: Config,
    vision: VisionModel,
    text: TextModel,
    oracle: Oracle,
}

fn repository() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn nano() -> Nano {
    let source = Source::nano();
    let config = Config::load(&source).unwrap();
    let checkpoint = models::qwen3_vl::open(&source).unwrap();
    let oracle = Oracle::open(repository().join("oracles/nano/recorded")).unwrap();
    oracle.check(&checkpoint).unwrap();
    Nano {
        vision: VisionModel::load(&config, &checkpoint, &Device::Cpu).unwrap(),
        text: TextModel::load(&config, &checkpoint, &Device::Cpu).unwrap(),
        config,
        oracle,
    }
}

/// A prompt of the oracle as the model takes it: all T tokens, and the image.
struct Given {
    recorded: Recorded,
    tokens: usize,
    prompt: TokenizedPrompt,
    rope: GraphRope,
    vision: Option<VisionOutput>,
}

impl Nano {
    fn given(&self, name: &str) -> Given {
        let mut entries = self.oracle.prompts.iter();
        let entry = entries.find(|entry| entry.name == name).unwrap();
        let recorded = self.oracle.read(entry).unwrap();
        let grids: Vec<_> = entry.image.iter().map(|image| image.grid).collect();
        let tokens = recorded.input_ids.clone();
        let prompt = positions::prompt(tokens, &grids, &self.config, PIPELINED).unwrap();
        Given {
            rope: GraphRope::of(&prompt, self.config.text_config.vocab_size),
            prompt,
            vision: recorded.vision.as_ref().map(|vision| {
                self.vision
                    .forward(vision.patches.view(), grids[0])
                    .unwrap()
            }),
            tokens: entry.prompt_tokens,
            recorded,
        }
    }

    /// All T tokens in one call.
    fn run(&self, given: &Given) -> TextOutput {
        let positions = in_graph(&given.prompt.ids, 0, &given.rope);
        let cache = &mut Cache::default();
        self.text
            .forward(&given.prompt.ids, &positions, given.vision.as_ref(), cache)
            .unwrap()
    }
}

/// The min cosine of any row.
fn min_cosine<D: Dimension>(actual: &Tensor, expected: ArrayView<f32, D>) -> f64 {
    assert_eq!(actual.dims(), expected.shape());
    let rows = expected.shape()[0];
    let expected = expected.to_shape((rows, expected.len() / rows)).unwrap();
    let cosines = row_cosines(to_rows(actual).unwrap().view(), expected.view());
    cosines.into_iter().fold(1.0, f64::min)
}

fn top(row: ArrayView1<f32>) -> u32 {
    (0..row.len())
        .max_by(|a, b| row[*a].total_cmp(&row[*b]))
        .unwrap() as u32
}

/// The ladder's deviations from 1 of one prompt: vision, DeepStack, worst
/// layer, logits.
fn ladder(nano: &Nano, name: &str) -> [f64; 4] {
    let given = nano.given(name);
    let (recorded, prompt) = (&given.recorded, given.tokens);
    let grids: Vec<_> = given.vision.iter().map(|vision| vision.grid).collect();
    let found = from_tokens(&recorded.input_ids, &grids, &nano.config).unwrap();
    assert_eq!(found, recorded.positions, "{name}");
    assert_eq!(
        in_graph(&given.prompt.ids, 0, &given.rope),
        recorded.positions,
        "{name}"
    );

    let mut worst = [1.0; 4];
    if let (Some(actual), Some(expected)) = (&given.vision, &recorded.vision) {
        worst[0] = min_cosine(&actual.image_embeds, expected.image_embeds.view());
        let deepstack = Tensor::cat(&actual.deepstack_embeds, 0).unwrap();
        worst[1] = min_cosine(&deepstack, expected.deepstack_embeds.view());
    }
    let output = nano.run(&given);
    assert_eq!(
        output.hidden_states.len(),
        recorded.hidden_states.len_of(Axis(0))
    );
    for (index, hidden) in output.hidden_states.iter().enumerate() {
        let hidden = hidden.narrow(0, 0, prompt).unwrap();
        worst[2] = worst[2].min(min_cosine(
            &hidden,
            recorded.hidden_states.index_axis(Axis(0), index),
        ));
    }
    worst[3] = min_cosine(&output.logits, recorded.logits.view());
    let logits = to_rows(&output.logits).unwrap();
    for (at, row) in logits.rows().into_iter().enumerate() {
        if recorded.margins[at] >= MIN_MARGIN {
            assert_eq!(
                top(row),
                top(recorded.logits.row(at)),
                "{name}: position {at}"
            );
        }
    }
    let mut head = given.prompt.clone();
    head.ids.truncate(prompt);
    let made = nano
        .text
        .greedy(&head, given.vision.as_ref(), recorded.greedy_ids.len());
    assert_eq!(made.unwrap(), recorded.greedy_ids, "{name}");
    worst.map(|cosine| 1.0 - cosine)
}

#[test]
fn every_rung_of_the_ladder_holds() {
    let nano = nano();
    assert_eq!(nano.oracle.steps, 24);
    for name in ["scene-1", "scene-7", "count"] {
        let worst = ladder(&nano, name);
        println!(
            "{name}: 1 - cos: vision {:.1e}, deepstack {:.1e}, layers {:.1e}, logits {:.1e}",
            worst[0], worst[1], worst[2], worst[3]
        );
        for deviation in worst {
            assert!(deviation <= 1.0 - BAR, "{name}: {worst:?}");
            assert!(deviation <= 1.0 - EXPECTED, "{name}: {worst:?}");
        }
    }
}

#[test]
fn the_recorded_patches_and_tokens_are_ours() {
    let nano = nano();
    let source = Source::nano();
    let chat = Chat::load(&TokenizerFiles::load(&source).unwrap(), &nano.config).unwrap();
    for entry in &nano.oracle.prompts {
        let recorded = nano.oracle.read(entry).unwrap();
        let grid = entry.image.as_ref().map(|image| image.grid[0]);
        let prompt = chat.question(&entry.prompt, grid).unwrap();
        assert_eq!(prompt.hf_ids, recorded.input_ids[..entry.prompt_tokens]);
        let grids: Vec<_> = entry.image.iter().map(|image| image.grid).collect();
        let graph =
            positions::prompt(prompt.hf_ids.clone(), &grids, &nano.config, PIPELINED).unwrap();
        assert_eq!(graph, prompt);
        if let (Some(image), Some(vision)) = (&entry.image, &recorded.vision) {
            assert_eq!(
                graph.ids[image.start],
                nano.config.text_config.vocab_size as i32
            );
            let picture = repository().join("oracles/nano/scenes").join(&image.file);
            let patches = Image::load(&picture).unwrap();
            let patches = patches
                .patches(image.grid[0], &nano.config.vision_config)
                .unwrap();
            assert_eq!((patches.rows, patches.cols), vision.patches.dim());
            for (actual, expected) in patches.values.iter().zip(&vision.patches) {
                assert_eq!(half::f16::from_f32(*actual), half::f16::from_f32(*expected));
            }
        }
    }
}

#[test]
fn tokens_one_by_one_and_in_chunks_give_the_same() {
    let nano = nano();
    for (name, chunk) in [("scene-1", 1), ("scene-7", 7)] {
        let given = nano.given(name);
        let whole = to_rows(&nano.run(&given).logits).unwrap();
        let mut cache = Cache::default();
        let mut parts = Vec::new();
        for ids in given.prompt.ids.chunks(chunk) {
            let positions = in_graph(ids, cache.tokens() as i32, &given.rope);
            let output = nano
                .text
                .forward(ids, &positions, given.vision.as_ref(), &mut cache);
            parts.push(to_rows(&output.unwrap().logits).unwrap());
        }
        assert_eq!(cache.tokens(), given.prompt.ids.len());
        let parts: Vec<_> = parts.iter().map(|part| part.view()).collect();
        let parts = concatenate(Axis(0), &parts).unwrap();
        assert_eq!(parts.dim(), whole.dim());
        for cosine in row_cosines(parts.view(), whole.view()) {
            assert!(cosine > EXPECTED);
        }
    }
}

#[test]
fn the_cache_is_the_recorded_one_and_decodes_on_from_it() {
    let nano = nano();
    let given = nano.given("scene-1");
    let (recorded, prompt) = (&given.recorded, given.tokens);
    let mut actual = Cache::default();
    let ids = &given.prompt.ids;
    let positions = in_graph(ids, 0, &given.rope);
    let vision = given.vision.as_ref();
    let head = nano
        .text
        .forward(&ids[..prompt], &positions[..prompt], vision, &mut actual);
    head.unwrap();
    let mut expected = Cache::default();
    for (index, [keys, values]) in actual.layers.iter().enumerate() {
        let both = [(keys, &recorded.keys), (values, &recorded.values)].map(|(actual, array)| {
            // [KV, P, D], of a single sequence.
            let expected = array.slice(s![index, 0, .., .., ..]);
            let shape = actual.dims().to_vec();
            let expected = expected.to_shape(shape.as_slice()).unwrap();
            assert!(
                min_cosine(actual, expected.view()) > EXPECTED,
                "layer {index}"
            );
            let values: Vec<f32> = expected.iter().copied().collect();
            Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
        });
        expected.layers.push(both);
    }
    let (id, position) = (&ids[prompt..=prompt], &positions[prompt..=prompt]);
    let step = nano
        .text
        .forward(id, position, vision, &mut expected)
        .unwrap();
    let rows = to_rows(&step.logits).unwrap();
    assert!(cosine(rows.row(0), recorded.logits.row(prompt)) > EXPECTED);
}

/// What the ladder is for: each of these computes something, and not the model.
#[test]
fn a_wrong_model_falls_off_the_ladder() {
    let nano = nano();
    let given = nano.given("scene-1");
    let recorded = &given.recorded;
    let rope = given.rope;
    let vision = given.vision.as_ref().unwrap();
    let worst_layer =
        |text: &TextModel, ids: &[i32], positions: &[[i32; 3]], vision: &VisionOutput| {
            let output = text
                .forward(ids, positions, Some(vision), &mut Cache::default())
                .unwrap();
            let cosines = output
                .hidden_states
                .iter()
                .enumerate()
                .map(|(index, hidden)| {
                    let hidden = hidden.narrow(0, 0, given.tokens).unwrap();
                    min_cosine(&hidden, recorded.hidden_states.index_axis(Axis(0), index))
                });
            cosines.fold(1.0, f64::min)
        };
    let ids = &given.prompt.ids;
    let good = in_graph(ids, 0, &rope);
    assert!(worst_layer(&nano.text, ids, &good, vision) > EXPECTED);

    let mut faults: Vec<(&str, f64)> = Vec::new();
    let mut shifted = rope;
    shifted.shift_amount += 1;
    let positions = in_graph(ids, 0, &shifted);
    faults.push((
        "shift amount",
        worst_layer(&nano.text, ids, &positions, vision),
    ));
    let mut late = rope;
    late.shift_start += 1;
    let positions = in_graph(ids, 0, &late);
    faults.push((
        "shift start",
        worst_layer(&nano.text, ids, &positions, vision),
    ));
    let swapped: Vec<_> = good.iter().map(|[t, h, w]| [*t, *w, *h]).collect();
    faults.push((
        "h and w swapped",
        worst_layer(&nano.text, ids, &swapped, vision),
    ));
    let flat: Vec<_> = good.iter().map(|[t, _, _]| [*t; 3]).collect();
    faults.push(("no grid", worst_layer(&nano.text, ids, &flat, vision)));

    let mut plain = vision.clone();
    plain.deepstack_embeds.pop();
    faults.push((
        "a missing DeepStack",
        worst_layer(&nano.text, ids, &good, &plain),
    ));
    plain = vision.clone();
    plain.deepstack_embeds.swap(0, 1);
    faults.push((
        "DeepStack swapped",
        worst_layer(&nano.text, ids, &good, &plain),
    ));
    let mut reversed = ids.clone();
    let vocab = nano.config.text_config.vocab_size as i32;
    for id in reversed.iter_mut().filter(|id| **id >= vocab) {
        *id = vocab + 15 - (*id - vocab);
    }
    faults.push((
        "slots reversed",
        worst_layer(&nano.text, &reversed, &good, vision),
    ));

    let checkpoint = models::qwen3_vl::open(&Source::nano()).unwrap();
    let mut other = nano.config.clone();
    other.text_config.rope_theta = 1e6;
    let text = TextModel::load(&other, &checkpoint, &Device::Cpu).unwrap();
    faults.push(("theta", worst_layer(&text, ids, &good, vision)));
    other = nano.config.clone();
    other.text_config.mrope_section = [16, 0, 0];
    let text = TextModel::load(&other, &checkpoint, &Device::Cpu).unwrap();
    faults.push(("sections", worst_layer(&text, ids, &good, vision)));

    for (fault, cosine) in faults {
        println!("{fault}: min cosine {cosine:.5}");
        assert!(cosine < BAR, "{fault}: {cosine}");
    }
}

/// Other shapes, with random weights: one head, no groups, an untied head, an
/// odd grid, shards. `oracles/record.py` recorded their logits.
#[test]
fn models_of_other_shapes_give_the_recorded_logits() {
    for name in [
        "no-groups-grid6",
        "one-head-grid4",
        "one-kv-grid5",
        "published-grid14",
        "untied-grid3",
    ] {
        let file = repository().join("oracles/shapes").join(name);
        let given = std::fs::read(file.with_extension("json")).unwrap();
        let given: Value = serde_json::from_slice(&given).unwrap();
        let config = Config::parse(given["config"].to_string().as_bytes(), name).unwrap();
        let mut options = synth::Options::default();
        if let Some(bytes) = given["shard_bytes"].as_u64() {
            options = options.shard_bytes(bytes as usize);
        }
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("checkpoint");
        synth::write(&config, &folder, options, |_, _| {}).unwrap();
        let checkpoint = models::qwen3_vl::open(&Source::folder(&folder).unwrap()).unwrap();

        let bytes = std::fs::read(file.with_extension("safetensors")).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let made_of = &header.metadata().as_ref().unwrap()["checkpoint"];
        assert_eq!(&checkpoint.digest(), made_of, "{name}");
        let recorded = SafeTensors::deserialize(&bytes).unwrap();
        let integers = |key: &str| -> Vec<i32> {
            let data = recorded.tensor(key).unwrap().data().as_chunks().0;
            data.iter().map(|b| i32::from_le_bytes(*b)).collect()
        };

        let grid = given["grid"].as_u64().unwrap() as usize;
        let vision = VisionModel::load(&config, &checkpoint, &Device::Cpu).unwrap();
        let shape = (4 * grid * grid, config.vision_config.patch_len());
        let numbers = (0..(shape.0 * shape.1) as u32)
            .map(|at| testkit::recorded_level(at) as f32 / 128.0 - 1.0)
            .collect();
        let patches = Array2::from_shape_vec(shape, numbers).unwrap();
        let vision = vision.forward(patches.view(), [grid, grid]).unwrap();
        let text = TextModel::load(&config, &checkpoint, &Device::Cpu).unwrap();
        let vocab = config.text_config.vocab_size as i32;
        let (mut lowest, mut equal) = (1.0, 0);
        for prompt in ["image", "text"] {
            let ids = integers(&format!("{prompt}.ids"));
            let tokens: Vec<u32> = ids
                .iter()
                .map(|id| {
                    if *id < vocab {
                        *id as u32
                    } else {
                        config.image_token_id as u32
                    }
                })
                .collect();
            let grids = if prompt == "image" {
                vec![[grid, grid]]
            } else {
                vec![]
            };
            let positions = from_tokens(&tokens, &grids, &config).unwrap();
            let vision = (prompt == "image").then_some(&vision);
            let output = text
                .forward(&ids, &positions, vision, &mut Cache::default())
                .unwrap();
            let rows = to_rows(&output.logits).unwrap();
            let first = integers(&format!("{prompt}.first"))[0] as usize;
            let logits = recorded.tensor(&format!("{prompt}.logits")).unwrap();
            let values = logits.data().as_chunks().0.iter();
            let values = values.map(|b| f32::from_le_bytes(*b)).collect();
            let shape = (logits.shape()[0], logits.shape()[1]);
            let logits = Array2::from_shape_vec(shape, values).unwrap();
            let rows = rows.slice(s![first.., ..]);
            assert_eq!(rows.dim(), logits.dim());
            for (row, expected) in rows.rows().into_iter().zip(logits.rows()) {
                lowest = f64::min(lowest, cosine(row, expected));
                equal += usize::from(top(row) == top(expected));
            }
        }
        println!(
            "{name}: 1 - cos {:.1e}, {equal} of 32 likeliest tokens",
            1.0 - lowest
        );
        assert!(lowest > EXPECTED, "{name}: {lowest}");
        assert_eq!(equal, 32, "{name}");
    }
}

#[test]
fn inputs_without_an_answer_are_refused() {
    let nano = nano();
    let forward = |ids: &[i32], positions: &[[i32; 3]], cache: &mut Cache| {
        nano.text.forward(ids, positions, None, cache).unwrap_err()
    };
    let mut cache = Cache::default();
    for (ids, positions, part) in [
        (vec![], vec![], "at least one"),
        (vec![1, 2], vec![[0; 3]], "found 2 tokens and 1 positions"),
        (vec![512], vec![[0; 3]], "not below 512"),
        (vec![-1], vec![[0; 3]], "not below 512"),
    ] {
        let error = forward(&ids, &positions, &mut cache);
        assert!(matches!(error, Error::Input { .. }), "{error}");
        assert!(error.to_string().contains(part), "{error}");
        assert_eq!(cache.tokens(), 0);
    }
    let one = Tensor::zeros((2, 1, 32), candle_core::DType::F32, &Device::Cpu).unwrap();
    cache.layers.push([one.clone(), one]);
    let error = forward(&[1], &[[0; 3]], &mut cache);
    assert!(error.to_string().contains("1 layers"), "{error}");
    for (rows, width, grid) in [
        (0, 1536, [0, 0]),
        (1, 1536, [1, 1]),
        (64, 1536, [4, 5]),
        (1536, 64, [4, 4]),
    ] {
        let patches = Array2::zeros((rows, width));
        let error = nano.vision.forward(patches.view(), grid).unwrap_err();
        assert!(matches!(error, Error::Input { .. }), "{error}");
    }
}
