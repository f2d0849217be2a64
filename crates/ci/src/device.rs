//! The device stage from end to end, with Core AI's library in place of a
//! device: a fixture for nano, a transcript, a verdict; and transcripts that
//! must not pass.

use super::{nano, outcome::Outcome};
use crate::repo;
use ::gate::{Stage, StageReport, Verdict};
use aimodel_cli::python;
use aimodel_cli::venv::{CORE_AI_NEWEST, Venv};
use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};
use std::path::Path;

/// The step.
pub fn run() -> Outcome {
    let venv = Venv::core_ai(CORE_AI_NEWEST)?;
    let scratch = repo::scratch()?;
    let path = |name: &str| scratch.path().join(name);
    let fixture = path("fixture.json");
    let skipped = nano::stage(Stage::Device, "int8hu", |job| {
        job.settings.fixture = Some(fixture.clone())
    })?;
    ensure!(skipped.verdict == Verdict::Skipped, "{}", skipped.summary);

    let vision = nano::asset(&nano::vision()?);
    let host = |recipe: &str, transcript: &str| -> Result<String> {
        let decoder = nano::asset(&nano::decoder(recipe, "s1")?);
        let paths = [&fixture, &decoder, &vision, &path(transcript)];
        python::output(&mut repo::script(&venv, "device.py", paths)?)
    };
    host("int8hu", "transcript.json")?;
    let report = judged(&path("transcript.json"))?;
    ensure!(report.verdict == Verdict::Pass, "{}", report.summary);
    let label = format!("not on an Apple device: coreai-core {CORE_AI_NEWEST} on ");
    ensure!(
        report.summary.contains(&label),
        "the verdict does not say {label:?}: {}",
        report.summary
    );

    match host("int8lin", "other.json") {
        Ok(_) => bail!("the host ran another bundle than the fixture's"),
        Err(error) => ensure!(error.to_string().contains("the fixture is for"), error),
    }
    let text = std::fs::read(path("transcript.json"))?;
    let tampered = |name: &str, change: fn(&mut Value)| -> Result<StageReport> {
        let mut transcript: Value = serde_json::from_slice(&text)?;
        change(&mut transcript);
        std::fs::write(path(name), transcript.to_string())?;
        judged(&path(name))
    };
    let report = tampered("token.json", |transcript| {
        let token = &mut transcript["prompts"][0]["runs"][1]["tokens"][3];
        *token = json!(token.as_u64().map(|token| token ^ 1));
    })?;
    ensure!(
        report.verdict == Verdict::Fail,
        "a transcript with another token passed"
    );
    let other = tampered("hash.json", |transcript| {
        transcript["decoder"]["sha256"] = json!("0".repeat(64));
    });
    match other {
        Ok(report) => bail!(
            "a transcript of another bundle was judged: {}",
            report.summary
        ),
        Err(error) => ensure!(error.to_string().contains("another decoder"), error),
    }
    report_of_runs(&text)
}

/// What the stage says of a transcript.
fn judged(transcript: &Path) -> Result<StageReport> {
    let given = Some(transcript.to_owned());
    nano::stage(Stage::Device, "int8hu", |job| {
        job.settings.transcript = given
    })
}

/// How many tokens of how many runs a transcript has.
fn report_of_runs(transcript: &[u8]) -> Result<String> {
    let transcript: Value = serde_json::from_slice(transcript)?;
    let prompts = transcript["prompts"].as_array().into_iter().flatten();
    let runs: Vec<&Value> = prompts
        .flat_map(|prompt| prompt["runs"].as_array().into_iter().flatten())
        .collect();
    let tokens: usize = runs
        .iter()
        .filter_map(|run| Some(run["tokens"].as_array()?.len()))
        .sum();
    Ok(format!(
        "{} runs, {tokens} tokens equal to the engine's; another token, another bundle refused",
        runs.len()
    ))
}
