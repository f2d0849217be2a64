//! The loop that a host runs, with our runtime and with Core AI's own, on the
//! same bundle and from the same picture.

use bundle::AssetRole;

use crate::transcript::{Bound, Check, CheckId, Found, shortest};
use crate::{
    Answer, Answers, Context, CoreAi, Error, NamedPrompt, Result,
    evidence::{Evidence, tokens},
    transcript::{Axis, Measure, Series},
};

/// Bytes in a megabyte.
const MB: u64 = 1_000_000;

/// How many times what is little two runtimes may differ in by how much a token
/// leads: each rounds in its own way, and Core AI's sums f16 in f16. At 28
/// layers of random weights that is 0.07 (root mean square), 0.20 at most; a
/// token that something else was computed for is off by more than one.
const ROUNDING: f32 = 3.0;

/// Runs the stage.
pub fn run(context: &Context<'_>) -> Result<Evidence> {
    let bar = context.gates.engine;
    if context.settings.core_ai == CoreAi::Now
        && let Some(why) = too_large(context)?
    {
        return Ok(Evidence::skip(why));
    }
    let answers = context.answers()?;
    let asked: Vec<_> = answers.iter().map(|(asked, _)| asked.clone()).collect();
    let (expected, runtime) = match expected(context, &asked)? {
        Ok(found) => found,
        Err(why) => return Ok(Evidence::skip(why)),
    };
    let recorded = context.recorded()?.as_ref().ok();
    let mut evidence = Evidence::default();
    evidence.fact("Core AI", &runtime);
    let kept = context.kept.is_some();
    evidence.core_ai_recorded = Some(kept);
    if kept {
        evidence.note = Some(format!("what {runtime} answered was read from a file"));
    }
    for ((asked, actual), expected) in answers.iter().zip(&expected) {
        // The oracle's margins; where it has none, those of Core AI's runtime.
        let entry = recorded.and_then(|recorded| {
            let gated = recorded
                .prompts
                .iter()
                .filter(|_| recorded.oracle.steps > 0);
            gated
                .into_iter()
                .find(|(entry, _)| entry.name == asked.name)
        });
        let margins = entry.map_or(&expected.margins[..], |(entry, recorded)| {
            let first = entry.prompt_tokens - 1;
            recorded.margins.get(first..).unwrap_or_default()
        });
        let sides = [runtime.as_str(), "our loop"];
        let actual = actual.get(..bar.tokens).unwrap_or(actual);
        let both = [expected.tokens.as_slice(), actual];
        let margin = context.gates.margin;
        let mut rows = tokens("tokens", &asked.name, sides, both, margins, margin);
        if context.gates.steps == 0 {
            // Random weights: which token leads says little, by how much says all.
            rows.what = "tokens, each left to itself, which is not judged".to_owned();
            rows.forgiven = rows.divergence.is_some();
            evidence.show(rows, |id| context.text(id));
            follow(context, &mut evidence, asked, expected)?;
            continue;
        }
        let forgiven = rows.divergence.filter(|_| rows.forgiven);
        evidence.compare(rows, |id| context.text(id));
        if let Some(at) = forgiven {
            let behind = context.leads(asked, &expected.tokens[..=at])?[at];
            let max = ROUNDING * margin;
            evidence.check(Check::new(
                CheckId::ForgivenLead,
                Some(&asked.name),
                Found::Number(shortest(-behind)),
                Bound::AtMost(shortest(max)),
            ));
        }
    }
    let answered = expected.len();
    let all = context.gates.prompts.len();
    evidence.all(CheckId::Answered, None, answered, all);
    Ok(evidence)
}

/// Gives our engine the tokens of Core AI's runtime: each must lead as it does
/// there.
fn follow(
    context: &Context<'_>,
    evidence: &mut Evidence,
    asked: &NamedPrompt,
    expected: &Answer,
) -> Result<()> {
    let actual = context.leads(asked, &expected.tokens)?;
    let pairs = actual.iter().zip(&expected.margins);
    let apart: Vec<f32> = pairs
        .map(|(actual, expected)| (actual - expected).abs())
        .collect();
    let max = ROUNDING * context.gates.margin;
    // NaN is not within the bound.
    let within = apart.iter().filter(|apart| **apart <= max).count();
    let what = "lead of each of its tokens, our engine beside Core AI's: apart by";
    let found = Found::Count {
        count: within,
        of: expected.tokens.len(),
    };
    let check = Check::new(CheckId::Lead, Some(&asked.name), found, Bound::All);
    evidence.check(check.of(shortest(max).to_string()));
    evidence.series.push(Series {
        what: what.to_owned(),
        measure: Measure::Error,
        prompt: Some(asked.name.clone()),
        axis: Axis::Token,
        first: 0,
        step: 1,
        values: apart.into_iter().map(f64::from).collect(),
        bar: Some(f64::from(max)),
    });
    Ok(())
}

/// What Core AI's runtime answers to prompts, and which one it is; or why
/// nobody can say that.
fn expected(
    context: &Context<'_>,
    asked: &[NamedPrompt],
) -> Result<Result<(Vec<Answer>, String), String>> {
    let (candidate, tokens) = (context.candidate, context.gates.engine.tokens);
    if let (CoreAi::Kept(path), Some(kept)) = (&context.settings.core_ai, &context.kept) {
        let vocabulary = candidate.architecture.vocab_size();
        let answers = kept.to(asked, tokens, vocabulary, path)?;
        return Ok(Ok((answers, kept.runtime.clone())));
    }
    let found = context.tools.core_ai(candidate, asked, tokens)?;
    if let (CoreAi::Keep(path), Ok((answers, runtime))) = (&context.settings.core_ai, &found) {
        Answers::new(candidate, runtime.clone(), answers.clone())?.write(path)?;
    }
    Ok(found)
}

/// Why Core AI's runtime is not asked, if the decoder is larger than the set
/// asks it for.
fn too_large(context: &Context<'_>) -> Result<Option<String>> {
    let main = context.candidate.asset(AssetRole::Main)?;
    let path = main.dir.join(aimodel::PROGRAM);
    let size = match std::fs::metadata(&path) {
        Ok(about) => about.len(),
        Err(source) => return Err(Error::File { path, source }),
    };
    let max = context.gates.engine.max_mb;
    Ok((size > max.saturating_mul(MB)).then(|| {
        format!(
            "Core AI's runtime takes up to minutes a token on a processor for a decoder of {} MB; \
             the set {} asks it for at most {max} MB, and --ask-core-ai FILE asks all the same",
            size.div_ceil(MB),
            context.gates.name
        )
    }))
}
