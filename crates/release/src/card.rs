//! The model card. A template says how it reads; every name and figure in it
//! comes from bundles, recipe and transcripts.

use std::collections::{BTreeMap, BTreeSet};

use ::bundle::CallShape;
use gate::{
    Stage, StageReport, Verdict,
    transcript::{Bundle, Check, CheckId, Found},
};
use minijinja::{Environment, UndefinedBehavior, syntax::SyntaxConfig, value::Serde};
use quantize::Storage;
use serde::Serialize;

use crate::{
    error::{Error, Result},
    evidence::Evidence,
    names,
    release::Release,
};

const TEMPLATE: &str = include_str!("card.md.jinja");

/// Bytes of an f16, of which the static inputs of a picture and the cache are made.
const F16_BYTES: u64 = 2;

/// Names of the facts of reports that the card quotes.
mod fact {
    pub const TRANSFORMERS: &str = "transformers";
    pub const HOST: &str = "host";
    pub const ENGINE: &str = "engine";
    pub const MADE_WITH: &str = "made with";
    pub const DECODER_LOADED: &str = "decoder loaded in";
    pub const VISION_LOADED: &str = "vision encoder loaded in";
}

/// What the template is given.
#[derive(Serialize)]
struct Card<'a> {
    front_matter: String,
    title: String,
    model: &'a str,
    on_hub: bool,
    revision: Option<&'a str>,
    license: &'a str,
    mode: String,
    files: Vec<Row>,
    columns: Vec<Column>,
    gates: Vec<Gate>,
    not_run: Vec<NotRun>,
    device: Option<Device>,
    answers: Vec<Answered>,
    checks: Vec<Checked>,
    transcripts: Vec<Transcribed<'a>>,
    set: &'a str,
    required: String,
    producer: &'a str,
    grid: usize,
    pixels: usize,
    merge: usize,
    resampling: &'a str,
    image_tokens: usize,
    hidden: usize,
    added: Option<Added>,
    blocks: Vec<Block>,
    f16_embedding: bool,
    vocabulary: u64,
    max_context: u64,
    static_inputs: String,
    cache_per_token: String,
    one_token: bool,
    sums: &'static str,
    license_file: &'static str,
    notice_file: &'static str,
    transcripts_folder: &'static str,
    recipe_file: &'static str,
    gates_file: &'static str,
}

/// What of a picture is added after layers of the decoder, in words.
#[derive(Serialize)]
struct Added {
    /// How much it is beside the embeddings of the picture: `three times as many`.
    amount: String,
    /// After which layers: `the first three layers`.
    layers: String,
}

/// A way in which blocks of weights become integers.
#[derive(Serialize, PartialEq, Eq, PartialOrd, Ord)]
struct Block {
    bits: u8,
    inputs: usize,
}

/// A bundle.
#[derive(Serialize)]
struct Row {
    path: String,
    /// What a decoder is; the vision encoder's row is in the template.
    decoder: Option<String>,
    size: String,
}

/// A run of the gates: a decoder on a device.
#[derive(Serialize)]
struct Column {
    mode: String,
    device: String,
}

/// A stage over all runs.
#[derive(Serialize)]
struct Gate {
    stage: &'static str,
    compared: &'static str,
    cells: Vec<String>,
}

/// A stage that did not run somewhere, and why.
#[derive(Serialize)]
struct NotRun {
    stage: &'static str,
    why: String,
    /// Where, unless everywhere.
    only: Option<String>,
}

/// What an Apple device measured.
#[derive(Serialize)]
struct Device {
    hosts: Vec<String>,
    rows: Vec<DeviceRow>,
}

#[derive(Serialize)]
struct DeviceRow {
    decoder: String,
    what: String,
    prompt: String,
    runs: usize,
    min: String,
    max: String,
}

/// A prompt, and what the decoder to use said.
#[derive(Serialize)]
struct Answered {
    prompt: String,
    picture: Option<String>,
    answer: String,
    equal: String,
}

/// One check over all runs.
#[derive(Serialize)]
struct Checked {
    stage: &'static str,
    what: String,
    prompt: String,
    must: String,
    cells: Vec<String>,
}

#[derive(Serialize)]
struct Transcribed<'a> {
    path: &'a str,
    sha256: &'a str,
    tool: String,
    platform: String,
    device: String,
    checkpoint: &'a str,
    oracle: String,
}

