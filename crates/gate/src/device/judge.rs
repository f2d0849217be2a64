//! Whether the runs on a device gave the engine's tokens.

use std::collections::{BTreeMap, BTreeSet};

use super::{AssetId, DeviceTranscript, Error, Fixture, Loaded, Prompt, PromptRuns, Result, Run};
use crate::transcript::{Check, Series, Stage, StageReport, TokenRows, Verdict};

/// Where the engine's token leads by less, another one is forgiven.
const MARGIN: f32 = 0.1;

/// Judges a transcript against the fixture that its host was given. The report's
/// `seconds` is left at 0 for whoever times the stage.
///
/// # Errors
/// A transcript that is about something else: of another version, of another
/// bundle, with other prompts, or without a label.
pub fn judge(transcript: &DeviceTranscript, fixture: &Fixture) -> Result<StageReport> {
    same_subject(transcript, fixture)?;
    let runs_of: BTreeMap<&str, &PromptRuns> = transcript
        .prompts
        .iter()
        .map(|prompt| (prompt.name.as_str(), prompt))
        .collect();
    let mut report = StageReport {
        stage: Stage::Device,
        verdict: Verdict::Pass,
        summary: String::new(),
        seconds: 0.0,
        checks: Vec::new(),
        findings: Vec::new(),
        series: Vec::new(),
        tokens: Vec::new(),
        facts: facts(transcript),
    };
    for prompt in &fixture.prompts {
        let runs = runs_of.get(prompt.name.as_str());
        let runs = runs.map_or(&[][..], |prompt| &prompt.runs);
        judge_prompt(&mut report, transcript, prompt, runs, fixture.runs);
    }

    let failed = report.checks.iter().find(|check| !check.holds);
    let what = match failed {
        Some(check) => {
            report.verdict = Verdict::Fail;
            let prompt = check.prompt.as_deref().unwrap_or_default();
            format!(
                "{prompt}: {}: {}, must be {}",
                check.what, check.found, check.must
            )
        }
        None => {
            let counts = fixture.prompts.iter().map(|prompt| {
                let (tokens, runs) = (prompt.expected.len(), runs_of[prompt.name.as_str()]);
                let runs = runs.runs.len();
                format!("{} {tokens}/{tokens} tokens × {runs} runs", prompt.name)
            });
            counts.collect::<Vec<_>>().join(", ")
        }
    };
    let label = &transcript.made_with;
    report.summary = if transcript.host.platform.is_device() {
        format!("{what}; {label}")
    } else {
        format!("{what}; not on an Apple device: {label}")
    };
    Ok(report)
}

