//! What a run of the gates found, as evidence: plain data that is written as
//! JSON, judged again later, rendered as a report, and quoted by a release.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

mod axis;
mod check;
mod version1;

pub use axis::Axis;
pub use check::{Bound, Check, CheckId, Found, shortest};

/// The version of the JSON.
pub const VERSION: u32 = 2;

/// A run of the gates on one model's bundles.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transcript {
    /// [`VERSION`].
    pub version: u32,
    /// The checkpoint.
    pub model: Model,
    /// The bundles, decoder first: what was judged.
    pub bundles: Vec<Bundle>,
    /// Which thresholds applied: the name of a set in `gates/`.
    pub gates: String,
    /// SHA-256 of the set: [`crate::Gates::sha256`].
    pub gates_sha256: String,
    /// Where it ran.
    pub environment: Environment,
    /// Stages that had to run besides `weights` and `execute`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub required: Vec<Stage>,
    /// The stages in their order; those that were not asked for are
    /// absent.
    pub stages: Vec<StageReport>,
}

/// The checkpoint that bundles claim to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Hub id, or name of the folder.
    pub id: String,
    /// The commit on the hub, where it came from there.
    pub revision: Option<String>,
    /// SHA-256 over the weights: [`checkpoint::Checkpoint::digest`].
    pub checkpoint: String,
    /// Decoder layers.
    pub layers: usize,
}

/// A bundle: its files, whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// Its folder's name.
    pub name: String,
    /// SHA-256 of each file, by its path in the folder with `/`.
    pub files: BTreeMap<String, String>,
}

/// Where a run took place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// `aimodel` and its version.
    pub tool: String,
    /// Operating system and architecture.
    pub platform: String,
    /// `cpu`, `cuda` or `metal`: what executed the stage `execute`.
    pub device: String,
    /// Threads that it could use. A published transcript leaves it out.
    #[serde(default)]
    pub threads: usize,
}

/// The stages, in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Static rules: what is known to break on Apple's delegates.
    Lint,
    /// What transformers recorded is of this checkpoint and can serve.
    Oracle,
    /// The fp32 model against the oracle.
    Ladder,
    /// Every constant and operation against the checkpoint.
    Weights,
    /// The asset, executed by our runtime, against the oracle. Version 1 called
    /// it `gpu`, on whatever device it ran.
    #[serde(alias = "gpu")]
    Execute,
    /// Our loop against Core AI's own runtime on the same asset.
    Engine,
    /// A transcript of an Apple device against the engine.
    Device,
}

impl Stage {
    /// All of them.
    pub const ALL: [Stage; 7] = [
        Stage::Lint,
        Stage::Oracle,
        Stage::Ladder,
        Stage::Weights,
        Stage::Execute,
        Stage::Engine,
        Stage::Device,
    ];

    /// As the command line spells it.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Lint => "lint",
            Stage::Oracle => "oracle",
            Stage::Ladder => "ladder",
            Stage::Weights => "weights",
            Stage::Execute => "execute",
            Stage::Engine => "engine",
            Stage::Device => "device",
        }
    }
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Stage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // What the stage `execute` was called before.
        let text = if text == "gpu" { "execute" } else { text };
        let found = Stage::ALL.into_iter().find(|stage| stage.name() == text);
        found.ok_or_else(|| {
            let known = Stage::ALL.map(Stage::name).join(", ");
            format!("there is no stage {text:?}; the stages are: {known}")
        })
    }
}

/// What a stage came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Everything that it checks holds.
    Pass,
    /// Something does not.
    Fail,
    /// It could not run; [`StageReport::summary`] says why.
    Skipped,
}

/// A stage, with its evidence.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageReport {
    /// Which.
    pub stage: Stage,
    /// What it came to.
    pub verdict: Verdict,
    /// One line: what was found, the first thing that failed, or why it was
    /// skipped.
    pub summary: String,
    /// Wall time. A published transcript leaves it out.
    #[serde(default)]
    pub seconds: f64,
    /// What must hold, and whether it does.
    pub checks: Vec<Check>,
    /// What is wrong, thing by thing: findings of the lint, constants that differ.
    pub findings: Vec<Finding>,
    /// Numbers over layers, positions or rows.
    pub series: Vec<Series>,
    /// Rows of tokens of two sides.
    pub tokens: Vec<TokenRows>,
    /// Further facts, by name, which nothing judges: versions, counts, rates.
    pub facts: BTreeMap<String, String>,
    /// Of the stage `device`: whether a Mac or an iPhone made the transcript.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apple_device: Option<bool>,
    /// Of the stage `engine`: whether Core AI's answers were recorded earlier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub core_ai_recorded: Option<bool>,
}

/// Something wrong at a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// The rule or the kind of difference: a short identifier.
    pub rule: String,
    /// The asset, graph, constant or file.
    pub place: String,
    /// What is wrong, why that matters, and what to do.
    pub message: String,
}