/// Renders the card of a release.
///
/// # Errors
/// Front matter that YAML cannot hold.
pub fn render(release: &Release) -> Result<String> {
    let mut environment = Environment::new();
    let mut syntax = SyntaxConfig::builder();
    syntax
        .trim_blocks(true)
        .lstrip_blocks(true)
        .keep_trailing_newline(true);
    let wrong = |error: minijinja::Error| Error::Card(format!("{error:#}"));
    environment.set_syntax(syntax.build().map_err(wrong)?);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let template = environment.template_from_str(TEMPLATE).map_err(wrong)?;
    template.render(Serde(card(release)?)).map_err(wrong)
}

fn card(release: &Release) -> Result<Card<'_>> {
    let (recipe, facts) = (&release.given.recipe, &release.facts);
    let decoders: Vec<_> = recipe.decoders().collect();
    let first = decoders.first();
    let evidence = &release.evidence;
    let label = |one: &Evidence| {
        let decoder = decoders.get(one.decoder);
        decoder.map_or_else(String::new, |decoder| match recipe.queries.len() {
            1 => decoder.mode.to_string(),
            _ => format!("{} {}", decoder.mode, decoder.query),
        })
    };
    let device = |one: &Evidence| text(&one.transcript.environment.device);
    let geometry = &facts.geometry;
    let tokens = geometry.image_tokens * (1 + geometry.deepstack_layers.len());
    let images = tokens as u64 * geometry.hidden_size as u64 * F16_BYTES;
    let blocks: BTreeSet<Block> = recipe.modes.iter().flat_map(|mode| blocks(mode)).collect();
    let [layers, heads, size] = facts.cache;
    Ok(Card {
        front_matter: recipe.front_matter().to_yaml()?,
        title: text(&recipe.title),
        model: &recipe.model,
        on_hub: recipe.is_on_hub(),
        revision: facts.revision.as_deref(),
        license: recipe.stated_license(),
        mode: first.map_or_else(String::new, |decoder| decoder.mode.to_string()),
        files: files(release),
        columns: evidence
            .iter()
            .map(|one| Column {
                mode: label(one),
                device: device(one),
            })
            .collect(),
        gates: Stage::ALL.map(|stage| gate(stage, evidence)).into(),
        not_run: Stage::ALL
            .iter()
            .flat_map(|stage| not_run(*stage, evidence, label))
            .collect(),
        device: device_figures(evidence, label),
        answers: answers(release),
        checks: Stage::ALL
            .iter()
            .flat_map(|stage| checks(*stage, evidence))
            .collect(),
        transcripts: evidence
            .iter()
            .map(|one| Transcribed {
                path: &one.path,
                sha256: &one.sha256,
                tool: text(&one.transcript.environment.tool),
                platform: text(&one.transcript.environment.platform),
                device: device(one),
                checkpoint: &one.transcript.model.checkpoint,
                oracle: one
                    .stage(Stage::Oracle)
                    .and_then(|report| report.facts.get(fact::TRANSFORMERS))
                    .map_or_else(String::new, |version| text(version)),
            })
            .collect(),
        set: &release.gates.name,
        required: recipe
            .required()
            .iter()
            .map(|stage| stage.name())
            .collect::<Vec<_>>()
            .join(", "),
        producer: &facts.producer,
        grid: geometry.grid,
        pixels: geometry.pixels(),
        merge: geometry.patches.merge_size,
        resampling: &geometry.resampling,
        image_tokens: geometry.image_tokens,
        hidden: geometry.hidden_size,
        added: added(&geometry.deepstack_layers),
        blocks: blocks.into_iter().collect(),
        f16_embedding: recipe
            .modes
            .iter()
            .all(|mode| mode.embedding == Storage::F16),
        vocabulary: facts.vocabulary,
        max_context: recipe.max_context,
        static_inputs: fsutil::size(images),
        cache_per_token: fsutil::size(2 * layers * heads * size * F16_BYTES),
        one_token: recipe.queries.contains(&CallShape::One),
        sums: names::SUMS,
        license_file: names::LICENSE,
        notice_file: names::NOTICE,
        transcripts_folder: names::TRANSCRIPTS,
        recipe_file: names::RECIPE,
        gates_file: names::GATES,
    })
}

