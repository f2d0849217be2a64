//! What an export leaves on disk: LanguageBundles and the vision asset.

use std::{
    io,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use aimodel::{AssetMetadata, Blob, BlobError, BlobSource, Module, ResourceValue};
use checkpoint::Source;
use checkpoint::TokenizerFiles;
use fsutil::StagedDir;
use models::qwen3_vl::Config;
use serde_json::json;

use ::bundle::CallShape;
use models::qwen3_vl::{lower_decoder, lower_vision};
use quantize::Recipe;

use crate::{Error, Result};

/// What is written as the producer of an asset.
pub const PRODUCER: &str = concat!("aimodel ", env!("CARGO_PKG_VERSION"));

/// The largest grid: 64 × 64 image tokens are pictures of 2048 × 2048 pixels.
const LARGEST_GRID: u64 = 64;

/// The longest name of a model, in bytes; what is appended to it fits a file
/// system's 255.
const LONGEST_NAME: usize = 128;

/// What to export.
#[derive(Clone, Debug)]
pub struct Options {
    /// How the decoder's weights are stored.
    pub recipe: &'static Recipe,
    /// A decoder bundle for each of these.
    pub shapes: Vec<CallShape>,
    /// Image tokens along a side of a picture.
    pub grid: u64,
    /// The longest context that a host may use, in tokens.
    pub max_context: u64,
    /// Whether to export the decoder.
    pub decoder: bool,
    /// Whether to export the vision tower.
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
pub struct Bundle {
    /// The folder.
    pub path: PathBuf,
    /// The asset in it.
    pub asset: PathBuf,
    /// Bytes of the asset's program.
    pub bytes: u64,
}

/// Is told how many bytes of weights are written, and of how many; says whether
/// to go on. An export that is broken off leaves nothing behind.
pub type Progress = Arc<dyn Fn(u64, u64) -> ControlFlow<()> + Send + Sync>;

/// The last part of a model id, lower case, with `_` for what is neither a
/// letter nor a digit: `Qwen/Qwen3-VL-2B-Instruct` is
/// `qwen3_vl_2b_instruct`.
pub fn short_name(model: &str) -> String {
    let last = model
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or_default();
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '_'
        }
    };
    last.chars().map(plain).collect()
}

/// The licence of a model's weights, where its publisher has said it: an SPDX
/// id. A fine-tune may be under other terms than what it was made of.
pub fn known_license(model: &str) -> Option<&'static str> {
    match model {
        "nano" => Some("BSD-3-Clause"),
        _ if model.starts_with("Qwen/Qwen3-VL-") => Some("Apache-2.0"),
        _ => None,
    }
}

/// Exports a checkpoint into folders of `out`: one for each query, and one for
/// the vision tower. All of them appear, or none.
///
/// # Errors
/// A checkpoint that is not a whole Qwen3-VL, options that make no sense, a
/// folder that exists, a disk that refuses, or `progress` breaking it off.
pub fn export(
    source: &Source,
    out: &Path,
    options: &Options,
    progress: Progress,
) -> Result<Vec<Bundle>> {
    let config = Config::load(source)?;
    check(&config, options)?;
    let short = match &options.name {
        Some(name) => checked_name(name)?.to_owned(),
        None => model_name(source.model())?,
    };
    let tokenizer = if options.decoder {
        Some(TokenizerFiles::load(source)?)
    } else {
        None
    };
    let checkpoint = Arc::new(models::qwen3_vl::open(source)?);

    // Folders are claimed and graphs built before anything large is written.
    let mut jobs = Jobs(Vec::new());
    if let Some(tokenizer) = &tokenizer {
        for &shape in &options.shapes {
            let name = format!("{short}_decode_{}{}", options.recipe, shape.suffix());
            let staged = StagedDir::create(out.join(&name))?;
            let metadata = bundle_metadata(&name, &config, source, options, shape)?;
            staged.write_file("metadata.json", &metadata)?;
            for (file, bytes) in &tokenizer.files {
                staged.write_file(Path::new("tokenizer").join(file), bytes)?;
            }
            let module = lower_decoder(&config, &checkpoint, options.recipe, shape, options.grid)?;
            let what = format!(
                "{} text decoder, {}, query {shape}",
                source.model(),
                options.recipe
            );
            jobs.0.push(Job {
                name,
                staged,
                module,
                what,
            });
        }
    }
    if options.vision {
        let name = format!("{short}_vision");
        let staged = StagedDir::create(out.join(&name)).map_err(claimed_vision)?;
        let module = lower_vision(&config, &checkpoint, options.grid)?;
        let what = format!(
            "{} vision encoder, {} tokens",
            source.model(),
            options.grid.pow(2)
        );
        jobs.0.push(Job {
            name,
            staged,
            module,
            what,
        });
    }

    let total = jobs.0.iter().map(|job| weight_bytes(&job.module)).sum();
    let meter = Meter {
        done: Arc::default(),
        total,
        progress,
    };
    let mut bundles = Vec::new();
    for job in &mut jobs.0 {
        meter.attach(&mut job.module);
        let asset = format!("{}.aimodel", job.name);
        let mut metadata = AssetMetadata::new(PRODUCER, options.created)?;
        metadata.license = options.license.clone();
        metadata.description = Some(job.what.clone());
        let folder = job.staged.path().join(&asset);
        aimodel::write_asset_into(&folder, &job.module, &metadata)
            .map_err(|error| error.map_path(|path| job.staged.final_path(path)))?;
        let program = folder.join(aimodel::PROGRAM);
        let file = std::fs::metadata(&program).map_err(|source| Error::File {
            path: program,
            source,
        })?;
        let path = job.staged.target().to_owned();
        bundles.push(Bundle {
            asset: path.join(asset),
            path,
            bytes: file.len(),
        });
    }
    jobs.commit()?;
    Ok(bundles)
}

