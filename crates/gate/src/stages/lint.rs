//! Static rules over the bundles.

use crate::transcript::{Bound, Check, CheckId, Found};
use crate::{
    Context, Result,
    evidence::Evidence,
    lint::{Opened, RULES, opened_bundle},
};

/// Runs the lint.
pub fn run(context: &Context<'_>) -> Result<Evidence> {
    let mut evidence = Evidence::default();
    for bundle in context.candidate.bundles() {
        // Opening them, their hashes were found to be those that they state.
        let opened = bundle.assets.iter().map(|(_, asset)| Opened {
            asset,
            hash: asset.stated_hash,
        });
        let opened: Vec<Opened<'_>> = opened.collect();
        let found = opened_bundle(&bundle.path, &opened)?;
        let count = Found::Count {
            count: found.len(),
            of: RULES.len(),
        };
        let check = Check::new(CheckId::LintFindings, None, count, Bound::None);
        evidence.check(check.of(bundle.name()));
        evidence.findings.extend(found);
    }
    Ok(evidence)
}
