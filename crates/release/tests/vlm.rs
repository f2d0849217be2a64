//! The bundle for Apple's package in a release: what is spoilt in it is refused,
//! and evidence of another layout is not taken for its own.

// Helpers outside test functions, which clippy.toml does not exempt.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::{fs, path::Path};

use common::{Case, DECODERS, assemble, bench, copy_folder, given, refuses};
use gate::{
    Stage, Transcript, Verdict,
    transcript::{Bound, Check, CheckId, Found},
};
use release::{Listing, Parts, Recipe, Release};

const BUNDLE: &str = "apple/nano_vlm_int8hu";
const TRANSCRIPT: &str = "transcripts/nano_vlm_int8hu_cpu.json";
const PIPELINED: &str = "transcripts/nano_decode_int8hu_s1_cpu.json";

/// A release that must not be made of such transcripts.
fn not_made(transcripts: &[Transcript], parts: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let error = assemble(transcripts, &folder.path().join("out")).unwrap_err();
    refuses(&error, parts);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// The bench's transcripts, that of the vlm bundle changed.
fn changed(change: impl FnOnce(&mut Transcript)) -> Vec<Transcript> {
    let mut transcripts = bench().transcripts.clone();
    assert_eq!(transcripts[2].bundles[0].name, DECODERS[2]);
    change(&mut transcripts[2]);
    transcripts
}

fn report(transcript: &mut Transcript, stage: Stage) -> &mut gate::StageReport {
    let mut stages = transcript.stages.iter_mut();
    stages.find(|report| report.stage == stage).unwrap()
}

#[test]
fn the_whole_bundle_is_there() {
    let case = Case::new();
    let listing = Listing::read(&case.out()).unwrap();
    let exported = Listing::read(&bench().exports.join(DECODERS[2])).unwrap();
    assert!(exported.files.len() > 10);
    for entry in &exported.files {
        let path = format!("{BUNDLE}/{}", entry.path);
        assert_eq!(listing.get(&path).unwrap().sha256, entry.sha256);
    }
    assert_eq!(listing.below(BUNDLE).count(), exported.files.len());
    let release = Release::open(&case.out()).unwrap();
    let evidence = release.evidence.last().unwrap();
    assert_eq!((evidence.path.as_str(), evidence.decoder), (TRANSCRIPT, 2));
    assert_eq!(evidence.transcript.bundles.len(), 1);
}

#[test]
fn evidence_of_another_layout() {
    // One file for the other, both ways.
    for (from, to) in [(PIPELINED, TRANSCRIPT), (TRANSCRIPT, PIPELINED)] {
        let case = Case::new();
        fs::copy(case.path(from), case.path(to)).unwrap();
        let called = format!("would be called {}", from.split_once('/').unwrap().1);
        case.refuses(&[to, &called]);
    }
    // Also when each says that it is about the other.
    let swap = |at: usize, name: &str| {
        let mut transcripts = bench().transcripts.clone();
        name.clone_into(&mut transcripts[at].bundles[0].name);
        transcripts.remove(2 - at);
        transcripts
    };
    not_made(
        &swap(0, DECODERS[2]),
        &[
            TRANSCRIPT,
            "expected one about nano_vlm_int8hu, found nano_vlm_int8hu, nano_vision",
        ],
    );
    not_made(
        &swap(2, DECODERS[0]),
        &[
            PIPELINED,
            "expected one about nano_decode_int8hu_s1 and nano_vision, found nano_decode_int8hu_s1",
        ],
    );
    // With the files of the other bundle.
    let other = bench().transcripts[0].bundles[0].files.clone();
    let parts = [TRANSCRIPT, "is about other files", "embedding.aimodel"];
    not_made(&changed(|one| one.bundles[0].files = other), &parts);
    // Of the same bundle, before an asset was made again.
    let file = "embedding.aimodel/main.mlirb".to_owned();
    let again = changed(|one| {
        one.bundles[0].files.insert(file, "0".repeat(64));
    });
    not_made(&again, &[TRANSCRIPT, "is about other bytes", "embedding"]);
    // None at all.
    let parts = [
        TRANSCRIPT,
        "is missing: there is no evidence of nano_vlm_int8hu",
    ];
    not_made(&bench().transcripts[..2], &parts);
}

#[test]
fn stages_of_the_layout() {
    let failed = changed(|one| report(one, Stage::Weights).verdict = Verdict::Fail);
    not_made(&failed, &[TRANSCRIPT, "weights: failed"]);
    let skipped = changed(|one| {
        let report = report(one, Stage::Ladder);
        report.verdict = Verdict::Skipped;
        report.checks.clear();
    });
    not_made(
        &skipped,
        &[TRANSCRIPT, "ladder: is required and was skipped"],
    );
    // No device can have answered it.
    let answered = changed(|one| {
        let report = report(one, Stage::Device);
        report.verdict = Verdict::Pass;
        report.apple_device = Some(true);
        let (found, bound) = (Found::Number(8.0), Bound::AtLeast(3.0));
        report
            .checks
            .push(Check::new(CheckId::Runs, None, found, bound));
    });
    not_made(
        &answered,
        &[
            TRANSCRIPT,
            "device: is said to have run, and bundles of the layout vlm have no such stage",
        ],
    );
    // So it is not asked of this bundle, where it is of the others.
    let mut given = given();
    given.text = given.text.replace("\"gpu\"]", "\"gpu\", \"device\"]");
    given.recipe = Recipe::parse(&given.text).unwrap();
    let (gates, folder) = (common::gates(), tempfile::tempdir().unwrap());
    let out = folder.path().join("out");
    let made = |transcripts: &[Transcript]| {
        let parts = Parts {
            given: &given,
            gates: &gates,
            exports: &bench().exports,
            transcripts,
        };
        release::assemble(&parts, &out)
    };
    let error = made(&bench().transcripts).unwrap_err();
    refuses(&error, &[PIPELINED, "device: is required and was skipped"]);
    assert!(!error.to_string().contains("vlm"), "{error}");
    let mut transcripts = bench().transcripts.clone();
    for transcript in &mut transcripts[..2] {
        let (found, bound) = (Found::Number(8.0), Bound::AtLeast(3.0));
        let report = report(transcript, Stage::Device);
        report.verdict = Verdict::Pass;
        report.apple_device = Some(true);
        report
            .checks
            .push(Check::new(CheckId::Runs, None, found, bound));
    }
    made(&transcripts).unwrap();
    let card = fs::read_to_string(out.join("README.md")).unwrap();
    let parts = [
        "- **device** (vlm int8hu on cpu): there is no fixture",
        "execute, device were required (device not of `apple/`, where it cannot run)",
    ];
    testkit::assert_contains(&card, &parts);
}

#[test]
fn an_asset_that_is_missing_or_another() {
    for asset in [
        "nano_vlm_int8hu.aimodel",
        "embedding.aimodel",
        "vision.aimodel",
    ] {
        let case = Case::new();
        let place = format!("{BUNDLE}/{asset}");
        fs::remove_dir_all(case.path(&place)).unwrap();
        let missing = format!("{place}/main.mlirb: is missing");
        case.refuses(&[&missing, "SHA256SUMS lists it"]);
        case.sum_up();
        case.refuses(&[&missing, TRANSCRIPT]);
    }
    // Assets of other graphs, with hashes that fit.
    let vision = format!("{BUNDLE}/vision.aimodel");
    let embedding = format!("{BUNDLE}/embedding.aimodel");
    let beside = "gpu-pipelined/nano_vision/nano_vision.aimodel";
    for (from, to) in [(beside, &vision), (&vision, &embedding)] {
        let case = Case::new();
        fs::remove_dir_all(case.path(to)).unwrap();
        copy_folder(&case.path(from), &case.path(to));
        case.sum_up();
        case.refuses(&[BUNDLE, "that Apple's package calls", "is about other bytes"]);
    }
    // A bundle that is not whole is not released.
    let exports = tempfile::tempdir().unwrap();
    copy_folder(&bench().exports, exports.path());
    fs::remove_dir_all(exports.path().join(DECODERS[2]).join("vision.aimodel")).unwrap();
    let made = |exports: &Path| {
        let (given, gates) = (given(), common::gates());
        let parts = Parts {
            given: &given,
            gates: &gates,
            exports,
            transcripts: &bench().transcripts,
        };
        release::assemble(&parts, &exports.join("out"))
    };
    let error = made(exports.path()).unwrap_err();
    refuses(&error, &["vision.aimodel/main.mlirb: is missing"]);
    fs::remove_dir_all(exports.path().join(DECODERS[2])).unwrap();
    let error = made(exports.path()).unwrap_err().to_string();
    assert!(error.contains("there is no such bundle"), "{error}");
    assert!(!exports.path().join("out").exists());
}

#[test]
fn files_that_are_too_many() {
    for name in [
        "apple/notes.txt",
        "apple/other/metadata.json",
        "apple/nano_vlm_int8hu/notes.txt",
        "apple/nano_vlm_int8hu/nano_vision.aimodel/main.mlirb",
        "apple/nano_vlm_int8hu/vision.aimodel/more",
        // Each layout has its own folder.
        "apple/nano_decode_int8hu_s1/metadata.json",
        "gpu-pipelined/nano_vlm_int8hu/metadata.json",
    ] {
        let case = Case::new();
        let path = case.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "{}").unwrap();
        case.sum_up();
        case.refuses(&[name, "belongs to no bundle of the recipe"]);
    }
}

