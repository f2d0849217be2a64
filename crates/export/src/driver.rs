//! The driver: a checkpoint becomes bundles on the disk.

use std::{
    collections::BTreeMap,
    io,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use aimodel::{AssetMetadata, Blob, BlobError, BlobSource, Module, ResourceValue};
use bundle::{
    AssetRole, BundleName, CallShape, Layout, MANIFEST, MAX_MODEL_NAME, Manifest, NewManifest,
    TOKENIZER, Vision, VisionName, short_name,
};
use checkpoint::{Source, TokenizerFiles};
use fsutil::StagedDir;
use models::Architecture;
use quantize::Recipe;

use crate::{Error, Result};

/// What is written as the producer of an asset.
pub const PRODUCER: &str = concat!("aimodel ", env!("CARGO_PKG_VERSION"));

/// The largest grid: 64 × 64 image tokens are pictures of 2048 × 2048 pixels.
const MAX_GRID: u64 = picture::MAX_GRID as u64;

/// What to export.
#[derive(Clone, Debug)]
pub struct Options {
    /// How the decoder's weights are stored.
    pub recipe: &'static Recipe,
    /// A bundle with a decoder for each of these.
    pub layouts: Vec<Layout>,
    /// Image tokens along a side of a picture.
    pub grid: u64,
    /// The longest context that a host may use, in tokens.
    pub max_context: u64,
    /// Whether to export the decoder.
    pub decoder: bool,
    /// Whether to export the vision encoder that lies beside pipelined bundles,
    /// for a model that takes pictures. Other layouts always have theirs.
    pub vision: bool,
    /// What the bundles' names start with, instead of the model's name.
    pub name: Option<String>,
    /// The licence of the weights, which assets state: an SPDX id, or what it
    /// is called.
    pub license: Option<String>,
    /// The time that the bundles state, in seconds since the start of 1970.
    pub created: u64,
}

/// A folder that an export wrote.
#[derive(Clone, Debug)]
pub struct Exported {
    /// The folder.
    pub path: PathBuf,
    /// The first asset in it: the decoder, or the vision encoder.
    pub asset: PathBuf,
    /// Bytes of the programs of all its assets.
    pub bytes: u64,
}

/// Is told how many bytes of weights are written, and of how many; says whether
/// to go on. An export that is broken off leaves nothing behind.
pub type Progress = Arc<dyn Fn(u64, u64) -> ControlFlow<()> + Send + Sync>;

/// Exports a checkpoint into folders of `out`: one for each layout, and one for
/// the vision encoder beside pipelined ones. All of them appear, or none.
///
/// # Errors
/// A checkpoint that is not whole, options that make no sense, a
/// folder that exists, a disk that refuses, or `progress` breaking it off.
pub fn export(
    source: &Source,
    out: &Path,
    options: &Options,
    progress: Progress,
) -> Result<Vec<Exported>> {
    let architecture = models::open(source)?;
    check(architecture.as_ref(), options)?;
    let short = match &options.name {
        Some(name) => checked_name(name)?.to_owned(),
        None => model_name(source.model())?,
    };
    let tokenizer = if options.decoder {
        Some(TokenizerFiles::load(source)?)
    } else {
        None
    };
    let checkpoint = models::open_weights(source, architecture.as_ref())?;

    // Folders are claimed and graphs built before anything large is written.
    let mut jobs = Jobs(Vec::new());
    if let Some(tokenizer) = &tokenizer {
        for &layout in &options.layouts {
            let name = BundleName {
                model: short.clone(),
                recipe: options.recipe.to_string(),
                layout,
            };
            let name = name.to_string();
            let staged = StagedDir::create(out.join(&name))?;
            let manifest = manifest(&name, architecture.as_ref(), source, options, layout)?;
            staged.write_file(MANIFEST, &manifest.to_json()?)?;
            let tokenizer = architecture.tokenizer_files(tokenizer.clone(), layout)?;
            for (file, bytes) in &tokenizer.files {
                staged.write_file(Path::new(TOKENIZER).join(file), bytes)?;
            }
            let programs =
                architecture.lower(&checkpoint, options.recipe, layout, options.grid as usize)?;
            let programs = programs.into_iter().map(|(role, module)| Program {
                asset: role.asset(&name),
                module,
                what: what(role, layout, source, options),
            });
            jobs.0.push(Job {
                staged,
                programs: programs.collect(),
            });
        }
    }
    let is_pipelined = |layout: &Layout| matches!(layout, Layout::Pipelined(_));
    if options.vision
        && (!options.decoder || options.layouts.iter().any(is_pipelined))
        && let Some(module) = architecture.lower_vision(&checkpoint, options.grid as usize)?
    {
        let name = VisionName {
            model: short.clone(),
        };
        let name = name.to_string();
        jobs.0.push(Job {
            staged: StagedDir::create(out.join(&name)).map_err(claimed_vision)?,
            programs: vec![Program {
                asset: AssetRole::Main.asset(&name),
                module,
                what: vision_encoder(source, options),
            }],
        });
    }
    if jobs.0.is_empty() {
        return Err(Error::Option {
            option: "vision",
            problem: "the model takes no pictures, and the decoder is not to be exported"
                .to_owned(),
        });
    }

    let programs = jobs.0.iter().flat_map(|job| &job.programs);
    let total = programs.map(|program| weight_bytes(&program.module)).sum();
    let meter = Meter {
        done: Arc::default(),
        total,
        progress,
    };
    let mut bundles = Vec::new();
    for job in &mut jobs.0 {
        let path = job.staged.target().to_owned();
        let mut bytes = 0;
        for program in &mut job.programs {
            bytes += write(program, &job.staged, options, &meter)?;
        }
        let first = job.programs.first().map_or("", |program| &program.asset);
        bundles.push(Exported {
            asset: path.join(first),
            path,
            bytes,
        });
    }
    jobs.commit()?;
    Ok(bundles)
}

/// Writes a program as an asset of a staged folder; returns its bytes.
fn write(
    program: &mut Program,
    staged: &StagedDir,
    options: &Options,
    meter: &Meter,
) -> Result<u64> {
    meter.attach(&mut program.module);
    let mut metadata = AssetMetadata::new(PRODUCER, options.created)?;
    metadata.license = options.license.clone();
    metadata.description = Some(program.what.clone());
    let folder = staged.path().join(&program.asset);
    aimodel::write_asset_into(&folder, &program.module, &metadata)
        .map_err(|error| error.map_path(|path| staged.final_path(path)))?;
    let path = folder.join(aimodel::PROGRAM);
    match std::fs::metadata(&path) {
        Ok(file) => Ok(file.len()),
        Err(source) => Err(Error::File { path, source }),
    }
}

/// What an asset says that it is.
fn what(role: AssetRole, layout: Layout, source: &Source, options: &Options) -> String {
    let (model, recipe) = (source.model(), options.recipe);
    match (role, layout) {
        (AssetRole::Main, Layout::Pipelined(shape)) => {
            format!("{model} text decoder, {recipe}, query {shape}")
        }
        (AssetRole::Main, Layout::Vlm) => format!("{model} text decoder, {recipe}, vlm"),
        (AssetRole::Embedding, _) => format!("{model} token embeddings"),
        (AssetRole::Vision, _) => vision_encoder(source, options),
    }
}

fn vision_encoder(source: &Source, options: &Options) -> String {
    let tokens = options.grid.pow(2);
    format!("{} vision encoder, {tokens} tokens", source.model())
}

/// A folder that is being made.
struct Job {
    staged: StagedDir,
    programs: Vec<Program>,
}

/// An asset of it.
struct Program {
    /// The name of its folder.
    asset: String,
    module: Module,
    what: String,
}

/// What an export makes, in the order in which its folders were claimed.
struct Jobs(Vec<Job>);

impl Jobs {
    /// Gives all folders their names, or none.
    fn commit(mut self) -> Result<()> {
        let mut named = Vec::new();
        while let Some(Job { staged, .. }) = self.0.pop() {
            let target = staged.target().to_owned();
            if let Err(error) = staged.commit() {
                for folder in named {
                    // The error that is worth telling has happened already.
                    let _ = std::fs::remove_dir_all(folder);
                }
                return Err(error.into());
            }
            named.push(target);
        }
        Ok(())
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        // The last first: the first may have made the folder that all are in,
        // and can remove it only when it is empty again.
        while self.0.pop().is_some() {}
    }
}

fn check(architecture: &dyn Architecture, options: &Options) -> Result<()> {
    let wrong = |option, problem| Err(Error::Option { option, problem });
    if !(1..=MAX_GRID).contains(&options.grid) {
        let problem = format!(
            "expected 1 to {MAX_GRID} image tokens along a side, found {}",
            options.grid
        );
        return wrong("grid", problem);
    }
    let longest = architecture.max_context() as u64;
    if !(1..=longest).contains(&options.max_context) {
        let problem = format!(
            "expected 1 to {longest} tokens, found {}",
            options.max_context
        );
        return wrong("max_context", problem);
    }
    let geometry = architecture.geometry(options.grid as usize);
    if let Some(tokens) = geometry.map(|geometry| geometry.image_tokens as u64)
        && options.layouts.contains(&Layout::Vlm)
        && tokens >= options.max_context
    {
        let problem = format!(
            "a picture has {tokens} tokens, and the context is to have {}: expected more",
            options.max_context
        );
        return wrong("max_context", problem);
    }
    if let Some(license) = &options.license
        && (license.trim().is_empty()
            || license.len() > 100
            || license.chars().any(char::is_control))
    {
        let problem = format!("expected an SPDX id such as Apache-2.0, found {license:?}");
        return wrong("license", problem);
    }
    if !options.decoder && !options.vision {
        return wrong(
            "vision",
            "neither the decoder nor the vision encoder is to be exported".to_owned(),
        );
    }
    if options.decoder && options.layouts.is_empty() {
        return wrong(
            "layouts",
            "expected at least one of s1, dynamic and pfN".to_owned(),
        );
    }
    for (index, layout) in options.layouts.iter().enumerate() {
        let shape = layout.call_shape();
        if options.layouts[..index].contains(layout) {
            let name = match layout {
                Layout::Pipelined(shape) => shape.to_string(),
                other => other.to_string(),
            };
            return wrong("layouts", format!("{name} is there twice"));
        }
        // Parsing knows which of them have a graph.
        let parsed = shape.to_string().parse::<CallShape>();
        parsed.map_err(|error| Error::Option {
            option: "layouts",
            problem: error.to_string(),
        })?;
    }
    Ok(())
}

/// The name of a model's bundles, if its own has something to make one of.
fn model_name(model: &str) -> Result<String> {
    let short = short_name(model);
    if short.len() > MAX_MODEL_NAME || !short.contains(|c: char| c.is_ascii_alphanumeric()) {
        return Err(Error::Option {
            option: "name",
            problem: format!(
                "no folder can be named after the model {model:?}: expected a Latin letter or a \
                 digit in it, and at most {MAX_MODEL_NAME} characters; say what its bundles are \
                 called"
            ),
        });
    }
    Ok(short)
}

/// The error of a vision encoder's folder, which all recipes of a model share.
fn claimed_vision(error: fsutil::Error) -> Error {
    match error {
        fsutil::Error::Exists { path } => Error::VisionExists { path },
        other => other.into(),
    }
}

/// A name that is safe as a folder's.
fn checked_name(name: &str) -> Result<&str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    // What starts with `-` would be an option of the next command.
    let start = name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    if !start || name.len() > MAX_MODEL_NAME || !name.chars().all(plain) {
        return Err(Error::Option {
            option: "name",
            problem: format!(
                "expected a letter, digit or `_`, then letters, digits, `_`, `-` and `.`, at most \
                 {MAX_MODEL_NAME} in all, found {name:?}"
            ),
        });
    }
    Ok(name)
}

