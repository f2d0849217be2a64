//! The report of a run of the gates, looked at in a browser: that of a run that
//! proves nano, of one that fails, and of a transcript full of markup.

use super::browser::Browser;
use super::{nano, outcome::Outcome};
use crate::repo;
use ::gate::{Stage, Transcript, Verdict, report};
use aimodel_cli::export;
use aimodel_cli::gate::Job;
use anyhow::{Context, Result, ensure};
use bundle::{CallShape, Layout};
use checkpoint::Source;
use gate::transcript::{Bound, CheckId};
use serde::Deserialize;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// A phone's and a desk's width.
const WIDTHS: [u32; 2] = [390, 1280];
/// A phone's height: the verdict must be seen without scrolling.
const HEIGHT: f64 = 844.0;
/// What runs here: the engine has a step of its own, and there is no device.
const STAGES: [Stage; 6] = [
    Stage::Lint,
    Stage::Oracle,
    Stage::Ladder,
    Stage::Weights,
    Stage::Execute,
    Stage::Device,
];

/// The step.
pub fn run() -> Outcome {
    let browser = Browser::find()?;
    sees_faults(&browser)?;
    let good = gated(&nano::folder()?.join("int8hu"))?;
    ensure!(good.holds(&[]).is_ok(), "{:?}", good.holds(&[]));
    let bad = failing()?;
    ensure!(bad.holds(&[]).is_err(), "a wrong bundle was proven");
    let mut divergences = bad.stages.iter().flat_map(|stage| &stage.tokens);
    ensure!(
        divergences.any(|rows| rows.divergence.is_some()),
        "the wrong bundle has the right tokens"
    );
    let mut charts = 0;
    for (which, transcript) in [("good", &good), ("bad", &bad), ("hostile", &hostile(&bad)?)] {
        let found = look(&browser, transcript);
        charts += found.with_context(|| format!("the report of the {which} run"))?;
    }
    Ok(format!(
        "3 reports with {charts} charts, at {} and {} pixels: nothing on the console, no request, \
         nothing beyond the edge",
        WIDTHS[0], WIDTHS[1]
    ))
}

/// That a page with faults is found out: else a page without would prove nothing.
fn sees_faults(browser: &Browser) -> Result<()> {
    let policy = r#"<meta http-equiv="Content-Security-Policy" content="img-src 'none'">"#;
    let loaded = browser.load(&format!(
        r#"{policy}<script>console.error("said")</script><script>throw Error("thrown")</script>
        <img src="http://127.0.0.1:9/blocked.png">"#
    ))?;
    for fault in ["said", "thrown", "blocked.png"] {
        ensure!(
            loaded.console.iter().any(|line| line.contains(fault)),
            "the browser does not report faults: expected {fault:?} on its console, found {:#?}",
            loaded.console
        );
    }
    let wide = r#"<p style="width: 500px">wide</p><img src="http://127.0.0.1:9/asked.png">"#;
    let measured = browser.measure(wide, &WIDTHS)?;
    let [phone, desk] = &measured[..] else {
        anyhow::bail!("{} frames were measured, expected 2", measured.len());
    };
    ensure!(
        phone.sideways > 100.0 && !phone.outside.is_empty() && desk.sideways == 0.0,
        "a page of 500 pixels is measured as {} too wide on a phone, {} at a desk",
        phone.sideways,
        desk.sideways
    );
    ensure!(
        phone
            .requests
            .iter()
            .any(|name| name.ends_with("asked.png")),
        "a request is not seen: {:?}",
        phone.requests
    );
    Ok(())
}

