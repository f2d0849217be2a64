//! Checks: what was compared, what was found, and what it must be.
//!
//! A check is typed, and every sentence about it is made here, so that a
//! model card or a verdict never depends on wording.

use serde::{Deserialize, Deserializer, Serialize};

/// What a check compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum CheckId {
    /// Findings of the device lint in a bundle.
    LintFindings,
    /// Whether what transformers answered can serve.
    OracleUsable,
    /// By how much every token that a gate relies on leads.
    OracleMargin,
    /// Tokens recorded before, recorded again.
    OracleTokens,
    /// Logits recorded before, recorded again.
    OracleLogits,
    /// Token ids as a host makes them.
    HostTokens,
    /// Patches as a host makes them, in levels of 8 bits.
    HostPatches,
    /// Positions by the token list.
    ListPositions,
    /// Positions by the graph's formula.
    GraphPositions,
    /// An output of the vision encoder.
    Vision,
    /// Hidden states after every layer.
    Layers,
    /// Logits at every position.
    Logits,
    /// The best token wherever it leads by the margin.
    BestToken,
    /// Tokens side by side.
    Tokens,
    /// Logits along the asset's own tokens.
    OwnTokens,
    /// How many greedy tokens were made.
    TokensMade,
    /// One decode step from the oracle's cache.
    CachedStep,
    /// What differs from the checkpoint's program.
    Differences,
    /// Tokenizer files that are not the checkpoint's.
    TokenizerFiles,
    /// How pictures are cut, as the manifest states it.
    Geometry,
    /// By how much a forgiven token is behind that of our loop.
    ForgivenLead,
    /// The lead of each token in both runtimes, where no token is judged.
    Lead,
    /// Prompts that Core AI's runtime answered.
    Answered,
    /// Runs of a prompt on a device.
    Runs,
    /// Tokens in each run on a device.
    RunTokens,
    /// A check of a transcript of version 1, which was written in words.
    Version1,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// A cosine: 1 is the same direction.
    Cosine(#[serde(deserialize_with = "number")] f64),
    /// A number with a unit that the check's id implies.
    Number(#[serde(deserialize_with = "number")] f64),
    /// So many of all.
    Count {
        /// How many.
        count: usize,
        /// Of how many.
        of: usize,
    },
    /// Words, where there is no number.
    Words(String),
}

/// What it must be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// A number of at least this.
    AtLeast(f64),
    /// A number of at most this.
    AtMost(f64),
    /// All of a count.
    All,
    /// None of a count.
    None,
    /// Any: nothing is gated.
    Any,
    /// These words.
    Words(String),
}

/// JSON has no word for NaN and infinity: they are `null` there.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

impl Bound {
    /// Whether something that was found meets it. NaN meets no bound.
    #[must_use]
    pub fn is_met_by(&self, found: &Found) -> bool {
        match (self, found) {
            (Bound::Any, _) => true,
            (Bound::AtLeast(bound), Found::Cosine(found) | Found::Number(found)) => found >= bound,
            (Bound::AtMost(bound), Found::Cosine(found) | Found::Number(found)) => found <= bound,
            (Bound::All, Found::Count { count, of }) => count == of,
            (Bound::None, Found::Count { count, .. }) => *count == 0,
            (Bound::Words(bound), Found::Words(found)) => bound == found,
            _ => false,
        }
    }
}

/// One thing that must hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// What is compared.
    pub id: CheckId,
    /// Of what in particular: a bundle, an output, a margin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// The prompt, where it is about one.
    pub prompt: Option<String>,
    /// What was found.
    pub found: Found,
    /// What it must be.
    pub bound: Bound,
    /// Further words about what was found, which nothing judges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Whether it holds.
    pub holds: bool,
}

impl Check {
    /// A check that holds where the bound is met. Of a cosine nine decimals are
    /// kept, rounded down, so that no bound is met by rounding.
    #[must_use]
    pub fn new(id: CheckId, prompt: Option<&str>, found: Found, bound: Bound) -> Self {
        let found = match found {
            Found::Cosine(cosine) => Found::Cosine((cosine * 1e9).floor() / 1e9),
            other => other,
        };
        Check {
            id,
            of: None,
            prompt: prompt.map(str::to_owned),
            holds: bound.is_met_by(&found),
            found,
            bound,
            note: None,
        }
    }

    /// With what it is about in particular.
    #[must_use]
    pub fn of(self, of: impl Into<String>) -> Self {
        Check {
            of: Some(of.into()),
            ..self
        }
    }

    /// With further words about what was found.
    #[must_use]
    pub fn note(self, note: impl Into<String>) -> Self {
        Check {
            note: Some(note.into()),
            ..self
        }
    }

