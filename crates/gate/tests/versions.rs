//! Transcripts of version 1, in which checks were sentences and the stage
//! `execute` was called `gpu`, are still read.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::Bench;
use gate::transcript::{Bound, CheckId, Found};
use gate::{Stage, Transcript, Verdict};

/// What the program of version 1 recorded of nano on a CPU.
const RECORDED: &[u8] = include_bytes!("fixtures/transcript-version-1.json");

#[test]
fn a_transcript_of_version_1_keeps_its_verdicts_and_numbers() {
    let transcript = Transcript::parse(RECORDED).unwrap();
    let stages: Vec<Stage> = transcript.stages.iter().map(|one| one.stage).collect();
    let recorded = Stage::ALL.into_iter();
    let recorded = recorded.filter(|stage| !matches!(stage, Stage::Engine | Stage::Device));
    assert!(recorded.eq(stages));
    assert_eq!(transcript.holds(&["gpu".parse().unwrap()]), Ok(()));
    let mut cosines = 0;
    for report in &transcript.stages {
        assert_eq!(report.verdict, Verdict::Pass);
        for check in &report.checks {
            assert_eq!(check.id, CheckId::Version1);
            assert!(check.holds && !check.what().is_empty());
            if let Found::Cosine(cosine) = check.found {
                cosines += 1;
                assert!(
                    cosine > 0.999
                        && matches!(check.bound, Bound::AtLeast(bound) if cosine >= bound)
                );
            }
        }
    }
    assert_eq!(cosines, 17);
    // What was read is written as the present version, and read again as it is.
    let written = serde_json::to_vec(&transcript).unwrap();
    let value: serde_json::Value = serde_json::from_slice(&written).unwrap();
    let mut stages = value["stages"].as_array().unwrap().iter();
    assert!(stages.any(|report| report["stage"] == "execute"));
}

#[test]
fn the_error_of_int8_weights_is_what_version_1_recorded() {
    let case = Bench::new(&["count"]).case();
    let now = case.run(&[Stage::Weights]).unwrap();
    let before = Transcript::parse(RECORDED).unwrap();
    let [now, before] = [&now, &before].map(|run| run.stage(Stage::Weights).unwrap());
    assert_eq!(now.series.len(), 2);
    assert_eq!(now.series, before.series);
}

#[test]
fn what_judges_never_reads_a_sentence() {
    let mut transcript = Transcript::parse(RECORDED).unwrap();
    for report in &mut transcript.stages {
        report.summary.clear();
        for check in &mut report.checks {
            check.of = None;
            check.note = None;
        }
    }
    assert_eq!(transcript.holds(&[Stage::Lint]), Ok(()));
}

#[test]
fn other_versions_are_refused() {
    for (from, to) in [
        ("\"version\": 1", "\"version\": 3"),
        ("\"version\": 1", "\"version\": \"1\""),
    ] {
        let text = String::from_utf8(RECORDED.to_vec()).unwrap();
        let error = Transcript::parse(text.replacen(from, to, 1).as_bytes()).unwrap_err();
        assert!(error.contains("expected 1 or 2"), "{error}");
    }
}
