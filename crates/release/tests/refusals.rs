//! A published folder in which something is not true, and a release that must
//! not be made.

// Helpers outside test functions, which clippy.toml does not exempt.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::fs;

use common::{Case, DECODERS, assemble, bench, refuses};
use gate::transcript::{Bound, Found};
use gate::{Stage, Transcript, Verdict};
use serde_json::Value;

const HU: &str = "transcripts/nano_decode_int8hu_s1_cpu.json";
const LIN: &str = "transcripts/nano_decode_int8lin_s1_cpu.json";
const PROGRAM: &str =
    "gpu-pipelined/nano_decode_int8hu_s1/nano_decode_int8hu_s1.aimodel/main.mlirb";

/// A transcript of a copy of the bench's, changed.
fn changed(change: impl FnOnce(&mut Transcript)) -> Vec<Transcript> {
    let mut transcripts = bench().transcripts.clone();
    change(&mut transcripts[0]);
    transcripts
}

/// A release that must not be made of such transcripts; nothing appears.
fn not_made(transcripts: &[Transcript], parts: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let error = assemble(transcripts, &folder.path().join("out")).unwrap_err();
    refuses(&error, parts);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

fn report(transcript: &mut Transcript, stage: Stage) -> &mut gate::StageReport {
    let mut stages = transcript.stages.iter_mut();
    stages.find(|report| report.stage == stage).unwrap()
}

#[test]
fn what_holds_is_accepted() {
    let listing = release::check_for_push(&Case::new().out()).unwrap();
    assert!(listing.get("README.md").is_some());
    assert!(listing.get(PROGRAM).is_some());
}

/// The number that begins there.
fn number_at(text: &str, at: usize) -> String {
    let digits = text[at..].chars();
    digits
        .take_while(|c| c.is_ascii_digit() || *c == '.')
        .collect()
}

#[test]
fn an_edited_figure_in_the_card() {
    let case = Case::new();
    let card = case.read("README.md");
    let at = card.find("min cosine 0.999").unwrap() + "min cosine ".len();
    let figure = number_at(&card, at);
    case.edit("README.md", &figure, "0.999988877");
    case.refuses(&[
        "README.md: line ",
        &figure,
        "0.999988877",
        "generated, not written",
    ]);

    // Wherever it is, and whatever is added.
    for (from, to) in [
        ("license: bsd-3-clause", "license: mit"),
        ("\u{a0}MB |", "\u{a0}GB |"),
        ("**pass**", "**pass** on an iPhone"),
        ("\n## Licence\n", "\n187 tokens a second.\n\n## Licence\n"),
    ] {
        let case = Case::new();
        case.edit("README.md", from, to);
        case.refuses(&["README.md: line "]);
    }
    let case = Case::new();
    let more = format!("{}more\n", case.read("README.md"));
    fs::write(case.path("README.md"), more).unwrap();
    case.refuses(&["README.md: has ", "bytes"]);
}

#[test]
fn an_edited_figure_in_a_transcript() {
    let case = Case::new();
    let text = case.read(HU);
    let at = text.find("\"cosine\": 0.999").unwrap() + "\"cosine\": ".len();
    let figure = number_at(&text, at);
    case.edit(HU, &figure, "0.999988877");
    // The card names the transcript by its hash.
    case.refuses(&["README.md: line "]);
}

#[test]
fn a_swapped_transcript() {
    let case = Case::new();
    fs::copy(case.path(LIN), case.path(HU)).unwrap();
    case.refuses(&[
        HU,
        "is about nano_decode_int8lin_s1",
        "called nano_decode_int8lin_s1_cpu.json",
    ]);

    // Also when it says that it is about the other.
    let case = Case::new();
    let text = case.read(LIN).replacen(DECODERS[1], DECODERS[0], 1);
    fs::write(case.path(HU), text).unwrap();
    case.refuses(&[HU, "is about other"]);

    let mut transcripts = bench().transcripts.clone();
    transcripts[0].bundles[0].files = transcripts[1].bundles[0].files.clone();
    not_made(&transcripts, &[HU, "is about other files"]);
}

#[test]
fn one_changed_byte() {
    let flip = |case: &Case, name: &str| {
        let mut bytes = fs::read(case.path(name)).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(case.path(name), bytes).unwrap();
    };
    let case = Case::new();
    let names: Vec<String> = release::Listing::read(&case.out())
        .unwrap()
        .files
        .into_iter()
        .map(|entry| entry.path)
        .collect();
    assert!(names.len() > 15);
    for name in &names {
        let case = Case::new();
        flip(&case, name);
        let error = release::check_for_push(&case.out()).unwrap_err();
        let said = match name.as_str() {
            // The card names each by its hash, and what it says no longer fits.
            HU | LIN => name.clone(),
            "SHA256SUMS" => "SHA256SUMS".to_owned(),
            other => format!("{other}: "),
        };
        let error = error.to_string();
        let bound = error.contains(&said) || error.contains("README.md: line");
        assert!(bound, "{name}: {error}");
    }

    // With sums and stated hash made to fit, the transcript still tells.
    let case = Case::new();
    flip(&case, PROGRAM);
    case.refuses(&[PROGRAM, "SHA256SUMS states", "main.hash beside it states"]);
    case.sum_up();
    case.refuses(&[
        "transcripts/nano_decode_int8hu_s1_cpu.json: is about other bytes",
        PROGRAM,
    ]);
}

#[test]
fn a_gate_that_failed() {
    let failed = changed(|transcript| {
        let report = report(transcript, Stage::Execute);
        report.verdict = Verdict::Fail;
        report.summary = "scene-1: another token".to_owned();
    });
    not_made(&failed, &[HU, "execute: failed: scene-1: another token"]);
}

#[test]
fn a_gate_that_is_missing_or_was_skipped() {
    for stage in [
        Stage::Lint,
        Stage::Oracle,
        Stage::Ladder,
        Stage::Weights,
        Stage::Execute,
    ] {
        let missing = changed(|one| one.stages.retain(|report| report.stage != stage));
        not_made(
            &missing,
            &[HU, &format!("{stage}: is required and was not run")],
        );
        let skipped = changed(|one| {
            let report = report(one, stage);
            report.verdict = Verdict::Skipped;
            report.summary = "there was no time".to_owned();
            report.checks.clear();
        });
        let said = format!("{stage}: is required and was skipped: there was no time");
        not_made(&skipped, &[HU, &said]);
    }
    // One that is not required may be.
    let fewer = changed(|one| one.stages.retain(|report| report.stage != Stage::Engine));
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    assemble(&fewer, &out).unwrap();
    let card = fs::read_to_string(out.join("README.md")).unwrap();
    assert!(
        card.contains("**engine** (int8hu on cpu): it was not asked for"),
        "{card}"
    );

    let one = &bench().transcripts[1..];
    not_made(
        one,
        &[
            HU,
            "is missing: there is no evidence of nano_decode_int8hu_s1",
        ],
    );
}

#[test]
fn a_verdict_that_its_checks_do_not_bear_out() {
    type Change = fn(&mut Transcript);
    let cases: [(Change, &str); 11] = [
        (
            |one| report(one, Stage::Execute).checks[0].found = Found::Cosine(f64::INFINITY),
            "is not a cosine",
        ),
        (
            |one| {
                // As if the rows went together until a last token that may differ.
                let rows = &mut report(one, Stage::Execute).tokens[0];
                rows.found.iter_mut().for_each(|token| *token ^= 1);
                rows.divergence = Some(rows.found.len() - 1);
                rows.margins = vec![0.0; rows.found.len()];
                rows.forgiven = true;
            },
            "the rows and where they diverge",
        ),
        (
            |one| report(one, Stage::Execute).checks[0].holds = false,
            "passes, and scene-1",
        ),
        (
            |one| report(one, Stage::Execute).checks[0].found = Found::Cosine(0.5),
            "is said to hold",
        ),
        (
            |one| report(one, Stage::Execute).checks[0].bound = Bound::AtLeast(0.5),
            "not that of the gates",
        ),
        (
            |one| report(one, Stage::Weights).checks.clear(),
            "passes without a check",
        ),
        (
            |one| report(one, Stage::Execute).tokens[0].found[1] ^= 1,
            "the rows and where they diverge",
        ),
        (
            |one| {
                report(one, Stage::Execute)
                    .checks
                    .retain(|check| check.prompt.as_deref() != Some("count"))
            },
            "no check of the prompt count",
        ),
        (
            |one| report(one, Stage::Ladder).series[0].values.truncate(2),
            "compares 2 of 4 layers",
        ),
        (
            |one| report(one, Stage::Execute).series[0].values[3] = 0.2,
            "below its bar",
        ),
        (|one| one.stages.swap(0, 1), "not in the chain's order"),
    ];
    for (change, part) in cases {
        not_made(&changed(change), &[HU, part]);
    }
}

#[test]
fn other_gates_or_another_model() {
    type Change = fn(&mut Transcript);
    let cases: [(Change, &str); 6] = [
        (
            |one| one.gates = "random".to_owned(),
            "was judged by the set random",
        ),
        (
            |one| one.gates_sha256 = "0".repeat(64),
            "was judged by the set nano (000000000000)",
        ),
        (
            |one| one.model.id = "other".to_owned(),
            "is about the model \"other\"",
        ),
        (
            |one| one.model.checkpoint = "0".repeat(64),
            "is about a checkpoint with the digest",
        ),
        (|one| one.model.layers = 2, "of 2 layers"),
        (|one| one.version = 3, "its version is 3"),
    ];
    for (change, part) in cases {
        not_made(&changed(change), &["transcripts/nano_decode_", part]);
    }
    let case = Case::new();
    case.edit("gates.toml", "cosine = 0.999,", "cosine = 0.9,");
    case.refuses(&["gates.toml: its SHA-256", HU, "run the gates again"]);
    let case = Case::new();
    case.edit("recipe.toml", "\"ladder\", ", "");
    case.sum_up();
    // Fewer required gates: the card says which were.
    case.refuses(&["README.md: line"]);
}

#[test]
fn files_that_are_missing_or_too_many() {
    let listing = release::Listing::read(&Case::new().out()).unwrap();
    for entry in &listing.files {
        let case = Case::new();
        fs::remove_file(case.path(&entry.path)).unwrap();
        let name = match entry.path.as_str() {
            HU | LIN => "is missing: there is no evidence of",
            other => other,
        };
        case.refuses(&[name, "is missing"]);
    }
    for name in [
        "notes.txt",
        "gpu-pipelined/nano_decode_int8hu_s1/model.bin",
        "gpu-pipelined/nano_vision/metadata.json",
        "gpu-pipelined/other/metadata.json",
        "gpu-pipelined/nano_decode_int8hu_s1/tokenizer/run.py",
        "transcripts/notes.json",
        "more/README.md",
    ] {
        let case = Case::new();
        let path = case.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "{}").unwrap();
        case.refuses(&[name]);
        case.sum_up();
        case.refuses(&[name]);
    }
    // What git and the hub's tools keep there is no part of it.
    let case = Case::new();
    fs::create_dir(case.path(".git")).unwrap();
    fs::write(case.path(".gitattributes"), "*.mlirb filter=lfs").unwrap();
    let listing = release::check_for_push(&case.out()).unwrap();
    assert!(listing.get(".gitattributes").is_none());
}

