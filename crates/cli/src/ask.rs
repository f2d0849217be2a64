//! `ask`: an answer from exported bundles, and nothing else.

use crate::bundles::Choice;
use crate::device::Device;
use crate::progress::seconds;
use crate::{Refused, export};
use anyhow::{Context, Result, bail};
use bundle::Bundle;
use bundle::contract;
use checkpoint::Source;
use checkpoint::TokenizerFiles;
use clap::builder::RangedU64ValueParser;
use engine::{Decoder, Sampler, Sampling, Step};
use indicatif::{ProgressBar, ProgressStyle};
use models::PromptWriter;
use models::qwen3_vl::Chat;
use picture::Image;
use picture::PatchSpec;
use runtime::candle_core::{self, Tensor};
use runtime::{Options, Program};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use text::DecodeStream;

/// Flags of `ask`.
#[derive(clap::Args)]
pub struct Args {
    /// What to ask
    prompt: String,
    /// A picture to ask about, PNG or JPEG
    #[arg(long)]
    image: Option<PathBuf>,
    #[command(flatten)]
    choice: Choice,
    /// Where to run it
    #[arg(long, value_enum, default_value_t = Device::Cpu)]
    device: Device,
    /// The longest answer, in tokens
    #[arg(long, default_value_t = 512, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    max_tokens: usize,
    /// Draw tokens at random, the more freely the higher; 0 always takes the
    /// best
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    temperature: f64,
    /// Draw only from this many best tokens
    #[arg(long, requires = "temperature")]
    top_k: Option<usize>,
    /// Draw only from the best tokens that have this probability together
    #[arg(long, requires = "temperature", default_value_t = 1.0)]
    top_p: f64,
    /// Where the random numbers begin: the same seed gives the same answer
    #[arg(long, requires = "temperature", default_value_t = 0)]
    seed: u64,
}

/// Answers on standard output; everything else goes to standard error.
pub fn run(args: Args) -> Result<()> {
    let mut sampler = Sampler::new(Sampling {
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        seed: args.seed,
    })?;
    let image = args.image.as_deref().map(Image::load).transpose()?;
    let bundle = args.choice.find()?;
    let device = args.device.open()?;
    let interrupted = export::interrupt()?;

    let started = Instant::now();
    let work = Work::begin(&format!("loading {}", bundle.name));
    let model = Model::load(&bundle, image.is_some(), &device)?;
    let loaded = started.elapsed();
    work.say("reading the prompt");
    let mut out = Output::default();
    let answer = model.answer(
        &args.prompt,
        image.as_ref(),
        &mut sampler,
        args.max_tokens,
        |heard| {
            match heard {
                Heard::Read(read, all) => work.say(&format!("reading the prompt, {read} of {all}")),
                Heard::Text(text) => {
                    work.end();
                    out.write(text);
                }
            }
            !interrupted.load(Ordering::Relaxed) && out.is_open()
        },
    );
    work.end();
    out.end()?;
    let answer = answer?;
    if interrupted.load(Ordering::Relaxed) {
        bail!("interrupted after {} tokens", answer.tokens.len());
    }
    eprintln!(
        "{} on {}, loaded in {}",
        bundle.name,
        args.device,
        seconds(loaded)
    );
    eprintln!("{}", answer.figures());
    if let Some(why) = answer.cut_off {
        eprintln!("{why}");
    }
    Ok(())
}

/// A bundle that is ready to answer.
pub struct Model {
    chat: Chat,
    engine: Decoder,
    eyes: Option<Eyes>,
    /// The bundle's name, and the longest context that it promises.
    name: String,
    max_context: usize,
}

/// A vision encoder, and how it takes pictures.
struct Eyes {
    program: Program,
    cut: PatchSpec,
    /// Image tokens along a side.
    grid: usize,
}

/// What is heard while an answer is made.
pub enum Heard<'a> {
    /// So many tokens of the prompt were read, of so many.
    Read(usize, usize),
    /// A token came, with this text; a part of a character has none.
    Text(&'a str),
}

