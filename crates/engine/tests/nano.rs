//! The nano checkpoint, exported and run: its captions, and fused against
//! unfused. With the feature `cuda` or `metal`, on that device:
//! no CI job has one, so those runs are by hand.

// Helpers outside test functions, which clippy.toml does not exempt.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::{ops::ControlFlow, path::Path};

use bundle::{CallShape, contract};
use candle_core::{DType, Device, Tensor};
use common::{device, exported, recipe, scenes};
use engine::{
    Decoder, Error, Event, FinishReason, Limits, Model, PictureSpec, Prompt, Sampler, StaticInputs,
    VisionEncoder,
};
use runtime::{Options, Program};

/// Composite graphs and products operation by operation.
const UNFUSED: Options = Options::unfused();

fn load(asset: &Path, options: Options) -> Program {
    Program::load(asset, device(), options).unwrap()
}

/// How nano's pictures are cut.
fn spec() -> PictureSpec {
    let architecture = models::open(&checkpoint::Source::nano()).unwrap();
    PictureSpec::from(&architecture.geometry(4).unwrap())
}

#[test]
fn captions_are_right() {
    let (_out, bundles) = exported(recipe("int8hu"), vec![CallShape::One]);
    for runtime in [Options::default(), UNFUSED] {
        let mut options = engine::Options::new(device());
        options.runtime = runtime;
        let model = Model::open(&bundles[0].path, options).unwrap();
        let mut session = model.session();
        for scene in scenes() {
            let (mut tokens, mut text, mut read) = (Vec::new(), String::new(), 0);
            let answer = session.answer(
                &scene.question,
                &mut Sampler::greedy(),
                Limits::new(64),
                |event| {
                    match event {
                        Event::Prompt { read: now, .. } => read = now,
                        Event::Token { token, text: new } => {
                            tokens.push(token);
                            text.push_str(new);
                        }
                        other => panic!("{other:?}"),
                    }
                    ControlFlow::Continue(())
                },
            );
            let answer = answer.unwrap();
            assert_eq!(answer.text.trim(), scene.answer);
            assert_eq!((&answer.tokens, &answer.text), (&tokens, &text));
            assert_eq!(model.tokenizer().decode(&tokens).unwrap(), text);
            let last = *tokens.last().unwrap();
            assert_eq!(answer.finish, FinishReason::Stop(last));
            assert!(model.tokenizer().stop_tokens().contains(&last));
            // The last token was not read.
            assert_eq!(read, answer.timings.prompt_tokens);
            let sequence = session.sequence().unwrap();
            assert_eq!(sequence.len(), read + tokens.len() - 1);
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
fn read(vision: Program, decoder: Program, prompt: &Prompt) -> (Tensor, Tensor) {
    let vision = VisionEncoder::new(vision, spec()).unwrap();
    let decoder = Decoder::new(decoder).unwrap();
    let pictures = vision.encode(&prompt.patches[0]).unwrap();
    let image = pictures.get(contract::IMAGE_EMBEDS).unwrap().clone();
    let inputs = decoder.inputs(&prompt.tokens, pictures).unwrap();
    let mut sequence = decoder.start(&inputs).unwrap();
    (sequence.read_all(&prompt.tokens.ids).unwrap(), image)
}

#[test]
fn fusions_and_chunks_change_nothing_that_matters() {
    let scene = scenes().swap_remove(0);
    for mode in [recipe("int8hu"), recipe("int8lin"), recipe("fp16")] {
        let queries = vec![CallShape::One, CallShape::Dynamic, CallShape::Prefill(8)];
        let (_out, bundles) = exported(mode, queries);
        let model = common::open(&bundles[0].path).unwrap();
        let prompt = model.prompt(&scene.question).unwrap();
        let assets: Vec<&Path> = bundles.iter().map(|one| one.asset.as_path()).collect();
        let [decoders @ .., vision] = &assets[..] else {
            panic!("nothing was exported")
        };
        // What the processor computes, fused, is what all others are held to.
        let on_cpu = |asset: &Path| Program::load(asset, Device::Cpu, Options::default()).unwrap();
        let first = read(on_cpu(vision), on_cpu(decoders[0]), &prompt);
        for options in [Options::default(), UNFUSED, Options::as_core_ai()] {
            for decoder in decoders {
                let found = read(load(vision, options), load(decoder, options), &prompt);
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
    let (_out, bundles) = exported(recipe("int8hu"), vec![CallShape::One]);
    let decoder = load(&bundles[0].asset, Options::default());
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

    let vision = load(&bundles[1].asset, Options::default());
    let error = Decoder::new(vision).unwrap_err();
    assert!(matches!(error, Error::NotADecoder(_)), "{error}");
    let error = VisionEncoder::new(decoder.clone(), spec()).unwrap_err();
    assert!(matches!(error, Error::NotAVisionEncoder(_)), "{error}");

    let decoder = Decoder::new(decoder).unwrap();
    let small = Tensor::zeros((2, 2), DType::F16, &Device::Cpu).unwrap();
    let inputs = StaticInputs::new().with(contract::IMAGE_EMBEDS, small.clone());
    let error = decoder.start(&inputs).unwrap_err();
    assert!(matches!(error, Error::Input { .. }), "{error}");
    let problem = error.to_string();
    assert!(
        problem.contains("expected tensor<16x128xf16>, found [2, 2]"),
        "{problem}"
    );
    let error = decoder
        .start(&StaticInputs::new().with("sound", small))
        .unwrap_err();
    assert!(matches!(error, Error::UnknownInput { .. }), "{error}");
    assert!(error.to_string().contains("rope_shift_start"), "{error}");

    let mut sequence = decoder.start(&StaticInputs::new()).unwrap();
    assert!(matches!(sequence.read(&[]), Err(Error::NoTokens)));
    assert!(matches!(sequence.read_all(&[]), Err(Error::NoTokens)));
    assert!(sequence.is_empty());
    // The cache grows as it is written.
    sequence.read(&[5; 70]).unwrap();
    let cache = sequence.states().get(contract::KEY_CACHE).unwrap();
    assert_eq!(cache.dims(), [4, 1, 2, 128, 32]);
}
