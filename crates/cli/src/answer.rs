//! Answers on the terminal: what `ask` and `chat` share.

use crate::device::Device;
use crate::progress::seconds;
use crate::{Refused, export};
use anyhow::{Result, bail};
use bundle::Bundle;
use clap::builder::RangedU64ValueParser;
use engine::{
    Answer, Conversation, Event, FinishReason, Limits, Model, Sampler, Sampling, Session,
};
use indicatif::{ProgressBar, ProgressStyle};
use picture::Image;
use std::io::{ErrorKind, Write};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Flags that say how tokens are picked.
#[derive(clap::Args)]
pub struct SamplingArgs {
    /// The longest answer, in tokens
    #[arg(long, default_value_t = 512, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    max_tokens: usize,
    /// The sampling temperature; 0 always takes the most likely token
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    temperature: f64,
    /// Sample only from this many most likely tokens
    #[arg(long, requires = "temperature")]
    top_k: Option<usize>,
    /// Sample only from the most likely tokens that have this probability together
    #[arg(long, requires = "temperature", default_value_t = 1.0)]
    top_p: f64,
    /// The seed of the random numbers; the same seed gives the same answer
    #[arg(long, requires = "temperature", default_value_t = 0)]
    seed: u64,
}

/// Makes answers and prints them while they are made.
pub struct Answering {
    sampler: Sampler,
    max_tokens: usize,
    interrupted: Arc<AtomicBool>,
}

impl Answering {
    /// With these flags. From here on, Ctrl-C ends an answer and not the program.
    ///
    /// # Errors
    /// Flags that mean nothing.
    pub fn new(args: &SamplingArgs) -> Result<Self> {
        Ok(Self {
            sampler: Sampler::new(Sampling {
                temperature: args.temperature,
                top_k: args.top_k,
                top_p: args.top_p,
                seed: args.seed,
            })?,
            max_tokens: args.max_tokens,
            interrupted: export::interrupt()?,
        })
    }

    /// Forgets a Ctrl-C that ended an earlier answer, or was typed where there was
    /// none to end.
    pub fn forget_interrupt(&self) {
        self.interrupted.store(false, Ordering::Relaxed);
    }