/// Looks at the report of a transcript; gives the number of its charts.
fn look(browser: &Browser, transcript: &Transcript) -> Result<usize> {
    let html = report::render(transcript)?;
    let loaded = browser.load(&html)?;
    ensure!(
        loaded.console.is_empty(),
        "the console has {:#?}",
        loaded.console
    );
    let charts: usize = transcript
        .stages
        .iter()
        .map(|stage| stage.series.len())
        .sum();
    let drawn = loaded.dom.matches("<svg ").count();
    ensure!(drawn == charts, "{drawn} charts, expected {charts}");

    let headline = if transcript.holds(&[]).is_ok() {
        "✓Proven"
    } else {
        "✕Not proven"
    };
    for page in browser.measure(&html, &WIDTHS)? {
        let width = page.width;
        ensure!(
            page.sideways == 0.0 && page.outside.is_empty(),
            "at {width} pixels the page is {} too wide; beyond its edge are {:#?}",
            page.sideways,
            page.outside
        );
        ensure!(page.requests.is_empty(), "it asks for {:?}", page.requests);
        ensure!(
            page.charts == charts,
            "{} of {charts} charts are seen",
            page.charts
        );
        ensure!(
            page.heading == headline && (0.0..HEIGHT / 2.0).contains(&page.heading_end),
            "at {width} pixels the heading is {:?} and ends at {}, expected {headline:?} in the \
             upper half",
            page.heading,
            page.heading_end
        );
        let expected = Stage::ALL.map(|stage| listed(transcript, stage));
        ensure!(
            page.stages.len() == expected.len(),
            "{} stages are listed",
            page.stages.len()
        );
        for (found, expected) in page.stages.iter().zip(&expected) {
            ensure!(
                found[0] == expected[0] && found[1].contains(&expected[1]),
                "a stage is listed as {found:?}, expected {expected:?}"
            );
        }
    }
    Ok(charts)
}

/// How a stage must be listed: its kind and the words that say it.
fn listed(transcript: &Transcript, stage: Stage) -> [String; 2] {
    let report = transcript
        .stages
        .iter()
        .find(|report| report.stage == stage);
    let [kind, word] = match report.map(|report| report.verdict) {
        Some(Verdict::Pass) => ["pass"; 2],
        Some(Verdict::Fail) => ["fail"; 2],
        Some(Verdict::Skipped) => ["skipped"; 2],
        None => ["absent", "not run"],
    };
    [kind.to_owned(), format!("{stage} {word}")]
}

/// A run of the gates on bundles of nano, said to be of nano.
fn gated(exports: &Path) -> Result<Transcript> {
    let recipe = "int8hu".parse()?;
    let mut job = Job::new(
        Source::nano(),
        exports,
        recipe,
        Layout::Pipelined(CallShape::One),
        None,
    )?;
    job.stages = STAGES.into();
    job.quiet = true;
    job.run()
}

/// A run on bundles of another model: nano with another rope theta.
fn failing() -> Result<Transcript> {
    let scratch = repo::scratch()?;
    let [checkpoint, out] = ["nano", "exports"].map(|name| scratch.path().join(name));
    fs::create_dir(&checkpoint)?;
    let original = repo::root().join("oracles/nano/checkpoint");
    for entry in fs::read_dir(original)? {
        let entry = entry?;
        fs::copy(entry.path(), checkpoint.join(entry.file_name()))?;
    }
    let path = checkpoint.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path)?)?;
    let theta = config.pointer_mut("/text_config/rope_theta");
    *theta.context("config.json has no text_config.rope_theta")? = 10_000.0.into();
    fs::write(&path, config.to_string())?;
    export::Job::new(Source::folder(checkpoint)?, "int8hu", &out)?.run()?;
    gated(&out)
}

/// A transcript in which every text that may be any is markup, and long.
fn hostile(transcript: &Transcript) -> Result<Transcript> {
    let mut value = serde_json::to_value(transcript)?;
    spoil(&mut value);
    Ok(serde_json::from_value(value)?)
}

fn spoil(value: &mut Value) {
    const MARKUP: &str = "\"'></title></style></svg><script>console.error('ran')</script>\
                          <img src=http://127.0.0.1:9/x.png onerror=console.error('ran')>";
    match value {
        // Those with a meaning to the reader of the JSON.
        Value::String(text) if text.parse::<Stage>().is_ok() => {}
        Value::String(_) if CheckId::deserialize(&*value).is_ok() => {}
        Value::String(_) if Bound::deserialize(&*value).is_ok() => {}
        Value::String(text)
            if [
                "pass", "fail", "skipped", "cosine", "margin", "error", "amount",
            ]
            .contains(&text.as_str()) => {}
        Value::String(text) => *text = format!("{text}{MARKUP}{}", "x".repeat(300)),
        Value::Array(values) => values.iter_mut().for_each(spoil),
        Value::Object(map) => map.values_mut().for_each(spoil),
        _ => {}
    }
}
