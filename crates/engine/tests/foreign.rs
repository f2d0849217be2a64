//! Bundles that tools of others made of nano's checkpoint, in
//! `tests/fixtures/apple`: they open, and answer as in Core AI's runtime.

// Helpers outside test functions, which clippy.toml does not exempt.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::{collections::BTreeMap, ops::ControlFlow};

use aimodel::{Form, print_ir, verify};
use candle_core::{DType, Device, Tensor};
use common::{conversations, conversations_folder, open, read, scenes};
use engine::{Conversation, Limits, Model, Role, Sampler, Turn};
use picture::Image;
use testkit::{copy_folder, edit_json, foreign_bundle};

/// The bundles and their assets.
const BUNDLES: [(&str, &[&str]); 3] = [
    ("nano_llm", &["nano_llm"]),
    ("nano_vlm", &["embed", "nano_vlm", "vision"]),
    ("nano_wide", &["embed", "nano_wide", "vision"]),
];

/// Tokens that lead by less may differ.
const MARGIN: f32 = 0.1;

fn foreign(name: &str) -> Model {
    open(&foreign_bundle(name)).unwrap()
}

fn tensors(path: impl AsRef<std::path::Path>) -> BTreeMap<String, Tensor> {
    let tensors = candle_core::safetensors::load(path, &Device::Cpu);
    tensors.unwrap().into_iter().collect()
}

