//! The loop that a host runs, with our runtime and with Core AI's own, on the
//! same bundle and from the same picture.

use crate::{
    Chain, Result,
    evidence::{Evidence, tokens},
};

/// Bytes in a megabyte.
const MB: u64 = 1_000_000;

/// Runs the stage.
pub fn run(chain: &Chain<'_>) -> Result<Evidence> {
    let (subject, bar) = (chain.subject, chain.gates.engine);
    let program = subject.decoder.asset.dir.join(aimodel::PROGRAM);
    let size = std::fs::metadata(&program).map_err(|source| crate::Error::File {
        path: program,
        source,
    })?;
    if size.len() / MB > bar.largest_mb {
        return Ok(Evidence::skip(format!(
            "Core AI's runtime takes minutes a token on a processor for a decoder of {} MB; the \
             set {} asks it for at most {} MB",
            size.len() / MB,
            chain.gates.name,
            bar.largest_mb
        )));
    }
    let answers = chain.answers()?;
    let asked: Vec<_> = answers.iter().map(|(asked, _)| asked.clone()).collect();
    let (theirs, runtime) = match chain.outside.core_ai(subject, &asked, bar.tokens)? {
        Ok(found) => found,
        Err(why) => return Ok(Evidence::skip(why)),
    };
    let recorded = chain.recorded()?.as_ref().ok();
    let mut evidence = Evidence::default();
    evidence.fact("Core AI", &runtime);
    for ((asked, ours), theirs) in answers.iter().zip(&theirs) {
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
        let margins = entry.map_or(&theirs.margins[..], |(entry, recorded)| {
            let first = entry.prompt_tokens - 1;
            recorded.margins.get(first..).unwrap_or_default()
        });
        let sides = [runtime.as_str(), "our loop"];
        let ours = ours.get(..bar.tokens).unwrap_or(ours);
        let both = [theirs.tokens.as_slice(), ours];
        let rows = tokens(
            "tokens",
            &asked.name,
            sides,
            both,
            margins,
            chain.gates.margin,
        );
        evidence.compare(rows, |id| chain.text(id));
    }
    let answered = theirs.len();
    let all = chain.gates.prompts.len();
    evidence.check(
        "prompts that Core AI answered",
        None,
        answered,
        all.to_string(),
        answered == all,
    );
    Ok(evidence)
}
