//! The gates must be able to fail: single faults, each in a bundle, a model or
//! an oracle that is otherwise good, and which stages say no to it. The table
//! of docs/gates.md is held to what is measured here.

// Helpers outside test functions, which clippy.toml does not exempt.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;
mod faults;
mod surgery;
mod vlm;

use std::fs;

use gate::{Stage, Transcript, Verdict};
use rayon::prelude::*;

use common::{Bench, stages};
use faults::{FAULTS, Fault};

/// One prompt with a picture and one without.
const PROMPTS: [&str; 2] = ["scene-1", "count"];

/// What no numeric stage says no to, because it hardly moves a number: the max
/// by which it moves the cosine of any position's logits.
const HARMLESS: [(&str, f64); 2] = [
    // Where it begins, there are image tokens, which have places of their own.
    ("shift from one token earlier", 0.0),
    // The frequencies that change hands turn by 3 · 0.021 at most on a grid of 4.
    ("M-RoPE sections 14, 1, 1 in config.json", 1e-4),
];

#[test]
fn what_is_good_passes() {
    let transcript = Bench::new(&PROMPTS).case().run(&Stage::ALL).unwrap();
    for report in &transcript.stages {
        let expected = if stages().contains(&report.stage) {
            Verdict::Pass
        } else {
            Verdict::Skipped
        };
        assert_eq!(report.verdict, expected, "{}", report.summary);
        let evidence = report.checks.len();
        assert_eq!(evidence > 0, expected == Verdict::Pass, "{}", report.stage);
    }
    assert_eq!(transcript.stages.len(), Stage::ALL.len());
}

#[test]
fn a_good_vlm_bundle_passes() {
    let transcript = Bench::vlm(&PROMPTS).case().run(&stages()).unwrap();
    for report in &transcript.stages {
        assert_eq!(report.verdict, Verdict::Pass, "{}", report.summary);
    }
}

#[test]
fn faults_are_caught_by_the_stages_that_the_table_names() {
    measure(&Bench::new(&PROMPTS), FAULTS, 0);
}

#[test]
fn faults_of_vlm_bundles_are_caught_by_the_stages_that_the_table_names() {
    measure(&Bench::vlm(&PROMPTS), vlm::FAULTS, 1);
}

/// Injects faults one by one, and holds a table of docs/gates.md to what the stages
/// say.
fn measure(bench: &Bench, faults: &[Fault], index: usize) {
    let rows = faults.par_iter().map(|fault| {
        let mut case = bench.case();
        (fault.inject)(&mut case);
        let transcript = case.run(&stages());
        let transcript = transcript.unwrap_or_else(|error| panic!("{}: {error}", fault.name));
        let cells: Vec<_> = stages()
            .iter()
            .map(|stage| cell(&transcript, *stage))
            .collect();
        format!("| {} | {} |", fault.name, cells.join(" | "))
    });
    let measured: Vec<String> = rows.collect();
    let written = table(index);
    assert!(
        written == measured,
        "docs/gates.md has another table than this, which was measured:\n{}",
        measured.join("\n")
    );
    for row in &measured {
        let harmless = HARMLESS.iter().any(|(name, _)| row.contains(name));
        assert!(row.contains("**fail**") || harmless, "nothing sees {row}");
    }
}

#[test]
fn what_is_harmless_moves_no_cosine_beyond_its_bound() {
    let bench = Bench::new(&PROMPTS);
    let good = cosines(&bench.case().run(&[Stage::Execute]).unwrap());
    assert_eq!(good.len(), 55 + 37);
    for (name, bound) in HARMLESS {
        let fault = FAULTS.iter().find(|fault| fault.name == name).unwrap();
        let mut case = bench.case();
        (fault.inject)(&mut case);
        let found = cosines(&case.run(&[Stage::Execute]).unwrap());
        assert_eq!(found.len(), good.len());
        let moved = good.iter().zip(&found).map(|(a, b)| (a - b).abs());
        let max = moved.fold(0.0, f64::max);
        assert!(max <= bound, "{name}: {max}");
    }
}

fn cell(transcript: &Transcript, stage: Stage) -> &'static str {
    match transcript.stage(stage).unwrap().verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "**fail**",
        Verdict::Skipped => "skipped",
    }
}

/// The logits' cosines at every position.
fn cosines(transcript: &Transcript) -> Vec<f64> {
    let [report] = transcript.stages.as_slice() else {
        panic!("one stage was asked for");
    };
    assert_eq!(report.verdict, Verdict::Pass, "{}", report.summary);
    let series = report.series.iter();
    series.flat_map(|one| one.values.iter().copied()).collect()
}

/// The rows of a table in docs/gates.md.
fn table(index: usize) -> Vec<String> {
    let page = fs::read_to_string(testkit::repository().join("docs/gates.md")).unwrap();
    let stages: Vec<_> = stages().into_iter().map(Stage::name).collect();
    let stages = stages.join(" | ");
    let head = format!("| fault | {stages} |");
    let table = page.split(&format!("{head}\n")).nth(index + 1);
    let rows = table.unwrap().lines().skip(1);
    let rows = rows.take_while(|line| line.starts_with('|'));
    rows.map(str::to_owned).collect()
}