/// An answer.
pub struct Answer {
    /// Its tokens, the one that ended it included.
    pub tokens: Vec<u32>,
    /// What they say, special tokens left out.
    pub text: String,
    prompt_tokens: usize,
    /// From the question, a loaded model given, to the first token.
    first: Duration,
    /// From there to the last one.
    rest: Duration,
    cut_off: Option<String>,
}

impl Model {
    /// Loads a bundle, and the vision encoder beside it if it `sees`.
    ///
    /// # Errors
    /// Something is missing, is not as its hash says (as [`Refused`]), or does
    /// not fit together.
    pub fn load(bundle: &Bundle, sees: bool, device: &candle_core::Device) -> Result<Model> {
        let manifest = bundle.manifest()?;
        let asset = bundle.path.join(manifest.main_asset());
        let folder = bundle.tokenizer();
        if !folder.is_dir() {
            bail!(
                "{} is missing: the tokenizer's files belong into it; copy them from the checkpoint",
                folder.display()
            );
        }
        let files = TokenizerFiles::load(&Source::folder(&folder)?)?;
        let vision = sees.then(|| bundle.vision()).transpose()?;
        let engine =
            Decoder::new(load(&asset, device)?).with_context(|| asset.display().to_string())?;
        if engine.vocabulary() != manifest.language.vocab_size {
            bail!(
                "{} promises {} tokens, and {} has logits for {}; they are not of one export",
                bundle.path.join(aimodel::METADATA).display(),
                manifest.language.vocab_size,
                asset.display(),
                engine.vocabulary()
            );
        }
        let chat = Chat::of_bundle(&files, engine.vocabulary())
            .with_context(|| folder.display().to_string())?;
        let eyes = vision.map(|asset| Eyes::load(&asset, &engine, device));
        Ok(Model {
            chat,
            engine,
            eyes: eyes.transpose()?,
            name: bundle.name.clone(),
            max_context: manifest.language.max_context_length,
        })
    }

    /// Answers one question. `each` hears of every step and says whether to go
    /// on.
    ///
    /// # Errors
    /// A picture for a model that was loaded without its vision encoder, a
    /// prompt that is longer than the bundle's context, or a run that fails.
    pub fn answer(
        &self,
        question: &str,
        image: Option<&Image>,
        sampler: &mut Sampler,
        most: usize,
        mut each: impl FnMut(Heard<'_>) -> bool,
    ) -> Result<Answer> {
        let started = Instant::now();
        let seen = match (image, &self.eyes) {
            (None, _) => None,
            (Some(image), Some(eyes)) => Some((eyes.see(image)?, eyes.grid)),
            (Some(_), None) => bail!("{} was loaded without its vision encoder", self.name),
        };
        let grid = seen.as_ref().map(|(_, grid)| *grid);
        let prompt = self.chat.question(question, grid)?;
        let count = prompt.ids.len();
        if count >= self.max_context {
            bail!(
                "the prompt has {count} tokens, and {} was exported for a context of {}, the \
                 answer included; ask something shorter, or export it with a larger --max-ctx",
                self.name,
                self.max_context
            );
        }
        let room = self.max_context - count;
        let shift = [contract::ROPE_SHIFT_START, contract::ROPE_SHIFT_AMOUNT];
        let [start, amount] = shift.map(|name| prompt.input(name).unwrap_or_default());
        let tokenizer = self.chat.tokenizer();
        let mut session =
            self.engine
                .start(start, amount, seen.as_ref().map(|(image, _)| image))?;
        let (mut stream, mut text, mut failed) = (DecodeStream::new(), String::new(), None);
        let (mut first, mut stopped) = (None, false);
        let ends = self.chat.end_tokens();
        let tokens = session.answer(&prompt.ids, sampler, most.min(room), ends, |step| {
            let go_on = match step {
                Step::Read(read) => each(Heard::Read(read, count)),
                Step::Token(token) => {
                    first.get_or_insert_with(|| started.elapsed());
                    match stream.push(tokenizer, token) {
                        Ok(new) => {
                            text.push_str(&new);
                            each(Heard::Text(&new))
                        }
                        Err(error) => {
                            failed = Some(error);
                            false
                        }
                    }
                }
            };
            stopped |= !go_on;
            go_on
        })?;
        if let Some(error) = failed {
            return Err(error.into());
        }
        let last = stream.finish(tokenizer)?;
        text.push_str(&last);
        each(Heard::Text(&last));
        let took = started.elapsed();
        let first = first.unwrap_or(took);
        let ended = stopped || tokens.last().is_some_and(|token| ends.contains(token));
        let cut_off = (!ended).then(|| match most <= room {
            true => format!("cut off at {most} tokens; --max-tokens sets the limit"),
            false => format!("cut off where the context of {} ends", self.max_context),
        });
        Ok(Answer {
            tokens,
            text,
            prompt_tokens: count,
            first,
            rest: took - first,
            cut_off,
        })
    }
}

impl Eyes {
    fn load(asset: &Path, engine: &Decoder, device: &candle_core::Device) -> Result<Eyes> {
        let program = load(asset, device)?;
        let dims = program.function("main")?.input("patches");
        let dims = dims.and_then(|ty| ty.static_dims()).unwrap_or_default();
        let cut = match dims[..] {
            [rows, cols] => PatchSpec::of_input(rows as usize, cols as usize),
            _ => None,
        };
        let (cut, grid) = cut.with_context(|| {
            format!(
                "{}: its input `patches` is {dims:?}, expected [4 · grid², 6 · patch²]; is it a \
                 vision encoder?",
                asset.display()
            )
        })?;
        let tokens = engine.image_tokens()?;
        if tokens != grid * grid {
            bail!(
                "{} makes {} tokens of a picture, and the decoder was exported for {tokens}; \
                 export both with the same --grid",
                asset.display(),
                grid * grid
            );
        }
        Ok(Eyes { program, cut, grid })
    }