/// The manifest of a bundle with a decoder.
fn manifest(
    name: &str,
    architecture: &dyn Architecture,
    source: &Source,
    options: &Options,
    layout: Layout,
) -> Result<Manifest> {
    let geometry = architecture.geometry(options.grid as usize);
    let geometry = geometry.map(|geometry| geometry.for_layout(layout));
    let vision = Vision::for_layout(layout, geometry.as_ref(), architecture.image_token());
    Ok(Manifest::new(NewManifest {
        name,
        layout,
        model: source.model(),
        revision: source.revision(),
        vocab_size: architecture.vocab_size(),
        max_context: options.max_context as usize,
        vision,
        scheme: (!options.recipe.is_f16()).then_some(options.recipe.name),
        created: options.created,
        user_data: geometry.map_or_else(BTreeMap::new, |geometry| geometry.to_user_data()),
    })?)
}

fn weight_bytes(module: &Module) -> u64 {
    let sizes = module
        .resources
        .iter()
        .map(|(_, resource)| match &resource.value {
            ResourceValue::Blob { data, .. } => data.len(),
            _ => 0,
        });
    sizes.sum()
}

/// Counts bytes as blobs write them.
#[derive(Clone)]
struct Meter {
    done: Arc<AtomicU64>,
    total: u64,
    progress: Progress,
}