#[test]
fn empty_folders() {
    for name in ["more", "gpu-pipelined/more"] {
        let case = Case::new();
        fs::create_dir(case.path(name)).unwrap();
        case.refuses(&[name, "is an empty folder"]);
    }
}

#[cfg(unix)]
#[test]
fn links() {
    use std::os::unix::fs::symlink;
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("file"), "secret").unwrap();
    for name in ["link", "gpu-pipelined/link", "transcripts/a_cpu.json"] {
        for target in ["file", ""] {
            let case = Case::new();
            symlink(outside.path().join(target), case.path(name)).unwrap();
            case.refuses(&[name, "is a symbolic link"]);
        }
    }
    // Also one that leads to the very file.
    let case = Case::new();
    let moved = outside.path().join("program");
    fs::rename(case.path(PROGRAM), &moved).unwrap();
    symlink(&moved, case.path(PROGRAM)).unwrap();
    case.refuses(&[PROGRAM, "is a symbolic link"]);

    // And none comes in through a bundle that is released.
    let exports = tempfile::tempdir().unwrap();
    common::copy_folder(&bench().exports, exports.path());
    let file = exports
        .path()
        .join(DECODERS[0])
        .join("tokenizer/tokenizer.json");
    fs::remove_file(&file).unwrap();
    symlink(outside.path().join("file"), &file).unwrap();
    let (given, gates) = (common::given(), common::gates());
    let parts = release::Parts {
        given: &given,
        gates: &gates,
        exports: exports.path(),
        transcripts: &bench().transcripts,
    };
    let error = release::assemble(&parts, &exports.path().join("out")).unwrap_err();
    refuses(&error, &["tokenizer/tokenizer.json", "is a symbolic link"]);
    assert!(!exports.path().join("out").exists());
}