    fn see(&self, image: &Image) -> Result<engine::Image> {
        let patches = image.patches(self.grid, self.cut)?;
        let dims = (patches.rows, patches.cols);
        let patches = Tensor::from_vec(patches.values, dims, &candle_core::Device::Cpu)?;
        Ok(engine::Image::encode(&self.program, patches)?)
    }
}

impl Answer {
    /// How fast it came.
    fn figures(&self) -> String {
        let mut text = format!(
            "first token after {}, for a prompt of {} tokens",
            seconds(self.first),
            self.prompt_tokens
        );
        if let count @ 2.. = self.tokens.len() {
            let rate = (count - 1) as f64 / self.rest.as_secs_f64();
            text.push_str(&format!("; {count} tokens, {rate:.1} a second"));
        }
        text
    }
}

/// Loads an asset that is as its hash says.
fn load(asset: &Path, device: &candle_core::Device) -> Result<Program> {
    let opened = aimodel::open_asset(asset)?;
    opened.check_hash().map_err(|error| match error {
        aimodel::Error::Asset { .. } => Refused(error.to_string()).into(),
        other => anyhow::Error::from(other),
    })?;
    Program::new(&opened.module, device.clone(), Options::default())
        .with_context(|| asset.display().to_string())
}

/// What is being done before the answer, on a terminal.
struct Work(ProgressBar);

impl Work {
    fn begin(what: &str) -> Work {
        // Where there is no terminal it draws nothing.
        let bar = ProgressBar::new_spinner().with_message(what.to_owned());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}, {elapsed}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        Work(bar)
    }

    fn say(&self, what: &str) {
        self.0.set_message(what.to_owned());
    }

    fn end(&self) {
        self.0.finish_and_clear();
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.end();
    }
}

/// Standard output, as long as somebody reads it.
#[derive(Default)]
struct Output {
    begun: bool,
    failed: Option<std::io::Error>,
}

impl Output {
    /// Writes at once. An answer does not begin with a space.
    fn write(&mut self, text: &str) {
        let text = match self.begun {
            true => text,
            false => text.trim_start(),
        };
        if text.is_empty() || self.failed.is_some() {
            return;
        }
        self.begun = true;
        let mut out = std::io::stdout().lock();
        self.failed = out
            .write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .err();
    }

    fn is_open(&self) -> bool {
        self.failed.is_none()
    }