/// Refuses a transcript from which nothing follows for this fixture.
fn same_subject(transcript: &DeviceTranscript, fixture: &Fixture) -> Result<()> {
    if transcript.version != super::VERSION {
        let found = transcript.version;
        return Err(Error::Version { found });
    }
    if transcript.made_with.trim().is_empty() {
        return Err(Error::Unlabelled);
    }
    same_asset("decoder", &fixture.decoder, Some(&transcript.decoder))?;
    let with_image = fixture
        .prompts
        .iter()
        .any(|prompt| prompt.patches.is_some());
    if let Some(vision) = fixture.vision.as_ref().filter(|_| with_image) {
        same_asset("vision encoder", vision, transcript.vision.as_ref())?;
    }
    let mut names = BTreeSet::new();
    for found in &transcript.prompts {
        let wrong = |problem| {
            let name = found.name.clone();
            Err(Error::Prompt { name, problem })
        };
        if !names.insert(&found.name) {
            return wrong("is there twice");
        }
        let asked = fixture.prompts.iter();
        match asked.into_iter().find(|prompt| prompt.name == found.name) {
            None => return wrong("is none of the fixture's"),
            Some(prompt) if prompt.input != found.input => {
                return wrong("was run with other ids, another shift or another picture");
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn same_asset(which: &'static str, expected: &AssetId, found: Option<&Loaded>) -> Result<()> {
    match found {
        Some(found) if found.sha256 == expected.sha256 => Ok(()),
        _ => Err(Error::Bundle {
            which,
            expected: expected.sha256.clone(),
            found: found.map_or_else(|| "none".to_owned(), |found| found.sha256.clone()),
        }),
    }
}

fn facts(transcript: &DeviceTranscript) -> BTreeMap<String, String> {
    let host = &transcript.host;
    let mut facts = BTreeMap::new();
    let mut fact = |name: &str, value: String| facts.insert(name.to_owned(), value);
    fact("made with", transcript.made_with.clone());
    fact(
        "host",
        format!("{}, {} ({})", host.model, host.os, host.os_build),
    );
    fact("engine", transcript.engine.clone());
    let is_device = if host.platform.is_device() {
        "yes"
    } else {
        "no"
    };
    fact("Apple device", is_device.to_owned());
    fact(
        "decoder loaded in",
        format!("{:.2} s", transcript.decoder.load_seconds),
    );
    if let Some(vision) = &transcript.vision {
        fact(
            "vision encoder loaded in",
            format!("{:.2} s", vision.load_seconds),
        );
    }
    facts
}

/// Adds what there is to say of one prompt.
fn judge_prompt(
    report: &mut StageReport,
    transcript: &DeviceTranscript,
    prompt: &Prompt,
    runs: &[Run],
    least_runs: usize,
) {
    report.checks.push(Check {
        what: "runs".to_owned(),
        prompt: Some(prompt.name.clone()),
        found: runs.len().to_string(),
        must: format!("at least {least_runs}"),
        holds: runs.len() >= least_runs,
    });
    let likenesses: Vec<Likeness> = runs.iter().map(|run| Likeness::of(run, prompt)).collect();
    let worst = likenesses.iter().enumerate().max_by_key(|(index, run)| {
        // The first run of those that are equally bad.
        (run.rank(), std::cmp::Reverse(*index))
    });
    let Some((index, likeness)) = worst else {
        return;
    };
    let found = &runs[index].tokens;
    report.checks.push(Check {
        what: "tokens equal to the engine's, in every run".to_owned(),
        prompt: Some(prompt.name.clone()),
        found: likeness.words(index, found, prompt),
        must: format!("{} of {0}", prompt.expected.len()),
        holds: !matches!(likeness, Likeness::Differs(_)),
    });
    report.tokens.push(TokenRows {
        what: format!("greedy, run {} of {}", index + 1, runs.len()),
        prompt: prompt.name.clone(),
        sides: ["engine".to_owned(), transcript.made_with.clone()],
        expected: prompt.expected.clone(),
        found: found.clone(),
        expected_text: Vec::new(),
        found_text: Vec::new(),
        margins: prompt.margins.clone(),
        divergence: likeness.divergence(),
        forgiven: matches!(likeness, Likeness::Forgiven(_)),
    });
    for (what, values) in [
        ("seconds to the first token", first_seconds as fn(&Run) -> _),
        ("tokens per second after it", decode_rate),
        ("seconds of the vision encoder", |run: &Run| {
            run.vision_seconds
        }),
    ] {
        let values: Option<Vec<f64>> = runs.iter().map(values).collect();
        report.series.extend(values.map(|values| Series {
            what: what.to_owned(),
            prompt: Some(prompt.name.clone()),
            axis: "run".to_owned(),
            first: 1,
            step: 1,
            values,
            bar: None,
        }));
    }
}

fn first_seconds(run: &Run) -> Option<f64> {
    Some(run.first_seconds)
}

fn decode_rate(run: &Run) -> Option<f64> {
    let seconds = run.total_seconds - run.first_seconds;
    let tokens = run.tokens.len().checked_sub(1).filter(|count| *count > 0)?;
    (seconds > 0.0).then(|| tokens as f64 / seconds)
}

/// How a run's tokens compare, with the first place where they differ.
enum Likeness {
    Equal,
    Forgiven(usize),
    Differs(usize),
}

impl Likeness {
    fn of(run: &Run, prompt: &Prompt) -> Self {
        let (expected, found) = (&prompt.expected, &run.tokens);
        let common = expected.iter().zip(found);
        match common.into_iter().position(|(a, b)| a != b) {
            Some(at) => match prompt.margins.get(at) {
                Some(margin) if *margin < MARGIN => Likeness::Forgiven(at),
                _ => Likeness::Differs(at),
            },
            None if expected.len() == found.len() => Likeness::Equal,
            None => Likeness::Differs(expected.len().min(found.len())),
        }
    }

    fn divergence(&self) -> Option<usize> {
        match self {
            Likeness::Equal => None,
            Likeness::Forgiven(at) | Likeness::Differs(at) => Some(*at),
        }
    }

    /// Greater is worse: what is not forgiven, and then the earliest.
    fn rank(&self) -> (u8, std::cmp::Reverse<usize>) {
        match self {
            Likeness::Equal => (0, std::cmp::Reverse(0)),
            Likeness::Forgiven(at) => (1, std::cmp::Reverse(*at)),
            Likeness::Differs(at) => (2, std::cmp::Reverse(*at)),
        }
    }

    fn words(&self, run: usize, found: &[u32], prompt: &Prompt) -> String {
        let (expected, run) = (&prompt.expected, run + 1);
        let token = |tokens: &[u32], at: usize| match tokens.get(at) {
            Some(token) => token.to_string(),
            None => "none".to_owned(),
        };
        match self {
            Likeness::Equal => format!("{} of {0}", expected.len()),
            Likeness::Forgiven(at) => format!(
                "run {run} has {} at token {}, where {} leads by {:.3}: forgiven below {MARGIN}",
                token(found, *at),
                at + 1,
                token(expected, *at),
                prompt.margins[*at]
            ),
            Likeness::Differs(at) => format!(
                "run {run} has {} at token {} of {}, expected {}",
                token(found, *at),
                at + 1,
                expected.len(),
                token(expected, *at)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Host, Patches, Platform, VERSION};

    fn fixture() -> Fixture {
        let text = Prompt {
            name: "text".to_owned(),
            ids: vec![5, 6, 7],
            rope_shift_start: 1 << 30,
            rope_shift_amount: 0,
            patches: None,
            input: String::new(),
            expected: vec![1, 2, 3, 4],
            margins: vec![5.0, 0.05, 5.0, 0.09],
        };
        let mut image = text.clone();
        image.name = "image".to_owned();
        image.patches = Some(Patches {
            rows: 1,
            columns: 2,
            values: vec![0, 1, 2, 3],
        });
        let mut prompts = vec![text, image];
        for prompt in &mut prompts {
            prompt.input = prompt.digest();
        }
        let asset = |name: &str| AssetId {
            name: name.to_owned(),
            sha256: name.repeat(3),
        };
        Fixture {
            version: VERSION,
            decoder: asset("decoder"),
            vision: Some(asset("vision")),
            runs: 2,
            prompts,
        }
    }

    /// What a host that does everything right answers.
    fn answer(fixture: &Fixture) -> DeviceTranscript {
        let loaded = |asset: &AssetId| Loaded {
            name: asset.name.clone(),
            sha256: asset.sha256.clone(),
            load_seconds: 1.0,
        };
        let prompts = fixture.prompts.iter().map(|prompt| PromptRuns {
            name: prompt.name.clone(),
            input: prompt.input.clone(),
            runs: vec![
                Run {
                    tokens: prompt.expected.clone(),
                    vision_seconds: None,
                    first_seconds: 0.5,
                    total_seconds: 2.0,
                };
                fixture.runs
            ],
        });
        DeviceTranscript {
            version: VERSION,
            made_with: "Core AI on iPhone18,1".to_owned(),
            host: Host {
                platform: Platform::Ios,
                model: "iPhone18,1".to_owned(),
                os: "iOS 27.0".to_owned(),
                os_build: "24A1".to_owned(),
            },
            engine: "coreai-pipelined".to_owned(),
            decoder: loaded(&fixture.decoder),
            vision: fixture.vision.as_ref().map(loaded),
            prompts: prompts.collect(),
        }
    }

    /// The report on an answer that `change` was done to.
    fn report(change: impl Fn(&mut DeviceTranscript)) -> Result<StageReport> {
        let fixture = fixture();
        let mut transcript = answer(&fixture);
        change(&mut transcript);
        judge(&transcript, &fixture)
    }

    fn failed(report: &StageReport) -> Vec<(&str, &str)> {
        assert_eq!(report.verdict, Verdict::Fail);
        let checks = report.checks.iter().filter(|check| !check.holds);
        checks
            .map(|check| (check.prompt.as_deref().unwrap(), check.found.as_str()))
            .collect()
    }

    #[test]
    fn equal_tokens_in_every_run_pass() {
        let report = report(|_| ()).unwrap();
        assert_eq!(report.verdict, Verdict::Pass);
        assert_eq!(
            report.summary,
            "text 4/4 tokens × 2 runs, image 4/4 tokens × 2 runs; Core AI on iPhone18,1"
        );
        assert_eq!(report.checks.len(), 4);
        assert!(report.tokens.iter().all(|rows| rows.divergence.is_none()));
        let rate = &report.series[1];
        assert_eq!(
            (rate.axis.as_str(), &rate.values[..]),
            ("run", &[2.0, 2.0][..])
        );
        assert_eq!(report.facts["Apple device"], "yes");
    }

    #[test]
    fn the_summary_says_when_there_was_no_device() {
        for platform in [Platform::Linux, Platform::Simulator] {
            let report = report(|t| t.host.platform = platform).unwrap();
            assert_eq!(report.verdict, Verdict::Pass);
            assert!(
                report.summary.contains("not on an Apple device"),
                "{}",
                report.summary
            );
            assert_eq!(report.facts["Apple device"], "no");
        }
    }

    #[test]
    fn another_token_in_any_run_fails() {
        let report = report(|t| t.prompts[1].runs[1].tokens[2] = 9).unwrap();
        let found = "run 2 has 9 at token 3 of 4, expected 3";
        assert_eq!(failed(&report), [("image", found)]);
        assert!(
            report.summary.starts_with("image: tokens equal"),
            "{}",
            report.summary
        );
        let rows = &report.tokens[1];
        assert_eq!((rows.divergence, rows.forgiven), (Some(2), false));
        assert_eq!(rows.found, [1, 2, 9, 4]);
    }

    #[test]
    fn a_first_difference_at_a_small_margin_is_forgiven_and_said() {
        // What follows another token is another text.
        let report = report(|t| t.prompts[0].runs[0].tokens = vec![1, 9, 8, 8]).unwrap();
        assert_eq!(report.verdict, Verdict::Pass);
        assert!(
            report.checks[1].found.contains("forgiven"),
            "{:?}",
            report.checks[1]
        );
        assert_eq!(
            (report.tokens[0].divergence, report.tokens[0].forgiven),
            (Some(1), true)
        );
    }

    #[test]
    fn a_small_margin_after_the_first_difference_forgives_nothing() {
        let report = report(|t| t.prompts[0].runs[0].tokens = vec![9, 9, 9, 9]).unwrap();
        assert_eq!(failed(&report).len(), 1);
    }

    #[test]
    fn the_worst_run_is_shown() {
        let report = report(|t| {
            t.prompts[0].runs[0].tokens[1] = 9;
            t.prompts[0].runs[1].tokens[2] = 9;
        });
        let report = report.unwrap();
        assert_eq!(
            failed(&report),
            [("text", "run 2 has 9 at token 3 of 4, expected 3")]
        );
    }

    #[test]
    fn too_few_or_too_many_tokens_fail() {
        let short = report(|t| t.prompts[0].runs[0].tokens.truncate(3)).unwrap();
        assert_eq!(
            failed(&short),
            [("text", "run 1 has none at token 4 of 4, expected 4")]
        );
        let long = report(|t| t.prompts[0].runs[0].tokens.push(7)).unwrap();
        assert_eq!(
            failed(&long),
            [("text", "run 1 has 7 at token 5 of 4, expected none")]
        );
        let none = report(|t| t.prompts[0].runs[0].tokens.clear()).unwrap();
        assert_eq!(failed(&none).len(), 1);
    }

    #[test]
    fn too_few_runs_and_a_missing_prompt_fail() {
        let few = report(|t| t.prompts[0].runs.truncate(1)).unwrap();
        assert_eq!(failed(&few), [("text", "1")]);
        let missing = report(|t| t.prompts.truncate(1)).unwrap();
        assert_eq!(failed(&missing), [("image", "0")]);
        let empty = report(|t| t.prompts.clear()).unwrap();
        assert_eq!(failed(&empty).len(), 2);
    }

    #[test]
    fn what_is_about_something_else_is_refused() {
        type Change = fn(&mut DeviceTranscript);
        let cases: [(Change, &str); 8] = [
            (|t| t.version = 2, "has version 2, expected 1"),
            (|t| t.made_with = " ".to_owned(), "`made_with` is empty"),
            (
                |t| t.decoder.sha256 = "x".to_owned(),
                "is of another decoder",
            ),
            (
                |t| t.vision = None,
                "is of another vision encoder: its main.mlirb has SHA-256 none",
            ),
            (
                |t| t.prompts[1].name = "other".to_owned(),
                "\"other\" is none of the fixture's",
            ),
            (
                |t| t.prompts[1] = t.prompts[0].clone(),
                "\"text\" is there twice",
            ),
            (|t| t.prompts[0].input.clear(), "with other ids"),
            (
                |t| t.prompts[0].input = t.prompts[1].input.clone(),
                "another picture",
            ),
        ];
        for (change, message) in cases {
            let error = report(change).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn the_input_covers_ids_shift_and_picture() {
        let prompt = &fixture().prompts[1];
        let changes: [fn(&mut Prompt); 4] = [
            |p| p.ids[0] += 1,
            |p| p.rope_shift_start += 1,
            |p| p.rope_shift_amount += 1,
            |p| p.patches.as_mut().unwrap().values[3] += 1,
        ];
        for change in changes {
            let mut changed = prompt.clone();
            change(&mut changed);
            assert_ne!(changed.digest(), prompt.digest());
        }
    }
}
