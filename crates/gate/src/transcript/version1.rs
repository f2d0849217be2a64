//! Transcripts of version 1, whose checks were sentences.

use serde::Deserialize;
use serde_json::Value;

use super::{Bound, Check, CheckId, Found};

/// A check of version 1.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sentence {
    what: String,
    prompt: Option<String>,
    found: String,
    must: String,
    holds: bool,
}

/// Rewrites the checks and facts of a transcript of version 1 in place.
///
/// # Errors
/// A check that is not one of version 1.
pub(super) fn convert(transcript: &mut Value) -> Result<(), serde_json::Error> {
    for stage in transcript["stages"].as_array_mut().into_iter().flatten() {
        let facts = stage["facts"].as_object();
        let fact = |name: &str| facts.and_then(|facts| facts.get(name)?.as_str());
        let apple_device = fact("Apple device").map(|is| is == "yes");
        let core_ai_recorded = fact("Core AI was asked").map(|when| when != "now");
        for (key, value) in [
            ("apple_device", apple_device),
            ("core_ai_recorded", core_ai_recorded),
        ] {
            if let Some(value) = value {
                stage[key] = value.into();
            }
        }
        for check in stage["checks"].as_array_mut().into_iter().flatten() {
            let sentence: Sentence = serde_json::from_value(check.take())?;
            *check = serde_json::to_value(typed(sentence))?;
        }
    }
    Ok(())
}

/// The one place where sentences are read: what version 1 wrote is fixed.
fn typed(sentence: Sentence) -> Check {
    let number = |text: &str| text.parse::<f64>().ok();
    let bound = |prefix: &str| sentence.must.strip_prefix(prefix).and_then(number);
    let bound = match (bound("at least "), bound("at most ")) {
        (Some(bound), _) => Some(Bound::AtLeast(bound)),
        (_, Some(bound)) => Some(Bound::AtMost(bound)),
        _ => None,
    };
    let (found, bound) = match (number(&sentence.found), bound) {
        (Some(found), Some(bound)) if sentence.what.contains("cosine") => {
            (Found::Cosine(found), bound)
        }
        (Some(found), Some(bound)) => (Found::Number(found), bound),
        _ => (Found::Words(sentence.found), Bound::Words(sentence.must)),
    };
    Check {
        id: CheckId::Version1,
        of: Some(sentence.what),
        prompt: sentence.prompt,
        found,
        bound,
        note: None,
        holds: sentence.holds,
    }
}
