//! What is not an input for gates: clear errors, and no verdict.

// Helpers outside test functions, which clippy.toml does not exempt.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::fs;

use common::{Bench, Case, NoTools};
use gate::{Stage, Verdict};

fn case() -> Case {
    Bench::new(&["count"]).case()
}

#[test]
fn layers_beyond_the_depth() {
    let case = case();
    let candidate = case.candidate().unwrap();
    for layers in [0, 5] {
        let mut settings = case.settings();
        settings.layers = Some(layers);
        let error = gate::run(&candidate, &case.gates, &settings, &[], &NoTools, |_| {});
        assert_eq!(
            error.unwrap_err().to_string(),
            format!("layers: expected 1 to 4 layers, those of this model, found {layers}")
        );
    }
    let mut settings = case.settings();
    settings.layers = Some(3);
    let ladder = [Stage::Ladder];
    let transcript = gate::run(
        &candidate,
        &case.gates,
        &settings,
        &ladder,
        &NoTools,
        |_| {},
    );
    let transcript = transcript.unwrap();
    let report = transcript.stage(Stage::Ladder).unwrap();
    assert_eq!(report.verdict, Verdict::Pass);
    assert_eq!(report.series[0].values.len(), 3);
}

#[test]
fn a_bundle_whose_hash_does_not_match() {
    let case = case();
    let program = case.bundle_file("nano_decode_int8hu_s1.aimodel/main.mlirb");
    let mut bytes = fs::read(&program).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&program, bytes).unwrap();
    let stated = program.with_file_name("main.hash");
    let stated = hex::encode(fs::read(stated).unwrap());
    let message = case.candidate().err().unwrap().to_string();
    assert!(message.contains("nano_decode_int8hu_s1.aimodel/main.mlirb: its SHA-256 is "));
    assert!(message.contains(&format!("but main.hash beside it states {stated}")));
    assert!(message.ends_with("the file is damaged or was changed, so fetch or export it again"));
}

#[test]
fn a_bundle_that_is_not_there() {
    let case = case();
    fs::remove_dir_all(case.path("exports/nano_vision")).unwrap();
    let message = case.candidate().err().unwrap().to_string();
    assert!(message.ends_with(
        "nano_vision: there is no such bundle (there are nano_decode_int8hu_s1); export it first, \
         or say where it is"
    ));
}

#[test]
fn a_checkpoint_without_its_tokenizer() {
    let case = case();
    fs::remove_file(case.path("nano/tokenizer.json")).unwrap();
    let message = case.run(&[Stage::Weights]).unwrap_err().to_string();
    assert!(message.contains("tokenizer.json"), "{message}");
    assert!(message.contains("nano"), "{message}");
}

#[test]
fn a_bundle_without_its_tokenizer() {
    let case = case();
    fs::remove_dir_all(case.bundle_file("tokenizer")).unwrap();
    let transcript = case.run(&[Stage::Weights]).unwrap();
    let report = transcript.stage(Stage::Weights).unwrap();
    assert_eq!(report.verdict, Verdict::Fail);
    assert_eq!(
        report.summary,
        "nano_decode_int8hu_s1: tokenizer files that are not the checkpoint's: found 6 of 6, must \
         be 0"
    );
    let finding = &report.findings[5];
    assert_eq!(
        (finding.place.as_str(), finding.message.as_str()),
        (
            "nano_decode_int8hu_s1: tokenizer/vocab.json",
            "is missing, and the checkpoint has it"
        )
    );
}

#[cfg(unix)]
#[test]
fn a_link_in_a_bundle() {
    let case = case();
    let file = case.bundle_file("tokenizer/vocab.json");
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(case.path("nano/vocab.json"), &file).unwrap();
    let message = case.candidate().err().unwrap().to_string();
    assert!(
        message.ends_with("vocab.json: is neither a file nor a folder; expected plain files here")
    );
}
