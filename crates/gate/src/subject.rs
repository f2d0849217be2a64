//! What is judged: exported bundles, and the checkpoint that they claim to be.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use aimodel::Asset;
use bundle::CallShape;
use checkpoint::Checkpoint;
use checkpoint::Source;
use models::qwen3_vl::Config;
use quantize::Recipe;
use sha2::{Digest, Sha256};

use crate::{Error, Result, transcript::Bundle};

/// A decoder bundle, its vision encoder, and their checkpoint.
pub struct Subject {
    /// Where the checkpoint comes from.
    pub source: Source,
    /// Its `config.json`.
    pub config: Config,
    /// Its weights.
    pub checkpoint: Arc<Checkpoint>,
    /// How the decoder stores weights, as its name and its metadata say.
    pub mode: &'static Recipe,
    /// How it is called.
    pub query: CallShape,
    /// Image tokens along a side of a picture, as the decoder's inputs have it.
    pub grid: usize,
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
        let asset = aimodel::open_asset(path.join(format!("{name}.aimodel")))?;
        let mut files = BTreeMap::new();
        hash_folder(path, "", &mut files)?;
        let program = format!("{name}.aimodel/{}", aimodel::PROGRAM);
        let (stated, found) = (hex::encode(&asset.stated_hash), files.get(&program));
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

impl Subject {
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
    ) -> Result<Subject> {
        let config = Config::load(&source)?;
        let checkpoint = Arc::new(models::qwen3_vl::open(&source)?);
        models::qwen3_vl::names::check(&checkpoint, &config)?;
        let decoder = format!("{name}_decode_{mode}{}", query.suffix());
        let (decoder, vision) = rayon::join(
            || Exported::open(&exports.join(decoder)),
            || Exported::open(&exports.join(format!("{name}_vision"))),
        );
        let (decoder, vision) = (decoder?, vision?);
        let grid = grid(&decoder)?;
        Ok(Subject {
            source,
            config,
            checkpoint,
            mode,
            query,
            grid,
            decoder,
            vision,
        })
    }
}

/// Image tokens along a side, from the decoder's input `image_embeds` [N, h].
fn grid(decoder: &Exported) -> Result<usize> {
    let summary = aimodel::Summary::of(&decoder.asset.module)?;
    let inputs = summary
        .functions
        .iter()
        .flat_map(|function| &function.inputs);
    let found = inputs.clone().find(|input| input.name == "image_embeds");
    let rows = found.and_then(|input| input.ty.dims.first()?.known());
    let grid = rows.map(|rows| rows.isqrt()).filter(|grid| *grid > 0);
    match (grid, rows) {
        (Some(grid), Some(rows)) if grid * grid == rows => Ok(grid as usize),
        _ => Err(Error::input(
            decoder.asset.dir.display(),
            format!(
                "expected an input image_embeds with a square number of rows, found {}",
                found.map_or_else(|| "none".to_owned(), |input| input.ty.to_string())
            ),
        )),
    }
}

fn bundles_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names
        .filter(|name| name.contains("_decode_") || name.ends_with("_vision"))
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    names
}

/// SHA-256 of every file of a folder, by its path with `/`.
fn hash_folder(folder: &Path, prefix: &str, files: &mut BTreeMap<String, String>) -> Result<()> {
    let wrong = |source| Error::File {
        path: folder.to_owned(),
        source,
    };
    let entries = std::fs::read_dir(folder).map_err(wrong)?;
    for entry in entries.collect::<io::Result<Vec<_>>>().map_err(wrong)? {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_str().map(|name| format!("{prefix}{name}"));
        let name = name.ok_or_else(|| Error::input(path.display(), "its name is no UTF-8"))?;
        let kind = entry.file_type().map_err(wrong)?;
        if kind.is_dir() {
            hash_folder(&path, &format!("{name}/"), files)?;
        } else if kind.is_file() {
            let mut hash = Sha256::new();
            File::open(&path)
                .and_then(|mut file| io::copy(&mut file, &mut hash))
                .map_err(|source| Error::File { path, source })?;
            files.insert(name, hex::encode(&hash.finalize()));
        } else {
            // A link could lead anywhere, and an asset behind one does not run.
            return Err(Error::input(
                path.display(),
                "is neither a file nor a folder; expected plain files in a bundle",
            ));
        }
    }
    Ok(())
}
