//! Whether a folder is a release: what it holds, and that all of it is true.

use std::path::Path;

use gate::Gates;

use crate::{
    Error, Evidence, Given, Listing, Recipe, Result,
    bundle::{self, Facts},
    card,
    error::Problems,
    evidence,
    folder::read_text,
    front_matter::FrontMatter,
    licence, names, recipe, sums,
};

/// No card is larger.
const LARGEST_CARD: u64 = 1 << 20;

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

/// What `--push` would upload: every file of a release that holds.
///
/// # Errors
/// [`Error::Refused`] where a required gate is missing, failed, was skipped or
/// judged other bytes than the folder holds, and where anything else in the
/// folder is not as `release` wrote it.
pub fn check_for_push(folder: &Path) -> Result<Listing> {
    Ok(Release::open(folder)?.listing)
}

impl Release {
    /// Opens a published folder and checks all that the folder itself can show:
    /// hashes, metadata, transcripts against bundles, and that the card is what
    /// the evidence gives.
    ///
    /// # Errors
    /// [`Error::Refused`] with everything that is wrong.
    pub fn open(folder: &Path) -> Result<Release> {
        let listing = Listing::read(folder)?;
        let mut problems = Problems::default();
        let stated = problems.take(read_text(folder, names::SUMS, sums::MAX_BYTES))?;
        if let Some(stated) = stated {
            sums::check(&stated, &listing, &mut problems)?;
        }
        let release = problems.take(Release::judge(folder, listing))?;
        let card = problems.take(read_text(folder, names::CARD, LARGEST_CARD))?;
        if let (Some(release), Some(card)) = (&release, &card) {
            release.check_card(card, &mut problems)?;
        }
        let Some(release) = release else {
            return Err(problems.refusal());
        };
        problems.none()?;
        Ok(release)
    }

    /// Everything but `SHA256SUMS` and the card, which are made from it.
    pub(crate) fn judge(folder: &Path, listing: Listing) -> Result<Release> {
        let mut problems = Problems::default();
        for entry in &listing.files {
            problems.unless(names::is_known(&entry.path), &entry.path, || {
                "is no file of a release, which holds nothing else".to_owned()
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
            let expected = licence::notice(&recipe, facts.revision.as_deref(), &facts.producer);
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

    /// Whether a card is the one that the evidence gives, and has what the hub
    /// wants.
    fn check_card(&self, found: &str, problems: &mut Problems) -> Result<()> {
        let expected = card::render(self)?;
        if found != expected {
            let mut lines = (1..).zip(found.lines().zip(expected.lines()));
            let differs = lines.find(|(_, (found, expected))| found != expected);
            let message = match differs {
                Some((number, (found, expected))) => format!(
                    "line {number} is not what the evidence gives: found {found:.300?}, expected \
                     {expected:.300?}; the card is generated, not written"
                ),
                None => format!(
                    "has {} bytes, and the evidence gives {}; the card is generated, not written",
                    found.len(),
                    expected.len()
                ),
            };
            problems.add(names::CARD, message);
            return Ok(());
        }
        let front = FrontMatter::of_card(found).map_err(|why| vec![why]);
        if let Err(wrong) = front.and_then(|front| front.check()) {
            for why in wrong {
                problems.add(names::CARD, why);
            }
        }
        Ok(())
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
