//! Models: exported bundles, opened.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use bundle::{AssetRole, Bundle, CallShape, Layout, Manifest, VLM, contract::IMAGE_FEATURES};
use candle_core::Device;
use checkpoint::{Source, TokenizerFiles};
use models::Placement;
use picture::Image;
use runtime::{Program, ThreadPool};
use text::{Conversation, Tokenizer};

use crate::{
    Decoder, Error, PictureSpec, Prompt, Prompter, Result, Sequence, StaticInputs, VisionEncoder,
};

/// How a model is opened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Where it runs.
    pub device: Device,
    /// How its programs run.
    pub runtime: runtime::Options,
    /// The threads that its kernels run on; `None` is the pool that all
    /// programs share. Sessions share a pool fairly, and answers do not depend
    /// on its size.
    pub threads: Option<ThreadPool>,
}

impl Options {
    /// On a device, with everything else as usual.
    #[must_use]
    pub fn new(device: Device) -> Self {
        Self {
            device,
            runtime: runtime::Options::default(),
            threads: None,
        }
    }

    /// On a pool of this many threads of its own; 0 are as many as the machine
    /// has CPUs.
    #[must_use]
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.threads = Some(ThreadPool::new(threads));
        self
    }

    /// Loads an asset that is as its hash says.
    fn load(&self, asset: &Path) -> Result<Program> {
        // SAFETY: nothing here writes into a bundle; `Model::open` asks of its
        // caller, and the README of the user, that nobody else does while the
        // model is in use. On the CPU the program's constants keep the map.
        let opened = unsafe { aimodel::open_asset_mmap(asset) }?;
        opened.check_hash().map_err(|error| match error {
            aimodel::Error::Asset { .. } => Error::Damaged(error.to_string()),
            other => Error::Asset(other),
        })?;
        let program = Program::new(&opened.module, self.device.clone(), self.runtime);
        let program = program.map_err(|error| at(asset)(error.into()))?;
        Ok(match &self.threads {
            Some(pool) => program.with_thread_pool(pool.clone()),
            None => program,
        })
    }
}

/// An exported bundle that is ready to answer. Clones share it, and any number
/// of sessions may use it at once.
///
/// ```no_run
/// use std::ops::ControlFlow;
///
/// use engine::{Conversation, Event, Limits, Model, Options, Sampler};
///
/// let device = candle_core::Device::Cpu;
/// let model = Model::open("exports/nano_decode_int8hu_s1", Options::new(device))?;
/// let image = picture::Image::load("cat.png".as_ref())?;
/// let question = Conversation::question("what is this ?", [image]);
/// let mut sampler = Sampler::greedy();
/// let answer = model.session().answer(&question, &mut sampler, Limits::new(64), |event| {
///     if let Event::Token { text, .. } = event {
///         print!("{text}");
///     }
///     ControlFlow::Continue(())
/// })?;
/// println!("{:?}", answer.finish);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Model {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    manifest: Manifest,
    decoder: Decoder,
    prompter: Prompter,
    vision: Option<LazyVision>,
}

/// A vision encoder that is loaded when the first picture comes.
#[derive(Debug)]
struct LazyVision {
    /// The decoder's bundle.
    bundle: Bundle,
    /// The asset in that bundle; `None` where it lies in a folder beside.
    asset: Option<PathBuf>,
    options: Options,
    /// How pictures are cut.
    spec: PictureSpec,
    loaded: OnceLock<VisionEncoder>,
    /// Held while it is loaded, so that it is loaded once.
    loading: Mutex<()>,
}