fn files(release: &Release) -> Vec<Row> {
    let recipe = &release.given.recipe;
    let row = |name: String, decoder: Option<String>| {
        let path = format!("{}/{name}", names::BUNDLES);
        let bytes = release.listing.below(&path).map(|(_, file)| file.bytes);
        Row {
            // A number stays with its unit.
            size: fsutil::size(bytes.sum()).replace(' ', "\u{a0}"),
            path: format!("{path}/"),
            decoder,
        }
    };
    let mut decoders = recipe.decoders().enumerate().map(|(index, decoder)| {
        let weights = decoder.mode.description;
        let call = match decoder.query {
            CallShape::One => "one token a call".to_owned(),
            CallShape::Dynamic => "any number of tokens a call".to_owned(),
            CallShape::Prefill(rows) => format!("one token a call, {rows} in `prefill`"),
        };
        let role = if index == 0 {
            "text decoder, **the one to use**"
        } else {
            "text decoder, alternative"
        };
        let what = format!("{role}: {weights}; {call}; with tokenizer and metadata");
        row(decoder.name, Some(what))
    });
    let mut rows: Vec<Row> = decoders.next().into_iter().collect();
    rows.push(row(recipe.vision(), None));
    rows.extend(decoders);
    rows
}

/// How a weight recipe makes integers of blocks of weights.
fn blocks(recipe: &quantize::Recipe) -> impl Iterator<Item = Block> {
    let stored = [recipe.body, recipe.head, recipe.embedding];
    stored.into_iter().filter_map(|storage| match storage {
        Storage::F16 => None,
        Storage::Block(format) => Some(Block {
            bits: format.bits,
            inputs: format.block,
        }),
    })
}

/// What is added after these layers, which are counted from 0, if there are any.
fn added(layers: &[usize]) -> Option<Added> {
    let (last, others) = layers.split_last()?;
    let number = word(layers.len());
    let first = layers.iter().copied().eq(0..layers.len());
    let others: Vec<String> = others.iter().map(usize::to_string).collect();
    Some(Added {
        amount: match layers.len() {
            1 => "as many".to_owned(),
            2 => "twice as many".to_owned(),
            _ => format!("{number} times as many"),
        },
        layers: match (first, &others[..]) {
            (true, []) => "the first layer".to_owned(),
            (true, _) => format!("the first {number} layers"),
            (false, []) => format!("layer {last}"),
            (false, others) => format!("layers {} and {last}", others.join(", ")),
        },
    })
}

/// A small number as a word.
fn word(number: usize) -> String {
    let words = ["no", "one", "two", "three", "four", "five", "six", "seven"];
    let word = words.get(number);
    word.map_or_else(|| number.to_string(), |word| (*word).to_owned())
}

/// What is compared, in the words of a reader of the card.
fn compared(stage: Stage) -> &'static str {
    match stage {
        Stage::Lint => "the bundle with what is known to break on Apple's delegates",
        Stage::Oracle => "the recording of transformers in fp32 with this very checkpoint",
        Stage::Ladder => {
            "our fp32 model with transformers: prompt, positions, every layer, logits, answer"
        }
        Stage::Weights => {
            "every operation and constant of the file with the checkpoint, to the bit"
        }
        Stage::Execute => "the file, executed, with transformers in fp32",
        Stage::Engine => "our decoding loop with Core AI's own runtime on the same file",
        Stage::Device => "a Mac or an iPhone with our decoding loop",
    }
}

fn gate(stage: Stage, evidence: &[Evidence]) -> Gate {
    let cells = evidence.iter().map(|one| match one.stage(stage) {
        Some(report) if report.verdict == Verdict::Pass => {
            format!("**pass**{}", figures(report))
        }
        // A release holds no failed gate.
        _ => "not run".to_owned(),
    });
    Gate {
        stage: stage.name(),
        compared: compared(stage),
        cells: cells.collect(),
    }
}

/// The figures that sum a passed stage up.
fn figures(report: &StageReport) -> String {
    let min = |pick: fn(&Check) -> Option<f64>| {
        let found = report.checks.iter();
        let found = found.filter_map(|check| Some((pick(check)?, check)));
        found
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, check)| check.found())
    };
    let mut said = Vec::new();
    if let Some(found) = min(Check::cosine) {
        said.push(format!("min cosine {}", text(&found)));
    }
    if let Some(found) = min(margin) {
        said.push(format!("min margin {}", text(&found)));
    }
    let all: usize = report.tokens.iter().map(|rows| rows.expected.len()).sum();
    if all > 0 {
        let pairs = report
            .tokens
            .iter()
            .map(|rows| rows.divergence.unwrap_or(rows.expected.len()));
        said.push(format!("{} of {all} tokens", pairs.sum::<usize>()));
    }
    if said.is_empty() {
        said.push(match report.checks.len() {
            1 => "1 check".to_owned(),
            count => format!("{count} checks"),
        });
    }
    if report.apple_device == Some(false) {
        said.push("not on an Apple device".to_owned());
    }
    if report.core_ai_recorded == Some(true) {
        said.push("by what Core AI answered before".to_owned());
    }
    format!(", {}", said.join(", "))
}

