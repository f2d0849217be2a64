//! The engine stage by what Core AI's runtime answered before: asked for, read
//! from the file, and refused where the file is about something else.

use super::{nano, outcome::Outcome};
use crate::repo;
use ::gate::{CoreAi, Stage, StageReport, Verdict};
use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

/// The step.
pub fn run() -> Outcome {
    let scratch = repo::scratch()?;
    let path = |name: &str| scratch.path().join(name);
    let file = path("answers.json");
    let asked = judged("int8hu", CoreAi::Keep(file.clone()))?;
    ensure!(asked.verdict == Verdict::Pass, "{}", asked.summary);
    let read = judged("int8hu", CoreAi::Kept(file.clone()))?;
    ensure!(read.verdict == Verdict::Pass, "{}", read.summary);
    ensure!(
        read.summary.contains("was read from a file"),
        "the verdict does not say that a file was read: {}",
        read.summary
    );
    ensure!(
        read.tokens == asked.tokens && read.checks == asked.checks,
        "what was read is not what was generated"
    );

    match judged("int8lin", CoreAi::Kept(file.clone())) {
        Ok(report) => bail!("an answer of another bundle was judged: {}", report.summary),
        Err(error) => ensure!(error.to_string().contains("another decoder"), error),
    }
    let mut answers: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
    let token = &mut answers["prompts"][0]["tokens"][3];
    *token = json!(token.as_u64().map(|token| token ^ 1));
    std::fs::write(path("token.json"), answers.to_string())?;
    let report = judged("int8hu", CoreAi::Kept(path("token.json")))?;
    ensure!(
        report.verdict == Verdict::Fail,
        "an answer with another token passed"
    );
    let tokens: usize = read.tokens.iter().map(|rows| rows.expected.len()).sum();
    Ok(format!(
        "{tokens} tokens, asked for and read from the file; another token, another bundle refused"
    ))
}

/// What the stage says of a mode's bundles.
fn judged(recipe: &str, core_ai: CoreAi) -> Result<StageReport> {
    nano::stage(Stage::Engine, recipe, |job| job.settings.core_ai = core_ai)
}
