//! Whether what transformers recorded is of this checkpoint, and can serve.
//!
//! Where Python has transformers, it is recorded anew, and a recorded one that
//! is there must say the same.

use reference::cosine;

use crate::transcript::{Bound, Check, CheckId, Found, shortest};
use crate::{
    Context, Outcome, Recording, Recordings, Result,
    evidence::Evidence,
    transcript::{Axis, Measure, Series},
};

/// Two recordings of one checkpoint: other versions of torch sum in another
/// order, and no more.
const SAME: f64 = 0.999_999;

/// Runs the stage.
pub fn run(context: &Context<'_>) -> Result<Evidence> {
    let folder = &context.settings.oracle;
    let there = folder.join("index.json").exists();
    let request = Recording {
        candidate: context.candidate,
        gates: context.gates,
        root: &context.settings.root,
    };
    let mut evidence = Evidence::default();
    let refused = |evidence: &mut Evidence, why: String| {
        let bound = Bound::Words("one that can serve".to_owned());
        evidence.check(Check::new(
            CheckId::OracleUsable,
            None,
            Found::Words(why),
            bound,
        ));
    };
    if !there {
        match context.tools.record(&request, folder)? {
            Outcome::Done => evidence.fact("recorded", "now"),
            Outcome::Refused(why) => {
                refused(&mut evidence, why);
                return Ok(evidence);
            }
            Outcome::Unavailable(why) => {
                let none = context.recorded()?.as_ref().err();
                let none = none.map_or_else(String::new, |none| format!("{}; ", none.why));
                return Ok(Evidence::skip(format!("{none}{why}")));
            }
        }
    } else {
        let scratch = tempfile_beside(folder)?;
        let anew = scratch.path().join("oracle");
        match context.tools.record(&request, &anew)? {
            Outcome::Unavailable(why) => {
                evidence.fact("recorded", format!("before; not again: {why}"));
            }
            Outcome::Refused(why) => refused(&mut evidence, why),
            Outcome::Done => {
                let (before, now) = (context.read(folder)?, context.read(&anew)?);
                if let (Ok(before), Ok(now)) = (&before, &now) {
                    compare(&mut evidence, before, now);
                }
                if let Err(none) = before {
                    refused(&mut evidence, none.why);
                }
                evidence.fact("recorded", "before, and again now");
                context.set_recorded(now);
            }
        }
    }
    let recordings = match context.recorded()? {
        Ok(recordings) => recordings,
        Err(none) if none.refused => {
            refused(&mut evidence, none.why.clone());
            return Ok(evidence);
        }
        Err(none) => return Ok(Evidence::skip(&none.why)),
    };
    let oracle = &recordings.oracle;
    evidence.fact("transformers", &oracle.transformers);
    evidence.fact("checkpoint", &oracle.checkpoint);
    for (entry, recorded) in &recordings.prompts {
        let first = entry.prompt_tokens - 1;
        let gated = &recorded.margins[first..];
        let min = gated.iter().copied().fold(f32::INFINITY, f32::min);
        let bound = if oracle.steps == 0 {
            Bound::Any
        } else {
            Bound::AtLeast(shortest(context.gates.margin))
        };
        let found = Found::Number(shortest(min));
        let name = Some(entry.name.as_str());
        evidence.check(Check::new(CheckId::OracleMargin, name, found, bound));
        evidence.series.push(Series {
            what: "margin of the best token".to_owned(),
            measure: Measure::Margin,
            prompt: Some(entry.name.clone()),
            axis: Axis::Position,
            first: 0,
            step: 1,
            values: recorded.margins.iter().map(|m| f64::from(*m)).collect(),
            bar: (oracle.steps > 0).then_some(f64::from(context.gates.margin)),
        });
        evidence.fact(&format!("{}: answer", entry.name), &entry.greedy_text);
    }
    Ok(evidence)
}

fn compare(evidence: &mut Evidence, before: &Recordings, now: &Recordings) {
    for (entry, recorded) in &now.prompts {
        let old = before
            .prompts
            .iter()
            .find(|(old, _)| old.name == entry.name);
        let Some((_, old)) = old else {
            continue;
        };
        let same = old.greedy_ids == recorded.greedy_ids && old.input_ids == recorded.input_ids;
        let found = Found::Words(if same { "the same" } else { "others" }.to_owned());
        let bound = Bound::Words("the same".to_owned());
        let name = Some(entry.name.as_str());
        evidence.check(Check::new(CheckId::OracleTokens, name, found, bound));
        let (old, now) = (old.logits.flatten(), recorded.logits.flatten());
        let close = cosine(old.view(), now.view());
        evidence.cosine(CheckId::OracleLogits, None, name, close, SAME);
    }
}

fn tempfile_beside(folder: &std::path::Path) -> Result<tempfile::TempDir> {
    let parent = folder.parent().unwrap_or(std::path::Path::new("."));
    tempfile::Builder::new()
        .prefix(".oracle-")
        .tempdir_in(parent)
        .map_err(|source| crate::Error::File {
            path: parent.to_owned(),
            source,
        })
}
