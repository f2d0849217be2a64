//! The model card as a reader sees it.

// Helpers outside test functions, which clippy.toml does not exempt.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::{collections::BTreeSet, fs, path::Path};

use common::{Case, assemble, bench};
use gate::{
    Stage, Transcript, Verdict,
    transcript::{Axis, Bound, Check, CheckId, Found, Measure, Series},
};
use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd, html};
use release::{FrontMatter, Release};

/// A page around the card, about as the hub shows it.
const PAGE: &str = "<!doctype html><meta charset=utf-8><title>card</title><style>\
    body{font:16px/1.6 -apple-system,'Source Sans Pro',sans-serif;max-width:880px;margin:2em auto;\
    padding:0 1em;color:#1f2937}table{border-collapse:collapse;margin:1em 0;font-size:14px;\
    display:block;overflow-x:auto}td,th{border:1px solid #e5e7eb;padding:.4em .7em;text-align:left;\
    vertical-align:top}th{background:#f9fafb}code{background:#f3f4f6;padding:.1em .3em;\
    border-radius:4px;font-size:85%}pre{background:#f3f4f6;padding:1em;border-radius:8px;overflow:auto}\
    pre code{padding:0}h1,h2{border-bottom:1px solid #e5e7eb;padding-bottom:.3em}</style>";

/// The card's text without its front matter.
fn body(card: &str) -> &str {
    card.split_once("\n---\n").unwrap().1
}

fn events(card: &str) -> impl Iterator<Item = Event<'_>> {
    Parser::new_ext(body(card), Options::ENABLE_TABLES)
}

/// A card of other transcripts.
fn card_of(transcripts: &[Transcript]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    assemble(transcripts, &out).unwrap();
    fs::read_to_string(out.join("README.md")).unwrap()
}

#[test]
fn it_is_a_page() {
    let card = Case::new().read("README.md");
    FrontMatter::of_card(&card).unwrap().check().unwrap();
    let mut page = PAGE.to_owned();
    html::push_html(&mut page, events(&card));
    // For whoever wants to look at it.
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("card.html");
    fs::write(&path, &page).unwrap();

    let (mut tables, mut cells, mut columns) = (0, 0, 0);
    let mut headings = Vec::new();
    let mut heading = None;
    let mut in_code = false;
    for event in events(&card) {
        match event {
            Event::Start(Tag::Table(alignments)) => {
                tables += 1;
                columns = alignments.len();
                assert!((2..=7).contains(&columns));
            }
            Event::Start(Tag::TableHead | Tag::TableRow) => cells = 0,
            Event::Start(Tag::TableCell) => cells += 1,
            Event::End(TagEnd::TableHead | TagEnd::TableRow) => assert_eq!(cells, columns),
            Event::Start(Tag::Heading { level, .. }) => heading = Some((level, String::new())),
            Event::End(TagEnd::Heading(_)) => headings.extend(heading.take()),
            Event::Start(Tag::CodeBlock(_)) => in_code = true,
            Event::End(TagEnd::CodeBlock) => in_code = false,
            Event::Code(text) => {
                if let Some((_, said)) = &mut heading {
                    said.push_str(&text);
                }
            }
            Event::Text(text) => {
                if let Some((_, said)) = &mut heading {
                    said.push_str(&text);
                }
                if in_code {
                    continue;
                }
                // A table that was not read as one, or markup that was not understood.
                assert!(
                    !text.starts_with("| ")
                        && !text.contains("|-")
                        && !text.contains("**")
                        && !text.contains("{{"),
                    "{text}"
                );
            }
            Event::Html(text) | Event::InlineHtml(text) => {
                let known = ["<details>", "</details>", "<summary>"];
                assert!(
                    known.iter().any(|tag| text.trim().starts_with(tag)),
                    "{text}"
                );
            }
            _ => {}
        }
    }
    assert_eq!(tables, 8);
    let (one, two, three) = (HeadingLevel::H1, HeadingLevel::H2, HeadingLevel::H3);
    let expected = [
        (one, "nano for Core AI"),
        (two, "Files"),
        (two, "Measured"),
        (three, "Speed"),
        (three, "Every check"),
        (two, "How it works"),
        (two, "Run it"),
        (three, "With Apple's package"),
        (three, "With an engine for gpu-pipelined/"),
        (two, "Check it yourself"),
        (two, "Licence"),
    ];
    assert_eq!(
        headings,
        expected.map(|(level, text)| (level, text.to_owned()))
    );
    assert!(!card.contains("\n\n\n"), "{card}");
}

