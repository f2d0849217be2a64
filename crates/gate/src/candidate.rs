//! What is judged: exported bundles, and the checkpoint that they claim to be.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use aimodel::Asset;
use bundle::{AssetRole, BundleName, Layout, Manifest, PictureGeometry, asset_name};
use checkpoint::{Checkpoint, Source};
use models::Architecture;
use quantize::Recipe;

use crate::{Error, Result, transcript::Bundle};

/// A decoder bundle, its vision encoder, and their checkpoint.
pub struct Candidate {
    /// Where the checkpoint comes from.
    pub source: Source,
    /// What its `config.json` describes.
    pub architecture: Arc<dyn Architecture>,
    /// Its weights.
    pub checkpoint: Arc<Checkpoint>,
    /// How the decoder stores weights, as its name and its metadata say.
    pub recipe: &'static Recipe,
    /// Which assets the decoder's bundle has, and how many tokens a call takes.
    pub layout: Layout,
    /// How pictures are cut, as the manifest states it.
    pub geometry: PictureGeometry,
    /// The decoder's bundle.
    pub decoder: Exported,
    /// The vision encoder's.
    pub vision: Exported,
}

/// A folder that `export` wrote.
pub struct Exported {
    /// The folder.
    pub path: PathBuf,
    /// The program in it, mapped.
    pub asset: Asset,
    /// Its files, hashed as they lay on the disk when it was opened.
    pub files: Bundle,
}

impl Exported {
    /// Opens the bundle of a decoder, with the asset that its manifest names,
    /// and hashes all of its folder.
    ///
    /// # Errors
    /// There is no such folder, a manifest that cannot be used, an asset that
    /// cannot be read, or one whose program has another hash than it states.
    fn decoder(path: &Path) -> Result<(Exported, Manifest)> {
        check_folder(path)?;
        let manifest = Manifest::load(path)?;
        let name = manifest.asset(AssetRole::Main).unwrap_or_default();
        Ok((Exported::open(path, name)?, manifest))
    }

    /// Opens the folder of a vision encoder, which has no manifest: its asset is
    /// called as the folder. Hashes all of it.
    ///
    /// # Errors
    /// There is no such folder, an asset that cannot be read, or one whose
    /// program has another hash than it states.
    fn vision(path: &Path) -> Result<Exported> {
        check_folder(path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Exported::open(path, &asset_name(&name))
    }

    /// Opens one asset of a folder, and hashes all of the folder.
    fn open(path: &Path, asset_name: &str) -> Result<Exported> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.into_owned();
        let asset = aimodel::open_asset(path.join(asset_name))?;
        let files = fsutil::sha256_of_folder(path)?;
        let program = format!("{asset_name}/{}", aimodel::PROGRAM);
        let (stated, found) = (hex::encode(asset.stated_hash), files.get(&program));
        if found != Some(&stated) {
            return Err(Error::input(
                path.join(&program).display(),
                format!(
                    "its SHA-256 is {}, but {} beside it states {stated}; the file is damaged or \
                     was changed, so fetch or export it again",
                    found.map_or("unknown", String::as_str),
                    aimodel::HASH
                ),
            ));
        }
        Ok(Exported {
            path: path.to_owned(),
            files: Bundle { name, files },
            asset,
        })
    }

    /// The folder's name.
    pub fn name(&self) -> &str {
        &self.files.name
    }
}

impl Candidate {
    /// Opens the bundles that `export` made of a model: below `exports`, named
    /// after `name`, `recipe` and `layout`.
    ///
    /// # Errors
    /// A checkpoint or bundle that is missing or not whole; one whose inputs are
    /// not those of the graph contract; or a layout other than
    /// [`Layout::Pipelined`].
    pub fn open(
        source: Source,
        exports: &Path,
        name: &str,
        recipe: &'static Recipe,
        layout: Layout,
    ) -> Result<Candidate> {
        // The stages drive a decoder of token ids and a vision encoder beside it.
        if !matches!(layout, Layout::Pipelined(_)) {
            let problem = format!("the gates judge pipelined bundles, found {layout}");
            return Err(Error::option("layout", problem));
        }
        let architecture = models::open(&source)?;
        let checkpoint = models::open_weights(&source, architecture.as_ref())?;
        architecture.check(&checkpoint)?;
        let decoder = BundleName {
            model: name.to_owned(),
            recipe: recipe.to_string(),
            layout,
        };
        let vision = decoder.vision();
        let (decoder, vision) = rayon::join(
            || Exported::decoder(&exports.join(decoder.to_string())),
            || Exported::vision(&exports.join(vision.to_string())),
        );
        let ((decoder, manifest), vision) = (decoder?, vision?);
        let geometry = manifest.geometry()?;
        Ok(Candidate {
            source,
            architecture,
            checkpoint,
            recipe,
            layout,
            geometry,
            decoder,
            vision,
        })
    }
}

/// Refuses a folder that is not there; says which bundles are.
fn check_folder(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().unwrap_or(Path::new(""));
    // A folder that cannot be read has none, for this message.
    let bundles = bundle::bundles_in(parent).unwrap_or_default();
    let names: Vec<&str> = bundles.iter().map(|bundle| bundle.name.as_str()).collect();
    let there = if names.is_empty() {
        "there are no bundles there".to_owned()
    } else {
        format!("there are {}", names.join(", "))
    };
    Err(Error::input(
        path.display(),
        format!("there is no such bundle ({there}); export it first, or say where it is"),
    ))
}