/// The margin that a check found, if that is what it is about.
fn margin(check: &Check) -> Option<f64> {
    match (check.id, &check.found) {
        (CheckId::OracleMargin, Found::Number(margin)) => Some(*margin),
        _ => None,
    }
}

/// Where a stage did not run, one entry for each reason.
fn not_run(
    stage: Stage,
    evidence: &[Evidence],
    label: impl Fn(&Evidence) -> String,
) -> Vec<NotRun> {
    let mut reasons: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for one in evidence {
        let why = match one.stage(stage) {
            None => "it was not asked for".to_owned(),
            Some(report) if report.verdict == Verdict::Skipped => text(&report.summary),
            Some(_) => continue,
        };
        let run = format!(
            "{} on {}",
            label(one),
            text(&one.transcript.environment.device)
        );
        reasons.entry(why).or_default().push(run);
    }
    let reasons = reasons.into_iter().map(|(why, runs)| NotRun {
        stage: stage.name(),
        only: (runs.len() < evidence.len()).then(|| runs.join(", ")),
        why,
    });
    reasons.collect()
}

/// Times of an Apple device, where one made a transcript.
fn device_figures(evidence: &[Evidence], label: impl Fn(&Evidence) -> String) -> Option<Device> {
    let mut figures = Device {
        hosts: Vec::new(),
        rows: Vec::new(),
    };
    for one in evidence {
        let Some(report) = one.stage(Stage::Device) else {
            continue;
        };
        let apple = report.apple_device == Some(true);
        if report.verdict != Verdict::Pass || !apple {
            continue;
        }
        let fact = |name: &str| report.facts.get(name).map(|fact| text(fact));
        let said: Vec<String> = [
            fact(fact::HOST),
            fact(fact::ENGINE),
            fact(fact::MADE_WITH),
            fact(fact::DECODER_LOADED).map(|time| format!("decoder loaded in {time}")),
            fact(fact::VISION_LOADED).map(|time| format!("vision encoder in {time}")),
        ]
        .into_iter()
        .flatten()
        .collect();
        figures
            .hosts
            .push(format!("{}: {}", label(one), said.join("; ")));
        for series in &report.series {
            let fold = |pick: fn(f64, f64) -> f64| series.values.iter().copied().reduce(pick);
            if let (Some(min), Some(max)) = (fold(f64::min), fold(f64::max)) {
                figures.rows.push(DeviceRow {
                    decoder: label(one),
                    what: text(&series.what),
                    prompt: text(series.prompt.as_deref().unwrap_or_default()),
                    runs: series.values.len(),
                    min: format!("{min:.3}"),
                    max: format!("{max:.3}"),
                });
            }
        }
    }
    (!figures.hosts.is_empty()).then_some(figures)
}

/// What the decoder to use said to each prompt, by the first transcript.
fn answers(release: &Release) -> Vec<Answered> {
    let Some(first) = release.evidence.first() else {
        return Vec::new();
    };
    let rows = [Stage::Engine, Stage::Execute].iter().find_map(|stage| {
        let report = first.stage(*stage)?;
        (!report.tokens.is_empty()).then_some(&report.tokens)
    });
    let rows = rows.into_iter().flatten();
    rows.filter_map(|row| {
        let mut prompts = release.gates.prompts.iter();
        let prompt = prompts.find(|prompt| prompt.name == row.prompt)?;
        let picture = prompt.image.as_ref();
        // The gates go on past the end of an answer.
        let is_stop = |id: &u32| release.facts.stop_tokens.contains(id);
        let end = row.found.iter().position(is_stop);
        let end = end.filter(|end| *end < row.found_text.len());
        let said = row.found_text[..end.unwrap_or(row.found_text.len())].concat();
        let more = if end.is_none() { " …" } else { "" };
        Some(Answered {
            prompt: text(&prompt.text),
            picture: picture.map(|path| text(path.rsplit('/').next().unwrap_or(path))),
            answer: format!("{}{more}", text(said.trim())),
            equal: format!(
                "{} of {} tokens as {}",
                row.divergence.unwrap_or(row.expected.len()),
                row.expected.len(),
                text(&row.sides[0])
            ),
        })
    })
    .collect()
}

