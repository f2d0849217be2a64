//! `bench decode`: tokens of an exported decoder. Their lower bound is the time
//! in which the machine reads as many bytes of memory as a token needs.

use super::memory::{Stream, Touched};
use super::report::{Report, memory_text};
use super::timing::{Runs, median, peak_memory, timed};
use crate::assets::open_asset;
use crate::bundles::BundleArgs;
use crate::device::Device;
use crate::progress::size;
use anyhow::{Context, Result, bail, ensure};
use bundle::{Bundle, contract};
use engine::{Decoder, Sampler, StaticInputs, Step, VisionEncoder};
use models::TokenizedPrompt;
use picture::Patches;
use runtime::candle_core;
use runtime::{Options, Program};
use serde_json::{Value, json};
use std::hint::black_box;
use std::ops::ControlFlow;
use std::time::Instant;

/// Flags of `bench decode`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    choice: BundleArgs,
    /// Where to run it
    #[arg(long, value_enum, default_value_t = Device::Cpu)]
    device: Device,
    #[command(flatten)]
    work: Work,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What a run does.
#[derive(clap::Args, Clone, Copy)]
struct Work {
    /// Tokens of the prompt, which are read first
    #[arg(long, default_value_t = 211, value_parser = clap::value_parser!(u32).range(1..))]
    prompt: u32,
    /// Tokens that are decoded then, one after the other
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    new: u32,
    /// Encode a picture, too, with the vision encoder beside the decoder
    #[arg(long)]
    vision: bool,
    /// How many times everything is measured; the medians are printed
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
}

/// Measures, and prints.
pub fn run(args: Args) -> Result<()> {
    let bundle = args.choice.find()?;
    let measured = measure(&bundle, args.device, args.work)?;
    measured.print(args.json)
}

/// What was measured.
struct Measured {
    bundle: String,
    device: Device,
    work: Work,
    touched: Touched,
    runs: Runs<Run>,
    /// After everything was done once, before memory was read for its own sake.
    peak_memory: Option<u64>,
}

/// One run.
struct Run {
    /// Bytes a second that are read from memory, before and after.
    rate: f64,
    /// Seconds of the whole prompt.
    prefill: f64,
    /// Seconds a token.
    decode: f64,
    /// Seconds a picture.
    vision: Option<f64>,
}

/// What a run does, loaded.
struct Workload {
    decoder: Decoder,
    vision: Option<(VisionEncoder, Patches)>,
    prompt: TokenizedPrompt,
    new: u32,
}

fn measure(bundle: &Bundle, on: Device, work: Work) -> Result<Measured> {
    let kind = bundle.manifest()?.kind;
    ensure!(
        kind == bundle::LLM,
        "{} is a bundle of kind {kind}: bench decode drives decoders of token ids; --bundle \
         pipelined picks one",
        bundle.name
    );
    let device = on.open()?;
    let asset = bundle.path.join(bundle.manifest()?.main_asset());
    let opened = open_asset(&asset)?;
    let load = |module| Program::new(module, device.clone(), Options::default());
    let load = |module| load(module).with_context(|| asset.display().to_string());
    let decoder = Decoder::new(load(&opened.module)?)?;
    let vision = if work.vision {
        Some(vision(bundle, &device)?)
    } else {
        None
    };
    let workload = Workload {
        prompt: TokenizedPrompt {
            ids: ids(decoder.vocabulary())
                .take(work.prompt as usize)
                .collect(),
            inputs: vec![(contract::ROPE_SHIFT_START, contract::NO_IMAGE)],
            ..TokenizedPrompt::default()
        },
        new: work.new,
        decoder,
        vision,
    };
    // Once before it counts, so that the weights are in memory.
    workload.run()?;
    let peak_memory = peak_memory();
    let stream = Stream::new(&device)?;
    let mut runs = Runs::new();
    for _ in 0..work.runs {
        let before = stream.read()?;
        let mut run = workload.run()?;
        run.rate = before.and(stream.read()?).rate();
        runs.push(run);
    }
    Ok(Measured {
        bundle: bundle.name.clone(),
        device: on,
        work,
        touched: Touched::by(&opened.module, "main")?,
        runs,
        peak_memory,
    })
}

/// The vision encoder of a bundle, and patches for it.
fn vision(bundle: &Bundle, device: &candle_core::Device) -> Result<(VisionEncoder, Patches)> {
    let asset = bundle.vision()?;
    let opened = open_asset(&asset)?;
    let program = Program::new(&opened.module, device.clone(), Options::default())?;
    let spec = engine::PictureSpec::from(&bundle.manifest()?.geometry()?);
    let encoder = VisionEncoder::new(program, spec).with_context(|| asset.display().to_string())?;
    let [rows, cols] = encoder.dims();
    let levels = ids(1 << 12).map(|id| id as f32 / 2048.0 - 1.0);
    let values = levels.take(rows * cols).collect();
    Ok((encoder, Patches { rows, cols, values }))
}

