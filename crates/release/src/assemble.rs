//! Makes the folder.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    path::Path,
};

use fsutil::StagedDir;
use gate::Transcript;

use crate::{
    card,
    error::{Error, Problems, Result},
    evidence,
    folder::Listing,
    names, path,
    recipe::Given,
    release::Release,
    sums,
};

/// What a release is made from.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// The recipe.
    pub given: &'a Given,
    /// The text of the set of gates that it names.
    pub gates: &'a str,
    /// The folder that holds its bundles.
    pub exports: &'a Path,
    /// What the gates found.
    pub transcripts: &'a [Transcript],
}

/// Makes a release: a new folder `out`, which appears whole or not at all. It
/// is checked as [`Release::open`] does before it appears.
///
/// # Errors
/// [`Error::Refused`] where a required gate is missing, failed, was skipped or
/// judged other bytes; `out` exists; or the disk refuses.
pub fn assemble(parts: &Parts<'_>, out: &Path) -> Result<Release> {
    let Given {
        recipe,
        text,
        license,
    } = parts.given;
    let staged = StagedDir::create(out)?;
    let bundles = recipe.decoders().map(|decoder| {
        let place = decoder.place();
        (decoder.name, place)
    });
    for (name, place) in bundles.chain([(recipe.vision(), recipe.vision_place())]) {
        copy(&parts.exports.join(name), &staged, &place)?;
    }
    staged.write_file(names::RECIPE, text.as_bytes())?;
    staged.write_file(names::GATES, parts.gates.as_bytes())?;
    staged.write_file(names::LICENSE, license.as_bytes())?;
    let mut names = BTreeSet::new();
    for transcript in parts.transcripts {
        let name = format!("{}/{}", names::TRANSCRIPTS, evidence::file_name(transcript));
        // Somebody else may have written what it is called after.
        let mut problems = Problems::default();
        if let Err(why) = path::check(&name) {
            problems.add(format!("{name:?}"), why);
        }
        problems.unless(names.insert(name.clone()), &name, || {
            "two of the transcripts are about this decoder on this device".to_owned()
        });
        problems.none()?;
        staged.write_file(&name, evidence::publish(transcript)?.as_bytes())?;
    }
    // SAFETY: the folder is staged: this process made it under a name of its
    // own, its files are whole, and the map ends with this statement.
    let opened = unsafe { aimodel::open_asset_mmap(staged.path().join(recipe.vision_asset())) };
    let producer = opened?.metadata.producer;
    let revision = parts.transcripts.first();
    let revision = revision.and_then(|first| first.model.revision.as_deref());
    let notice = recipe.notice(revision, producer.as_deref().unwrap_or_default());
    staged.write_file(names::NOTICE, notice.as_bytes())?;

    let mut listing = Listing::read(staged.path())?;
    staged.write_file(names::SUMS, sums::write(&listing).as_bytes())?;
    let mut release = Release::judge(staged.path(), listing.clone())?;
    staged.write_file(names::CARD, card::render(&release)?.as_bytes())?;
    for file in [names::SUMS, names::CARD] {
        listing.add(staged.path(), file)?;
    }
    release.listing = listing;
    staged.commit()?;
    Ok(release)
}

/// Copies a bundle's folder, of plain files alone.
fn copy(from: &Path, staged: &StagedDir, to: &str) -> Result<()> {
    if !from.is_dir() {
        return Err(Error::input(
            from.display(),
            "there is no such bundle; export it first, or say where it is",
        ));
    }
    for path in Listing::paths(from)? {
        let target = staged.path().join(to).join(&path);
        let write = || {
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent)?;
            }
            let mut source = File::open(from.join(&path))?;
            io::copy(&mut source, &mut File::create_new(&target)?)
        };
        write().map_err(|error| staged.failed(format!("{to}/{path}"), error))?;
    }
    Ok(())
}
