//! Whether the runs on a device gave the engine's tokens.

use std::path::Path;

use super::{
    fixture::{AssetId, Fixture, Prompt, VERSION},
    transcript::{DeviceTranscript, Loaded, Run},
};
use crate::transcript::{Bound, Check, CheckId, Found};
use crate::{
    Error, Evidence, Result,
    evidence::tokens,
    transcript::{Axis, Measure, Series},
};

/// Judges a transcript, which was read from `place`, against the fixture that
/// its host was given. Where the oracle's margin is less than `margin`, another
/// token is forgiven. `text` makes a token readable.
///
/// # Errors
/// A transcript that is about something else: of another version, of another
/// bundle, with other prompts, or without a label.
pub fn judge(
    fixture: &Fixture,
    transcript: &DeviceTranscript,
    place: &Path,
    margin: f32,
    text: impl Fn(u32) -> String,
) -> Result<Evidence> {
    same_bundles_and_prompts(fixture, transcript)
        .map_err(|problem| Error::input(place.display(), problem))?;
    let mut evidence = Evidence::default();
    facts(&mut evidence, transcript);
    for prompt in &fixture.prompts {
        let mut answers = transcript.prompts.iter();
        let answer = answers.find(|answer| answer.name == prompt.name);
        let runs = answer.map_or(&[][..], |answer| &answer.runs);
        judge_prompt(
            &mut evidence,
            fixture,
            transcript,
            prompt,
            runs,
            margin,
            &text,
        );
    }
    Ok(evidence)
}

/// Refuses a transcript from which nothing follows for this fixture.
fn same_bundles_and_prompts(
    fixture: &Fixture,
    transcript: &DeviceTranscript,
) -> Result<(), String> {
    if transcript.version != VERSION {
        return Err(format!(
            "has version {}, expected {VERSION}: make it again with the host of this version, from \
             a new fixture",
            transcript.version
        ));
    }
    if transcript.made_with.trim().is_empty() {
        return Err(
            "its `made_with` is empty, expected the runtime and the machine, such as \
             `coreai-core 1.0.0b3 on Linux`"
                .to_owned(),
        );
    }
    same_asset("decoder", &fixture.decoder, Some(&transcript.decoder))?;
    if fixture
        .prompts
        .iter()
        .any(|prompt| prompt.patches.is_some())
    {
        same_asset(
            "vision encoder",
            &fixture.vision,
            transcript.vision.as_ref(),
        )?;
    }
    for (index, answer) in transcript.prompts.iter().enumerate() {
        let name = &answer.name;
        let mut before = transcript.prompts[..index].iter();
        if before.any(|other| other.name == *name) {
            return Err(format!("has the prompt {name:?} twice"));
        }
        let mut asked = fixture.prompts.iter();
        let problem = match asked.find(|prompt| prompt.name == *name) {
            None => "is not asked",
            Some(prompt) if prompt.input != answer.input => {
                "was run with other ids, another shift or another picture"
            }
            Some(_) => continue,
        };
        return Err(format!(
            "the prompt {name:?} {problem}; run the host on a new fixture"
        ));
    }
    Ok(())
}

fn same_asset(which: &str, expected: &AssetId, found: Option<&Loaded>) -> Result<(), String> {
    match found {
        Some(found) if found.sha256 == expected.sha256 => Ok(()),
        _ => Err(format!(
            "is of another {which}: its main.mlirb has SHA-256 {}, and the bundle that is judged has \
             {}; run the host on this bundle",
            found.map_or("none", |found| &found.sha256),
            expected.sha256
        )),
    }
}

fn facts(evidence: &mut Evidence, transcript: &DeviceTranscript) {
    let (host, label) = (&transcript.host, &transcript.made_with);
    evidence.note = Some(if host.platform.is_device() {
        label.clone()
    } else {
        format!("not on an Apple device: {label}")
    });
    evidence.fact("made with", label);
    let machine = format!("{}, {} ({})", host.model, host.os, host.os_build);
    evidence.fact("host", machine);
    evidence.fact("engine", &transcript.engine);
    evidence.apple_device = Some(host.platform.is_device());
    let loaded = [
        ("decoder", Some(&transcript.decoder)),
        ("vision encoder", transcript.vision.as_ref()),
    ];
    for (which, asset) in loaded {
        if let Some(asset) = asset {
            evidence.fact(
                &format!("{which} loaded in"),
                format!("{:.2} s", asset.load_seconds),
            );
        }
    }
}

