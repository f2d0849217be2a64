//! The device lint: every rule has something that trips it and nothing else,
//! and no bundle that `export` writes trips any.

// Helpers outside test functions, which clippy.toml does not exempt.
#![allow(clippy::unwrap_used, clippy::panic)]

mod lint_cases;

use std::{collections::BTreeSet, fs, path::Path};

use bundle::{CallShape, Layout};
use export::Options;
use gate::lint::{self, RULES};
use lint_cases::{Bench, CASES};
use quantize::Recipe;

#[test]
fn each_rule_finds_its_fault_and_nothing_else() {
    let bench = Bench::new();
    let mut wrong = Vec::new();
    for (rule, what, make) in CASES {
        let folder = tempfile::tempdir().unwrap();
        let found = make(&bench, folder.path());
        let ids: BTreeSet<&str> = found.iter().map(|finding| finding.rule.as_str()).collect();
        if ids != BTreeSet::from([*rule]) {
            wrong.push(format!("{rule}, {what}: found {found:#?}"));
        }
        for finding in &found {
            let rule = RULES.iter().find(|rule| rule.id == finding.rule).unwrap();
            assert!(finding.message.contains(rule.reason), "{finding:?}");
            assert!(finding.message.contains(rule.remedy), "{finding:?}");
            let path = folder.path().to_string_lossy();
            assert!(!finding.place.contains(&*path), "{finding:?}");
            assert!(!finding.message.contains(&*path), "{finding:?}");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn rules_and_cases_are_one_to_one() {
    let rules: BTreeSet<&str> = RULES.iter().map(|rule| rule.id).collect();
    assert_eq!(rules.len(), RULES.len(), "an id is there twice");
    let cases: BTreeSet<&str> = CASES.iter().map(|(rule, ..)| *rule).collect();
    assert_eq!(rules, cases);
}

#[test]
fn what_export_writes_has_no_finding() {
    let folder = tempfile::tempdir().unwrap();
    let mut count = 0;
    for recipe in [
        Recipe::named("fp16").unwrap(),
        Recipe::named("int8lin").unwrap(),
        Recipe::named("int8hu").unwrap(),
    ] {
        let options = Options {
            recipe,
            layouts: vec![
                Layout::Pipelined(CallShape::One),
                Layout::Pipelined(CallShape::Dynamic),
                Layout::Pipelined(CallShape::Prefill(8)),
                Layout::Vlm,
            ],
            vision: recipe == Recipe::named("int8hu").unwrap(),
            ..lint_cases::options()
        };
        for bundle in testkit::nano::export(folder.path(), &options) {
            for found in [lint::bundle(&bundle.path), lint::asset(&bundle.asset)] {
                assert_eq!(found.unwrap(), [], "{}", bundle.path.display());
            }
            count += 1;
        }
    }
    assert_eq!(count, 13);
}

/// Forms that tools of others write, and that no one has seen fail.
#[test]
fn what_is_only_unlike_our_own_form_has_no_finding() {
    type Form = (&'static str, fn(&Path) -> Vec<gate::transcript::Finding>);
    let forms: [Form; 7] = [
        ("a mask that a wide shape reshapes", |at| {
            lint_cases::narrow_mask(at)
        }),
        ("a fixed cache that each layer reads", |at| {
            lint_cases::fixed_states(at, true)
        }),
        ("inputs declared by other names", |at| {
            lint_cases::inputs_of_kernel(at, &["query", "key"])
        }),
        ("fused locations within fused ones", |at| {
            lint_cases::fused_locations(at)
        }),
        ("one state of no decoder", |at| {
            lint_cases::states(at, 1, &["step"])
        }),
        ("three states of no decoder", |at| {
            lint_cases::states(at, 3, &["step", "more"])
        }),
        ("four states of a decoder", |at| {
            lint_cases::states(at, 4, &["position_ids"])
        }),
    ];
    for (what, make) in forms {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(make(folder.path()), [], "{what}");
    }
}

#[test]
fn bundles_of_apples_exporters_have_no_finding_but_the_template() {
    for (bundle, expected) in [
        ("nano_llm", &[][..]),
        // The checkpoint's own template, which Apple's adapter does not fit.
        ("nano_vlm", &["adapter-prompt"]),
        ("nano_wide", &[]),
    ] {
        let found = lint::bundle(&testkit::foreign_bundle(bundle)).unwrap();
        let ids: Vec<&str> = found.iter().map(|finding| finding.rule.as_str()).collect();
        assert_eq!(ids, expected, "{bundle}: {found:#?}");
    }
}

#[test]
fn a_rule_speaks_once_of_a_graph() {
    let folder = tempfile::tempdir().unwrap();
    let found = lint_cases::floors(folder.path(), 3);
    let [finding] = &found[..] else {
        panic!("{found:#?}");
    };
    assert_eq!(finding.place, "asset.aimodel, @main");
    let said = "operation 1, `broadcasting_floor_divide_v1`, divides tensor<2x4xf16> by one, and \
                2 more of the kind; the GPU takes it for the identity";
    assert!(finding.message.starts_with(said), "{finding:?}");
}

#[test]
fn hostile_metadata_and_tokenizers_are_findings() {
    let bench = Bench::new();
    let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    let texts = [
        "",
        "[]",
        "{}",
        "\u{0}",
        r#"{"assets": {"main": ".."}}"#,
        r#"{"assets": {"main": "/"}, "language": {"function_map": {"main": [1, [2], "\u001b"]}}}"#,
        r#"{"model": {"type": "BPE", "vocab": {"a": 18446744073709551615}}, "eos_token": {}}"#,
        &deep,
    ];
    let files = [
        "metadata.json",
        "tokenizer/tokenizer.json",
        "tokenizer/tokenizer_config.json",
    ];
    for file in files {
        for text in texts {
            let folder = tempfile::tempdir().unwrap();
            let bundle = bench.bundle(folder.path());
            fs::write(bundle.join(file), text).unwrap();
            let found = lint::bundle(&bundle).unwrap();
            assert!(!found.is_empty(), "{file}: {text:.60}");
        }
    }
    assert!(lint::bundle(Path::new("nowhere")).is_err());
    assert!(lint::asset(Path::new("nowhere.aimodel")).is_err());
}

#[test]
fn the_rules_are_documented_as_they_are() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/lint.md");
    let text = fs::read_to_string(path).unwrap();
    let first = text.split("\n## ").next().unwrap().lines();
    let documented: Vec<&str> = first.filter(|line| line.starts_with("| `")).collect();
    let rules = RULES.iter().map(|rule| {
        let cells = [rule.what, rule.reason, rule.remedy, rule.source];
        // A cell ends at a bar.
        let cells = cells.map(|cell| cell.replace('|', "\\|"));
        format!("| `{}` | {} |", rule.id, cells.join(" | "))
    });
    let rules: Vec<String> = rules.collect();
    assert!(
        documented == rules,
        "the table in docs/lint.md must be:\n{}",
        rules.join("\n")
    );
}
