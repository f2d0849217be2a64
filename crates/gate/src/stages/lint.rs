//! Static rules over the bundles.

use crate::{Chain, Result, evidence::Evidence};

/// Runs the lint.
pub fn run(chain: &Chain<'_>) -> Result<Evidence> {
    let mut evidence = Evidence::default();
    for bundle in [&chain.subject.decoder, &chain.subject.vision] {
        let found = crate::lint::bundle(&bundle.path)?;
        let (count, name) = (found.len(), bundle.name());
        evidence.check(format!("findings in {name}"), None, count, "0", count == 0);
        evidence.findings.extend(found);
    }
    Ok(evidence)
}
