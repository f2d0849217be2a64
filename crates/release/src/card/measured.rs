//! What the transcripts give the card: verdicts, figures, answers and checks.

use std::collections::BTreeMap;

use ::bundle::{AssetRole, Layout};
use gate::{
    Gates, Stage, StageReport, Verdict,
    transcript::{Bundle, Check, CheckId, Found},
};
use serde::Serialize;

use super::markdown::text;
use crate::evidence::Evidence;

/// What assets of a bundle are called on the card.
const DECODER: &str = "decoder";
const VISION_ENCODER: &str = "vision encoder";

/// Names of the facts of reports that the card quotes.
mod fact {
    pub const TRANSFORMERS: &str = "transformers";
    pub const HOST: &str = "host";
    pub const ENGINE: &str = "engine";
    pub const MADE_WITH: &str = "made with";
    pub const DECODER_LOADED: &str = "decoder loaded in";
    pub const VISION_LOADED: &str = "vision encoder loaded in";
}

/// A stage over all runs.
#[derive(Serialize)]
pub struct Gate {
    pub stage: &'static str,
    pub compared: &'static str,
    pub cells: Vec<String>,
}

/// A stage that did not run somewhere, and why.
#[derive(Serialize)]
pub struct NotRun {
    pub stage: &'static str,
    pub why: String,
    /// Where, unless everywhere.
    pub only: Option<String>,
}

/// What an Apple device measured.
#[derive(Serialize)]
pub struct Device {
    pub hosts: Vec<String>,
    pub rows: Vec<DeviceRow>,
}

#[derive(Serialize)]
pub struct DeviceRow {
    pub decoder: String,
    pub what: String,
    pub prompt: String,
    pub runs: usize,
    pub min: String,
    pub max: String,
}

/// A prompt, and what the decoder to use said.
#[derive(Serialize)]
pub struct Answered {
    pub prompt: String,
    pub picture: Option<String>,
    pub answer: String,
    pub equal: String,
}

/// One check over all runs.
#[derive(Serialize)]
pub struct Checked {
    pub stage: &'static str,
    pub what: String,
    pub prompt: String,
    pub must: String,
    pub cells: Vec<String>,
}

/// The version of transformers that the oracle was recorded with.
pub fn transformers(one: &Evidence) -> String {
    let report = one.stage(Stage::Oracle);
    let version = report.and_then(|report| report.facts.get(fact::TRANSFORMERS));
    version.map_or_else(String::new, |version| text(version))
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

pub fn gate(stage: Stage, evidence: &[Evidence]) -> Gate {
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

/// Where a stage did not run, one entry for each reason. `never` says why it
/// cannot run on some.
pub fn not_run(
    stage: Stage,
    evidence: &[Evidence],
    label: impl Fn(&Evidence) -> String,
    never: impl Fn(&Evidence) -> Option<String>,
) -> Vec<NotRun> {
    let mut reasons: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for one in evidence {
        let why = match one.stage(stage) {
            _ if let Some(why) = never(one) => why,
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
pub fn device_figures(
    evidence: &[Evidence],
    label: impl Fn(&Evidence) -> String,
) -> Option<Device> {
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
pub fn answers(evidence: &[Evidence], gates: &Gates, stop_tokens: &[u32]) -> Vec<Answered> {
    let Some(first) = evidence.first() else {
        return Vec::new();
    };
    let rows = [Stage::Engine, Stage::Execute].iter().find_map(|stage| {
        let report = first.stage(*stage)?;
        (!report.tokens.is_empty()).then_some(&report.tokens)
    });
    let rows = rows.into_iter().flatten();
    rows.filter_map(|row| {
        let mut prompts = gates.prompts.iter();
        let prompt = prompts.find(|prompt| prompt.name == row.prompt)?;
        let picture = prompt.image.as_ref();
        // The gates go on past the end of an answer.
        let is_stop = |id: &u32| stop_tokens.contains(id);
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
pub fn checks(stage: Stage, evidence: &[Evidence]) -> Vec<Checked> {
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

/// What a check compares, with bundles and their assets called by their part: the
/// same row for each decoder.
fn compared_in(check: &Check, bundles: &[Bundle]) -> String {
    let mut parts: Vec<(String, &str)> = Vec::new();
    if let [bundle] = bundles {
        // Its vision encoder is in it: one of the layout vlm.
        let name = &bundle.name;
        parts.push((name.clone(), "bundle"));
        for role in Layout::Vlm.roles() {
            let part = match role {
                AssetRole::Main => DECODER,
                AssetRole::Embedding => "embedding table",
                AssetRole::Vision => VISION_ENCODER,
            };
            parts.push((format!("{name}, {role}"), part));
        }
    } else {
        let names = bundles.iter().map(|bundle| bundle.name.clone());
        parts.extend(names.zip([DECODER, VISION_ENCODER]));
    }
    if check.id == CheckId::Version1 {
        // All that version 1 had is the sentence.
        let parts = parts.iter();
        return parts.fold(check.what(), |what, (name, part)| what.replace(name, part));
    }
    let of = check.of.as_ref();
    match parts.into_iter().find(|(name, _)| of == Some(name)) {
        Some((_, part)) => check.clone().of(part).what(),
        None => check.what(),
    }
}

#[cfg(test)]
mod tests {
    use gate::transcript::{Bound, Bundle, Check, CheckId, Found};

    use super::compared_in;

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
        let bundles = ["a_vlm"].map(bundle);
        let what = |of: &str| {
            let (found, id) = (Found::Count { count: 0, of: 1 }, CheckId::LintFindings);
            compared_in(&Check::new(id, None, found, Bound::None).of(of), &bundles)
        };
        assert_eq!(what("a_vlm"), "findings in bundle");
        assert_eq!(what("a_vlm, main"), "findings in decoder");
        assert_eq!(what("a_vlm, embedding"), "findings in embedding table");
        assert_eq!(what("a_vlm, vision"), "findings in vision encoder");
        assert_eq!(what("a_vlm, other"), "findings in a_vlm, other");
    }
}