/// Numbers of a text that stand by themselves.
fn numbers(text: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '_' || c == '-';
    let words = text.split(|c: char| !word(c));
    let words = words.map(|word| word.trim_matches(|c| c == '.' || c == '-'));
    words
        .filter(|word| word.starts_with(|c: char| c.is_ascii_digit()))
        .map(str::to_owned)
        .collect()
}

#[test]
fn no_figure_comes_from_elsewhere() {
    let card = Case::new().read("README.md");
    let measured = card.split_once("## Measured").unwrap().1;
    let (summed, rest) = measured.split_once("### Every check").unwrap();
    let every = rest.split_once("## How it works").unwrap().0;
    let evidence: Vec<String> = bench()
        .transcripts
        .iter()
        .map(|transcript| serde_json::to_string(transcript).unwrap())
        .collect();
    // The sentences about a check are the gate's, made of what it recorded.
    let reports = bench().transcripts.iter().flat_map(|one| &one.stages);
    let sentences = reports.flat_map(|report| &report.checks).map(|check| {
        let (what, found, must) = (check.what(), check.found(), check.must());
        format!(" {what} {found} {must}")
    });
    let sentences: String = sentences.collect();
    let evidence = numbers(&(evidence.concat() + &sentences));
    // What is counted: tokens and checks.
    let mut counted = BTreeSet::new();
    for report in bench().transcripts.iter().flat_map(|one| &one.stages) {
        counted.insert(report.checks.len().to_string());
        let tokens = report.tokens.iter().map(|rows| rows.expected.len());
        counted.insert(tokens.clone().sum::<usize>().to_string());
        counted.extend(tokens.map(|count| count.to_string()));
    }
    assert!(numbers(summed).len() >= 8);
    for number in numbers(summed) {
        let known = evidence.contains(&number) || counted.contains(&number);
        assert!(known, "{number} is in no transcript");
    }
    let rows = every.lines().filter(|line| line.starts_with("| ")).count();
    assert!(rows > 40);
    for number in numbers(every.split_once("</summary>").unwrap().1) {
        assert!(evidence.contains(&number), "{number} is in no transcript");
    }
}

#[test]
fn what_was_not_run_says_so() {
    let card = Case::new().read("README.md");
    for part in [
        "- **engine**: no runtime of Core AI in this test",
        "- **device** (int8hu on cpu, int8lin on cpu): no device's transcript was given",
        // Whatever flag was not given.
        "- **device** (vlm int8hu on cpu): there is no fixture for bundles of the layout vlm",
        "Not measured: no transcript of a Mac or an iPhone",
    ] {
        assert!(card.contains(part), "expected {part:?} in:\n{card}");
    }
    for stage in ["| engine |", "| device |"] {
        let line = card.lines().find(|line| line.starts_with(stage)).unwrap();
        assert!(line.ends_with("| not run | not run | not run |"), "{line}");
        assert!(!line.contains("pass"), "{line}");
    }
}

#[test]
fn bundles_for_apples_package() {
    let card = Case::new().read("README.md");
    let parts = [
        "| `apple/nano_vlm_int8hu/` | for Apple's package, **the one to use**: decoder, embedding \
         table and vision encoder; the decoder: layers int8",
        "up to 4096 tokens",
        "[what runs where](#run-it)",
        "| aimodel's runtime: `ask`, `chat`, `gate` | yes | yes |",
        "give it the folder `apple/nano_vlm_int8hu/`",
        "for an iPhone, export it with `--max-ctx 1024`",
        "the stage device above is not run for these bundles",
        "**Chat template.** It is not the checkpoint's own.",
        "| vlm int8hu, cpu |",
    ];
    testkit::assert_contains(&card, &parts);
    // As README has them, and hosts/apple compiles.
    let readme = fs::read_to_string(common::repository().join("README.md")).unwrap();
    let swift = |text: &str| {
        let text = text.split_once("```swift\n").unwrap().1;
        text.split_once("```").unwrap().0.to_owned()
    };
    assert_eq!(swift(&card), swift(&readme));
    assert_eq!(swift(&card).lines().count(), 4);
    // The encoder of the bundle is not the one beside.
    let rows = ["findings in bundle", "findings in vision encoder"];
    let none = format!("| 0 of {} |", gate::lint::RULES.len());
    for row in rows {
        let line = card.lines().find(|line| line.contains(row)).unwrap();
        assert_eq!(line.ends_with(&none), row == rows[0], "{line}");
    }

    // A card without such bundles does not speak of them.
    let folder = tempfile::tempdir().unwrap();
    let mut given = common::given();
    let text = given.text.split("[vlm]").next().unwrap().to_owned();
    given.recipe = release::Recipe::parse(&text).unwrap();
    given.text = text;
    let parts = release::Parts {
        given: &given,
        gates: &common::gates(),
        exports: &bench().exports,
        transcripts: &bench().transcripts[..2],
    };
    let out = folder.path().join("out");
    release::assemble(&parts, &out).unwrap();
    let card = fs::read_to_string(out.join("README.md")).unwrap();
    for word in ["apple/", "vlm", "Swift", "what runs where"] {
        assert!(!card.contains(word), "{word}: {card}");
    }
    assert!(!card.contains("\n\n\n"), "{card}");
    let notice = fs::read_to_string(out.join("NOTICE")).unwrap();
    assert!(notice.ends_with("unchanged.\n"), "{notice}");
    let notice = Case::new().read("NOTICE");
    assert!(notice.contains("in apple/ the chat template"), "{notice}");
}