/// Every check of a stage, side by side for all runs.
fn checks(stage: Stage, evidence: &[Evidence]) -> Vec<Checked> {
    let mut rows: Vec<Checked> = Vec::new();
    for (column, one) in evidence.iter().enumerate() {
        let report = one
            .stage(stage)
            .filter(|report| report.verdict == Verdict::Pass);
        for check in report.iter().flat_map(|report| &report.checks) {
            let what = text(&compared_in(check, &one.transcript.bundles));
            let must = text(&check.must());
            let prompt = text(check.prompt.as_deref().unwrap_or_default());
            let same = |row: &&mut Checked| {
                (&row.what, &row.prompt, &row.must) == (&what, &prompt, &must)
                    && row.cells[column].is_empty()
            };
            let found = text(&check.found());
            match rows.iter_mut().find(same) {
                Some(row) => row.cells[column] = found,
                None => {
                    let mut cells = vec![String::new(); evidence.len()];
                    cells[column] = found;
                    rows.push(Checked {
                        stage: stage.name(),
                        what,
                        prompt,
                        must,
                        cells,
                    });
                }
            }
        }
    }
    rows
}

/// What a check compares, with bundles called by their part: the same row for
/// each decoder.
fn compared_in(check: &Check, bundles: &[Bundle]) -> String {
    let names = bundles.iter().map(|bundle| bundle.name.as_str());
    let mut parts = names.zip(["decoder", "vision encoder"]);
    if check.id == CheckId::Version1 {
        // All that version 1 had is the sentence.
        return parts.fold(check.what(), |what, (name, part)| what.replace(name, part));
    }
    match parts.find(|(name, _)| check.of.as_deref() == Some(name)) {
        Some((_, part)) => check.clone().of(part).what(),
        None => check.what(),
    }
}

/// Text of somebody else's, as text of a line of Markdown and of a cell of a
/// table.
fn text(given: &str) -> String {
    let mut out = String::new();
    for c in given.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' | '$' | '!' => {
                out.push('\\');
                out.push(c);
            }
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            c if fsutil::is_unseen(c) => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use gate::transcript::{Bound, Bundle, Check, CheckId, Found};

    use super::{added, compared_in, text};

    #[test]
    fn bundles_are_called_by_their_part() {
        let bundle = |name: &str| Bundle {
            name: name.to_owned(),
            files: Default::default(),
        };
        let bundles = ["a", "a_vision"].map(bundle);
        let what = |id, of: &str| {
            let found = Found::Count { count: 0, of: 1 };
            compared_in(&Check::new(id, None, found, Bound::None).of(of), &bundles)
        };
        assert_eq!(what(CheckId::LintFindings, "a"), "findings in decoder");
        let vision = what(CheckId::LintFindings, "a_vision");
        assert_eq!(vision, "findings in vision encoder");
        // The name of a bundle within other words is left alone.
        assert_eq!(what(CheckId::Tokens, "a token"), "a token");
    }

    #[test]
    fn what_is_added_is_said_of_the_layers_that_there_are() {
        let said = |layers: &[usize]| added(layers).map(|added| (added.amount, added.layers));
        for (layers, amount, after) in [
            (&[0][..], "as many", "the first layer"),
            (&[0, 1], "twice as many", "the first two layers"),
            (&[0, 1, 2], "three times as many", "the first three layers"),
            (&[7], "as many", "layer 7"),
            (&[5, 11, 17], "three times as many", "layers 5, 11 and 17"),
        ] {
            let expected = (amount.to_owned(), after.to_owned());
            assert_eq!(said(layers), Some(expected));
        }
        assert_eq!(said(&[]), None);
    }

    #[test]
    fn text_stays_text() {
        assert_eq!(
            text("a | <b> *c*\n`d` [e](f)"),
            "a \\| &lt;b&gt; \\*c\\* \\`d\\` \\[e\\](f)"
        );
    }

    #[test]
    fn sizes_read_well() {
        assert_eq!(fsutil::size(999), "999 bytes");
        assert_eq!(fsutil::size(2_448_000_000), "2.45 GB");
    }
}