struct Job {
    name: String,
    staged: StagedDir,
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

fn check(config: &Config, options: &Options) -> Result<()> {
    let wrong = |option, problem| Err(Error::Option { option, problem });
    if !(1..=LARGEST_GRID).contains(&options.grid) {
        let problem = format!(
            "expected 1 to {LARGEST_GRID} image tokens along a side, found {}",
            options.grid
        );
        return wrong("--grid", problem);
    }
    let longest = config.text_config.max_position_embeddings as u64;
    if !(1..=longest).contains(&options.max_context) {
        let problem = format!(
            "expected 1 to {longest} tokens, found {}",
            options.max_context
        );
        return wrong("--max-ctx", problem);
    }
    if let Some(license) = &options.license
        && (license.trim().is_empty()
            || license.len() > 100
            || license.chars().any(char::is_control))
    {
        let problem = format!("expected an SPDX id such as Apache-2.0, found {license:?}");
        return wrong("--license", problem);
    }
    if !options.decoder && !options.vision {
        return wrong(
            "--skip-vision",
            "with --skip-decoder nothing is left to export".to_owned(),
        );
    }
    if options.decoder && options.shapes.is_empty() {
        return wrong(
            "--query",
            "expected at least one of s1, dynamic and pfN".to_owned(),
        );
    }
    for (index, shape) in options.shapes.iter().enumerate() {
        if options.shapes[..index].contains(shape) {
            return wrong("--query", format!("{shape} is asked for twice"));
        }
        // What the command line would not take has no graph either.
        let parsed = shape.to_string().parse::<CallShape>();
        parsed.map_err(|error| Error::Option {
            option: "--query",
            problem: error.to_string(),
        })?;
    }
    if config.vision_config.deepstack_visual_indexes.is_empty() {
        return Err(models::Error::Unsupported(
            "vision_config.deepstack_visual_indexes is empty: expected the blocks of the vision \
             tower that DeepStack taps, because the decoder graph has an input for them, and \
             Apple's delegates abort on an input without rows"
                .to_owned(),
        )
        .into());
    }
    Ok(())
}

/// The name of a model's bundles, if its own has something to make one of.
fn model_name(model: &str) -> Result<String> {
    let short = short_name(model);
    if short.len() > LONGEST_NAME || !short.contains(|c: char| c.is_ascii_alphanumeric()) {
        return Err(Error::Option {
            option: "--name",
            problem: format!(
                "no folder can be named after the model {model:?}: expected a Latin letter or a \
                 digit in it, and at most {LONGEST_NAME} characters; say what its bundles are \
                 called"
            ),
        });
    }
    Ok(short)
}

/// The error of a vision encoder's folder, which all modes of a model share.
fn claimed_vision(error: fsutil::Error) -> Error {
    match error {
        fsutil::Error::Exists { path } => fsutil::Error::Refused {
            path,
            problem: "exists already and is not overwritten; remove it or choose another name, \
                      or keep it and leave this one out with --skip-vision: it is the same for \
                      every mode"
                .to_owned(),
        }
        .into(),
        other => other.into(),
    }
}

/// A name that is safe as a folder's.
fn checked_name(name: &str) -> Result<&str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    // What starts with `-` would be an option of the next command.
    let start = name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    if !start || name.len() > LONGEST_NAME || !name.chars().all(plain) {
        return Err(Error::Option {
            option: "--name",
            problem: format!(
                "expected a letter, digit or `_`, then letters, digits, `_`, `-` and `.`, at most \
                 {LONGEST_NAME} in all, found {name:?}"
            ),
        });
    }
    Ok(name)
}

/// The `metadata.json` of a LanguageBundle. Swift reads metadata_version, kind,
/// name, assets and language strictly.
fn bundle_metadata(
    name: &str,
    config: &Config,
    source: &Source,
    options: &Options,
    shape: CallShape,
) -> Result<Vec<u8>> {
    let functions: Vec<&str> = shape.functions().iter().map(|(name, _)| *name).collect();
    let mut origin = json!({ "model_definition": "torch", "hf_model_id": source.model() });
    if let Some(revision) = source.revision() {
        origin["hf_revision"] = revision.into();
    }
    let compression = if options.recipe.is_f16() {
        serde_json::Value::Null
    } else {
        json!({ "scheme": options.recipe.name })
    };
    let metadata = json!({
        "metadata_version": "0.2",
        "kind": "llm",
        "name": name,
        "assets": { "main": format!("{name}.aimodel") },
        "language": {
            "tokenizer": source.model(),
            "vocab_size": config.text_config.vocab_size,
            "max_context_length": options.max_context,
            "embedded_tokenizer": true,
            "function_map": { "main": functions },
        },
        "source": origin,
        "compression": compression,
        "compilation": { "date": iso_date(options.created)?, "targets": [] },
    });
    Ok(format!("{metadata:#}\n").into_bytes())
}

/// A time as `metadata.json` of a bundle states it: `YYYY-MM-DDTHH:MM:SS+00:00`.
///
/// # Errors
/// A time after the year 9999.
pub fn iso_date(seconds: u64) -> Result<String> {
    let compact = AssetMetadata::new(PRODUCER, seconds)?
        .creation_date
        .unwrap_or_default();
    let part = |from: usize, to: usize| compact.get(from..to).unwrap_or_default();
    Ok(format!(
        "{}-{}-{}T{}:{}:{}+00:00",
        part(0, 4),
        part(4, 6),
        part(6, 8),
        part(9, 11),
        part(11, 13),
        part(13, 15)
    ))
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