/// Tokens, the same each time, all over the vocabulary.
fn ids(vocabulary: usize) -> impl Iterator<Item = i32> {
    let mut state = 1_u32;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((state >> 8) as usize % vocabulary) as i32
    })
}

impl Workload {
    /// Does everything once.
    fn run(&self) -> Result<Run> {
        let vision = match &self.vision {
            Some((encoder, patches)) => {
                let (inputs, seconds) = timed(|| {
                    let inputs = encoder.encode(patches)?;
                    encoder.synchronize()?;
                    Ok::<_, engine::Error>(inputs)
                });
                black_box(inputs?);
                Some(seconds)
            }
            None => None,
        };
        let inputs = self.decoder.inputs(&self.prompt, StaticInputs::new())?;
        let mut sequence = self.decoder.start(&inputs)?;
        let (started, mut times) = (Instant::now(), Vec::new());
        // One more, so that each of the others has one before it.
        let (mut sampler, count) = (Sampler::greedy(), self.new as usize + 1);
        sequence.generate(&self.prompt.ids, &mut sampler, count, &[], |step| {
            if let Step::Token(_) = step {
                times.push(started.elapsed().as_secs_f64());
            }
            ControlFlow::Continue(())
        })?;
        let (Some(prefill), Some(end)) = (times.first(), times.last()) else {
            bail!("the decoder gave no token");
        };
        let (prefill, decode) = (*prefill, end - prefill);
        Ok(Run {
            rate: 0.0,
            prefill,
            decode: decode / f64::from(self.new),
            vision,
        })
    }
}

impl Measured {
    /// Bytes that a token reads, in the middle of those that were decoded.
    fn bytes(&self) -> u64 {
        let before = u64::from(self.work.prompt) + u64::from(self.work.new) / 2;
        self.touched.weights + self.touched.cache * before
    }

    /// The part of the memory's rate in a run that decoding in it reaches.
    fn part(&self, run: &Run) -> f64 {
        self.bytes() as f64 / run.decode / run.rate
    }

    fn of_floor(&self) -> f64 {
        self.runs.median(|run| self.part(run))
    }

    fn vision(&self) -> Option<f64> {
        let seconds: Option<Vec<f64>> = self.runs.iter().map(|run| run.vision).collect();
        seconds.map(median)
    }
}

impl Report for Measured {
    fn text(&self) -> String {
        let (min, max) = self.runs.range(|run| self.part(run));
        let (decode, prefill) = (
            self.runs.median(|run| run.decode),
            self.runs.median(|run| run.prefill),
        );
        let count = self.work.prompt;
        let mut text = format!(
            "decode {} on {}, medians of {} runs\n\
             \x20 memory is read at    {}/s, before and after, in the best number of streams\n\
             \x20 floor of a token     {:8.2} ms  {} are read for it\n\
             \x20 decode               {:8.2} ms  {:.2} tokens/s, {:.2} of that rate \
             ({min:.2} to {max:.2})\n\
             \x20 prefill              {:8.2} s   {count} tokens, {:.1} tokens/s\n",
            self.bundle,
            self.device,
            self.runs.len(),
            size(self.runs.median(|run| run.rate) as u64),
            1e3 * self.bytes() as f64 / self.runs.median(|run| run.rate),
            size(self.bytes()),
            1e3 * decode,
            1.0 / decode,
            self.of_floor(),
            prefill,
            f64::from(count) / prefill,
        );
        if let Some(seconds) = self.vision() {
            text += &format!(
                "\x20 vision encoder       {:8.2} ms  a picture\n",
                1e3 * seconds
            );
        }
        let memory = memory_text(self.peak_memory);
        text + &format!("\x20 largest memory       {memory}\n")
    }

    fn json(&self) -> Value {
        let runs = self.runs.iter().map(|run| {
            json!({
                "memory_bytes_per_second": run.rate,
                "prefill": run.prefill,
                "decode": run.decode,
                "vision": run.vision,
                "of_floor": self.part(run),
            })
        });
        let (decode, prefill) = (
            self.runs.median(|run| run.decode),
            self.runs.median(|run| run.prefill),
        );
        json!({
            "bench": "decode",
            "bundle": self.bundle,
            "device": self.device.to_string(),
            "prompt_tokens": self.work.prompt,
            "new_tokens": self.work.new,
            "weight_bytes": self.touched.weights,
            "bytes_per_token": self.bytes(),
            "seconds": runs.collect::<Vec<_>>(),
            "median": {
                "memory_bytes_per_second": self.runs.median(|run| run.rate),
                "floor": self.bytes() as f64 / self.runs.median(|run| run.rate),
                "decode": decode,
                "tokens_per_second": 1.0 / decode,
                "of_floor": self.of_floor(),
                "prefill": prefill,
                "prefill_tokens_per_second": f64::from(self.work.prompt) / prefill,
                "vision": self.vision(),
            },
            "peak_memory_bytes": self.peak_memory,
        })
    }
}
