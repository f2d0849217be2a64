//! Transcripts of the gates, as they are published, and what they must show.

use std::{collections::BTreeSet, path::Path};

use ::bundle::Layout;
use gate::{
    Gates, Stage, StageReport, Transcript, Verdict,
    transcript::{Axis, Bound, CheckId, Found, Measure, TokenRows},
};

use crate::{
    bundle::Facts,
    error::{Error, Problems, Result},
    folder::{Listing, read_text},
    names::{self, TRANSCRIPTS},
    recipe::{Decoder, Recipe},
};

/// No transcript is larger: a number for every position of every prompt.
const MAX_BYTES: u64 = 32 << 20;

/// A published transcript.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// Its path in the release.
    pub path: String,
    /// SHA-256 of the file.
    pub sha256: String,
    /// Which decoder of the recipe it is about.
    pub decoder: usize,
    /// What it says.
    pub transcript: Transcript,
}

impl Evidence {
    /// What a stage came to, if it was asked for.
    pub fn stage(&self, stage: Stage) -> Option<&StageReport> {
        let mut stages = self.transcript.stages.iter();
        stages.find(|report| report.stage == stage)
    }
}

/// A transcript's name in a release.
pub fn file_name(transcript: &Transcript) -> String {
    let decoder = transcript.bundles.first();
    let decoder = decoder.map_or("", |bundle| bundle.name.as_str());
    names::transcript(decoder, &transcript.environment.device)
}

/// A transcript as it is published: without how long things took and how many
/// threads there were, so that two runs on one kind of machine publish the same.
///
/// # Errors
/// Numbers that JSON cannot hold.
pub fn publish(transcript: &Transcript) -> Result<String> {
    let wrong = |error: serde_json::Error| Error::input(file_name(transcript), error.to_string());
    let mut value = serde_json::to_value(transcript).map_err(wrong)?;
    if let Some(environment) = value["environment"].as_object_mut() {
        environment.shift_remove("threads");
    }
    for stage in value["stages"].as_array_mut().into_iter().flatten() {
        if let Some(stage) = stage.as_object_mut() {
            stage.shift_remove("seconds");
        }
    }
    Ok(format!("{value:#}\n"))
}

/// Reads the transcripts of a release and holds them to its bundles.
pub(crate) fn check(
    folder: &Path,
    listing: &Listing,
    recipe: &Recipe,
    gates: &Gates,
    facts: Option<&Facts>,
    problems: &mut Problems,
) -> Result<Vec<Evidence>> {
    let decoders: Vec<Decoder> = recipe.decoders().collect();
    let mut all = Vec::new();
    for (name, entry) in listing.below(TRANSCRIPTS) {
        let path = &entry.path;
        let Some(text) = problems.take(read_text(folder, path, MAX_BYTES))? else {
            continue;
        };
        let transcript = match Transcript::parse(text.as_bytes()) {
            Ok(transcript) => transcript,
            Err(error) => {
                problems.add(path, format!("is not a transcript of the gates: {error}"));
                continue;
            }
        };
        let about = transcript.bundles.first().map(|bundle| bundle.name.clone());
        let about = about.unwrap_or_default();
        let expected = file_name(&transcript);
        if name != expected {
            problems.add(
                path,
                format!("is about {about}, and would be called {expected}"),
            );
            continue;
        }
        let Some(decoder) = decoders.iter().position(|decoder| decoder.name == about) else {
            problems.add(
                path,
                format!("is about {about:?}, which is not a decoder of the recipe"),
            );
            continue;
        };
        all.push(Evidence {
            path: path.clone(),
            sha256: entry.sha256.clone(),
            decoder,
            transcript,
        });
    }
    all.sort_by(|a, b| (a.decoder, &a.path).cmp(&(b.decoder, &b.path)));
    for evidence in &all {
        let decoder = &decoders[evidence.decoder];
        about_these_files(evidence, decoder, listing, recipe, problems);
        about_this_model(evidence, &all, recipe, gates, facts, problems);
        for report in &evidence.transcript.stages {
            unsound(report, evidence, gates, problems);
            let place = format!("{}, {}", evidence.path, report.stage);
            let can = report.verdict == Verdict::Skipped || decoder.has_stage(report.stage);
            problems.unless(can, &place, || {
                format!(
                    "is said to have run, and bundles of the layout {} have no such stage",
                    decoder.layout
                )
            });
            if report.verdict == Verdict::Fail {
                problems.add(place, format!("failed: {}", report.summary));
            }
        }
    }
    for (index, decoder) in decoders.iter().enumerate() {
        let of_it: Vec<&Evidence> = all.iter().filter(|one| one.decoder == index).collect();
        required(decoder, &of_it, recipe, problems);
    }
    Ok(all)
}