/// The first transcript, with a device's verdict.
fn with_device(platform_is_apple: bool) -> Vec<Transcript> {
    let mut transcripts = bench().transcripts.clone();
    let mut stages = transcripts[0].stages.iter_mut();
    let report = stages.find(|report| report.stage == Stage::Device).unwrap();
    report.verdict = Verdict::Pass;
    report.apple_device = Some(platform_is_apple);
    report
        .facts
        .insert("host".to_owned(), "iPhone18,1 | iOS <27>".to_owned());
    let (found, bound) = (Found::Number(8.0), Bound::AtLeast(3.0));
    report
        .checks
        .push(Check::new(CheckId::Runs, None, found, bound));
    report.series.push(Series {
        what: "tokens per second after it".to_owned(),
        measure: Measure::Amount,
        prompt: Some("count".to_owned()),
        axis: Axis::Run,
        first: 1,
        step: 1,
        values: vec![33.25, 33.75, 31.5],
        bar: None,
    });
    transcripts
}

#[test]
fn speed_is_that_of_an_apple_device() {
    let card = card_of(&with_device(true));
    assert!(
        card.contains("- int8hu: iPhone18,1 \\| iOS &lt;27&gt;"),
        "{card}"
    );
    let row = "| int8hu | tokens per second after it | count | 3 | 31.500 | 33.750 |";
    assert!(card.contains(row), "{card}");
    assert!(!card.contains("Not measured"));
    let card = card_of(&with_device(false));
    assert!(
        card.contains("not on an Apple device") && card.contains("Not measured"),
        "{card}"
    );
    assert!(!card.contains("33.750"), "{card}");
}

#[test]
fn an_answer_ends_at_a_stop_token() {
    let facts = Release::open(&Case::new().out()).unwrap().facts;
    let mut transcripts = bench().transcripts.clone();
    let mut stages = transcripts[0].stages.iter_mut();
    let report = stages
        .find(|report| report.stage == Stage::Execute)
        .unwrap();
    let rows = &mut report.tokens[0];
    for ids in [&mut rows.expected, &mut rows.found] {
        ids[3] = facts.stop_tokens[0];
    }
    // What the text of the token looks like does not matter.
    rows.found_text[2] = "<|shows|>".to_owned();
    let [first, second] = [0, 1].map(|at| rows.found_text[at].trim().to_owned());
    let card = card_of(&transcripts);
    let line = format!("| {first} {second}&lt;\\|shows\\|&gt; | 16 of 16 tokens");
    assert!(card.contains(&line), "expected {line:?} in:\n{card}");
}

#[test]
fn words_of_others_are_not_markup() {
    let mut transcripts = bench().transcripts.clone();
    for transcript in &mut transcripts {
        let mut stages = transcript.stages.iter_mut();
        let report = stages.find(|report| report.stage == Stage::Engine).unwrap();
        report.summary =
            "<script>x</script> | [a](http://b) `c` **d**\n# e\n---\n![f](g)".to_owned();
    }
    let card = card_of(&transcripts);
    for event in events(&card) {
        match event {
            Event::Html(text) | Event::InlineHtml(text) => assert!(!text.contains("script")),
            Event::Start(Tag::Link { dest_url, .. }) => assert!(!dest_url.contains("//b")),
            Event::Start(Tag::Image { .. }) => panic!("a picture"),
            _ => {}
        }
    }
}
