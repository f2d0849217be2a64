//! The nano checkpoint, exported and run: its captions, and fused against
//! unfused. With the feature `cuda` or `metal`, on that device.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{path::Path, sync::Arc};

use bundle::CallShape;
use bundle::contract;
use candle_core::{DType, Device, Tensor};
use checkpoint::Source;
use checkpoint::TokenizerFiles;
use engine::{Decoder, Image};
use models::qwen3_vl::Chat;
use models::qwen3_vl::Config;
use quantize::Recipe;
use runtime::{Options, Program};

const GRID: usize = 4;

/// Composite graphs and products operation by operation.
const UNFUSED: Options = Options::unfused();

fn exported(
    mode: &'static Recipe,
    shapes: Vec<CallShape>,
) -> (tempfile::TempDir, Vec<std::path::PathBuf>) {
    let out = tempfile::tempdir().unwrap();
    let options = export::Options {
        recipe: mode,
        shapes,
        grid: GRID as u64,
        max_context: 4096,
        decoder: true,
        vision: true,
        name: Some("nano".to_owned()),
        license: None,
        created: 0,
    };
    let bundles = export::export(
        &Source::nano(),
        out.path(),
        &options,
        Arc::new(|_, _| std::ops::ControlFlow::Continue(())),
    );
    let assets = bundles.unwrap().into_iter().map(|bundle| bundle.asset);
    (out, assets.collect())
}

/// The device that the tests were built for.
fn device() -> Device {
    match cfg!(feature = "cuda") {
        true => runtime::cuda(0).unwrap(),
        false => Device::metal_if_available(0).unwrap(),
    }
}

fn load(asset: &Path, options: Options) -> Program {
    Program::load(asset, device(), options).unwrap()
}

struct Scene {
    prompt: models::TokenizedPrompt,
    patches: Tensor,
    answer: String,
}

fn scenes(chat: &Chat, config: &Config) -> Vec<Scene> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../oracles/nano/scenes");
    let list = std::fs::read(folder.join("scenes.json")).unwrap();
    let list: serde_json::Value = serde_json::from_slice(&list).unwrap();
    let scenes = list["prompts"].as_array().unwrap().iter();
    let scenes = scenes.filter(|scene| scene["image"].is_string());
    scenes
        .map(|scene| {
            let picture = picture::Image::load(&folder.join(scene["image"].as_str().unwrap()));
            let patches = picture
                .unwrap()
                .patches(GRID, &config.vision_config)
                .unwrap();
            let dims = (patches.rows, patches.cols);
            let prompt = scene["prompt"].as_str().unwrap();
            Scene {
                prompt: chat.question(prompt, Some(GRID)).unwrap(),
                patches: Tensor::from_vec(patches.values, dims, &Device::Cpu).unwrap(),
                answer: scene["answer"].as_str().unwrap().to_owned(),
            }
        })
        .collect()
}

fn nano() -> (Chat, Config) {
    let source = Source::nano();
    let config = Config::load(&source).unwrap();
    let chat = Chat::load(&TokenizerFiles::load(&source).unwrap(), &config).unwrap();
    (chat, config)
}

#[test]
fn captions_are_right() {
    let (chat, config) = nano();
    let (_out, assets) = exported(Recipe::named("int8hu").unwrap(), vec![CallShape::One]);
    let scenes = scenes(&chat, &config);
    assert!(scenes.len() >= 8);
    for options in [Options::default(), UNFUSED] {
        let engine = Decoder::new(load(&assets[0], options)).unwrap();
        let vision = load(&assets[1], options);
        for scene in &scenes {
            let image = Image::encode(&vision, scene.patches.clone()).unwrap();
            let prompt = &scene.prompt;
            let shift = [contract::ROPE_SHIFT_START, contract::ROPE_SHIFT_AMOUNT];
            let [start, amount] = shift.map(|name| prompt.input(name).unwrap());
            let mut session = engine.start(start, amount, Some(&image)).unwrap();
            let mut heard = Vec::new();
            let tokens = session.generate(&prompt.ids, 64, chat.end_tokens(), |token| {
                heard.push(token);
                true
            });
            let tokens = tokens.unwrap();
            assert_eq!(tokens, heard);
            assert!(chat.end_tokens().contains(tokens.last().unwrap()));
            assert_eq!(chat.decode(&tokens).unwrap().trim(), scene.answer);
            // The last token was not read.
            assert_eq!(session.seen(), prompt.ids.len() + tokens.len() - 1);
        }
    }
}

