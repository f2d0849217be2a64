//! What a bundle says of itself, and the assets that it is read from.

use std::path::Path;

use aimodel::{Asset, Parameter};
use bundle::{Layout, PictureGeometry};

use crate::{error::Problems, folder::Listing, recipe::Recipe};

/// Layers of the cache that a decoder of the layout `vlm` has beside the model's:
/// it keeps marks there.
const MARK_LAYERS: u64 = 1;

/// What the bundles of a release say of themselves, all of them alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// What made them.
    pub producer: String,
    /// When, in seconds since the start of 1970: not the clock's.
    pub created: u64,
    /// The commit of the checkpoint on the hub.
    pub revision: Option<String>,
    /// How pictures are cut, and what of them the decoders take.
    pub geometry: PictureGeometry,
    /// Tokens that there are.
    pub vocabulary: u64,
    /// Those that end an answer, as the tokenizer's files say.
    pub stop_tokens: Vec<u32>,
    /// Layers, and key-value heads, and their size: of the cache.
    pub cache: [u64; 3],
}

impl Facts {
    /// What a bundle of this layout says where a pipelined one says these.
    pub(super) fn in_layout(&self, layout: Layout) -> Facts {
        let [layers, heads, size] = self.cache;
        Facts {
            geometry: self.geometry.clone().for_layout(layout),
            cache: match layout {
                Layout::Pipelined(_) => self.cache,
                Layout::Vlm => [layers + MARK_LAYERS, heads, size],
            },
            ..self.clone()
        }
    }
}

/// What is checked.
#[derive(Clone, Copy)]
pub(super) struct Checked<'a> {
    pub folder: &'a Path,
    pub listing: &'a Listing,
    pub recipe: &'a Recipe,
}

/// Opens the asset in this folder of the release; what is wrong with it is a
/// problem.
pub(super) fn asset(checked: Checked<'_>, place: &str, problems: &mut Problems) -> Option<Asset> {
    let Checked {
        folder,
        listing,
        recipe,
    } = checked;
    let program = format!("{place}/{}", aimodel::PROGRAM);
    let Some(entry) = listing.get(&program) else {
        problems.add(program, "is missing; export the bundle again");
        return None;
    };
    // SAFETY: a check only reads the release; the README asks of the user that
    // nobody else writes into it meanwhile.
    let opened = unsafe { aimodel::open_asset_mmap(folder.join(place)) };
    let asset = match opened {
        Ok(asset) => asset,
        Err(error) => {
            problems.add(place, without_prefix(error.to_string(), folder));
            return None;
        }
    };
    let stated = hex::encode(asset.stated_hash);
    problems.unless(stated == entry.sha256, &program, || {
        format!(
            "its SHA-256 is {}, and {} beside it states {stated}; fetch or export it again",
            entry.sha256,
            aimodel::HASH
        )
    });
    let license = asset.metadata.license.as_deref();
    let expected = recipe.stated_license();
    if license != Some(expected) {
        let message = format!(
            "states the licence {license:?}, and the recipe {expected:?}; export it with that \
             `license`"
        );
        problems.add_of_option("license", place, message);
    }
    Some(asset)
}

/// A message about the place in the release, wherever the folder lies.
pub(super) fn without_prefix(message: String, folder: &Path) -> String {
    message.replace(&folder.join("").display().to_string(), "")
}

/// What made an asset, and when.
pub(super) fn origin(asset: &Asset, place: &str, problems: &mut Problems) -> Option<(String, u64)> {
    let found = asset
        .metadata
        .producer
        .clone()
        .zip(asset.metadata.created());
    if found.is_none() {
        problems.add(place, "its metadata states no producer or no date");
    }
    found
}

/// The extents of a value of a function; `None` in it where it is not fixed.
pub(super) fn sizes(list: &[Parameter], name: &str) -> Option<Vec<Option<u64>>> {
    let found = list.iter().find(|value| value.name == name)?;
    let dims = found.ty.dims.iter();
    Some(dims.map(|dim| dim.known()).collect())
}
