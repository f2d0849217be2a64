//! Static rules over the bundles.

use crate::{
    Chain, Result,
    evidence::Evidence,
    lint::{Opened, opened_bundle},
};

/// Runs the lint.
pub fn run(chain: &Chain<'_>) -> Result<Evidence> {
    let mut evidence = Evidence::default();
    for bundle in [&chain.subject.decoder, &chain.subject.vision] {
        // Opening it, its hash was found to be the one that it states.
        let opened = Opened {
            asset: &bundle.asset,
            hash: bundle.asset.stated_hash,
        };
        let found = opened_bundle(&bundle.path, &[opened])?;
        let (count, name) = (found.len(), bundle.name());
        evidence.check(format!("findings in {name}"), None, count, "0", count == 0);
        evidence.findings.extend(found);
    }
    Ok(evidence)
}