/// Whether what was judged are the files that the release holds.
fn about_these_files(
    evidence: &Evidence,
    decoder: &Decoder,
    listing: &Listing,
    recipe: &Recipe,
    problems: &mut Problems,
) {
    let judged = &evidence.transcript.bundles;
    let mut folders = vec![(decoder.name.clone(), decoder.place())];
    match decoder.layout {
        Layout::Pipelined(_) => folders.push((recipe.vision(), recipe.vision_place())),
        // Its vision encoder is in the bundle.
        Layout::Vlm => {}
    }
    let expected: Vec<&str> = folders.iter().map(|(name, _)| name.as_str()).collect();
    let names: Vec<&str> = judged.iter().map(|bundle| bundle.name.as_str()).collect();
    if names != expected {
        problems.add(
            &evidence.path,
            format!(
                "expected one about {}, found {}",
                expected.join(" and "),
                names.join(", ")
            ),
        );
        return;
    }
    for (bundle, (_, folder)) in judged.iter().zip(folders) {
        let there: BTreeSet<&str> = listing.below(&folder).map(|(path, _)| path).collect();
        for (path, entry) in listing.below(&folder) {
            let message = match bundle.files.get(path) {
                Some(judged) if *judged == entry.sha256 => continue,
                Some(judged) => format!(
                    "is about other bytes: the SHA-256 of {} is {}, and the gates judged {judged}; \
                     run the gates on this bundle",
                    entry.path, entry.sha256
                ),
                None => format!("is about other files: the gates did not see {}", entry.path),
            };
            problems.add(&evidence.path, message);
        }
        for path in bundle
            .files
            .keys()
            .filter(|path| !there.contains(path.as_str()))
        {
            let message = format!("is about other files: there is no {folder}/{path:.200}");
            problems.add(&evidence.path, message);
        }
    }
}

/// Whether it was judged as this model, by these gates.
fn about_this_model(
    evidence: &Evidence,
    all: &[Evidence],
    recipe: &Recipe,
    gates: &Gates,
    facts: Option<&Facts>,
    problems: &mut Problems,
) {
    let transcript = &evidence.transcript;
    let (path, model) = (&evidence.path, &transcript.model);
    let set = (&transcript.gates, &transcript.gates_sha256);
    problems.unless(set == (&gates.name, &gates.sha256), path, || {
        format!(
            "was judged by the set {} ({}), and {} holds {} ({}); run the gates again",
            set.0,
            short(set.1),
            names::GATES,
            gates.name,
            short(&gates.sha256)
        )
    });
    problems.unless(model.id == recipe.model, path, || {
        format!(
            "is about the model {:?}, and the recipe {:?}",
            model.id, recipe.model
        )
    });
    if let Some(facts) = facts {
        problems.unless(model.revision == facts.revision, path, || {
            format!(
                "is about revision {:?}, and the bundles' metadata states {:?}",
                model.revision, facts.revision
            )
        });
        problems.unless(model.layers as u64 == facts.cache[0], path, || {
            format!(
                "is about a model of {} layers, and the decoders have {}",
                model.layers, facts.cache[0]
            )
        });
    }
    let pinned = recipe.checkpoint.as_ref();
    let first = all.first().map(|first| &first.transcript.model.checkpoint);
    for (expected, whose) in [
        (pinned, "the recipe pins"),
        (first, "the first transcript has"),
    ] {
        if let Some(expected) = expected {
            problems.unless(model.checkpoint == *expected, path, || {
                format!(
                    "is about a checkpoint with the digest {}, and {whose} {expected}",
                    model.checkpoint
                )
            });
        }
    }
    let stages = transcript.stages.windows(2);
    let in_order = stages.clone().all(|pair| pair[0].stage < pair[1].stage);
    problems.unless(in_order, path, || {
        "its stages are not in the chain's order, each once".to_owned()
    });
}

fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

/// What cosines of a stage must reach.
fn cosine_bound(stage: Stage, gates: &Gates) -> Option<f64> {
    match stage {
        Stage::Ladder => Some(gates.ladder.cosine),
        Stage::Execute => Some(gates.execute.cosine),
        Stage::Lint | Stage::Oracle | Stage::Weights | Stage::Engine | Stage::Device => None,
    }
}

/// Whether a stage that passed has a check of every prompt. A device answers
/// those of its fixture.
fn checks_each_prompt(stage: Stage) -> bool {
    match stage {
        Stage::Oracle | Stage::Ladder | Stage::Execute | Stage::Engine => true,
        Stage::Lint | Stage::Weights | Stage::Device => false,
    }
}

