//! The loop that a host runs, with our runtime and with Core AI's own, on the
//! same bundle and from the same picture.

use crate::{
    Answers, Chain, Error, Result,
    evidence::{Evidence, tokens},
};

/// Bytes in a megabyte.
const MB: u64 = 1_000_000;

/// Runs the stage.
pub fn run(chain: &Chain<'_>) -> Result<Evidence> {
    let (subject, bar) = (chain.subject, chain.gates.engine);
    let file = chain.settings.core_ai.as_deref();
    if file.is_none()
        && let Some(why) = too_large(chain)?
    {
        return Ok(Evidence::skip(why));
    }
    let answers = chain.answers()?;
    let asked: Vec<_> = answers.iter().map(|(asked, _)| asked.clone()).collect();
    let mut evidence = Evidence::default();
    let (theirs, runtime) = match file.filter(|file| file.exists()) {
        Some(file) => {
            let found = Answers::load(file)?;
            let runtime = found.runtime.clone();
            evidence.note = Some(format!("what {runtime} answered was read from a file"));
            (found.of(subject, &asked, bar.tokens, file)?, runtime)
        }
        None => {
            let (theirs, runtime) = match chain.outside.core_ai(subject, &asked, bar.tokens)? {
                Ok(found) => found,
                Err(why) => return Ok(Evidence::skip(why)),
            };
            if let Some(file) = file {
                Answers::new(subject, runtime.clone(), theirs.clone()).write(file)?;
            }
            (theirs, runtime)
        }
    };
    let recorded = chain.recorded()?.as_ref().ok();
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

/// Why Core AI's runtime is not asked, if the decoder is larger than the set
/// asks it for.
fn too_large(chain: &Chain<'_>) -> Result<Option<String>> {
    let path = chain.subject.decoder.asset.dir.join(aimodel::PROGRAM);
    let size = match std::fs::metadata(&path) {
        Ok(about) => about.len() / MB,
        Err(source) => return Err(Error::File { path, source }),
    };
    let most = chain.gates.engine.largest_mb;
    Ok((size > most).then(|| {
        format!(
            "Core AI's runtime takes up to minutes a token on a processor for a decoder of {size} \
             MB; the set {} asks it for at most {most} MB, and --core-ai FILE asks all the same",
            chain.gates.name
        )
    }))
}
