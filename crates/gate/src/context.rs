//! What stages share, opened when the first of them needs it.

use std::{
    cell::OnceCell,
    path::{Path, PathBuf},
};

use ::engine::{Conversation, Decoder, PictureSpec, Prompt, Prompter, Sequence, VisionEncoder};
use bundle::{AssetRole, Layout};
use checkpoint::TokenizerFiles;
use models::TokenizedPrompt;
use picture::Image;
use reference::{
    TextModel, VisionModel,
    oracle::{Entry, Oracle, Recorded},
};
use runtime::{Options, Program, candle_core::Device};

use crate::{
    Answers, Candidate, Error, ExternalTools, Gates, NamedPrompt, Result, device::IPhone,
    thresholds, transcript::Stage,
};

/// Who says what Core AI's runtime answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CoreAi {
    /// It does, unless the decoder is larger than the set asks it for.
    #[default]
    Now,
    /// It does, however long that takes; its answers go to this new file.
    Keep(PathBuf),
    /// A file of its [`Answers`].
    Kept(PathBuf),
}

/// How the gates are run.
pub struct Settings {
    /// What executes the stage `execute`.
    pub device: Device,
    /// How it executes.
    pub options: Options,
    /// Decoder layers that the ladder compares: the first so many, by default
    /// all.
    pub layers: Option<usize>,
    /// Where the recorded oracle lies, or will.
    pub oracle: PathBuf,
    /// Who says what Core AI's runtime answers.
    pub core_ai: CoreAi,
    /// The folder that the prompts' pictures are named from.
    pub root: PathBuf,
    /// Where to write what a host on a device is asked.
    pub fixture: Option<PathBuf>,
    /// A device's transcript; with `iphone`, where it goes.
    pub transcript: Option<PathBuf>,
    /// An iPhone that makes the transcript.
    pub iphone: Option<IPhone>,
}

/// Everything that stages share, opened when the first of them needs it.
pub struct Context<'a> {
    /// What is judged.
    pub candidate: &'a Candidate,
    /// What must hold.
    pub gates: &'a Gates,
    /// How.
    pub settings: &'a Settings,
    /// Python and Core AI's runtime.
    pub tools: &'a dyn ExternalTools,
    prompter: Prompter,
    recorded: OnceCell<Result<Recordings, NoOracle>>,
    models: OnceCell<(VisionModel, TextModel)>,
    programs: OnceCell<(VisionEncoder, Decoder)>,
    /// What [`Context::answers`] gave.
    answers: OnceCell<Vec<(NamedPrompt, Vec<u32>)>>,
    /// What Core AI's runtime answered before, where a file says that.
    pub(crate) kept: Option<Answers>,
}

/// Why there is no oracle to compare with.
#[derive(Clone, Debug)]
pub struct NoOracle {
    /// What was found.
    pub why: String,
    /// Whether there is one that cannot serve, and not none.
    pub refused: bool,
}

/// A recorded oracle, read whole.
pub struct Recordings {
    /// Its index.
    pub oracle: Oracle,
    /// Its prompts.
    pub prompts: Vec<(Entry, Recorded)>,
}

/// Prompts as the checkpoint's tokenizer and template make them.
fn prompter(candidate: &Candidate) -> Result<Prompter> {
    let files = TokenizerFiles::load(&candidate.source)?;
    let writer = candidate.architecture.prompt_writer(&files)?;
    let pictures = PictureSpec::from(&candidate.geometry);
    Ok(Prompter::new(
        candidate.decoder.name(),
        writer,
        Some(pictures),
        candidate.layout,
    ))
}

/// The recorded answers of Core AI. That they serve, or can be written, is
/// found out before any stage runs: some take hours.
fn kept(core_ai: &CoreAi, candidate: &Candidate, stages: &[Stage]) -> Result<Option<Answers>> {
    let (CoreAi::Keep(path) | CoreAi::Kept(path)) = core_ai else {
        return Ok(None);
    };
    if !stages.contains(&Stage::Engine) {
        let problem = format!(
            "{} is for the stage engine, which was not asked for",
            path.display()
        );
        return Err(Error::option("core_ai", problem));
    }
    match core_ai {
        CoreAi::Kept(path) => Answers::load(path, candidate).map(Some),
        _ => Ok(fsutil::check_new(path).map(|()| None)?),
    }
}

/// `cpu`, `cuda` or `metal`.
pub fn device_name(device: &Device) -> &'static str {
    match device {
        Device::Cpu => "cpu",
        Device::Cuda(_) => "cuda",
        Device::Metal(_) => "metal",
    }
}

