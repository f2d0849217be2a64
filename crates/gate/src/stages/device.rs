//! A transcript of an Apple device against the engine.

use std::path::Path;

use bundle::{AssetRole, Layout};

use crate::{
    Context, Error, Evidence, Result,
    device::{AssetId, DeviceTranscript, Fixture, Prompt, VERSION, judge},
};

/// Runs the stage.
pub fn run(context: &Context<'_>) -> Result<Evidence> {
    let settings = context.settings;
    if context.candidate.layout == Layout::Vlm {
        return Ok(Evidence::skip(
            "there is no fixture for bundles of the layout vlm yet: what a device answers with one \
             can be tried in Apple's package by hand",
        ));
    }
    if let (None, None) = (&settings.fixture, &settings.transcript) {
        return Ok(Evidence::skip(
            "no device's transcript was given (--transcript FILE); docs/run-contract.md says how a \
             Mac or an iPhone makes one",
        ));
    }
    let fixture = fixture(context)?;
    if let Some(path) = &settings.fixture {
        fixture.write(path)?;
    }
    let Some(path) = &settings.transcript else {
        return Ok(Evidence::skip(
            "the fixture is written; docs/run-contract.md says how a Mac or an iPhone answers it \
             with a transcript (--transcript FILE)",
        ));
    };
    let transcript = match &settings.iphone {
        None => DeviceTranscript::load(path)?,
        Some(iphone) => {
            let bundles: Vec<&Path> = context
                .candidate
                .bundles()
                .map(|bundle| bundle.path.as_path())
                .collect();
            let scratch = tempfile::tempdir();
            let scratch = scratch.map_err(|error| Error::option("iphone", error.to_string()))?;
            let asked = scratch.path().join("fixture.json");
            fixture.write(&asked)?;
            iphone.run(&bundles, &asked, path)?
        }
    };
    judge(&fixture, &transcript, path, context.gates.margin, |id| {
        context.text(id)
    })
}

/// What a host is asked.
fn fixture(context: &Context<'_>) -> Result<Fixture> {
    let bar = context.gates.device;
    let recorded = context.recorded()?.as_ref().ok();
    let prompts = context.answers()?.iter().map(|(asked, answer)| {
        let expected = answer.get(..bar.tokens).unwrap_or(answer);
        let entries = recorded.map_or(&[][..], |recorded| &recorded.prompts);
        let mut same = entries.iter().filter(|(entry, _)| entry.name == asked.name);
        let margins = same.next().map_or(&[][..], |(entry, recorded)| {
            // The oracle's margins are of its own tokens.
            let pairs = recorded.greedy_ids.iter().zip(expected);
            let alike = pairs
                .take_while(|(oracle, engine)| oracle == engine)
                .count();
            let margins = recorded.margins.get(entry.prompt_tokens - 1..);
            let margins = margins.unwrap_or_default();
            // One more: that of the first token where they are not alike.
            &margins[..margins.len().min(alike + 1).min(expected.len())]
        });
        Prompt::new(asked, expected, margins)
    });
    Ok(Fixture {
        version: VERSION,
        decoder: AssetId::of(context.candidate.asset(AssetRole::Main)?),
        vision: AssetId::of(context.candidate.asset(AssetRole::Vision)?),
        runs: bar.runs,
        prompts: prompts.collect(),
    })
}