/// The least cosine between rows.
fn least_cosine(a: &Tensor, b: &Tensor) -> f64 {
    let rows = |tensor: &Tensor| {
        let wide = tensor.to_dtype(DType::F64).unwrap();
        wide.to_vec2::<f64>().unwrap()
    };
    let cosines = rows(a).into_iter().zip(rows(b)).map(|(a, b)| {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt()
    });
    cosines.fold(1.0, f64::min)
}

/// The logits after each token of a prompt, and what the image became.
fn read(vision: &Program, decoder: Program, scene: &Scene) -> (Tensor, Tensor) {
    let image = Image::encode(vision, scene.patches.clone()).unwrap();
    let engine = Decoder::new(decoder).unwrap();
    let prompt = &scene.prompt;
    let shift = [contract::ROPE_SHIFT_START, contract::ROPE_SHIFT_AMOUNT];
    let [start, amount] = shift.map(|name| prompt.input(name).unwrap());
    let mut session = engine.start(start, amount, Some(&image)).unwrap();
    (session.read_all(&prompt.ids).unwrap(), image.embeds)
}

#[test]
fn fusions_and_chunks_change_nothing_that_matters() {
    let (chat, config) = nano();
    let scene = scenes(&chat, &config).swap_remove(0);
    for mode in [
        Recipe::named("int8hu").unwrap(),
        Recipe::named("int8lin").unwrap(),
        Recipe::named("fp16").unwrap(),
    ] {
        let queries = vec![CallShape::One, CallShape::Dynamic, CallShape::Prefill(8)];
        let (_out, assets) = exported(mode, queries);
        let [decoders @ .., vision] = &assets[..] else {
            panic!("nothing was exported")
        };
        // What the processor computes, fused, is what all others are held to.
        let on_cpu = |asset| Program::load(asset, Device::Cpu, Options::default()).unwrap();
        let first = read(&on_cpu(vision), on_cpu(&decoders[0]), &scene);
        for options in [Options::default(), UNFUSED, Options::as_core_ai()] {
            let vision = load(vision, options);
            for decoder in decoders {
                let found = read(&vision, load(decoder, options), &scene);
                let cosines = (
                    least_cosine(&found.0, &first.0),
                    least_cosine(&found.1, &first.1),
                );
                let what = format!("{mode}, {options:?}, {}: {cosines:?}", decoder.display());
                assert!(cosines.0 > 0.9995 && cosines.1 > 0.9995, "{what}");
                println!("{what}");
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let (_out, assets) = exported(Recipe::named("int8hu").unwrap(), vec![CallShape::One]);
    let decoder = load(&assets[0], Options::default());
    let problem = decoder.function("prefill").unwrap_err().to_string();
    assert_eq!(
        problem,
        "there is no function `prefill`; the asset has main"
    );
    let main = decoder.function("main").unwrap();
    let one = Tensor::new(&[[1_i64]], &Device::Cpu).unwrap();
    let run = |inputs: &[(&str, Tensor)]| {
        let result = main.run(inputs, &mut runtime::States::new());
        result.unwrap_err().to_string()
    };
    assert_eq!(
        run(&[("input_ids", one.clone())]),
        "function `main`, input `position_ids`: expected tensor<1x?xsi32>, found nothing"
    );
    assert!(run(&[("ids", one.clone())]).contains("expected one of input_ids"));
    let wide = Tensor::new(&[[1_i64, 2]], &Device::Cpu).unwrap();
    assert_eq!(
        run(&[("input_ids", wide)]),
        "function `main`, input `input_ids`: expected tensor<1x1xsi32>, found [1, 2] of i64"
    );

    let vision = load(&assets[1], Options::default());
    assert!(
        Decoder::new(vision)
            .unwrap_err()
            .to_string()
            .contains("no decoder")
    );
    let engine = Decoder::new(decoder).unwrap();
    let small = Tensor::zeros((2, 2), DType::F16, &Device::Cpu).unwrap();
    let image = Image {
        embeds: small.clone(),
        deepstack: small,
    };
    let problem = engine.start(0, 0, Some(&image)).unwrap_err().to_string();
    assert!(problem.contains("exported for [16, 128]"), "{problem}");
    let mut session = engine.start(contract::NO_IMAGE, 0, None).unwrap();
    assert!(session.read(&[]).is_err());
    // The cache grows as it is written.
    session.read(&[5; 70]).unwrap();
    let cache = session.states().get("keyCache").unwrap();
    assert_eq!(cache.dims(), [4, 1, 2, 128, 32]);
}
