//! Opened bundles: how answers end, what is refused, and sessions side by side.

// Helpers outside test functions, which clippy.toml does not exempt.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::{fs, ops::ControlFlow, thread};

use bundle::CallShape;
use candle_core::Device;
use common::{exported, open, recipe, scenes};
use engine::{
    Answer, Conversation, Error, Event, FinishReason, Limits, Model, Options, Role, Sampler,
    Sampling, Turn,
};
use picture::Image;

const COUNT: &str = "count from one to twenty .";

fn nano() -> (tempfile::TempDir, Vec<export::Exported>) {
    exported(recipe("int8hu"), vec![CallShape::One])
}

/// Changes the decoder's metadata.
fn edit(bundle: &export::Exported, from: &str, to: &str) {
    let path = bundle.path.join("metadata.json");
    let metadata = fs::read_to_string(&path).unwrap();
    assert!(metadata.contains(from));
    fs::write(path, metadata.replace(from, to)).unwrap();
}

fn go_on(_: Event<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn ask(model: &Model, question: &str, max_tokens: usize) -> engine::Result<Answer> {
    let question = Conversation::<Image>::question(question, []);
    let limits = Limits::new(max_tokens);
    let mut session = model.session();
    session.answer(&question, &mut Sampler::greedy(), limits, go_on)
}

#[test]
fn an_answer_ends_where_it_must() {
    let (_out, bundles) = nano();
    // 14 tokens of prompt, and 11 of answer.
    edit(&bundles[0], "4096", "25");
    let model = open(&bundles[0].path).unwrap();
    assert_eq!(
        (model.name(), model.max_context()),
        ("nano_decode_int8hu_s1", 25)
    );
    let few = ask(&model, COUNT, 3).unwrap();
    assert_eq!(few.text.trim(), "one two three");
    assert_eq!(few.finish, FinishReason::Length);
    assert_eq!(few.timings.prompt_tokens, 14);
    let full = ask(&model, COUNT, 64).unwrap();
    assert_eq!(full.tokens.len(), 11);
    assert_eq!(full.finish, FinishReason::ContextFull);
    assert_eq!(ask(&model, COUNT, 11).unwrap().finish, FinishReason::Length);
    let whole = ask(&model, "count from one to two .", 64).unwrap();
    assert_eq!(whole.text.trim(), "one two .");
    let FinishReason::Stop(last) = whole.finish else {
        panic!("{:?}", whole.finish)
    };
    assert_eq!(Some(&last), whole.tokens.last());
    let long = ask(&model, &COUNT.repeat(3), 64).unwrap_err();
    assert!(
        matches!(long, Error::PromptTooLong { context: 25, .. }),
        "{long}"
    );
    let nothing = ask(&model, COUNT, 0).unwrap();
    assert_eq!(
        (nothing.tokens.len(), nothing.finish),
        (0, FinishReason::Length)
    );
}

#[test]
fn an_answer_can_be_cancelled_anywhere() {
    let (_out, bundles) = exported(recipe("int8hu"), vec![CallShape::Prefill(4)]);
    let model = open(&bundles[0].path).unwrap();
    let question = Conversation::<Image>::question(COUNT, []);
    let mut cancelled_in_the_prompt = 0;
    for events in 1..=8 {
        let mut left = events;
        let mut tokens = 0;
        let answer = model.session().answer(
            &question,
            &mut Sampler::greedy(),
            Limits::new(64),
            |event| {
                left -= 1;
                tokens += usize::from(matches!(event, Event::Token { .. }));
                if left == 0 {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            },
        );
        let answer = answer.unwrap();
        assert_eq!((left, answer.finish), (0, FinishReason::Cancelled));
        assert_eq!(answer.tokens.len(), tokens);
        cancelled_in_the_prompt += usize::from(tokens == 0);
    }
    assert!((1..8).contains(&cancelled_in_the_prompt));
}

#[test]
fn earlier_turns_are_read_and_pictures_counted() {
    let (_out, bundles) = nano();
    let model = open(&bundles[0].path).unwrap();
    let scene = scenes().swap_remove(0);
    let mut talk = scene.question.clone();
    talk.turns
        .push(Turn::new(Role::Assistant, scene.answer.as_str()));
    talk.turns.push(Turn::new(Role::User, COUNT));
    let prompt = model.prompt(&talk).unwrap();
    assert_eq!(
        (prompt.patches.len(), prompt.tokens.placements.len()),
        (1, 1)
    );
    let before = model.prompt(&scene.question).unwrap();
    assert!(prompt.tokens.ids.starts_with(&before.tokens.ids));
    let mut session = model.session();
    let limits = Limits::new(2);
    let answer = session.answer(&talk, &mut Sampler::greedy(), limits, go_on);
    assert_eq!(
        answer.unwrap().timings.prompt_tokens,
        prompt.tokens.ids.len()
    );

    let picture = scene.question.turns[0].pictures[0].clone();
    talk.turns[2].pictures.push(picture);
    let error = model.prompt(&talk).unwrap_err();
    let Error::TooManyPictures { given, max, .. } = error else {
        panic!("{error}")
    };
    assert_eq!((given, max), (2, 1));
}

#[test]
fn the_vision_encoder_is_loaded_when_a_picture_comes() {
    let (out, bundles) = nano();
    let scene = scenes().swap_remove(0);
    let vision = out.path().join("nano_vision");
    let hidden = out.path().join("elsewhere");
    let model = open(&bundles[0].path).unwrap();
    let answer = |model: &Model| {
        let limits = Limits::new(64);
        let mut session = model.session();
        session.answer(&scene.question, &mut Sampler::greedy(), limits, go_on)
    };
    fs::rename(&vision, &hidden).unwrap();
    assert_eq!(ask(&model, COUNT, 3).unwrap().text.trim(), "one two three");
    let error = answer(&model).unwrap_err();
    assert!(
        error.to_string().contains("needs the vision encoder"),
        "{error}"
    );
    fs::rename(&hidden, &vision).unwrap();
    assert_eq!(answer(&model).unwrap().text.trim(), scene.answer);
    // It stays loaded.
    fs::rename(&vision, &hidden).unwrap();
    assert_eq!(answer(&model).unwrap().text.trim(), scene.answer);
}

#[test]
fn bundles_that_lack_something_are_refused() {
    let (_out, bundles) = nano();
    let folder = &bundles[0].path;
    edit(&bundles[0], "\"vocab_size\": 512", "\"vocab_size\": 513");
    let error = open(folder).unwrap_err();
    assert!(error.to_string().contains("promises 513 tokens"), "{error}");
    edit(&bundles[0], "\"vocab_size\": 513", "\"vocab_size\": 512");

    // One that does not say how pictures are cut answers questions all the same.
    edit(&bundles[0], "\"grid\"", "\"side\"");
    let model = open(folder).unwrap();
    assert_eq!(ask(&model, COUNT, 3).unwrap().text.trim(), "one two three");
    for error in [
        model.prompt(&scenes()[0].question).unwrap_err(),
        model.vision().unwrap_err(),
    ] {
        assert!(matches!(error, Error::Bundle(_)), "{error}");
        assert!(error.to_string().contains("user_data.grid"), "{error}");
    }
    edit(&bundles[0], "\"side\"", "\"grid\"");

    let program = bundles[0].asset.join("main.mlirb");
    let mut bytes = fs::read(&program).unwrap();
    bytes[400_000] ^= 1;
    fs::write(&program, &bytes).unwrap();
    let error = open(folder).unwrap_err();
    assert!(matches!(error, Error::Damaged(_)), "{error}");
    bytes[400_000] ^= 1;
    fs::write(&program, &bytes).unwrap();

    // The vision encoder is judged when it is loaded.
    let model = open(folder).unwrap();
    let program = bundles[1].asset.join("main.mlirb");
    let mut bytes = fs::read(&program).unwrap();
    bytes[400_000] ^= 1;
    fs::write(&program, &bytes).unwrap();
    let error = model.vision().unwrap_err();
    assert!(matches!(error, Error::Damaged(_)), "{error}");

    fs::remove_dir_all(folder.join("tokenizer")).unwrap();
    let error = open(folder).unwrap_err();
    assert!(
        error.to_string().contains("the tokenizer's files"),
        "{error}"
    );
    fs::remove_file(folder.join("metadata.json")).unwrap();
    assert!(matches!(open(folder), Err(Error::Bundle(_))));
}

/// Tokens of several sessions at once are those of each alone, whatever the
/// number of threads.
#[test]
fn sessions_run_side_by_side() {
    let (_out, bundles) = exported(recipe("int8hu"), vec![CallShape::Prefill(8)]);
    let scenes = scenes();
    let answer = |model: &Model, index: usize| {
        let mut sampler = Sampler::new(Sampling {
            temperature: 0.8,
            seed: index as u64,
            ..Sampling::default()
        });
        let question = &scenes[index].question;
        let limits = Limits::new(24);
        let mut session = model.session();
        let answer = session.answer(question, sampler.as_mut().unwrap(), limits, go_on);
        answer.unwrap().tokens
    };
    let mut expected: Option<Vec<Vec<u32>>> = None;
    for threads in [1, 2, 3] {
        let options = Options::new(Device::Cpu).with_threads(threads);
        let model = Model::open(&bundles[0].path, options).unwrap();
        let alone: Vec<_> = (0..4).map(|index| answer(&model, index)).collect();
        assert_eq!(expected.get_or_insert_with(|| alone.clone()), &alone);
        for sessions in [2, 4] {
            let together: Vec<Vec<u32>> = thread::scope(|scope| {
                let running: Vec<_> = (0..sessions)
                    .map(|index| {
                        let (model, answer) = (model.clone(), &answer);
                        scope.spawn(move || answer(&model, index))
                    })
                    .collect();
                running.into_iter().map(|one| one.join().unwrap()).collect()
            });
            assert_eq!(
                together,
                alone[..sessions],
                "{sessions} on {threads} threads"
            );
        }
    }
}

/// A session is owned: it outlives the model's handle and may change threads.
#[test]
fn a_session_may_move() {
    fn shared<T: Send + Sync>() {}
    fn owned<T: Send + 'static>() {}
    shared::<Model>();
    owned::<engine::Session>();
    let (_out, bundles) = nano();
    let mut session = open(&bundles[0].path).unwrap().session();
    assert!(session.sequence().is_none());
    let text = thread::spawn(move || {
        let question = Conversation::<Image>::question(COUNT, []);
        let limits = Limits::new(3);
        let answer = session.answer(&question, &mut Sampler::greedy(), limits, go_on);
        answer.unwrap().text
    });
    assert_eq!(text.join().unwrap().trim(), "one two three");
}