/// What an oracle lacks that a set of gates relies on: fewer prompts would be
/// fewer checks, and with none everything would pass.
fn lacks(oracle: &Oracle, gates: &Gates) -> Option<String> {
    let again = "record it again with oracles/capture.py";
    if oracle.steps < gates.steps {
        return Some(format!(
            "it has {} greedy tokens of each prompt, and the set {} needs {}; {again}",
            oracle.steps, gates.name, gates.steps
        ));
    }
    gates.prompts.iter().find_map(|prompt| {
        let mut entries = oracle.prompts.iter();
        let found = match entries.find(|entry| entry.name == prompt.name) {
            None => "nothing".to_owned(),
            Some(entry) if entry.prompt != prompt.text => format!("{:?}", entry.prompt),
            Some(entry) if entry.image.is_some() != prompt.image.is_some() => {
                format!("{:?} with another image", entry.prompt)
            }
            Some(_) => return None,
        };
        Some(format!(
            "the set {} asks {:?} as {}, and the oracle has {found} of that name; {again}",
            gates.name, prompt.text, prompt.name
        ))
    })
}

impl<'a> Context<'a> {
    /// Opens nothing but the tokenizer, and finds out whether recorded answers of
    /// Core AI's runtime can serve, before any stage runs.
    ///
    /// # Errors
    /// A tokenizer or a file of answers that cannot be used.
    pub(crate) fn new(
        candidate: &'a Candidate,
        gates: &'a Gates,
        settings: &'a Settings,
        stages: &[Stage],
        tools: &'a dyn ExternalTools,
    ) -> Result<Self> {
        Ok(Context {
            candidate,
            gates,
            settings,
            tools,
            kept: kept(&settings.core_ai, candidate, stages)?,
            prompter: prompter(candidate)?,
            recorded: OnceCell::new(),
            models: OnceCell::new(),
            programs: OnceCell::new(),
            answers: OnceCell::new(),
        })
    }
}

