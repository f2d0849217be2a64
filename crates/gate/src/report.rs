//! The evidence as one HTML file, to be read by people.
//!
//! It opens from disk: styles and charts are in the file, nothing is fetched,
//! and there is no script. Whatever the transcript says is text: the template
//! engine escapes all of it, and `text.rs` makes visible what a browser would
//! not show.

mod chart;
mod number;
#[cfg(test)]
mod tests;
mod text;
mod tokens;

use minijinja::{Environment, UndefinedBehavior, context, syntax::SyntaxConfig, value::Serde};
use serde::Serialize;

use crate::{
    Error, Result, Stage, StageReport, Transcript, Verdict,
    transcript::{Check, Finding},
};
use chart::Chart;
use tokens::Tokens;

const TEMPLATES: [(&str, &str); 3] = [
    ("report.html", include_str!("report/report.html")),
    ("stage.html", include_str!("report/stage.html")),
    ("chart.html", include_str!("report/chart.html")),
];
const STYLE: &str = include_str!("report/report.css");
/// Findings of a stage that are shown; the transcript has all.
const FINDINGS: usize = 100;
/// The file of an asset whose hash says which program it is.
const PROGRAM: &str = aimodel::PROGRAM;

/// A transcript, put into the order and the words of the page.
#[derive(Serialize)]
struct Page<'t> {
    title: String,
    /// `pass`, `fail`, or `open` where nothing failed but something did not run.
    verdict: &'static str,
    headline: &'static str,
    why: String,
    /// Every stage of the context, whether it ran or not.
    glance: Vec<Glance<'t>>,
    tally: String,
    facts: Vec<Fact<'t>>,
    stages: Vec<Section<'t>>,
    bundles: Vec<Files<'t>>,
}

/// A stage as a line.
#[derive(Serialize)]
struct Glance<'t> {
    name: &'static str,
    /// `pass`, `fail`, `skipped`, or `absent`.
    verdict: &'static str,
    summary: &'t str,
    seconds: Option<String>,
    device: Option<&'t str>,
}

#[derive(Serialize)]
struct Fact<'t> {
    name: &'t str,
    value: String,
    /// Whether it is an identifier, which is set in a fixed pitch.
    code: bool,
    /// Whether it is one that takes a line of its own.
    long: bool,
}

/// A bundle's files with their hashes.
#[derive(Serialize)]
struct Files<'t> {
    name: &'t str,
    files: Vec<Fact<'t>>,
}

/// A stage with its evidence.
#[derive(Serialize)]
struct Section<'t> {
    name: &'static str,
    verdict: &'static str,
    about: String,
    summary: &'t str,
    seconds: String,
    findings: &'t [Finding],
    more_findings: usize,
    charts: Vec<Chart>,
    tokens: Vec<Tokens<'t>>,
    checks: Vec<Checks<'t>>,
    check_count: usize,
    failed: usize,
    facts: Vec<Fact<'t>>,
}

/// Checks of one prompt that follow each other.
#[derive(Serialize)]
struct Checks<'t> {
    prompt: Option<&'t str>,
    rows: Vec<CheckRow>,
}

/// A check in words.
#[derive(Serialize)]
struct CheckRow {
    what: String,
    found: String,
    must: String,
    holds: bool,
}

/// Renders a transcript as a self-contained HTML page. The same transcript
/// gives the same bytes.
///
/// # Errors
/// The page's own template is wrong; no transcript makes it so.
pub fn render(transcript: &Transcript) -> Result<String> {
    let page = serde_json::to_value(Page::new(transcript));
    let mut page = page.map_err(|error| Error::input("report", error.to_string()))?;
    text::sanitize(&mut page);
    draw(&page).map_err(|error| Error::input("report", format!("{error:#}")))
}