/// Adds what there is to say of one prompt.
fn judge_prompt(
    evidence: &mut Evidence,
    fixture: &Fixture,
    transcript: &DeviceTranscript,
    prompt: &Prompt,
    runs: &[Run],
    margin: f32,
    text: &impl Fn(u32) -> String,
) {
    let (name, min_runs, count) = (&prompt.name, fixture.runs, prompt.expected.len());
    evidence.check(Check::new(
        CheckId::Runs,
        Some(name),
        Found::Number(runs.len() as f64),
        Bound::AtLeast(min_runs as f64),
    ));
    // One that stops early has no token that could be forgiven.
    let other = runs
        .iter()
        .map(|run| run.tokens.len())
        .find(|found| *found != count);
    let mut check = Check::new(
        CheckId::RunTokens,
        Some(name),
        Found::Count {
            count: other.unwrap_or(count),
            of: count,
        },
        Bound::All,
    );
    check.holds = other.is_none();
    evidence.check(check);
    for (numbers, found) in answers(runs) {
        let list: Vec<String> = numbers.iter().map(usize::to_string).collect();
        let rows = tokens(
            &format!("tokens of run {}", list.join(", ")),
            name,
            ["our loop", &transcript.made_with],
            [&prompt.expected, found],
            &prompt.margins,
            margin,
        );
        evidence.compare(rows, text);
    }
    for (what, values) in [
        ("seconds to the first token", first_seconds as fn(&Run) -> _),
        ("tokens per second after it", decode_rate),
        ("seconds of the vision encoder", vision_seconds),
    ] {
        let values: Option<Vec<f64>> = runs.iter().map(values).collect();
        let values = values.filter(|values| !values.is_empty());
        evidence.series.extend(values.map(|values| Series {
            what: what.to_owned(),
            measure: Measure::Amount,
            prompt: Some(name.clone()),
            axis: Axis::Run,
            first: 1,
            step: 1,
            values,
            bar: None,
        }));
    }
}

/// The different answers, each with the numbers of the runs that gave it.
fn answers(runs: &[Run]) -> Vec<(Vec<usize>, &[u32])> {
    let mut answers: Vec<(Vec<usize>, &[u32])> = Vec::new();
    for (number, run) in (1..).zip(runs) {
        match answers.iter_mut().find(|(_, tokens)| *tokens == run.tokens) {
            Some((numbers, _)) => numbers.push(number),
            None => answers.push((vec![number], &run.tokens)),
        }
    }
    answers
}

fn first_seconds(run: &Run) -> Option<f64> {
    Some(run.first_seconds)
}

fn vision_seconds(run: &Run) -> Option<f64> {
    run.vision_seconds
}

