//! What is judged: exported bundles, and the checkpoint that they claim to be.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use aimodel::Asset;
use bundle::{BundleName, CallShape, Layout, Manifest, PictureGeometry, VisionName, asset_name};
use checkpoint::Checkpoint;
use checkpoint::Source;
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
    pub mode: &'static Recipe,
    /// How it is called.
    pub query: CallShape,
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
    /// Opens a bundle's folder and hashes all of it.
    ///
    /// # Errors
    /// There is no such folder, an asset that cannot be read, or one whose
    /// program has another hash than it states.
    pub fn open(path: &Path) -> Result<Exported> {
        if !path.is_dir() {
            let parent = path.parent().unwrap_or(Path::new(""));
            let there = match bundles_in(parent) {
                names if names.is_empty() => "there are no bundles there".to_owned(),
                names => format!("there are {}", names.join(", ")),
            };
            return Err(Error::input(
                path.display(),
                format!("there is no such bundle ({there}); export it first, or say where it is"),
            ));
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.into_owned();
        // SAFETY: a gate only reads the bundles that it judges; the README asks
        // of the user that nobody else writes into them meanwhile. Bundles that
        // an export replaces are renamed, and their old files stay as they were.
        let asset = unsafe { aimodel::open_asset_mmap(path.join(asset_name(&name))) }?;
        let files = fsutil::sha256_of_folder(path)?;
        let program = format!("{}/{}", asset_name(&name), aimodel::PROGRAM);
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
    /// after `name`, `mode` and `query`.
    ///
    /// # Errors
    /// A checkpoint or bundle that is missing or not whole; or one whose
    /// inputs are not those of the graph contract.
    pub fn open(
        source: Source,
        exports: &Path,
        name: &str,
        mode: &'static Recipe,
        query: CallShape,
    ) -> Result<Candidate> {
        let architecture = models::open(&source)?;
        let checkpoint = models::open_weights(&source, architecture.as_ref())?;
        architecture.check(&checkpoint)?;
        let decoder = BundleName {
            model: name.to_owned(),
            recipe: mode.to_string(),
            layout: Layout::Pipelined(query),
        };
        let vision = decoder.vision();
        let (decoder, vision) = rayon::join(
            || Exported::open(&exports.join(decoder.to_string())),
            || Exported::open(&exports.join(vision.to_string())),
        );
        let (decoder, vision) = (decoder?, vision?);
        let geometry = Manifest::load(&decoder.path)?.geometry()?;
        Ok(Candidate {
            source,
            architecture,
            checkpoint,
            mode,
            query,
            geometry,
            decoder,
            vision,
        })
    }
}

/// The names of the bundles in a folder, for messages.
fn bundles_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names
        .filter(|name| name.parse::<BundleName>().is_ok() || name.parse::<VisionName>().is_ok())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    names
}
