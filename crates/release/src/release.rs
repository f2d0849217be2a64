//! A release as it was read: its files, and what they say.

use std::path::Path;

use gate::Gates;

use crate::{
    bundle::{self, Facts},
    error::{Error, Problems, Result},
    evidence::{self, Evidence},
    folder::{Listing, read_text},
    licence, names,
    recipe::{self, Given, Recipe},
};

/// A folder that was checked.
#[derive(Clone, Debug)]
pub struct Release {
    /// Its files.
    pub listing: Listing,
    /// What it was made from, with the texts that travel with it.
    pub given: Given,
    /// The thresholds that applied.
    pub gates: Gates,
    /// What its bundles say of themselves.
    pub facts: Facts,
    /// Its transcripts, those of the decoder to use first.
    pub evidence: Vec<Evidence>,
}

impl Release {
    /// Everything but `SHA256SUMS` and the card, which are made from it.
    pub(crate) fn judge(folder: &Path, listing: Listing) -> Result<Release> {
        let mut problems = Problems::default();
        for entry in &listing.files {
            problems.unless(names::is_known(&entry.path), &entry.path, || {
                "is not a file of a release, which holds nothing else".to_owned()
            });
        }
        // Nothing else can be said without these two.
        let text = read_text(folder, names::RECIPE, recipe::MAX_BYTES);
        let recipe = text.and_then(|text| {
            let recipe = as_problem(names::RECIPE, Recipe::parse(&text))?;
            Ok((text, recipe))
        });
        let Some((text, recipe)) = problems.take(recipe)? else {
            return Err(problems.refusal());
        };
        let gates = read_text(folder, names::GATES, recipe::MAX_BYTES);
        let gates = gates.and_then(|text| {
            let parsed = Gates::parse(&recipe.gates, &text).map_err(Error::from);
            as_problem(names::GATES, parsed)
        });
        let Some(gates) = problems.take(gates)? else {
            return Err(problems.refusal());
        };
        let facts = bundle::check(folder, &listing, &recipe, &mut problems)?;
        let evidence = evidence::check(
            folder,
            &listing,
            &recipe,
            &gates,
            facts.as_ref(),
            &mut problems,
        )?;
        let license = read_text(folder, names::LICENSE, licence::MAX_BYTES);
        let license = problems.take(license)?;
        let known = licence::text(&recipe.license);
        if let (Some(found), Some(known)) = (&license, known) {
            problems.unless(
                recipe.license_file.is_some() || found == known,
                names::LICENSE,
                || format!("is not the text of {}", recipe.license),
            );
        }
        if let Some(facts) = &facts {
            let pinned = recipe.commit();
            let kept = pinned.is_none() || pinned == facts.revision.as_deref();
            problems.unless(kept, names::RECIPE, || {
                format!(
                    "pins revision {pinned:?}, and the bundles state {:?}",
                    facts.revision
                )
            });
            let expected = recipe.notice(facts.revision.as_deref(), &facts.producer);
            if let Some(found) = problems.take(read_text(folder, names::NOTICE, 1 << 16))? {
                problems.unless(found == expected, names::NOTICE, || {
                    "is not what the recipe and the bundles give".to_owned()
                });
            }
        }
        let (Some(facts), Some(license)) = (facts, license) else {
            return Err(problems.refusal());
        };
        problems.none()?;
        Ok(Release {
            listing,
            given: Given {
                recipe,
                text,
                license,
            },
            gates,
            facts,
            evidence,
        })
    }
}

/// What is wrong with a file of the folder is a problem of it.
fn as_problem<T>(file: &str, result: Result<T>) -> Result<T> {
    result.map_err(|error| {
        let message = match error {
            Error::Input { problem, .. } => problem,
            other => other.to_string(),
        };
        let mut problems = Problems::default();
        problems.add(file, message);
        problems.refusal()
    })
}
