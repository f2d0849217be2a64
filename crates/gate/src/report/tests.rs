//! What the page says of transcripts, good and bad, and that it is one page.

mod page;

use std::collections::BTreeMap;

use crate::{
    Evidence, Stage, StageReport, Transcript, Verdict,
    evidence::tokens,
    transcript::{
        Axis, Bound, Bundle, Check, CheckId, Environment, Finding, Found, Measure, Model, Series,
        TokenRows, VERSION,
    },
};
use page::Page;

fn report(stage: Stage, verdict: Verdict, summary: &str) -> StageReport {
    StageReport {
        stage,
        verdict,
        summary: summary.to_owned(),
        seconds: 1.5,
        ..Evidence::default().report(stage, 0.0)
    }
}

/// A run of all stages that proves the bundle, with nothing on the device.
fn transcript() -> Transcript {
    let passed = Stage::ALL.map(|stage| match stage {
        Stage::Device => report(stage, Verdict::Skipped, "no device's transcript was given"),
        _ => report(stage, Verdict::Pass, "2 checks hold"),
    });
    Transcript {
        version: VERSION,
        model: Model {
            id: "nano".to_owned(),
            revision: None,
            checkpoint: "c0ffee".to_owned(),
            layers: 4,
        },
        bundles: vec![Bundle {
            name: "nano_decode".to_owned(),
            files: BTreeMap::from([
                ("metadata.json".to_owned(), "aaaa".to_owned()),
                (
                    "nano_decode.aimodel/main.mlirb".to_owned(),
                    "bbbb".to_owned(),
                ),
            ]),
        }],
        gates: "nano".to_owned(),
        gates_sha256: "dddd".to_owned(),
        environment: Environment {
            tool: "aimodel 0.1.0".to_owned(),
            platform: "linux x86_64".to_owned(),
            device: "cpu".to_owned(),
            threads: 2,
        },
        required: Vec::new(),
        stages: passed.into(),
    }
}

fn series(measure: Measure, values: &[f64], bar: Option<f64>) -> Series {
    Series {
        what: "some numbers".to_owned(),
        measure,
        prompt: Some("count".to_owned()),
        axis: Axis::Position,
        first: 0,
        step: 1,
        values: values.to_vec(),
        bar,
    }
}

/// What a run found in a stage.
fn stage(run: &mut Transcript, stage: Stage) -> &mut StageReport {
    let mut reports = run.stages.iter_mut();
    reports.find(|report| report.stage == stage).unwrap()
}

/// The page of a run whose stage execute has some series.
fn charts(series: Vec<Series>) -> Page {
    let mut transcript = transcript();
    stage(&mut transcript, Stage::Execute).series = series;
    Page::of(&transcript)
}

/// The page of a run whose stage execute has two rows of tokens.
fn compared(both: [&[u32]; 2], margins: &[f32]) -> Page {
    let mut evidence = Evidence::default();
    let rows = tokens("greedy", "count", ["oracle", "asset"], both, margins, 0.1);
    evidence.compare(rows, |id| format!(" t{id}"));
    let mut transcript = transcript();
    *stage(&mut transcript, Stage::Execute) = evidence.report(Stage::Execute, 0.5);
    Page::of(&transcript)
}

#[test]
fn a_run_that_proves_the_bundle() {
    let mut run = transcript();
    run.required = vec![Stage::Engine];
    let page = Page::of(&run);
    assert_eq!(page.verdict(), ("pass".to_owned(), "✓Proven".to_owned()));
    assert_eq!(
        page.one("why"),
        "The bundles are the model nano. No stage failed, and those that must run did: weights, \
         execute (on cpu), engine."
    );
    let glance = page.one("glance");
    assert!(
        glance.contains("✓ execute pass on cpu 2 checks hold 1.50 s"),
        "{glance}"
    );
    assert!(
        glance.contains("– device skipped no device's transcript was given"),
        "{glance}"
    );
    // A stage that was skipped has no verdict of its own and no device.
    assert!(!glance.contains("device pass"), "{glance}");
    for fact in [
        "c0ffee",
        "none: not from the hub",
        "gates/nano.toml",
        "linux x86_64",
        "bbbb",
    ] {
        assert!(page.html.contains(&fact.replace('/', "&#x2f;")), "{fact}");
    }
    assert_eq!(page.count("files"), 1);
    run.environment.device = "cuda".to_owned();
    assert!(
        Page::of(&run)
            .one("glance")
            .contains("execute pass on cuda")
    );
}