fn draw(page: &serde_json::Value) -> Result<String, minijinja::Error> {
    let mut environment = Environment::new();
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true);
    environment.set_syntax(syntax.build()?);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    // A name that ends in .html makes the engine escape every value.
    for (name, source) in TEMPLATES {
        environment.add_template(name, source)?;
    }
    environment.add_template("report.css", STYLE)?;
    let template = environment.get_template("report.html")?;
    template.render(context! { page => minijinja::Value::from(Serde(page)) })
}

impl<'t> Page<'t> {
    fn new(transcript: &'t Transcript) -> Self {
        let failed = transcript
            .stages
            .iter()
            .any(|report| report.verdict == Verdict::Fail);
        let (verdict, headline, why) = match transcript.holds(&[]) {
            Ok(()) => ("pass", "Proven", proven(transcript)),
            Err(why) if failed => ("fail", "Not proven", why),
            Err(why) => ("open", "Not proven", format!("No stage failed, but {why}.")),
        };
        let names: Vec<&str> = transcript.bundles.iter().map(|one| &*one.name).collect();
        let device = &*transcript.environment.device;
        Self {
            title: format!("{headline}: {} on {device}", names.join(", ")),
            verdict,
            headline,
            why,
            glance: glance(transcript),
            tally: tally(transcript),
            facts: judged(transcript),
            stages: transcript
                .stages
                .iter()
                .map(|report| Section::new(report, device))
                .collect(),
            bundles: files(transcript),
        }
    }
}

/// What follows where everything holds.
fn proven(transcript: &Transcript) -> String {
    let device = &transcript.environment.device;
    let must = [Stage::Weights, Stage::Execute];
    let must = must.iter().chain(&transcript.required);
    let must = must.map(|stage| match stage {
        Stage::Execute => format!("execute (on {device})"),
        other => other.to_string(),
    });
    let must: Vec<String> = must.collect();
    format!(
        "The bundles are the model {}. No stage failed, and those that must run did: {}.",
        transcript.model.id,
        must.join(", ")
    )
}

fn glance(transcript: &Transcript) -> Vec<Glance<'_>> {
    let line = |stage: Stage| {
        let report = transcript.stages.iter().find(|one| one.stage == stage);
        let ran = report.filter(|one| one.verdict != Verdict::Skipped);
        Glance {
            name: stage.name(),
            verdict: report.map_or("absent", |one| word(one.verdict)),
            summary: report.map_or("not asked for in this run", |one| &one.summary),
            seconds: ran.map(|one| seconds(one.seconds)),
            device: ran
                .filter(|_| stage == Stage::Execute)
                .map(|_| &*transcript.environment.device),
        }
    };
    Stage::ALL.map(line).into()
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "fail",
        Verdict::Skipped => "skipped",
    }
}

/// How many stages came to what.
fn tally(transcript: &Transcript) -> String {
    let count = |verdict| {
        let stages = transcript.stages.iter();
        stages.filter(|report| report.verdict == verdict).count()
    };
    let total: f64 = transcript.stages.iter().map(|one| one.seconds).sum();
    let counts = [
        (count(Verdict::Pass), "passed"),
        (count(Verdict::Fail), "failed"),
        (count(Verdict::Skipped), "skipped"),
        (
            Stage::ALL.len().saturating_sub(transcript.stages.len()),
            "not asked for",
        ),
    ];
    let said = counts.iter().filter(|(count, _)| *count > 0);
    let said: Vec<String> = said
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    format!("{} · {}", said.join(", "), seconds(total))
}