    /// Ends the line. Whoever read may have seen enough and gone; that is no
    /// error.
    fn end(mut self) -> std::io::Result<()> {
        if self.begun {
            self.write("\n");
        }
        match self.failed {
            Some(error) if error.kind() != ErrorKind::BrokenPipe => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Model;
    use crate::Refused;
    use crate::bundles::Choice;
    use crate::embedded;
    use crate::export::Job;
    use engine::Sampler;
    use picture::Image;
    use runtime::candle_core::Device;
    use std::path::Path;

    /// nano's bundles, with `from` in the decoder's metadata changed to `to`.
    fn exported(from: &str, to: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let bundles = Job::nano("int8hu", folder.path()).unwrap().run().unwrap();
        let path = bundles[0].path.join("metadata.json");
        let metadata = std::fs::read_to_string(&path).unwrap();
        assert!(metadata.contains(from));
        std::fs::write(path, metadata.replace(from, to)).unwrap();
        folder
    }

    fn load(exports: &Path, sees: bool) -> anyhow::Result<Model> {
        let choice = Choice {
            exports: exports.to_owned(),
            model: None,
            mode: None,
            query: None,
        };
        Model::load(&choice.find()?, sees, &Device::Cpu)
    }

    fn answer(model: &Model, question: &str, most: usize) -> anyhow::Result<super::Answer> {
        model.answer(question, None, &mut Sampler::greedy(), most, |_| true)
    }

    const COUNT: &str = "count from one to twenty .";

    #[test]
    fn an_answer_ends_where_it_must() {
        // 14 tokens of prompt, and 11 of answer.
        let folder = exported("4096", "25");
        let model = load(folder.path(), false).unwrap();
        let few = answer(&model, COUNT, 3).unwrap();
        assert_eq!(few.text.trim(), "one two three");
        assert!(few.cut_off.unwrap().contains("--max-tokens"));
        let full = answer(&model, COUNT, 64).unwrap();
        assert_eq!(full.tokens.len(), 11);
        assert!(full.cut_off.unwrap().contains("the context of 25"));
        let whole = answer(&model, "count from one to two .", 64).unwrap();
        assert_eq!(whole.text.trim(), "one two .");
        assert_eq!(whole.cut_off, None);
        let long = answer(&model, &COUNT.repeat(3), 64).err().unwrap();
        assert!(long.to_string().contains("--max-ctx"), "{long}");
        // Whoever listens may stop it, in the prompt as well.
        let stopped = model.answer(COUNT, None, &mut Sampler::greedy(), 64, |_| false);
        assert!(stopped.unwrap().tokens.is_empty());
    }

    #[test]
    fn bundles_that_lack_something_are_refused() {
        let folder = exported("512", "513");
        let problem = |sees| load(folder.path(), sees).err().unwrap();
        assert!(problem(false).to_string().contains("promises 513 tokens"));

        let bundle = folder.path().join("nano_decode_int8hu_s1");
        std::fs::remove_dir_all(folder.path().join("nano_vision")).unwrap();
        assert!(problem(true).to_string().contains("without --image"));

        let program = bundle.join("nano_decode_int8hu_s1.aimodel/main.mlirb");
        let mut bytes = std::fs::read(&program).unwrap();
        bytes[400_000] ^= 1;
        std::fs::write(&program, bytes).unwrap();
        let error = problem(false);
        assert!(error.downcast_ref::<Refused>().is_some(), "{error}");

        std::fs::remove_dir_all(bundle.join("tokenizer")).unwrap();
        assert!(problem(false).to_string().contains("the tokenizer's files"));
    }

    #[test]
    fn a_picture_needs_eyes() {
        let folder = exported("4096", "4096");
        let model = load(folder.path(), false).unwrap();
        let picture =
            Image::load(&embedded::path("oracles/nano/scenes/scene-5.png").unwrap()).unwrap();
        let mut sampler = Sampler::greedy();
        let error = model.answer("what ?", Some(&picture), &mut sampler, 4, |_| true);
        let error = error.err().unwrap().to_string();
        assert!(error.contains("without its vision encoder"), "{error}");
    }
}
