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
    for bundle in [&context.candidate.decoder, &context.candidate.vision] {
        // Opening it, its hash was found to be the one that it states.
        let opened = Opened {
            asset: &bundle.asset,
            hash: bundle.asset.stated_hash,
        };
        let found = opened_bundle(&bundle.path, &[opened])?;
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