impl Model {
    /// Opens the bundle in `folder`. Its vision encoder, which may lie in a folder
    /// beside it, is loaded when the first picture comes.
    ///
    /// The assets are mapped: nobody may write into their files or truncate
    /// them until the model is dropped. Exports replace a bundle by renaming,
    /// which does no harm.
    ///
    /// # Errors
    /// Something is missing or does not fit together; [`Error::Damaged`] for an
    /// asset that is not as its hash says.
    pub fn open(folder: impl AsRef<Path>, options: Options) -> Result<Self> {
        let bundle = Bundle::at(folder.as_ref());
        let manifest = bundle.manifest()?;
        let manifest_path = || bundle.path.join(bundle::MANIFEST);
        let tokenizer = bundle.tokenizer();
        if !tokenizer.is_dir() {
            return Err(Error::Mismatch(format!(
                "{} is missing: it holds the tokenizer's files; copy them from the checkpoint",
                tokenizer.display()
            )));
        }
        let files = TokenizerFiles::load(&Source::folder(&tokenizer)?)?;
        let asset = bundle.path.join(manifest.main_asset());
        let program = options.load(&asset)?;
        let in_bundle = |role| manifest.asset(role).map(|name| bundle.path.join(name));
        let (layout, decoder) = match (&manifest.vision, in_bundle(AssetRole::Embedding)) {
            (Some(vision), Some(embedding)) if manifest.kind == VLM => {
                let token = i32::try_from(vision.image_token_id).unwrap_or(i32::MAX);
                let embedding = options.load(&embedding)?;
                (Layout::Vlm, Decoder::with_rows(program, embedding, token))
            }
            // How many tokens a call takes is for the decoder to say.
            _ => (Layout::Pipelined(CallShape::Dynamic), Decoder::new(program)),
        };
        let decoder = decoder.map_err(at(&asset))?;
        let vocabulary = manifest.language.vocab_size;
        if decoder.vocabulary() != vocabulary {
            return Err(Error::Mismatch(format!(
                "{} promises {vocabulary} tokens, and {} has logits for {}; they are not of one \
                 export",
                manifest_path().display(),
                asset.display(),
                decoder.vocabulary()
            )));
        }
        let writer = models::prompt_writer(&files, vocabulary);
        let writer = writer.map_err(|source| Error::Tokenizer {
            path: tokenizer,
            source,
        })?;
        let (mut pictures, mut vision) = (None, None);
        if (layout == Layout::Vlm || decoder.picture_tokens().is_some())
            // Without it, the model answers questions without pictures.
            && let Ok(spec) = PictureSpec::of(&manifest)
        {
            let stated = manifest.vision.as_ref();
            let stated = stated.map(|vision| vision.image_token_count);
            let takes = decoder.picture_tokens().or(stated);
            let tokens = spec.grid * spec.grid;
            if takes.is_some_and(|takes| takes != tokens) {
                return Err(Error::Mismatch(format!(
                    "{} says that a picture has {} tokens, and {} takes {}; they are not of \
                     one export",
                    manifest_path().display(),
                    tokens,
                    asset.display(),
                    takes.unwrap_or_default()
                )));
            }
            vision = Some(LazyVision {
                bundle: bundle.clone(),
                asset: in_bundle(AssetRole::Vision),
                spec: *pictures.insert(spec),
                options,
                loaded: OnceLock::new(),
                loading: Mutex::new(()),
            });
        }
        Ok(Self {
            inner: Arc::new(Inner {
                prompter: Prompter::new(bundle.name.clone(), writer, pictures, layout),
                manifest,
                decoder,
                vision,
                name: bundle.name,
            }),
        })
    }

