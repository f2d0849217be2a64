//! The engine stage with somebody in the place of Core AI's runtime.

// Helpers outside test functions, which clippy.toml does not exempt.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::{cell::Cell, fs, path::Path};

use common::{Bench, Case, NoTools};
use gate::{
    Answer, Answers, Candidate, CoreAi, ExternalTools, NamedPrompt, Outcome, Recording, Result,
    Settings, Stage, StageReport, Verdict,
};

/// Answers every prompt with these tokens, each of which leads by this much.
struct Says {
    tokens: Vec<u32>,
    lead: f32,
    asked: Cell<usize>,
}

impl Says {
    fn new(tokens: &[u32], lead: f32) -> Says {
        let (tokens, asked) = (tokens.to_vec(), Cell::new(0));
        Says {
            tokens,
            lead,
            asked,
        }
    }
}

impl ExternalTools for Says {
    fn record(&self, request: &Recording<'_>, folder: &Path) -> Result<Outcome> {
        NoTools.record(request, folder)
    }

    fn core_ai(
        &self,
        _: &Candidate,
        asked: &[NamedPrompt],
        tokens: usize,
    ) -> Result<Result<(Vec<Answer>, String), String>> {
        self.asked.set(self.asked.get() + 1);
        let margins = vec![self.lead; tokens];
        let answer = |asked| Answer::new(asked, self.tokens.clone(), margins.clone());
        Ok(Ok((
            asked.iter().map(answer).collect(),
            "a test".to_owned(),
        )))
    }
}

/// Nothing is recorded, so that margins are those of the runtime that is asked.
fn settings(case: &Case, core_ai: CoreAi) -> Settings {
    let mut settings = case.settings();
    settings.oracle = case.path("none");
    settings.core_ai = core_ai;
    settings
}

fn judged(case: &Case, core_ai: CoreAi, says: &Says) -> Result<StageReport> {
    let (candidate, settings) = (case.candidate()?, settings(case, core_ai));
    let stages = [Stage::Engine];
    let run = gate::run(&candidate, &case.gates, &settings, &stages, says, |_| {})?;
    Ok(run.stage(Stage::Engine).unwrap().clone())
}

/// The tokens of our loop after the prompt.
fn actual_tokens(case: &Case) -> Vec<u32> {
    let report = judged(case, CoreAi::Now, &Says::new(&[0; 24], 9.0)).unwrap();
    assert_eq!(report.verdict, Verdict::Fail);
    report.tokens[0].found.clone()
}

#[test]
fn answers_are_asked_for_once() {
    let case = Bench::new(&["count"]).case();
    let says = Says::new(&actual_tokens(&case), 9.0);
    let file = case.path("answers.json");
    let asked = judged(&case, CoreAi::Keep(file.clone()), &says).unwrap();
    assert_eq!(asked.verdict, Verdict::Pass);
    assert_eq!(asked.core_ai_recorded, Some(false));
    let read = judged(&case, CoreAi::Kept(file.clone()), &says).unwrap();
    assert_eq!(read.verdict, Verdict::Pass);
    assert_eq!(read.core_ai_recorded, Some(true));
    assert!(
        read.summary
            .ends_with("what a test answered was read from a file")
    );
    assert_eq!((asked.tokens, asked.checks), (read.tokens, read.checks));
    // Nobody is asked for what there is no room for.
    let missing = CoreAi::Keep(case.path("missing/answers.json"));
    for core_ai in [CoreAi::Keep(file), missing] {
        assert!(judged(&case, core_ai, &says).is_err());
    }
    assert_eq!(says.asked.get(), 1);
}

#[test]
fn a_large_decoder_is_given_to_it_only_on_demand() {
    let mut case = Bench::new(&["count"]).case();
    let says = Says::new(&actual_tokens(&case), 9.0);
    case.gates.engine.max_mb = 0;
    let report = judged(&case, CoreAi::Now, &says).unwrap();
    assert_eq!(report.verdict, Verdict::Skipped);
    assert!(report.summary.contains("--ask-core-ai FILE"));
    let file = case.path("answers.json");
    let report = judged(&case, CoreAi::Keep(file), &says).unwrap();
    assert_eq!(report.verdict, Verdict::Pass);
}

#[test]
fn small_margins_do_not_forgive_what_we_are_sure_of() {
    let case = Bench::new(&["count"]).case();
    let mut tokens = actual_tokens(&case);
    tokens[3] ^= 1;
    let report = judged(&case, CoreAi::Now, &Says::new(&tokens, 0.0)).unwrap();
    assert!(report.tokens[0].forgiven);
    assert_eq!(report.verdict, Verdict::Fail);
    assert!(report.summary.contains("is behind ours"));
}

#[test]
fn random_weights_are_judged_by_how_much_tokens_lead() {
    let mut case = Bench::new(&["count"]).case();
    let tokens = actual_tokens(&case);
    case.gates.steps = 0;
    // nano is sure of its tokens: by more than this, and by how much differs.
    let report = judged(&case, CoreAi::Now, &Says::new(&tokens, 0.5)).unwrap();
    assert_eq!(report.verdict, Verdict::Fail);
    assert_eq!(report.tokens[0].divergence, None);
    let apart = &report.series[0].values;
    assert_eq!(apart.len(), 24);
    let lead = apart[0] as f32 + 0.5;
    case.gates.engine.tokens = 1;
    let report = judged(&case, CoreAi::Now, &Says::new(&tokens[..1], lead)).unwrap();
    assert_eq!(report.verdict, Verdict::Pass);
    let report = judged(&case, CoreAi::Now, &Says::new(&[tokens[0] ^ 1], lead)).unwrap();
    assert_eq!(report.verdict, Verdict::Fail);
    assert!(report.tokens[0].forgiven);
    assert!(
        report
            .summary
            .contains("tokens whose lead in both runtimes")
    );
}

#[test]
fn answers_about_something_else_end_the_run_before_it_begins() {
    let case = Bench::new(&["count"]).case();
    let says = Says::new(&[0; 24], 9.0);
    let file = case.path("answers.json");
    Answers::new(&case.candidate().unwrap(), "a test".to_owned(), Vec::new())
        .unwrap()
        .write(&file)
        .unwrap();
    let run = |stages: &[Stage]| {
        let (candidate, settings) = (
            case.candidate().unwrap(),
            settings(&case, CoreAi::Kept(file.clone())),
        );
        let mut ran = 0;
        let run = gate::run(&candidate, &case.gates, &settings, stages, &says, |_| {
            ran += 1
        });
        (run.unwrap_err().to_string(), ran)
    };
    let (error, _) = run(&[Stage::Engine]);
    assert!(
        error.contains("no answer to the prompt \"count\""),
        "{error}"
    );
    let (error, _) = run(&[Stage::Lint]);
    assert!(error.contains("for the stage engine"), "{error}");
    let text = fs::read_to_string(&file).unwrap();
    let hash = hex::encode(case.candidate().unwrap().decoder.assets[0].1.stated_hash);
    for (change, message) in [
        (text.replace(&hash, &"0".repeat(64)), "another decoder"),
        (text.replace("a test", "\\u001b[2K"), "name the runtime"),
        (text.replace("runtime", "run\\u001btime"), "⟨U+001B⟩"),
    ] {
        fs::write(&file, change).unwrap();
        let (error, ran) = run(&Stage::ALL);
        assert!(error.contains(message), "{error}");
        assert_eq!(ran, 0);
    }
}