fn decode_rate(run: &Run) -> Option<f64> {
    let seconds = run.total_seconds - run.first_seconds;
    let tokens = run.tokens.len().checked_sub(1).filter(|count| *count > 0)?;
    (seconds > 0.0).then(|| tokens as f64 / seconds)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{
        Stage, StageReport, Verdict,
        device::{Host, Patches, Platform, PromptRuns},
    };

    pub fn fixture() -> Fixture {
        let text = Prompt {
            name: "text".to_owned(),
            ids: vec![5, 6, 7],
            rope_shift_start: bundle::contract::NO_IMAGE,
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
            vision: asset("vision"),
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
            vision: Some(loaded(&fixture.vision)),
            prompts: prompts.collect(),
        }
    }

    /// The report on an answer that `change` was done to.
    fn report(change: impl Fn(&mut DeviceTranscript)) -> Result<StageReport> {
        let fixture = fixture();
        let mut transcript = answer(&fixture);
        change(&mut transcript);
        let text = |token: u32| format!("<{token}>");
        let evidence = judge(&fixture, &transcript, Path::new("phone.json"), 0.1, text)?;
        Ok(evidence.report(Stage::Device, 0.0))
    }

    /// Prompt, what is checked, and what was found, of the checks that fail.
    fn failed(report: &StageReport) -> Vec<[String; 3]> {
        assert_eq!(report.verdict, Verdict::Fail);
        let checks = report.checks.iter().filter(|check| !check.holds);
        checks
            .map(|check| {
                let prompt = check.prompt.as_deref().unwrap();
                [prompt.to_owned(), check.what(), check.found()]
            })
            .collect()
    }

    #[test]
    fn equal_tokens_in_every_run_pass() {
        let report = report(|_| ()).unwrap();
        assert_eq!(report.verdict, Verdict::Pass);
        assert_eq!(report.summary, "6 checks hold; Core AI on iPhone18,1");
        let rows = &report.tokens;
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].what, "tokens of run 1, 2");
        assert_eq!(rows[0].found_text[3], "<4>");
        assert!(rows.iter().all(|rows| rows.divergence.is_none()));
        let rate = &report.series[1];
        assert_eq!(
            (rate.axis.name(), &rate.values[..]),
            ("run", &[2.0, 2.0][..])
        );
        assert_eq!(report.apple_device, Some(true));
    }

    #[test]
    fn the_summary_says_when_there_was_no_device() {
        for platform in [Platform::Linux, Platform::Simulator] {
            let report = report(|t| t.host.platform = platform).unwrap();
            assert_eq!(report.verdict, Verdict::Pass);
            let said = "6 checks hold; not on an Apple device: Core AI on iPhone18,1";
            assert_eq!(report.summary, said);
            assert_eq!(report.apple_device, Some(false));
        }
    }

    #[test]
    fn another_token_in_any_run_fails() {
        let report = report(|t| t.prompts[1].runs[1].tokens[2] = 9).unwrap();
        assert_eq!(failed(&report), [["image", "tokens of run 2", "2 of 4"]]);
        assert!(
            report.summary.contains("Core AI on iPhone18,1"),
            "{}",
            report.summary
        );
        let rows = &report.tokens[2];
        assert_eq!((rows.divergence, rows.forgiven), (Some(2), false));
        assert_eq!(rows.found, [1, 2, 9, 4]);
    }

    #[test]
    fn a_first_difference_at_a_small_margin_is_forgiven_and_said() {
        // What follows another token is another text.
        let report = report(|t| t.prompts[0].runs[0].tokens = vec![1, 9, 8, 8]).unwrap();
        assert_eq!(report.verdict, Verdict::Pass);
        assert!(
            report.checks[2].found().contains("forgiven"),
            "{:?}",
            report.checks[2]
        );
        assert_eq!(
            (report.tokens[0].divergence, report.tokens[0].forgiven),
            (Some(1), true)
        );
    }

    #[test]
    fn a_small_margin_after_the_first_difference_forgives_nothing() {
        let report = report(|t| t.prompts[0].runs[0].tokens = vec![9, 9, 9, 9]).unwrap();
        assert_eq!(failed(&report), [["text", "tokens of run 1", "0 of 4"]]);
    }

    #[test]
    fn too_few_or_too_many_tokens_fail() {
        // Even where the next token would lead by little.
        let short = report(|t| t.prompts[0].runs[0].tokens.truncate(3)).unwrap();
        assert_eq!(failed(&short), [["text", "tokens in each run", "3 of 4"]]);
        let long = report(|t| t.prompts[0].runs[0].tokens.push(7)).unwrap();
        assert_eq!(failed(&long)[0], ["text", "tokens in each run", "5 of 4"]);
        let none = report(|t| t.prompts[0].runs[1].tokens.clear()).unwrap();
        assert_eq!(failed(&none)[0], ["text", "tokens in each run", "0 of 4"]);
    }

    #[test]
    fn too_few_runs_and_a_missing_prompt_fail() {
        let few = report(|t| t.prompts[0].runs.truncate(1)).unwrap();
        assert_eq!(failed(&few), [["text", "runs", "1"]]);
        let missing = report(|t| t.prompts.truncate(1)).unwrap();
        assert_eq!(failed(&missing), [["image", "runs", "0"]]);
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
                "\"other\" is not asked",
            ),
            (|t| t.prompts[1] = t.prompts[0].clone(), "\"text\" twice"),
            (|t| t.prompts[0].input.clear(), "with other ids"),
            (
                |t| t.prompts[0].input = t.prompts[1].input.clone(),
                "another picture",
            ),
        ];
        for (change, message) in cases {
            let error = report(change).unwrap_err().to_string();
            assert!(
                error.starts_with("phone.json") && error.contains(message),
                "{error}"
            );
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