impl Context<'_> {
    /// What was recorded of the checkpoint.
    ///
    /// # Errors
    /// Files that cannot be read. That there is no oracle, or one that cannot
    /// serve, is the inner error.
    pub fn recorded(&self) -> Result<&Result<Recordings, NoOracle>> {
        if let Some(known) = self.recorded.get() {
            return Ok(known);
        }
        let folder = &self.settings.oracle;
        let found = if folder.join("index.json").exists() {
            self.read(folder)?
        } else {
            Err(NoOracle {
                why: format!(
                    "no oracle of this checkpoint is recorded in {}; the stage oracle records one \
                     where Python has torch and transformers",
                    folder.display()
                ),
                refused: false,
            })
        };
        Ok(self.recorded.get_or_init(|| found))
    }

    /// Reads an oracle, and checks that it is of this checkpoint.
    ///
    /// # Errors
    /// As [`Context::recorded`].
    pub fn read(&self, folder: &Path) -> Result<Result<Recordings, NoOracle>> {
        let read = || {
            let oracle = Oracle::open(folder)?;
            oracle.check(&self.candidate.checkpoint)?;
            if let Some(why) = lacks(&oracle, self.gates) {
                return Ok(Err(format!("{}: {why}", folder.display())));
            }
            let prompts = oracle.prompts.iter().map(|entry| {
                let recorded = oracle.read(entry)?;
                Ok((entry.clone(), recorded))
            });
            let prompts = prompts.collect::<Result<_, reference::Error>>()?;
            Ok(Ok(Recordings { oracle, prompts }))
        };
        match read() {
            Ok(Ok(recordings)) => Ok(Ok(recordings)),
            Ok(Err(why)) => Ok(Err(NoOracle { why, refused: true })),
            Err(error @ reference::Error::Oracle { .. }) => Ok(Err(NoOracle {
                why: error.to_string(),
                refused: true,
            })),
            Err(error) => Err(error.into()),
        }
    }

    /// The fp32 model.
    pub fn models(&self) -> Result<&(VisionModel, TextModel)> {
        if let Some(known) = self.models.get() {
            return Ok(known);
        }
        let architecture = self.candidate.architecture.as_ref();
        let models = reference::load(architecture, &self.candidate.checkpoint, &Device::Cpu)?;
        Ok(self.models.get_or_init(|| models))
    }

    /// The tokens of a prompt as the fp32 model takes them, whatever the layout of
    /// the bundle: those of pictures are V + the row that stands there.
    pub fn reference_ids(&self, prompt: &TokenizedPrompt) -> Vec<i32> {
        let first = self.candidate.architecture.vocab_size() as i32;
        let mut ids = prompt.ids.clone();
        let pictures = prompt.placements.iter();
        let places = pictures.flat_map(|picture| picture.start..picture.start + picture.tokens());
        for (row, place) in (first..).zip(places) {
            if let Some(id) = ids.get_mut(place) {
                *id = row;
            }
        }
        ids
    }

    /// The vision encoder and the decoder, ready to run.
    pub fn programs(&self) -> Result<&(VisionEncoder, Decoder)> {
        if let Some(known) = self.programs.get() {
            return Ok(known);
        }
        let load = |role| {
            let device = self.settings.device.clone();
            let module = &self.candidate.asset(role)?.module;
            Ok::<_, Error>(Program::new(module, device, self.settings.options)?)
        };
        let spec = PictureSpec::from(&self.candidate.geometry);
        let vision = VisionEncoder::new(load(AssetRole::Vision)?, spec)?;
        let main = load(AssetRole::Main)?;
        let decoder = match (
            self.candidate.layout,
            self.candidate.architecture.image_token(),
        ) {
            (Layout::Vlm, Some(token)) => {
                Decoder::with_rows(main, load(AssetRole::Embedding)?, token as i32)?
            }
            _ => Decoder::new(main)?,
        };
        let (found, expected) = (
            decoder.vocabulary(),
            self.candidate.architecture.vocab_size(),
        );
        if found != expected {
            let problem =
                format!("its logits are {found} wide, and the checkpoint has {expected} tokens");
            return Err(Error::input(self.candidate.decoder.path.display(), problem));
        }
        Ok(self.programs.get_or_init(|| (vision, decoder)))
    }

    /// A prompt of the set, tokenized, with its picture cut to patches.
    pub fn ask(&self, prompt: &thresholds::Prompt) -> Result<NamedPrompt> {
        let image = prompt.image.as_ref();
        let image = image.map(|file| Image::load(&self.settings.root.join(file)));
        let conversation = Conversation::question(prompt.text.as_str(), image.transpose()?);
        Ok(NamedPrompt {
            name: prompt.name.clone(),
            prompt: self.prompter.prompt(&conversation)?,
        })
    }

    /// What our engine answers to each prompt of the set: `tokens` of them,
    /// past end tokens.
    pub fn answers(&self) -> Result<&[(NamedPrompt, Vec<u32>)]> {
        if let Some(known) = self.answers.get() {
            return Ok(known);
        }
        let tokens = self.gates.engine.tokens.max(self.gates.device.tokens);
        let answers = self.gates.prompts.iter().map(|prompt| {
            let asked = self.ask(prompt)?;
            let ids = &asked.prompt.tokens.ids;
            let made = self.start(&asked.prompt)?.greedy(ids, tokens)?;
            Ok((asked, made))
        });
        let answers = answers.collect::<Result<Vec<_>>>()?;
        Ok(self.answers.get_or_init(|| answers))
    }

    /// A sequence of our engine, with a prompt's picture.
    fn start(&self, prompt: &Prompt) -> Result<Sequence> {
        let (vision, decoder) = self.programs()?;
        Ok(prompt.start(decoder, Some(vision))?)
    }

    /// By how many logits each of these tokens leads all others in our engine,
    /// after a prompt and the tokens before it; less than 0 where another leads.
    pub fn leads(&self, asked: &NamedPrompt, tokens: &[u32]) -> Result<Vec<f32>> {
        let mut sequence = self.start(&asked.prompt)?;
        let mut logits = sequence.read(&asked.prompt.tokens.ids)?;
        let mut leads = Vec::new();
        for (at, token) in tokens.iter().enumerate() {
            let of = logits.get(*token as usize).copied().unwrap_or(f32::NAN);
            let others = logits.iter().enumerate();
            let others = others.filter(|(other, _)| *other != *token as usize);
            leads.push(of - others.fold(f32::NEG_INFINITY, |max, (_, logit)| max.max(*logit)));
            if at + 1 < tokens.len() {
                logits = sequence.read(&[*token as i32])?;
            }
        }
        Ok(leads)
    }

    /// A token, readable.
    pub fn text(&self, token: u32) -> String {
        self.prompter.tokenizer().text_of(token)
    }

    /// Decoder layers that are compared.
    pub fn layers(&self) -> usize {
        let depth = self.candidate.architecture.layers();
        self.settings.layers.unwrap_or(depth)
    }

    /// Remembers an oracle that was recorded just now.
    pub(crate) fn set_recorded(&self, recordings: Result<Recordings, NoOracle>) {
        // Stages run in their order, and this is the first to ask.
        let _ = self.recorded.set(recordings);
    }
}