/// What was judged, by what, and where.
fn judged(transcript: &Transcript) -> Vec<Fact<'_>> {
    let (model, environment) = (&transcript.model, &transcript.environment);
    let required: Vec<&str> = transcript.required.iter().map(|one| one.name()).collect();
    let mut facts = vec![
        fact("Model", &model.id),
        match &model.revision {
            Some(revision) => code("Revision", revision),
            None => fact("Revision", "none: not from the hub"),
        },
        fact("Decoder layers", &model.layers.to_string()),
        fact("Thresholds", &format!("gates/{}.toml", transcript.gates)),
        fact("Executed on", &environment.device),
        fact("Threads", &environment.threads.to_string()),
        fact("Platform", &environment.platform),
        fact("Tool", &environment.tool),
    ];
    if !required.is_empty() {
        facts.push(fact("Had to run, too", &required.join(", ")));
    }
    facts.push(hash("Checkpoint, SHA-256", &model.checkpoint));
    for bundle in &transcript.bundles {
        let programs = bundle.files.iter();
        let programs = programs.filter(|(path, _)| path.rsplit('/').next() == Some(PROGRAM));
        facts.extend(programs.map(|(path, program)| hash(path, program)));
    }
    facts
}

fn files(transcript: &Transcript) -> Vec<Files<'_>> {
    let bundles = transcript.bundles.iter().map(|bundle| Files {
        name: &bundle.name,
        files: bundle
            .files
            .iter()
            .map(|(path, hash)| code(path, hash))
            .collect(),
    });
    bundles.collect()
}

fn fact<'t>(name: &'t str, value: &str) -> Fact<'t> {
    Fact {
        name,
        value: value.to_owned(),
        code: false,
        long: false,
    }
}

fn code<'t>(name: &'t str, value: &str) -> Fact<'t> {
    Fact {
        code: true,
        ..fact(name, value)
    }
}

fn hash<'t>(name: &'t str, value: &str) -> Fact<'t> {
    Fact {
        long: true,
        ..code(name, value)
    }
}

impl<'t> Section<'t> {
    fn new(report: &'t StageReport, device: &str) -> Self {
        let shown = report.findings.len().min(FINDINGS);
        Self {
            name: report.stage.name(),
            verdict: word(report.verdict),
            about: about(report.stage, device),
            summary: &report.summary,
            seconds: seconds(report.seconds),
            findings: &report.findings[..shown],
            more_findings: report.findings.len() - shown,
            charts: chart::charts(&report.series),
            tokens: report.tokens.iter().map(Tokens::new).collect(),
            checks: checks(&report.checks),
            check_count: report.checks.len(),
            failed: report.checks.iter().filter(|check| !check.holds).count(),
            facts: report
                .facts
                .iter()
                .map(|(name, value)| fact(name, value))
                .collect(),
        }
    }
}

/// What a stage compares.
fn about(stage: Stage, device: &str) -> String {
    let text = match stage {
        Stage::Lint => "The bundles with what is known to break on Apple's delegates.",
        Stage::Oracle => {
            "What transformers recorded in fp32: whether it is of this checkpoint, and leads by \
             enough to be relied on."
        }
        Stage::Ladder => {
            "Our prompt and our fp32 model with the oracle: token ids, patches, positions, every \
             layer, logits, answer."
        }
        Stage::Weights => {
            "Every function, operation and constant of the bundles with what the checkpoint gives, \
             to the bit."
        }
        Stage::Execute => {
            return format!("The bundles themselves, executed on {device}, with the oracle.");
        }
        Stage::Engine => "Our loop with Core AI's own runtime, on the same bundle and picture.",
        Stage::Device => "The answers of a host that ran the bundles with those of our loop.",
    };
    text.to_owned()
}

fn checks(checks: &[Check]) -> Vec<Checks<'_>> {
    let runs = checks.chunk_by(|a, b| a.prompt == b.prompt);
    let runs = runs.map(|rows| Checks {
        prompt: rows.first().and_then(|row| row.prompt.as_deref()),
        rows: rows
            .iter()
            .map(|check| CheckRow {
                what: check.what(),
                found: check.found(),
                must: check.must(),
                holds: check.holds,
            })
            .collect(),
    });
    runs.collect()
}

fn seconds(seconds: f64) -> String {
    match seconds {
        seconds if !seconds.is_finite() || seconds < 0.0 => "time unknown".to_owned(),
        seconds if seconds < 99.5 => format!("{seconds:.2} s"),
        seconds => format!("{} s", number::grouped(seconds)),
    }
}
