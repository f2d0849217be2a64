//! vlm bundles of nano: the answers and logits of pipelined ones, several
//! pictures, several turns, and calls of any length.

// Helpers outside test functions, which clippy.toml does not exempt.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::ops::ControlFlow;

use bundle::{CallShape, Layout};
use candle_core::Tensor;
use common::{exported, open, read, recipe, scenes};
use engine::{Answer, Conversation, Limits, Role, Sampler, Session, Turn};
use export::Exported;
use picture::Image;
use testkit::nano;

fn vlm(mode: &str) -> (tempfile::TempDir, Vec<Exported>) {
    let out = tempfile::tempdir().unwrap();
    let options = export::Options {
        recipe: recipe(mode),
        layouts: vec![Layout::Vlm],
        ..nano::options()
    };
    let bundles = nano::export(out.path(), &options);
    (out, bundles)
}

fn answer(session: &mut Session, talk: &Conversation<Image>) -> Answer {
    let limits = Limits::new(64);
    let go_on = |_: engine::Event<'_>| ControlFlow::Continue(());
    session
        .answer(talk, &mut Sampler::greedy(), limits, go_on)
        .unwrap()
}

fn rows(logits: &Tensor) -> Vec<Vec<f64>> {
    let wide = logits.to_dtype(candle_core::DType::F64).unwrap();
    wide.to_vec2().unwrap()
}

/// The minimum cosine between rows, and whether each has the same best token.
fn compare(a: &Tensor, b: &Tensor) -> (f64, bool) {
    let (a, b) = (rows(a), rows(b));
    assert_eq!(a.len(), b.len());
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let cosines = a
        .iter()
        .zip(&b)
        .map(|(a, b)| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt());
    let best = |row: &[f64]| (0..row.len()).max_by(|i, j| row[*i].total_cmp(&row[*j]));
    let same = a.iter().zip(&b).all(|(a, b)| best(a) == best(b));
    (cosines.fold(1.0, f64::min), same)
}

#[test]
fn captions_are_right_and_logits_those_of_the_pipelined_bundle() {
    for mode in ["fp16", "int8lin", "int8hu"] {
        let (_out, bundles) = vlm(mode);
        let model = open(&bundles[0].path).unwrap();
        let (_other, pipelined) = exported(recipe(mode), vec![CallShape::Dynamic]);
        let pipelined = open(&pipelined[0].path).unwrap();
        for scene in scenes() {
            let found = answer(&mut model.session(), &scene.question);
            assert_eq!(found.text.trim(), scene.answer, "{mode}");
            let [ours, expected] =
                [&model, &pipelined].map(|model| read(model, &scene.question, 256));
            let (cosine, same) = compare(&ours, &expected);
            // The same weights and the same f16 roundings, in other places.
            assert!(cosine > 0.9999 && same, "{mode}: {cosine}");
        }
    }
}

#[test]
fn calls_of_any_length_agree() {
    let (_out, bundles) = vlm("int8hu");
    let model = open(&bundles[0].path).unwrap();
    let mut scenes = scenes().into_iter();
    let mut talk = scenes.next().unwrap().question;
    talk.turns
        .push(Turn::new(Role::Assistant, "the image shows a red circle ."));
    talk.turns.extend(scenes.next().unwrap().question.turns);
    let whole = read(&model, &talk, usize::MAX);
    for chunk in [1, 7, 64] {
        let (cosine, same) = compare(&read(&model, &talk, chunk), &whole);
        assert!(cosine > 0.9999 && same, "{chunk}: {cosine}");
    }
}

#[test]
fn a_second_picture_is_answered_from_the_kept_cache_as_from_nothing() {
    let (_out, bundles) = vlm("int8hu");
    let model = open(&bundles[0].path).unwrap();
    let scenes = scenes();
    let mut right = 0;
    for pair in scenes.windows(2) {
        let mut session = model.session();
        let mut talk = pair[0].question.clone();
        let first = answer(&mut session, &talk);
        assert_eq!(first.text.trim(), pair[0].answer);
        talk.turns
            .push(Turn::new(Role::Assistant, first.text.trim()));
        talk.turns.extend(pair[1].question.turns.clone());
        let kept = session.sequence().unwrap().len();
        let mut steps = Vec::new();
        let second = session.answer(&talk, &mut Sampler::greedy(), Limits::new(64), |event| {
            if let engine::Event::Prompt { read, total } = event {
                steps.push((read, total));
            }
            ControlFlow::Continue(())
        });
        let second = second.unwrap();
        let fresh = answer(&mut model.session(), &talk);
        assert_eq!(second.tokens, fresh.tokens);
        // What was read in the first turn was not read again.
        assert!(steps[0].0 > kept, "{steps:?}, {kept}");
        right += usize::from(second.text.trim() == pair[1].answer);

        // Another picture in the first turn is another conversation.
        let mut other = talk.clone();
        other.turns[0].pictures = pair[1].question.turns[0].pictures.clone();
        let again = answer(&mut session, &other);
        let fresh = answer(&mut model.session(), &other);
        assert_eq!(again.tokens, fresh.tokens);
    }
    println!("{right} of {} second pictures", scenes.len() - 1);
}
