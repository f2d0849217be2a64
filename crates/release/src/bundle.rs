//! The bundles of a release: what their metadata says, held to what they are.

mod decoder;
mod facts;
mod pipelined;
mod vlm;

use std::path::Path;

use ::bundle::{Layout, MANIFEST, TOKENIZER};
use checkpoint::TokenizerFiles;

pub use facts::Facts;

use self::facts::Checked;
use crate::{
    error::{Problems, Result},
    folder::Listing,
    names::BUNDLES,
    recipe::{Decoder, Recipe},
};

/// Opens the bundles of a release and holds them to the recipe and to each
/// other. Gives what they say, if all of it could be read; of the cache, what
/// pipelined ones say.
pub(crate) fn check(
    folder: &Path,
    listing: &Listing,
    recipe: &Recipe,
    problems: &mut Problems,
) -> Result<Option<Facts>> {
    let checked = Checked {
        folder,
        listing,
        recipe,
    };
    let decoders: Vec<Decoder> = recipe.decoders().collect();
    for bundles in BUNDLES {
        for (_, entry) in listing.below(bundles) {
            let known = belongs(&entry.path, recipe, &decoders);
            problems.unless(known, &entry.path, || {
                "belongs to no bundle of the recipe; a release holds nothing else".to_owned()
            });
        }
    }
    let encoder = pipelined::vision(checked, problems);
    let mut whole = encoder.is_some();
    let mut all: Vec<(&Decoder, Facts)> = Vec::new();
    for decoder in &decoders {
        let facts = match decoder.layout {
            Layout::Pipelined(_) => pipelined::facts(checked, decoder, problems)?,
            Layout::Vlm => vlm::facts(checked, decoder, problems)?,
        };
        whole &= facts.is_some();
        all.extend(facts.map(|facts| (decoder, facts)));
    }
    let is_pipelined = |(decoder, _): &&(&Decoder, Facts)| decoder.layout != Layout::Vlm;
    let (Some((first, facts)), Some(encoder)) = (all.iter().find(is_pipelined), encoder) else {
        return Ok(None);
    };
    for (decoder, found) in &all {
        let expected = facts.in_layout(decoder.layout);
        problems.unless(*found == expected, decoder.place(), || {
            format!(
                "says other things of itself than {} beside it gives: {found:?}, {expected:?}",
                first.name
            )
        });
    }
    encoder.fits(facts, &recipe.vision_place(), problems);
    Ok(whole.then(|| facts.clone()))
}

/// Whether a release may hold a file in its folders of bundles.
fn belongs(path: &str, recipe: &Recipe, decoders: &[Decoder]) -> bool {
    let below = |folder: &str| path.strip_prefix(folder)?.strip_prefix('/');
    let in_asset = |asset: &str| {
        let parts = [aimodel::PROGRAM, aimodel::HASH, aimodel::METADATA];
        below(asset).is_some_and(|part| parts.contains(&part))
    };
    let in_bundle = |decoder: &Decoder| {
        let tokenizer = below(&format!("{}/{TOKENIZER}", decoder.place()));
        below(&decoder.place()) == Some(MANIFEST)
            || tokenizer.is_some_and(|name| TokenizerFiles::NAMES.contains(&name))
            || decoder.assets().any(|(_, asset)| in_asset(&asset))
    };
    in_asset(&recipe.vision_asset()) || decoders.iter().any(in_bundle)
}
