//! A transcript of an Apple device against the engine.

use crate::{Chain, Result, evidence::Evidence};

/// Runs the stage.
pub fn run(chain: &Chain<'_>) -> Result<Evidence> {
    let Some(_transcript) = &chain.settings.transcript else {
        return Ok(Evidence::skip(
            "no device's transcript was given (--transcript FILE); docs/run-contract.md says how a \
             Mac or an iPhone makes one",
        ));
    };
    Ok(Evidence::skip("to be merged"))
}