    /// Answers on standard output. `work` tells what is being done until then.
    ///
    /// # Errors
    /// The conversation cannot be answered, or the answer was interrupted.
    pub fn answer(
        &mut self,
        session: &mut Session,
        conversation: &Conversation<Image>,
        work: &Work,
    ) -> Result<Answer> {
        work.say("reading the prompt");
        let mut out = Output::default();
        let (limits, interrupted) = (Limits::new(self.max_tokens), &self.interrupted);
        let answer = session.answer(conversation, &mut self.sampler, limits, |event| {
            match event {
                Event::Prompt { read, total } => {
                    work.say(&format!("reading the prompt, {read} of {total}"));
                }
                Event::Token { text, .. } | Event::Rest { text } => {
                    work.end();
                    out.write(text);
                }
                _ => {}
            }
            if interrupted.load(Ordering::Relaxed) || !out.is_open() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        work.end();
        out.end()?;
        let answer = answer.map_err(explain)?;
        if self.interrupted.load(Ordering::Relaxed) {
            bail!("interrupted after {} tokens", answer.tokens.len());
        }
        Ok(answer)
    }

    /// Why an answer is not whole, if it is not.
    pub fn cut_off(&self, answer: &Answer, model: &Model) -> Option<String> {
        cut_off(answer.finish, self.max_tokens, model.max_context())
    }
}

/// Opens a bundle. An asset whose hash is wrong counts as a failed check.
pub fn open(bundle: &Bundle, device: Device) -> Result<Model> {
    Model::open(&bundle.path, engine::Options::new(device.open()?)).map_err(explain)
}

/// An error of the engine with its exit code, and with the flag that may help.
pub fn explain(error: engine::Error) -> anyhow::Error {
    match error {
        engine::Error::Damaged(problem) => Refused(problem).into(),
        engine::Error::PromptTooLong { .. } => {
            anyhow::Error::from(error).context("export with a larger --max-ctx for long prompts")
        }
        error => error.into(),
    }
}

/// Why an answer is not whole, if it is not.
fn cut_off(finish: FinishReason, max_tokens: usize, context: usize) -> Option<String> {
    match finish {
        FinishReason::Length => Some(format!(
            "cut off at {max_tokens} tokens; --max-tokens sets the limit"
        )),
        FinishReason::ContextFull => Some(format!("cut off where the context of {context} ends")),
        _ => None,
    }
}

/// How fast an answer came.
pub fn figures(answer: &Answer) -> String {
    let timings = answer.timings;
    let mut text = format!(
        "first token after {}, for a prompt of {} tokens",
        seconds(timings.first),
        timings.prompt_tokens
    );
    if let count @ 2.. = answer.tokens.len() {
        let rate = (count - 1) as f64 / timings.rest.as_secs_f64();
        text.push_str(&format!("; {count} tokens, {rate:.1} a second"));
    }
    text
}

/// What is being done before the answer, on a terminal.
pub struct Work(ProgressBar);

impl Work {
    /// Begins, with what is done first.
    pub fn begin(what: &str) -> Work {
        // Without a terminal it draws nothing.
        let bar = ProgressBar::new_spinner().with_message(what.to_owned());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}, {elapsed}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        Work(bar)
    }

    /// Says what is done now.
    pub fn say(&self, what: &str) {
        self.0.set_message(what.to_owned());
    }

    /// Clears the line.
    pub fn end(&self) {
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
        let text = if self.begun { text } else { text.trim_start() };
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
    use super::{cut_off, explain, open};
    use crate::Refused;
    use crate::bundles::BundleArgs;
    use crate::device::Device;
    use crate::export::Job;
    use engine::{Conversation, FinishReason, Limits, Sampler};
    use picture::Image;
    use std::ops::ControlFlow;

    #[test]
    fn what_a_flag_can_change_names_it() {
        let text = |finish| cut_off(finish, 3, 25).unwrap();
        assert!(text(FinishReason::Length).contains("at 3 tokens; --max-tokens"));
        assert!(text(FinishReason::ContextFull).contains("the context of 25"));
        assert_eq!(cut_off(FinishReason::Stop(1), 3, 25), None);

        let folder = tempfile::tempdir().unwrap();
        let bundles = Job::nano("int8hu", folder.path()).unwrap().run().unwrap();
        let choice = BundleArgs {
            exports: folder.path().to_owned(),
            model: None,
            mode: None,
            query: None,
            bundle: None,
        };
        let bundle = choice.find().unwrap();
        let path = bundle.path.join("metadata.json");
        let metadata = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, metadata.replace("4096", "25")).unwrap();
        let model = open(&bundle, Device::Cpu).unwrap();
        let long = Conversation::<Image>::question("count from one to twenty .".repeat(3), []);
        let go_on = |_: engine::Event<'_>| ControlFlow::Continue(());
        let limits = Limits::new(4);
        let mut session = model.session();
        let error = session.answer(&long, &mut Sampler::greedy(), limits, go_on);
        let error = explain(error.err().unwrap());
        assert!(format!("{error:#}").contains("--max-ctx"), "{error:#}");

        // A damaged asset is a failed check, not bad input.
        let program = bundles[0].asset.join("main.mlirb");
        let mut bytes = std::fs::read(&program).unwrap();
        bytes[400_000] ^= 1;
        std::fs::write(&program, bytes).unwrap();
        let error = open(&bundle, Device::Cpu).err().unwrap();
        assert!(error.downcast_ref::<Refused>().is_some(), "{error}");
        std::fs::remove_file(bundle.path.join("metadata.json")).unwrap();
        let error = open(&bundle, Device::Cpu).err().unwrap();
        assert!(error.downcast_ref::<Refused>().is_none(), "{error}");
    }
}