/// Adds what does not fit together in a report.
fn unsound(report: &StageReport, evidence: &Evidence, gates: &Gates, problems: &mut Problems) {
    let place = format!("{}, {}", evidence.path, report.stage);
    let pass = report.verdict == Verdict::Pass;
    if report.verdict == Verdict::Skipped && !report.checks.is_empty() {
        problems.add(&place, "was skipped, and has checks".to_owned());
    }
    if pass && report.checks.is_empty() {
        problems.add(&place, "passes without a check".to_owned());
    }
    if pass && let Some(finding) = report.findings.first() {
        problems.add(&place, format!("passes with a finding: {}", finding.rule));
    }
    let cosine = cosine_bound(report.stage, gates);
    for check in &report.checks {
        let what = match &check.prompt {
            Some(prompt) => format!("{prompt}: {}", check.what()),
            None => check.what(),
        };
        if pass && !check.holds {
            problems.add(&place, format!("passes, and {what} does not hold"));
        }
        // No cosine is above 1 by more than a rounding.
        if let Some(found) = check.cosine()
            && (!found.is_finite() || found > 1.0 + 1e-6)
        {
            problems.add(&place, format!("{what}: {found} is not a cosine"));
        }
        // Tokens may be forgiven, and a check may fail by the number of values
        // though its bound is met. A cosine alone decides.
        let exact = matches!(
            (&check.bound, &check.found),
            (Bound::AtLeast(_), Found::Cosine(_))
        );
        let met = check.bound.is_met_by(&check.found);
        if check.holds != met && (exact || check.holds && check.id != CheckId::Tokens) {
            problems.add(
                &place,
                format!(
                    "{what}: {} is said to {}, and must be {}",
                    check.found(),
                    if check.holds { "hold" } else { "fail" },
                    check.must()
                ),
            );
        }
        if let (Bound::AtLeast(bound), Found::Cosine(_)) = (&check.bound, &check.found)
            && cosine.is_some_and(|cosine| cosine != *bound)
        {
            problems.add(
                &place,
                format!("{what}: the bound is {bound}, and not that of the gates"),
            );
        }
    }
    for rows in &report.tokens {
        if let Some(why) = unsound_tokens(rows, pass, gates) {
            problems.add(&place, why);
        }
    }
    if !pass {
        return;
    }
    for series in &report.series {
        let below = |bar: f64| {
            let mut values = series.values.iter();
            values.any(|value| value.is_nan() || *value < bar)
        };
        if series.measure == Measure::Cosine && series.bar.is_some_and(below) {
            problems.add(
                &place,
                format!("passes, and a value of {} is below its bar", series.what),
            );
        }
        let layers = evidence.transcript.model.layers;
        if report.stage == Stage::Ladder
            && series.axis == Axis::Layer
            && series.values.len() != layers
        {
            let message = format!(
                "compares {} of {layers} layers; run it on all of them, without `layers`",
                series.values.len()
            );
            problems.add_of_option("layers", &place, message);
        }
    }
    if checks_each_prompt(report.stage) {
        for prompt in &gates.prompts {
            let mut checks = report.checks.iter();
            if !checks.any(|check| check.prompt.as_ref() == Some(&prompt.name)) {
                problems.add(
                    &place,
                    format!("has no check of the prompt {}", prompt.name),
                );
            }
        }
    }
}

/// What does not fit together in rows of tokens.
fn unsound_tokens(rows: &TokenRows, pass: bool, gates: &Gates) -> Option<String> {
    let same = rows.expected == rows.found;
    let pairs = rows.expected.iter().zip(&rows.found);
    let first = pairs
        .take_while(|(expected, found)| expected == found)
        .count();
    let place = format!("{}: {}", rows.prompt, rows.what);
    if rows.divergence != (!same).then_some(first) {
        return Some(format!(
            "{place}: the rows and where they diverge do not fit"
        ));
    }
    let margin = rows.divergence.and_then(|at| rows.margins.get(at));
    let forgiven = margin.is_some_and(|margin| *margin < gates.margin);
    if rows.forgiven && !forgiven || pass && !same && !rows.forgiven {
        return Some(format!(
            "{place}: other tokens, and no small margin that forgives it"
        ));
    }
    None
}

/// Whether each stage that is required passed for a decoder.
fn required(decoder: &Decoder, all: &[&Evidence], recipe: &Recipe, problems: &mut Problems) {
    let name = &decoder.name;
    if all.is_empty() {
        problems.add(
            format!("{TRANSCRIPTS}/{}", names::transcript(name, "cpu")),
            format!("is missing: there is no evidence of {name}; run the gates on it"),
        );
        return;
    }
    for stage in recipe.required() {
        // The card says that it was not run.
        if !decoder.has_stage(stage) {
            continue;
        }
        let reports: Vec<&StageReport> = all.iter().filter_map(|one| one.stage(stage)).collect();
        let passed = |report: &&StageReport| {
            let apple = report.apple_device == Some(true);
            report.verdict == Verdict::Pass && (stage != Stage::Device || apple)
        };
        if reports.iter().any(passed) {
            continue;
        }
        let place = format!("{}, {stage}", all[0].path);
        let message = match reports.first() {
            None => "is required and was not run".to_owned(),
            // Said already.
            Some(report) if report.verdict == Verdict::Fail => continue,
            Some(report) if report.verdict == Verdict::Skipped => {
                format!("is required and was skipped: {}", report.summary)
            }
            Some(report) => format!("is required of an Apple device: {}", report.summary),
        };
        problems.add(place, message);
    }
}