fn wide(tensor: &Tensor) -> Vec<Vec<f64>> {
    let tensor = tensor.to_dtype(DType::F64).unwrap();
    let width = tensor.dims().last().copied().unwrap();
    let flat: Vec<f64> = tensor.flatten_all().unwrap().to_vec1().unwrap();
    flat.chunks(width).map(<[f64]>::to_vec).collect()
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn all_assets_are_verified_and_printed() {
    for (bundle, assets) in BUNDLES {
        for asset in assets {
            let folder = foreign_bundle(bundle).join(format!("{asset}.aimodel"));
            let asset = aimodel::open_asset(&folder).unwrap();
            asset.check_hash().unwrap();
            verify(&asset.module).unwrap();
            let mut text = Vec::new();
            print_ir(&asset.module, Form::Dialect, &mut text).unwrap();
            let text = String::from_utf8(text).unwrap();
            let has_pad = text.contains("coreai.pad %5, %1, %0 mode = <constant> : ");
            let widens = folder.ends_with("nano_wide/embed.aimodel");
            assert_eq!(has_pad, widens, "{}", folder.display());
        }
    }
}

/// 24 greedy tokens of each conversation that the bundle takes, and the logits
/// that they begin with, as `conformance/record_foreign.py` recorded them.
#[test]
fn answers_are_those_of_core_ais_runtime() {
    let talks = conversations();
    for (bundle, count) in [("nano_llm", 1), ("nano_vlm", 8), ("nano_wide", 8)] {
        let model = foreign(bundle);
        let recorded = tensors(foreign_bundle(&format!("{bundle}.safetensors")));
        let names = recorded
            .keys()
            .filter_map(|key| key.strip_suffix(".tokens"));
        let names: Vec<&str> = names.collect();
        assert_eq!(names.len(), count);
        for name in names {
            let of = |what: &str| &recorded[&format!("{name}.{what}")];
            let prompt = model.prompt(&talks[name]).unwrap();
            let ids = tensors(conversations_folder().join(format!("{name}.safetensors")));
            let ids: Vec<i32> = ids["input_ids"].to_vec1().unwrap();
            assert_eq!(prompt.tokens.ids, ids, "{bundle}, {name}");
            let mut sequence = model.start(&prompt).unwrap();
            let logits: Vec<f64> = sequence
                .read(&ids)
                .unwrap()
                .into_iter()
                .map(f64::from)
                .collect();
            let cosine = cosine(&logits, &wide(of("logits"))[0]);
            assert!(cosine > 0.9999, "{bundle}, {name}: {cosine}");
            let expected: Vec<i32> = of("tokens").to_vec1().unwrap();
            let margins: Vec<f32> = of("margins").to_vec1().unwrap();
            let found = model
                .start(&prompt)
                .unwrap()
                .greedy(&ids, expected.len())
                .unwrap();
            assert_eq!(found.len(), 24);
            for (at, token) in found.iter().enumerate() {
                if *token as i32 != expected[at] {
                    // What comes after another token is another answer.
                    assert!(
                        margins[at] < MARGIN,
                        "{bundle}, {name}: token {at}: {found:?}"
                    );
                    println!("{bundle}, {name}: token {at} leads by {}", margins[at]);
                    break;
                }
            }
        }
    }
}

/// What the omissions of Apple's own export cost (docs/vlm.md).
#[test]
fn only_the_whole_model_sees_the_scenes() {
    let right = |name: &str| {
        let model = foreign(name);
        let answers = scenes().into_iter().map(|scene| {
            let go_on = |_: engine::Event<'_>| ControlFlow::Continue(());
            let (mut sampler, limits) = (Sampler::greedy(), Limits::new(64));
            let answer = model
                .session()
                .answer(&scene.question, &mut sampler, limits, go_on);
            answer.unwrap().text.trim() == scene.answer
        });
        answers.filter(|right| *right).count()
    };
    assert_eq!((right("nano_wide"), right("nano_vlm")), (8, 0));
}

#[test]
fn only_the_whole_model_computes_what_transformers_computes() {
    let talks = conversations();
    let mut least = BTreeMap::new();
    for bundle in ["nano_wide", "nano_vlm", "nano_llm"] {
        let model = foreign(bundle);
        for (name, talk) in &talks {
            let has_pictures = talk.pictures().next().is_some();
            if bundle == "nano_llm" && has_pictures {
                continue;
            }
            let recorded = tensors(conversations_folder().join(format!("{name}.safetensors")));
            let pairs = wide(&read(&model, talk, usize::MAX));
            let pairs = pairs.into_iter().zip(wide(&recorded["logits"]));
            let cosines: Vec<f64> = pairs.map(|(a, b)| cosine(&a, &b)).collect();
            let (min, last) = (
                cosines.iter().copied().fold(1.0, f64::min),
                cosines[cosines.len() - 1],
            );
            println!("{bundle}, {name}: least cosine {min:.5}, at the answer {last:.5}");
            let entry = least.entry((bundle, has_pictures)).or_insert(1.0_f64);
            *entry = entry.min(min);
        }
    }
    // Without a picture, both are the same model.
    assert!(least[&("nano_wide", false)] > 0.9999);
    assert!(least[&("nano_vlm", false)] > 0.9999);
    assert!(least[&("nano_llm", false)] > 0.9999);
    assert!(least[&("nano_wide", true)] > 0.9999);
    assert!(least[&("nano_vlm", true)] < 0.9);
}

/// Two scenes, read with the right answer, at the positions of the answer.
#[test]
fn the_omissions_cost_the_answer_even_where_it_is_given() {
    let mut found = BTreeMap::new();
    for bundle in ["nano_wide", "nano_vlm"] {
        let model = foreign(bundle);
        for (name, at) in [("scene-1", 0), ("scene-7", 6)] {
            let folder = testkit::repository().join("oracles/nano/recorded");
            let recorded = tensors(folder.join(format!("{name}.safetensors")));
            let ids: Vec<i32> = recorded["input_ids"].to_vec1().unwrap();
            let prompt = model.prompt(&scenes()[at].question).unwrap();
            let asked = prompt.tokens.ids.len();
            assert_eq!(prompt.tokens.ids, ids[..asked]);
            let logits = model.start(&prompt).unwrap().read_all(&ids).unwrap();
            let pairs = wide(&logits).into_iter().zip(wide(&recorded["logits"]));
            let best = |row: &[f64]| (0..row.len()).max_by(|i, j| row[*i].total_cmp(&row[*j]));
            let entry = found.entry(bundle).or_insert((1.0_f64, 0, 0));
            for (ours, expected) in pairs.skip(asked - 1) {
                entry.0 = entry.0.min(cosine(&ours, &expected));
                entry.1 += usize::from(best(&ours) == best(&expected));
                entry.2 += 1;
            }
        }
        let (least, same, all) = found[bundle];
        println!("{bundle}: least cosine {least:.5}, {same} of {all} best tokens");
    }
    let (least, same, all) = found["nano_wide"];
    assert!(least > 0.9999 && same == all, "{found:?}");
    let (least, same, _) = found["nano_vlm"];
    assert!(least < 0.9 && same < all, "{found:?}");
}

/// The model may make a picture's token as any other: no picture stands behind it.
#[test]
fn an_answer_may_have_the_token_of_a_picture() {
    for bundle in ["nano_vlm", "nano_wide"] {
        let model = foreign(bundle);
        let question = Conversation::<Image>::question("what is in the image ?", []);
        let go_on = |_: engine::Event<'_>| ControlFlow::Continue(());
        let (mut sampler, limits) = (Sampler::greedy(), Limits::new(24));
        let answer = model
            .session()
            .answer(&question, &mut sampler, limits, go_on);
        assert!(answer.unwrap().tokens.contains(&504), "{bundle}");
    }
}

/// A cache of fixed extents ends a conversation where it is full.
#[test]
fn a_fixed_cache_is_all_the_room_there_is() {
    let model = foreign("nano_vlm");
    assert_eq!(model.decoder().capacity(), Some(512));
    assert_eq!(foreign("nano_wide").decoder().capacity(), None);
    let ids: Vec<i32> = (0..512).map(|at| 5 + at % 60).collect();
    let mut sequence = model.decoder().start(&engine::StaticInputs::new()).unwrap();
    sequence.read(&ids).unwrap();
    let error = sequence.read(&ids[..1]).unwrap_err().to_string();
    assert!(error.contains("512"), "{error}");
    // Whatever the manifest promises.
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("nano_vlm");
    copy_folder(&foreign_bundle("nano_vlm"), &bundle);
    edit_json(&bundle.join("metadata.json"), |m| {
        m["language"]["max_context_length"] = 4096.into();
    });
    assert_eq!(open(&bundle).unwrap().max_context(), 512);
}

#[test]
fn pictures_that_are_made_otherwise_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let talk = scenes().swap_remove(0).question;
    for (key, value) in [
        ("image_mean", serde_json::json!([0.48, 0.45, 0.4])),
        ("image_std", serde_json::Value::Null),
        ("rescale_factor", 0.5.into()),
        ("image_strategy", "pad".into()),
        ("image_token_count", 15.into()),
        ("image_token_count", 0.into()),
        ("image_token_count", usize::MAX.into()),
        ("patch_size", 0.into()),
        ("patch_size", 15.into()),
        ("image_size", 132.into()),
        ("image_size", usize::MAX.into()),
    ] {
        let bundle = folder.path().join("nano_vlm");
        copy_folder(&foreign_bundle("nano_vlm"), &bundle);
        edit_json(&bundle.join("metadata.json"), |m| {
            m["vision"][key] = value.clone()
        });
        let answered = open(&bundle).and_then(|model| {
            let prompt = model.prompt(&talk)?;
            model.start(&prompt).map(drop)
        });
        let error = answered.unwrap_err().to_string();
        assert!(
            error.contains("vision") || error.contains("picture"),
            "{key}, {value}: {error}"
        );
    }
}

/// A second picture in a second turn is answered from the kept cache.
#[test]
fn a_conversation_goes_on_with_a_second_picture() {
    for bundle in ["nano_vlm", "nano_wide"] {
        let model = foreign(bundle);
        let go_on = |_: engine::Event<'_>| ControlFlow::Continue(());
        let ask = |session: &mut engine::Session, talk: &Conversation<Image>| {
            let (mut sampler, limits) = (Sampler::greedy(), Limits::new(64));
            session.answer(talk, &mut sampler, limits, go_on).unwrap()
        };
        let mut scenes = scenes().into_iter();
        let mut talk = scenes.next().unwrap().question;
        let mut session = model.session();
        let first = ask(&mut session, &talk);
        talk.turns
            .push(Turn::new(Role::Assistant, first.text.trim()));
        talk.turns.extend(scenes.next().unwrap().question.turns);
        let second = ask(&mut session, &talk);
        assert_eq!(
            second.tokens,
            ask(&mut model.session(), &talk).tokens,
            "{bundle}"
        );
    }
}