    /// What is compared, in words.
    #[must_use]
    pub fn what(&self) -> String {
        let of = self.of.as_deref().unwrap_or_default();
        match self.id {
            CheckId::LintFindings => format!("findings in {of}"),
            CheckId::OracleUsable => "transformers' answer".to_owned(),
            CheckId::OracleMargin => "smallest margin of a greedy token".to_owned(),
            CheckId::OracleTokens => "tokens recorded before and now".to_owned(),
            CheckId::OracleLogits => "logits recorded before and now, cosine".to_owned(),
            CheckId::HostTokens => "token ids as a host makes them".to_owned(),
            CheckId::HostPatches => {
                "patches as a host makes them: levels of 8 bits apart".to_owned()
            }
            CheckId::ListPositions => "positions by the token list".to_owned(),
            CheckId::GraphPositions => "positions by the graph's formula".to_owned(),
            CheckId::Vision => format!("{of}, min cosine"),
            CheckId::Layers => format!("layers whose min cosine is at least {of}"),
            CheckId::Logits => "logits of every position, min cosine".to_owned(),
            CheckId::BestToken => format!("best token where it leads by {of} or more"),
            CheckId::Tokens => of.to_owned(),
            CheckId::OwnTokens => {
                "logits along the asset's own greedy tokens, against the fp32 model: min cosine"
                    .to_owned()
            }
            CheckId::TokensMade => "greedy tokens made".to_owned(),
            CheckId::CachedStep => "one step from the oracle's cache, cosine".to_owned(),
            CheckId::Differences => format!("{of}: what differs from the checkpoint's program"),
            CheckId::TokenizerFiles => {
                format!("{of}: tokenizer files that are not the checkpoint's")
            }
            CheckId::Geometry => {
                format!("{of}: how pictures are cut, as metadata.json states it")
            }
            CheckId::ForgivenLead => {
                "by how much its token is behind ours, where that is forgiven".to_owned()
            }
            CheckId::Lead => {
                format!("tokens whose lead in both runtimes is at most {of} apart")
            }
            CheckId::Answered => "prompts that Core AI answered".to_owned(),
            CheckId::Runs => "runs".to_owned(),
            CheckId::RunTokens => "tokens in each run".to_owned(),
            CheckId::Version1 => of.to_owned(),
        }
    }

    /// What was found, in words.
    #[must_use]
    pub fn found(&self) -> String {
        let found = match &self.found {
            Found::Cosine(found) => found.to_string(),
            Found::Number(found) => found.to_string(),
            Found::Count { count, of } => format!("{count} of {of}"),
            Found::Words(found) => found.clone(),
        };
        match &self.note {
            Some(note) => format!("{found}{note}"),
            None => found,
        }
    }

    /// What it must be, in words.
    #[must_use]
    pub fn must(&self) -> String {
        match (&self.bound, &self.found) {
            (Bound::AtLeast(bound), _) => format!("at least {bound}"),
            (Bound::AtMost(bound), _) => format!("at most {bound}"),
            (Bound::All, Found::Count { of, .. }) => format!("{of} of {of}"),
            (Bound::All, _) => "all".to_owned(),
            (Bound::None, _) => "0".to_owned(),
            (Bound::Any, _) => "any: nothing is gated".to_owned(),
            (Bound::Words(bound), _) => bound.clone(),
        }
    }

    /// The cosine that it found, if that is what it compares.
    #[must_use]
    pub fn cosine(&self) -> Option<f64> {
        match self.found {
            Found::Cosine(cosine) => Some(cosine),
            _ => None,
        }
    }
}

/// The shortest decimal that reads back as this f32, as an f64: 0.1 stays 0.1.
#[must_use]
pub fn shortest(value: f32) -> f64 {
    value
        .to_string()
        .parse()
        .unwrap_or_else(|_| f64::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_judge_the_types_and_nan_meets_none() {
        let count = |count, of| Found::Count { count, of };
        for (bound, found, met) in [
            (Bound::AtLeast(0.999), Found::Cosine(0.999), true),
            (Bound::AtLeast(0.999), Found::Cosine(0.998), false),
            (Bound::AtLeast(0.999), Found::Cosine(f64::NAN), false),
            (Bound::AtMost(1.0), Found::Number(1.0), true),
            (Bound::AtMost(1.0), Found::Number(f64::NAN), false),
            (Bound::AtMost(1.0), Found::Words("1".to_owned()), false),
            (Bound::All, count(3, 3), true),
            (Bound::All, count(2, 3), false),
            (Bound::None, count(0, 3), true),
            (Bound::None, count(1, 3), false),
            (Bound::Any, Found::Number(f64::NAN), true),
            (
                Bound::Words("a".to_owned()),
                Found::Words("a".to_owned()),
                true,
            ),
            (
                Bound::Words("a".to_owned()),
                Found::Words("b".to_owned()),
                false,
            ),
        ] {
            assert_eq!(bound.is_met_by(&found), met, "{bound:?} {found:?}");
        }
    }

    #[test]
    fn a_check_survives_json_nan_included() {
        let check = Check::new(
            CheckId::Logits,
            Some("a"),
            Found::Cosine(f64::NAN),
            Bound::AtLeast(0.9),
        );
        let json = serde_json::to_string(&check).unwrap();
        let again: Check = serde_json::from_str(&json).unwrap();
        assert!(again.cosine().unwrap().is_nan() && !again.holds);
        assert_eq!(shortest(0.1), 0.1);
    }
}
