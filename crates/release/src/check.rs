//! Whether a folder is a release: what it holds, and that all of it is true.

use std::path::Path;

use crate::{
    card,
    error::{Problems, Result},
    folder::{Listing, read_text},
    front_matter::FrontMatter,
    names,
    release::Release,
    sums,
};

/// No card is larger.
const MAX_BYTES: u64 = 1 << 20;

/// What may be uploaded: every file of a release that holds.
///
/// # Errors
/// [`crate::Error::Refused`] where a required gate is missing, failed, was skipped or
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
    /// [`crate::Error::Refused`] with everything that is wrong.
    pub fn open(folder: &Path) -> Result<Release> {
        let listing = Listing::read(folder)?;
        let mut problems = Problems::default();
        let stated = problems.take(read_text(folder, names::SUMS, sums::MAX_BYTES))?;
        if let Some(stated) = stated {
            sums::check(&stated, &listing, &mut problems)?;
        }
        let release = problems.take(Release::judge(folder, listing))?;
        let card = problems.take(read_text(folder, names::CARD, MAX_BYTES))?;
        if let (Some(release), Some(card)) = (&release, &card) {
            release.check_card(card, &mut problems)?;
        }
        let Some(release) = release else {
            return Err(problems.refusal());
        };
        problems.none()?;
        Ok(release)
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
