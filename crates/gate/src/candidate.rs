//! What is judged: exported bundles, and the checkpoint that they claim to be.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use aimodel::{Asset, Module};
use bundle::{AssetRole, BundleName, Layout, Manifest, PictureGeometry, Vision, asset_name};
use checkpoint::{Checkpoint, Source};
use models::Architecture;
use quantize::Recipe;

use crate::{Error, Result, transcript::Bundle};

/// A bundle with a decoder, its vision encoder, and their checkpoint.
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
    /// How a host prepares pictures, in a layout whose manifest says so.
    pub pictures: Option<Vision>,
    /// The decoder's bundle.
    pub decoder: Exported,
    /// The folder of the vision encoder, where it lies beside the bundle.
    pub vision: Option<Exported>,
}

/// A folder that `export` wrote.
pub struct Exported {
    /// The folder.
    pub path: PathBuf,
    /// The programs in it, mapped, by the parts that they play.
    pub assets: Vec<(AssetRole, Asset)>,
    /// Its files, hashed as they lay on the disk when it was opened.
    pub files: Bundle,
}

impl Exported {
    /// Opens a bundle with a decoder, with the assets that its manifest names, and
    /// hashes all of its folder.
    ///
    /// # Errors
    /// There is no such folder, a manifest that cannot be used or is of another
    /// layout, an asset that cannot be read, or one whose program has another hash
    /// than it states.
    fn bundle(path: &Path, layout: Layout) -> Result<(Exported, Manifest)> {
        check_folder(path)?;
        let manifest = Manifest::load(path)?;
        if manifest.kind != layout.kind() {
            let problem = format!(
                "{}: `kind` is {:?}, expected {:?}",
                bundle::MANIFEST,
                manifest.kind,
                layout.kind()
            );
            return Err(Error::input(path.display(), problem));
        }
        let assets = layout.roles().iter();
        let assets = assets.map(|role| (*role, manifest.asset(*role).unwrap_or_default()));
        Ok((Exported::open(path, assets)?, manifest))
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
        Exported::open(path, [(AssetRole::Vision, asset_name(&name).as_str())])
    }

    /// Opens assets of a folder, and hashes all of the folder.
    fn open<'a>(
        path: &Path,
        assets: impl IntoIterator<Item = (AssetRole, &'a str)>,
    ) -> Result<Exported> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.into_owned();
        let files = fsutil::sha256_of_folder(path)?;
        let mut opened = Vec::new();
        for (role, asset_name) in assets {
            // SAFETY: a gate only reads the bundles that it judges; the README asks
            // of the user that nobody else writes into them meanwhile. Bundles that
            // an export replaces are renamed, and their old files stay as they were.
            let asset = unsafe { aimodel::open_asset_mmap(path.join(asset_name)) }?;
            let program = format!("{asset_name}/{}", aimodel::PROGRAM);
            let (stated, found) = (hex::encode(asset.stated_hash), files.get(&program));
            if found != Some(&stated) {
                return Err(Error::input(
                    path.join(&program).display(),
                    format!(
                        "its SHA-256 is {}, but {} beside it states {stated}; the file is damaged \
                         or was changed, so fetch or export it again",
                        found.map_or("unknown", String::as_str),
                        aimodel::HASH
                    ),
                ));
            }
            opened.push((role, asset));
        }
        Ok(Exported {
            path: path.to_owned(),
            files: Bundle { name, files },
            assets: opened,
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
    /// A checkpoint or bundle that is missing or not whole, or one whose inputs
    /// are not those of the graph contract.
    pub fn open(
        source: Source,
        exports: &Path,
        name: &str,
        recipe: &'static Recipe,
        layout: Layout,
    ) -> Result<Candidate> {
        let architecture = models::open(&source)?;
        let checkpoint = models::open_weights(&source, architecture.as_ref())?;
        architecture.check(&checkpoint)?;
        let decoder = BundleName {
            model: name.to_owned(),
            recipe: recipe.to_string(),
            layout,
        };
        let vision = decoder.vision();
        let open_bundle = || Exported::bundle(&exports.join(decoder.to_string()), layout);
        let open_vision = || match layout {
            Layout::Pipelined(_) => Exported::vision(&exports.join(vision.to_string())).map(Some),
            Layout::Vlm => Ok(None),
        };
        let (decoder, vision) = rayon::join(open_bundle, open_vision);
        let ((decoder, manifest), vision) = (decoder?, vision?);
        let geometry = manifest.geometry()?;
        Ok(Candidate {
            source,
            architecture,
            checkpoint,
            recipe,
            layout,
            geometry,
            pictures: manifest.vision,
            decoder,
            vision,
        })
    }

    /// The folders, the decoder's first.
    pub fn bundles(&self) -> impl Iterator<Item = &Exported> {
        [&self.decoder].into_iter().chain(&self.vision)
    }

    /// The asset that plays this part.
    ///
    /// # Errors
    /// The layout has none.
    pub fn asset(&self, role: AssetRole) -> Result<&Asset> {
        let mut assets = self.bundles().flat_map(|bundle| &bundle.assets);
        let found = assets.find(|(found, _)| *found == role);
        found.map(|(_, asset)| asset).ok_or_else(|| {
            let problem = format!("there is no asset that plays the part `{role}`");
            Error::input(self.decoder.path.display(), problem)
        })
    }

    /// The programs as the checkpoint gives them, stored as `recipe` says.
    ///
    /// # Errors
    /// The checkpoint cannot be lowered.
    pub fn lower(&self, recipe: &'static Recipe) -> Result<Vec<(AssetRole, Module)>> {
        let (architecture, checkpoint) = (&self.architecture, &self.checkpoint);
        let grid = self.geometry.grid;
        let mut programs = architecture.lower(checkpoint, recipe, self.layout, grid)?;
        if self.vision.is_some() {
            let vision = architecture.lower_vision(checkpoint, grid)?;
            programs.extend(vision.map(|module| (AssetRole::Vision, module)));
        }
        Ok(programs)
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