#[test]
fn a_failed_stage_is_the_verdict() {
    let mut run = transcript();
    let mut evidence = Evidence::default();
    evidence.cosine(CheckId::Logits, None, Some("count"), 0.5, 0.999);
    evidence.cosine(CheckId::CachedStep, None, None, 1.0, 0.999);
    evidence.findings.push(Finding {
        rule: "constant".to_owned(),
        place: "layers.1".to_owned(),
        message: "differs in 1 byte".to_owned(),
    });
    *stage(&mut run, Stage::Weights) = evidence.report(Stage::Weights, 0.25);
    let page = Page::of(&run);
    assert_eq!(
        page.verdict(),
        ("fail".to_owned(), "✕Not proven".to_owned())
    );
    assert_eq!(
        page.one("why"),
        "weights: count: logits of every position, min cosine: found 0.5, must be at least 0.999"
    );
    assert!(
        page.one("findings")
            .contains("constant layers.1differs in 1 byte")
    );
    let rows = page.texts("holds");
    assert_eq!(rows, ["✕ does not", "✓ holds"]);
    // What fails is not folded away.
    assert!(page.html.contains(r#"<details open="open">"#));
    assert!(page.html.contains(">2, 1 of them not holding<"));
}

#[test]
fn what_must_run_and_did_not_is_not_proven() {
    let mut run = transcript();
    run.required = vec![Stage::Device];
    let page = Page::of(&run);
    assert_eq!(
        page.verdict(),
        ("open".to_owned(), "!Not proven".to_owned())
    );
    assert_eq!(
        page.one("why"),
        "No stage failed, but device is required and was skipped."
    );
    let mut run = transcript();
    run.stages.retain(|report| report.stage == Stage::Lint);
    let page = Page::of(&run);
    assert_eq!(page.verdict().0, "open");
    assert!(
        page.one("glance")
            .contains("execute not run not asked for in this run")
    );
}

#[test]
fn a_run_of_nothing() {
    let mut run = transcript();
    run.stages.clear();
    run.bundles.clear();
    let page = Page::of(&run);
    assert_eq!(page.verdict().0, "open");
    assert_eq!(page.count("absent"), 7);
    assert_eq!(page.count("stage"), 0);
}

#[test]
fn nothing_of_a_transcript_is_markup() {
    // A stage of everything, in which each text is hostile.
    let hostile =
        "</style></svg><script>alert(1)</script>\"'><img src=x onerror=alert(1)>&amp;\0\u{202e}";
    let text = || hostile.to_owned();
    let mut run = transcript();
    run.model = Model {
        id: text(),
        revision: Some(text()),
        checkpoint: text(),
        layers: usize::MAX,
    };
    run.bundles = vec![Bundle {
        name: text(),
        files: BTreeMap::from([(text(), text())]),
    }];
    run.gates = text();
    run.environment = Environment {
        tool: text(),
        platform: text(),
        device: text(),
        threads: usize::MAX,
    };
    for verdict in [Verdict::Pass, Verdict::Fail, Verdict::Skipped] {
        run.stages = Stage::ALL
            .map(|stage| StageReport {
                stage,
                verdict,
                summary: text(),
                seconds: f64::NAN,
                checks: vec![Check {
                    id: CheckId::Version1,
                    of: Some(text()),
                    prompt: Some(text()),
                    found: Found::Words(text()),
                    bound: Bound::Words(text()),
                    note: Some(text()),
                    holds: false,
                }],
                findings: vec![Finding {
                    rule: text(),
                    place: text(),
                    message: text(),
                }],
                series: vec![Series {
                    what: text(),
                    prompt: Some(text()),
                    axis: Axis::Other(text()),
                    ..series(Measure::Cosine, &[0.9, f64::NAN], Some(0.99))
                }],
                tokens: vec![TokenRows {
                    what: text(),
                    prompt: text(),
                    sides: [text(), text()],
                    expected: vec![1],
                    found: vec![2],
                    expected_text: vec![text()],
                    found_text: vec![text()],
                    margins: vec![f32::NAN],
                    divergence: Some(0),
                    forgiven: true,
                }],
                apple_device: None,
                core_ai_recorded: None,
                facts: BTreeMap::from([(text(), text())]),
            })
            .into();
        let page = Page::of(&run);
        let shown = page.texts("said");
        // The browser shows every character of it, but for those that turn text around.
        let expected = hostile
            .replace('\0', "⟨U+0000⟩")
            .replace('\u{202e}', "⟨U+202E⟩");
        assert!(shown.contains(&expected), "{shown:?}");
    }
}

#[test]
fn a_first_divergence() {
    let page = compared([&[1, 2, 3], &[1, 5, 6]], &[9.0, 3.25, 1.0]);
    assert_eq!(page.one("mark"), "first divergence");
    assert_eq!(
        page.one("outcome"),
        "✕ first divergence at token 1: the expected one leads by 3.25; not forgiven"
    );
    assert_eq!(page.texts("same"), ["␣t1 ␣t1"]);
    assert_eq!(page.texts("first"), ["␣t2 ␣t5 first divergence"]);
    assert_eq!(page.texts("other"), ["␣t3 ␣t6"]);
    assert_eq!(page.verdict().0, "fail");
}

#[test]
fn a_forgiven_divergence_says_so() {
    let page = compared([&[1, 2, 3], &[1, 5, 6]], &[9.0, 0.05, 1.0]);
    assert_eq!(page.one("mark"), "first divergence, forgiven");
    assert_eq!(
        page.one("outcome"),
        "≈ first divergence at token 1: the expected one leads by 0.05; forgiven, since no gate \
         relies on so little"
    );
    assert_eq!(page.verdict().0, "pass");
}

#[test]
fn tokens_that_are_equal_missing_or_many() {
    let page = compared([&[1, 2], &[1, 2]], &[]);
    assert_eq!((page.count("mark"), page.count("same")), (0, 2));
    let page = compared([&[1, 2, 3], &[1]], &[]);
    assert_eq!(page.texts("first"), ["␣t2 none first divergence"]);
    assert_eq!(page.texts("none"), ["none", "none"]);
    let page = compared([&[], &[]], &[]);
    assert_eq!(page.count("token"), 0);

    let expected: Vec<u32> = (0..5_000).collect();
    let mut found = expected.clone();
    found[3_000] = 7;
    let page = compared([&expected, &found], &[]);
    assert_eq!(page.texts("first"), ["␣t3000 ␣t7 first divergence"]);
    assert!(page.html.contains("2968 before these"));
    assert!(page.html.contains("1904 behind these"));
}

#[test]
fn cosines_are_shown_by_their_distance_from_one() {
    let page = charts(vec![series(
        Measure::Cosine,
        &[0.999_9, 0.999_99, 0.998, 1.0],
        Some(0.999),
    )]);
    let note = "min 0.99800 at position 2; 1 of 4 beyond the bar";
    assert!(
        page.texts("note").contains(&note.to_owned()),
        "{:?}",
        page.texts("note")
    );
    assert!(page.html.contains("bar: cosine 0.999<"));
    assert!(page.html.contains(">10⁻³</text>"));
    assert_eq!(
        (
            page.count("beyond"),
            page.count("value"),
            page.count("column")
        ),
        (1, 3, 4)
    );
    assert!(page.html.contains("<title>position 2: 0.99800</title>"));
    assert_eq!((page.count("forbidden"), page.count("odd")), (1, 0));
}

#[test]
fn margins_below_the_bar_are_no_failure() {
    let page = charts(vec![series(Measure::Margin, &[0.02, 5.0, 0.1], Some(0.1))]);
    assert_eq!(page.one("note"), "min 0.02 at position 0; 2 of 3 reach 0.1");
    assert_eq!((page.count("beyond"), page.count("unused")), (0, 2));
}

#[test]
fn errors_start_at_zero_and_amounts_have_no_bar() {
    let page = charts(vec![
        series(Measure::Error, &[0.004, 0.0048], None),
        series(Measure::Amount, &[2.0, 2.5], None),
    ]);
    assert_eq!(page.texts("note"), ["max 0.0048 at position 1", "2 to 2.5"]);
    assert_eq!(page.count("bar"), 0);
    assert!(page.html.contains(r#"y="156.0" dy="3.5">0</text>"#));
}

#[test]
fn series_of_any_length() {
    let row = |axis, step, values: Vec<f64>| Series {
        what: format!("errors of {}", values.len()),
        axis,
        step,
        ..series(Measure::Error, &values, None)
    };
    let many: Vec<f64> = (0..100_000).map(|n| f64::from(n % 977)).collect();
    let page = charts(vec![
        row(Axis::Layer, 1, vec![]),
        row(Axis::Layer, 1, vec![0.5]),
        row(Axis::HeadRow, 594, vec![0.1; 256]),
        row(Axis::Position, 1, many),
    ]);
    assert_eq!(
        page.texts("note"),
        [
            "no values",
            "max 0.5 at layer 0",
            "max 0.1 at head row 0 to 593",
            "max 976 at position 976"
        ]
    );
    // One point of 1, 128 of 2, and 150 of 667.
    assert_eq!(page.count("column"), 1 + 128 + 150);
    assert_eq!(page.count("span"), 2);
    assert!(page.html.contains("head row 0 to 1,187: 0.1 to 0.1"));
    assert!(page.html.len() < 200_000, "{}", page.html.len());
}

#[test]
fn numbers_that_are_none() {
    const NAN: f64 = f64::NAN;
    const MAX: f64 = f64::MAX;
    const INFINITY: f64 = f64::INFINITY;
    const TINY: f64 = f64::MIN_POSITIVE;
    let odd = [NAN, INFINITY, -INFINITY, 1e300, 0.5];
    let measures = [
        Measure::Cosine,
        Measure::Margin,
        Measure::Error,
        Measure::Amount,
    ];
    for measure in measures {
        let page = charts(vec![series(measure, &odd, Some(0.1))]);
        let expected = if measure == Measure::Cosine { 4 } else { 3 };
        assert_eq!(page.count("odd"), expected);
        let note = page.one("note");
        assert!(
            note.contains(&format!("{expected} of 5 not a number")),
            "{note}"
        );
        let numbers = [
            &[NAN][..],
            &[NAN, INFINITY],
            &[0.0],
            &[0.0, 0.0],
            &[1.0, 1.0],
            &[-1.0],
            &[-0.0, TINY],
            &[MAX, -MAX],
            &[MAX, TINY / 4.0],
            &[2.0, -3.0],
        ];
        let bars = [
            None,
            Some(NAN),
            Some(INFINITY),
            Some(0.0),
            Some(1.0),
            Some(-5.0),
            Some(MAX),
        ];
        let pairs = numbers
            .iter()
            .flat_map(|values| bars.map(|bar| (*values, bar)));
        // Each has an axis of its own.
        let all = pairs.enumerate().map(|(index, (values, bar))| Series {
            what: index.to_string(),
            ..series(measure, values, bar)
        });
        assert_eq!(
            charts(all.collect()).count("note"),
            numbers.len() * bars.len()
        );
        let all = [NAN; 300];
        let page = charts(vec![series(measure, &all, None)]);
        assert!(page.one("note").contains("300 of 300 not a number"));
    }
}

#[test]
fn places_beyond_all_counting() {
    let mut far = series(Measure::Cosine, &[1.0, 0.9], Some(0.99));
    (far.first, far.step) = (usize::MAX, usize::MAX);
    charts(vec![far]);
}

#[test]
fn huge_texts_are_cut() {
    let mut run = transcript();
    let lint = stage(&mut run, Stage::Lint);
    lint.summary = "x".repeat(1_000_000);
    lint.findings = vec![
        Finding {
            rule: "r".to_owned(),
            place: "p".to_owned(),
            message: "m".to_owned(),
        };
        5_000
    ];
    let page = Page::of(&run);
    assert!(page.html.len() < 100_000, "{}", page.html.len());
    assert!(page.html.contains("x… and 998000 more characters"));
    assert!(
        page.html
            .contains("and 4900 more, which the transcript has")
    );
}

#[test]
fn nan_and_infinity_can_be_read_again() {
    let mut run = transcript();
    stage(&mut run, Stage::Execute).series = vec![series(
        Measure::Cosine,
        &[1.0, f64::NAN, f64::INFINITY],
        None,
    )];
    let json = serde_json::to_string(&run).unwrap();
    let again: Transcript = serde_json::from_str(&json).unwrap();
    let values = &again.stage(Stage::Execute).unwrap().series[0].values;
    assert_eq!(values[0], 1.0);
    assert!(values[1].is_nan() && values[2].is_nan());
    super::render(&again).unwrap();
}

/// Evidence of fewer stages takes the place of no fuller one, unless that is
/// about something else, or what was proven there fails now.
#[test]
fn evidence_that_says_less() {
    let full = transcript();
    let mut less = full.clone();
    less.stages
        .retain(|report| matches!(report.stage, Stage::Weights | Stage::Execute));
    assert!(less.says_less_than(&full));
    assert!(!full.says_less_than(&less) && !full.says_less_than(&full));
    let mut skipped = full.clone();
    stage(&mut skipped, Stage::Engine).verdict = Verdict::Skipped;
    assert!(skipped.says_less_than(&full));
    let mut fails = less.clone();
    stage(&mut fails, Stage::Weights).verdict = Verdict::Fail;
    assert!(!fails.says_less_than(&full));
    let other: [fn(&mut Transcript); 3] = [
        |run| run.model.checkpoint = "other".to_owned(),
        |run| run.gates_sha256 = "other".to_owned(),
        |run| run.bundles[0].name = "other".to_owned(),
    ];
    for change in other {
        let mut other = less.clone();
        change(&mut other);
        assert!(!other.says_less_than(&full));
    }
}