#[test]
fn a_manifest_that_says_something_else() {
    let metadata = format!("{BUNDLE}/metadata.json");
    for (from, to, part) in [
        ("\"kind\": \"vlm\"", "\"kind\": \"llm\"", "kind"),
        (
            "\"embedding\": \"embedding.aimodel\"",
            "\"embedding\": \"vision.aimodel\"",
            "assets: expected",
        ),
        (
            "    \"embedding\": \"embedding.aimodel\",\n",
            "",
            "assets.embedding",
        ),
        (
            "\"max_context_length\": 4096",
            "\"max_context_length\": 8192",
            "language.max_context_length",
        ),
        (
            "\"image_size\": 128",
            "\"image_size\": 256",
            "vision.image_size",
        ),
        (
            "\"patch_size\": 16,",
            "\"patch_size\": 8,",
            "vision.patch_size",
        ),
        (
            "\"image_token_count\": 16",
            "\"image_token_count\": 49",
            "vision.image_token_count",
        ),
        (
            "\"image_token_id\": 504",
            "\"image_token_id\": 512",
            "vision.image_token_id: 512 is not one of 512 tokens",
        ),
        // It is one, and nobody judged a bundle that says so.
        (
            "\"image_token_id\": 504",
            "\"image_token_id\": 503",
            "is about other bytes",
        ),
        ("0.5", "0.25", "vision.image_mean"),
        ("\"stretch\"", "\"crop\"", "vision.image_strategy"),
        (
            "\"include_image_info\": false",
            "\"include_image_info\": true",
            "vision.include_image_info",
        ),
        (
            "\"rescale_factor\": 1.0",
            "\"rescale_factor\": 2.0",
            "vision.rescale_factor",
        ),
        (
            "\"image_tokens\": \"16\"",
            "\"first_image_id\": \"512\",\n    \"image_tokens\": \"16\"",
            "user_data.first_image_id",
        ),
        (
            "\"hidden_size\": \"128\"",
            "\"hidden_size\": \"64\"",
            "says other things of itself than nano_decode_int8hu_s1",
        ),
        (
            "\"deepstack_layers\": \"0,1,2\"",
            "\"deepstack_layers\": \"0,1\"",
            "says other things of itself than nano_decode_int8hu_s1",
        ),
    ] {
        let case = Case::new();
        case.edit(&metadata, from, to);
        case.sum_up();
        case.refuses(&[BUNDLE, part]);
    }
    let asset = format!("{BUNDLE}/embedding.aimodel/metadata.json");
    let case = Case::new();
    case.edit(&asset, "BSD-3-Clause", "Apache-2.0");
    case.sum_up();
    case.refuses(&[
        "embedding.aimodel: states the licence Some(\"Apache-2.0\")",
        TRANSCRIPT,
    ]);
    let case = Case::new();
    case.edit(&asset, "aimodel ", "another ");
    case.sum_up();
    case.refuses(&["embedding.aimodel: was made by another program"]);
}

#[test]
fn another_template() {
    // The checkpoint's own, which would lose the picture in Apple's package.
    let case = Case::new();
    let own = case.read("gpu-pipelined/nano_decode_int8hu_s1/tokenizer/chat_template.jinja");
    let file = format!("{BUNDLE}/tokenizer/chat_template.jinja");
    assert_ne!(case.read(&file), own);
    fs::write(case.path(&file), own).unwrap();
    case.sum_up();
    case.refuses(&[TRANSCRIPT, "is about other bytes", &file]);
}

#[test]
fn an_edited_card() {
    for (from, to) in [
        ("| yes | yes |", "| yes | no |"),
        ("It is not the checkpoint's own.", "It is the checkpoint's."),
        ("CoreAIVisionLanguageModel(", "CoreAILanguageModel("),
        ("- **device** (vlm int8hu on cpu)", "- **device**"),
        (
            "aimodel's authors have run none of this",
            "aimodel's authors have run this",
        ),
    ] {
        let case = Case::new();
        case.edit("README.md", from, to);
        case.refuses(&["README.md: line", "is not what the evidence gives"]);
    }
}