    /// The bundle's name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// What the bundle says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.inner.manifest
    }

    /// The longest context, in tokens: prompt and answer. A cache of fixed extents
    /// may have less room than the manifest promises.
    pub fn max_context(&self) -> usize {
        let promised = self.inner.manifest.language.max_context_length;
        let room = self.inner.decoder.capacity();
        room.map_or(promised, |room| room.min(promised))
    }

    /// The decoder.
    pub fn decoder(&self) -> &Decoder {
        &self.inner.decoder
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        self.inner.prompter.tokenizer()
    }

    /// The vision encoder, loaded now if it was not yet.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the model takes no pictures, [`Error::Bundle`] if
    /// the bundle does not state how they are cut or the vision encoder is
    /// missing, or as [`Model::open`] for its asset.
    pub fn vision(&self) -> Result<&VisionEncoder> {
        self.check_geometry()?;
        match &self.inner.vision {
            Some(vision) => vision.get(),
            None => Err(Error::Mismatch(format!(
                "{} takes no pictures",
                self.inner.name
            ))),
        }
    }

    /// That a decoder which takes pictures says how they are cut.
    fn check_geometry(&self) -> Result<()> {
        let decoder = &self.inner.decoder;
        if decoder.rows_of().is_some() || decoder.picture_tokens().is_some() {
            PictureSpec::of(&self.inner.manifest)?;
        }
        Ok(())
    }

    /// The prompt of a conversation.
    ///
    /// # Errors
    /// As [`Prompter::prompt`], and [`Error::Bundle`] for a picture if the
    /// bundle does not state how pictures are cut for it.
    pub fn prompt<P: std::borrow::Borrow<Image>>(
        &self,
        conversation: &Conversation<P>,
    ) -> Result<Prompt> {
        if conversation.pictures().next().is_some() {
            self.check_geometry()?;
        }
        self.inner.prompter.prompt(conversation)
    }

    /// Encodes a prompt's pictures and begins a sequence for it.
    ///
    /// # Errors
    /// As [`Model::vision`] and [`Prompt::start`].
    pub fn start(&self, prompt: &Prompt) -> Result<Sequence> {
        let vision = if prompt.patches.is_empty() {
            None
        } else {
            Some(self.vision()?)
        };
        prompt.start(&self.inner.decoder, vision)
    }

    /// Goes on with a sequence for a prompt whose first `known` tokens and
    /// `pictures` pictures it has read; begins another where it cannot. Returns
    /// how many tokens need not be read.
    pub(crate) fn resume(
        &self,
        mut sequence: Sequence,
        prompt: &Prompt,
        known: usize,
        pictures: usize,
    ) -> Result<(Sequence, usize)> {
        let placements = &prompt.tokens.placements;
        let is_last = pictures == placements.len();
        let rows_of = self.inner.decoder.rows_of();
        // Without rows, pictures are inputs that stay the same.
        if known == 0 || (rows_of.is_none() && !is_last) {
            return Ok((self.start(prompt)?, 0));
        }
        if let Some(source) = rows_of {
            let kept: usize = placements[..pictures].iter().map(Placement::tokens).sum();
            let mut rows = StaticInputs::new();
            if let Some(old) = sequence.pictures().filter(|_| kept > 0) {
                rows.insert(IMAGE_FEATURES, old.narrow(1, 0, kept)?);
            }
            for patches in &prompt.patches[pictures..] {
                rows.append(self.vision()?.encode(patches)?)?;
            }
            let taken = source.of_pictures(&prompt.tokens.ids[..known]);
            sequence.rewind(known, rows.get(IMAGE_FEATURES).cloned(), taken);
        } else {
            sequence.rewind(known, None, 0);
        }
        Ok((sequence, known))
    }
}

impl LazyVision {
    fn get(&self) -> Result<&VisionEncoder> {
        if let Some(loaded) = self.loaded.get() {
            return Ok(loaded);
        }
        let _loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loaded) = self.loaded.get() {
            return Ok(loaded);
        }
        let asset = match &self.asset {
            Some(asset) => asset.clone(),
            None => self.bundle.vision()?,
        };
        let encoder = VisionEncoder::new(self.options.load(&asset)?, self.spec);
        let encoder = encoder.map_err(at(&asset))?;
        let PictureSpec { grid, patches } = self.spec;
        let dims = [patches.rows(grid), patches.cols()];
        if encoder.dims() != dims {
            return Err(Error::Mismatch(format!(
                "{} takes patches {:?}, and the decoder's bundle cuts pictures into {:?}; export \
                 both with the same grid",
                asset.display(),
                encoder.dims(),
                dims
            )));
        }
        Ok(self.loaded.get_or_init(|| encoder))
    }
}

/// Says which asset an error is about.
fn at(asset: &Path) -> impl FnOnce(Error) -> Error {
    let path = asset.to_owned();
    |source| Error::Program {
        path,
        source: Box::new(source),
    }
}