#[test]
fn paths_that_lead_elsewhere() {
    let hash = "0".repeat(64);
    for path in ["../escape", "/etc/passwd", "a/../../b", "C:\\x", "nul"] {
        let case = Case::new();
        let sums = format!("{hash}  {path}\n{}", case.read("SHA256SUMS"));
        fs::write(case.path("SHA256SUMS"), sums).unwrap();
        case.refuses(&["SHA256SUMS, line 1", path.get(..1).unwrap()]);

        // In a transcript, whose list of files somebody else wrote.
        let escaped = changed(|one| {
            one.bundles[0].files.insert(path.to_owned(), hash.clone());
        });
        not_made(&escaped, &[HU, "is about other files", path]);
        let escaped = changed(|one| path.clone_into(&mut one.bundles[0].name));
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("a/b/out");
        assert!(assemble(&escaped, &out).is_err());
        assert!(!out.exists());
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
    // In metadata, which a program would follow.
    let case = Case::new();
    let metadata = "gpu-pipelined/nano_decode_int8hu_s1/metadata.json";
    case.edit(
        metadata,
        "\"main\": \"nano_decode",
        "\"main\": \"../nano_decode",
    );
    case.sum_up();
    case.refuses(&[metadata, "assets.main: expected", "../nano_decode"]);
}

#[test]
fn metadata_that_says_something_else() {
    let metadata = "gpu-pipelined/nano_decode_int8hu_s1/metadata.json";
    for (from, to, part) in [
        ("\"kind\": \"llm\"", "\"kind\": \"other\"", "kind"),
        // A bundle of that kind has further assets.
        ("\"kind\": \"llm\"", "\"kind\": \"vlm\"", "assets.embedding"),
        (
            "\"scheme\": \"int8hu\"",
            "\"scheme\": \"int8lin\"",
            "compression",
        ),
        (
            "\"vocab_size\": 512",
            "\"vocab_size\": 513",
            "language.vocab_size",
        ),
        ("4096", "8192", "language.max_context_length"),
        (
            "\"hf_model_id\": \"nano\"",
            "\"hf_model_id\": \"Qwen/X\"",
            "source.hf_model_id",
        ),
        ("1970-01-01", "1971-01-01", "compilation.date"),
        (
            "\"grid\": \"4\"",
            "\"grid\": \"5\"",
            "user_data.image_tokens",
        ),
        (
            "\"hidden_size\": \"",
            "\"hidden_size\": \"1",
            "the input image_embeds",
        ),
        (
            "\"deepstack_layers\": \"0,",
            "\"deepstack_layers\": \"",
            "the input deepstack_embeds' rows",
        ),
        (
            "\"first_image_id\": \"",
            "\"first_image_id\": \"1",
            "user_data.first_image_id",
        ),
        ("\"kind\"", "\"extra\": 1, \"kind\"", "extra"),
        (
            "\"main\"\n",
            "\"main\", \"prefill\"\n",
            "language.function_map",
        ),
    ] {
        let case = Case::new();
        case.edit(metadata, from, to);
        case.sum_up();
        case.refuses(&[metadata, part]);
    }
    let asset = "gpu-pipelined/nano_vision/nano_vision.aimodel/metadata.json";
    let case = Case::new();
    case.edit(asset, "BSD-3-Clause", "Apache-2.0");
    case.sum_up();
    case.refuses(&[
        "nano_vision.aimodel: states the licence Some(\"Apache-2.0\")",
        "export it with that `license`",
    ]);
    for (file, from, to) in [("LICENSE", "BSD", "MIT"), ("NOTICE", "nano", "mine")] {
        let case = Case::new();
        case.edit(file, from, to);
        case.refuses(&[&format!("{file}: its SHA-256")]);
    }
    let case = Case::new();
    case.edit("NOTICE", "nano", "mine");
    case.sum_up();
    case.refuses(&["NOTICE: is not what the recipe and the bundles give"]);
}

#[test]
fn files_that_are_too_large_or_not_json() {
    for name in ["SHA256SUMS", "recipe.toml", "gates.toml", "README.md", HU] {
        let case = Case::new();
        let file = fs::File::options()
            .write(true)
            .open(case.path(name))
            .unwrap();
        file.set_len(40 << 20).unwrap();
        case.refuses(&[name, "bytes at most"]);
        let case = Case::new();
        fs::write(case.path(name), [0xff, 0xfe]).unwrap();
        case.refuses(&[name]);
        let case = Case::new();
        fs::write(case.path(name), "").unwrap();
        case.refuses(&[name]);
    }
    let case = Case::new();
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    fs::write(case.path(HU), deep).unwrap();
    case.refuses(&[HU, "is not a transcript"]);
    let case = Case::new();
    let mut value: Value = serde_json::from_str(&case.read(HU)).unwrap();
    value["note"] = "measured by hand".into();
    fs::write(case.path(HU), value.to_string()).unwrap();
    case.refuses(&[HU, "unknown field `note`"]);
}
