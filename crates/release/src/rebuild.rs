//! Whether the checkpoint gives the same bytes again.

use std::path::Path;

use ::bundle::{Layout, TOKENIZER};
use checkpoint::{Source, TokenizerFiles};
use export::Options;

use crate::{
    bundle::Facts,
    error::{Problems, Result},
    folder::{Entry, Listing},
    names,
    recipe::Recipe,
    release::Release,
};

/// How to export a recipe's bundles: one export for each mode of each layout. The
/// first gives the vision encoder beside pipelined bundles, too.
pub fn exports(recipe: &Recipe, created: u64) -> Vec<Options> {
    let options = |mode, layouts: Vec<Layout>, max_context, vision| Options {
        recipe: mode,
        layouts,
        grid: recipe.grid,
        max_context,
        decoder: true,
        vision,
        name: None,
        license: Some(recipe.stated_license().to_owned()),
        created,
    };
    let pipelined = recipe.modes.iter().enumerate().map(|(index, mode)| {
        let layouts = recipe.queries.iter().copied().map(Layout::Pipelined);
        options(*mode, layouts.collect(), recipe.max_context, index == 0)
    });
    let vlm = recipe.vlm.iter().flat_map(|vlm| &vlm.modes);
    let vlm = vlm.map(|mode| {
        let decoder = recipe.decoder(mode, Layout::Vlm);
        options(*mode, vec![decoder.layout], decoder.max_context, false)
    });
    pipelined.chain(vlm).collect()
}

/// Holds a release to bundles that were exported anew into `exports`.
///
/// # Errors
/// [`crate::Error::Refused`] with each file that is another.
pub fn differences(release: &Release, exports: &Path) -> Result<()> {
    let (recipe, facts) = (&release.given.recipe, &release.facts);
    let mut problems = Problems::default();
    let bundles = recipe.decoders().map(|decoder| {
        let place = decoder.place();
        (decoder.name, place)
    });
    for (name, place) in bundles.chain([(recipe.vision(), recipe.vision_place())]) {
        let anew = Listing::read(&exports.join(&name))?;
        for (path, entry) in release.listing.below(&place) {
            let found = anew.get(path);
            problems.unless(
                found.is_some_and(|found| found.sha256 == entry.sha256),
                &entry.path,
                || differs(entry, found, facts),
            );
        }
        for entry in &anew.files {
            let path = format!("{place}/{}", entry.path);
            problems.unless(release.listing.get(&path).is_some(), &path, || {
                "is not in the folder, and the checkpoint gives it".to_owned()
            });
        }
    }
    let notice = recipe.notice(facts.revision.as_deref(), &facts.producer);
    let hash = fsutil::sha256(notice.as_bytes());
    let found = release.listing.get(names::NOTICE);
    problems.unless(
        found.is_some_and(|found| found.sha256 == hash),
        names::NOTICE,
        || "is not what the recipe and the bundles give".to_owned(),
    );
    problems.none()
}

fn differs(entry: &Entry, found: Option<&Entry>, facts: &Facts) -> String {
    let Some(found) = found else {
        return "is in the folder, and the checkpoint does not give it".to_owned();
    };
    format!(
        "its SHA-256 is {}, and the checkpoint gives {}; the bundles were made by {}",
        entry.sha256, found.sha256, facts.producer
    )
}

impl Release {
    /// Holds a release to a checkpoint without exporting it: the digest of its
    /// weights, and the tokenizer's files.
    ///
    /// # Errors
    /// [`crate::Error::Refused`] with what is of another checkpoint, or a
    /// checkpoint that is not whole.
    pub fn check_source(&self, source: &Source) -> Result<()> {
        let mut problems = Problems::default();
        let recipe = &self.given.recipe;
        let architecture = models::open(source)?;
        let digest = models::open_weights(source, architecture.as_ref())?.digest();
        for evidence in &self.evidence {
            let stated = &evidence.transcript.model.checkpoint;
            problems.unless(*stated == digest, &evidence.path, || {
                format!(
                    "is about a checkpoint with the digest {stated}, and {} has {digest}",
                    source.place()
                )
            });
        }
        let files = TokenizerFiles::load(source)?;
        for decoder in recipe.decoders() {
            let place = format!("{}/{TOKENIZER}", decoder.place());
            let expected = architecture.tokenizer_files(files.clone(), decoder.layout)?;
            for (name, bytes) in &expected.files {
                let path = format!("{place}/{name}");
                let hash = fsutil::sha256(bytes);
                let found = self.listing.get(&path);
                problems.unless(
                    found.is_some_and(|found| found.sha256 == hash),
                    &path,
                    || "is not what the checkpoint gives".to_owned(),
                );
            }
            for (name, entry) in self.listing.below(&place) {
                let known = expected.files.iter().any(|(known, _)| *known == name);
                problems.unless(known, &entry.path, || {
                    "is not a file of the checkpoint's tokenizer".to_owned()
                });
            }
        }
        problems.none()
    }
}