/// Numbers along an axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Series {
    /// What the numbers are, such as `cosine of the logits`.
    pub what: String,
    /// How to read them.
    pub measure: Measure,
    /// The prompt, where it is about one.
    pub prompt: Option<String>,
    /// What the axis counts.
    pub axis: Axis,
    /// The number of the first value on the axis.
    pub first: usize,
    /// The distance of values on the axis: 1, or more where each stands for a
    /// group, such as the worst of that many rows.
    pub step: usize,
    /// The values. JSON has no word for NaN: it is `null` there.
    #[serde(deserialize_with = "numbers")]
    pub values: Vec<f64>,
    /// What the values are held against, if there is a bound: see [`Measure`].
    pub bar: Option<f64>,
}

fn numbers<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
    let values = Vec::<Option<f64>>::deserialize(deserializer)?;
    Ok(values
        .into_iter()
        .map(|value| value.unwrap_or(f64::NAN))
        .collect())
}

/// How to read the numbers of a [`Series`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// 1 is the same direction; none may be less than the bar.
    Cosine,
    /// By how many logits the best token leads. A gate relies on those that
    /// reach the bar.
    Margin,
    /// 0 is exact; none may be greater than the bar.
    Error,
    /// Seconds, rates: neither good nor bad.
    Amount,
}

/// Tokens side by side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRows {
    /// What made them, such as `greedy, 24 tokens`.
    pub what: String,
    /// The prompt's name.
    pub prompt: String,
    /// The two sides: whose tokens `expected` and `found` are.
    pub sides: [String; 2],
    /// Token ids of the reference.
    pub expected: Vec<u32>,
    /// Token ids of what is judged.
    pub found: Vec<u32>,
    /// The text of each expected token, where a tokenizer is at hand.
    pub expected_text: Vec<String>,
    /// The text of each token found.
    pub found_text: Vec<String>,
    /// By how many logits the reference's choice leads, at each token; empty
    /// where that is not known.
    pub margins: Vec<f32>,
    /// The first place where the rows differ.
    pub divergence: Option<usize>,
    /// Whether that is forgiven, because the margin there is below what a gate
    /// relies on.
    pub forgiven: bool,
}

impl Transcript {
    /// Reads a transcript of this version or of version 1.
    ///
    /// # Errors
    /// JSON that is not a transcript, or is one of a version that is not known.
    pub fn parse(json: &[u8]) -> Result<Transcript, String> {
        let wrong = |error: serde_json::Error| error.to_string();
        let mut value: Value = serde_json::from_slice(json).map_err(wrong)?;
        match value["version"].as_u64() {
            Some(1) => {
                version1::convert(&mut value).map_err(wrong)?;
                value["version"] = VERSION.into();
            }
            Some(version) if version == u64::from(VERSION) => {}
            _ => {
                return Err(format!(
                    "its version is {}, expected 1 or {VERSION}",
                    value["version"]
                ));
            }
        }
        serde_json::from_value(value).map_err(wrong)
    }

    /// What was found by a stage, if that was asked for.
    #[must_use]
    pub fn stage(&self, stage: Stage) -> Option<&StageReport> {
        self.stages.iter().find(|report| report.stage == stage)
    }

    /// Whether no stage failed, those that prove something ran (`weights` and
    /// `execute`), and those that are required did: here, or by [`Self::required`].
    pub fn holds(&self, required: &[Stage]) -> Result<(), String> {
        for report in &self.stages {
            if report.verdict == Verdict::Fail {
                return Err(format!("{}: {}", report.stage, report.summary));
            }
        }
        let always = [Stage::Weights, Stage::Execute];
        for stage in always.iter().chain(&self.required).chain(required) {
            match self.stage(*stage).map(|report| report.verdict) {
                Some(Verdict::Pass) => {}
                Some(_) => return Err(format!("{stage} is required and was skipped")),
                None => return Err(format!("{stage} is required and was not asked for")),
            }
        }
        Ok(())
    }

    /// Whether an earlier transcript says more: it is about the same bundles,
    /// checkpoint and gates, nothing in this one fails, and a stage that passed
    /// there did not run here.
    pub fn says_less_than(&self, earlier: &Transcript) -> bool {
        let passed = |transcript: &Transcript, stage: Stage| {
            let report = transcript.stage(stage);
            report.is_some_and(|report| report.verdict == Verdict::Pass)
        };
        let fails = |report: &StageReport| report.verdict == Verdict::Fail;
        self.model == earlier.model
            && self.bundles == earlier.bundles
            && self.gates_sha256 == earlier.gates_sha256
            && !self.stages.iter().any(fails)
            && Stage::ALL
                .into_iter()
                .any(|stage| passed(earlier, stage) && !passed(self, stage))
    }
}