impl Meter {
    fn attach(&self, module: &mut Module) {
        for (_, resource) in &mut module.resources {
            if let ResourceValue::Blob { data, .. } = &mut resource.value {
                *data = Blob::new(Metered {
                    data: data.clone(),
                    meter: self.clone(),
                });
            }
        }
    }
}

struct Metered {
    data: Blob,
    meter: Meter,
}

impl BlobSource for Metered {
    fn len(&self) -> u64 {
        self.data.len()
    }

    fn write_to(&self, out: &mut dyn io::Write) -> Result<(), BlobError> {
        let mut writer = MeteredWriter {
            out,
            meter: &self.meter,
            interrupted: false,
        };
        let written = self.data.write_to(&mut writer);
        if writer.interrupted {
            return Err(BlobError::source(Error::Interrupted));
        }
        written
    }
}

struct MeteredWriter<'w> {
    out: &'w mut dyn io::Write,
    meter: &'w Meter,
    interrupted: bool,
}

impl io::Write for MeteredWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        let more = written as u64;
        let done = self.meter.done.fetch_add(more, Ordering::Relaxed) + more;
        match (self.meter.progress)(done, self.meter.total) {
            ControlFlow::Continue(()) => Ok(written),
            ControlFlow::Break(()) => {
                self.interrupted = true;
                Err(io::Error::other("interrupted"))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
