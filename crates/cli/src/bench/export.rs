//! `bench export`: an export. Its lower bound is to read the checkpoint, to
//! write as many bytes as the export does through to the disk, and to hash
//! them, one after the other on one thread.

use super::report::{Report, memory_text};
use super::timing::{Runs, peak_memory, timed};
use crate::export::{Job, modes};
use crate::progress::size;
use crate::{home, hub};
use ::export::Exported;
use anyhow::Result;
use checkpoint::Source;
use models::Parameter;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::hint::black_box;
use std::io::Write;

/// How much is read, written and hashed at a time for the bound: what the
/// cache of a CPU core holds.
const PIECE: usize = 1 << 20;

/// Flags of `bench export`.
#[derive(clap::Args)]
pub struct Args {
    /// A folder, nano, or a model id on the Hugging Face hub
    #[arg(long, default_value = "nano")]
    model: String,
    /// How the decoder stores its weights
    #[arg(long, default_value = "int8hu", value_parser = modes())]
    mode: String,
    /// How many times everything is measured; the medians are printed
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Measures, and prints.
pub fn run(args: Args) -> Result<()> {
    let measured = measure(&args.model, &args.mode, args.runs)?;
    measured.print(args.json)
}

/// What was measured.
struct Measured {
    model: String,
    recipe: String,
    /// Bytes of the checkpoint's parameters.
    read: u64,
    /// Bytes of the programs.
    written: u64,
    runs: Runs<Run>,
    /// After the exports and their floors, which need next to nothing.
    peak_memory: Option<u64>,
}

/// Seconds of one run.
struct Run {
    read: f64,
    write: f64,
    hash: f64,
    export: f64,
}

impl Run {
    fn floor(&self) -> f64 {
        self.read + self.write + self.hash
    }

    fn ratio(&self) -> f64 {
        self.export / self.floor()
    }
}

fn measure(model: &str, recipe: &str, runs: u32) -> Result<Measured> {
    let source = hub::source(model, None)?;
    let mut measured = Measured {
        model: source.model().to_owned(),
        recipe: recipe.to_owned(),
        read: 0,
        written: 0,
        runs: Runs::new(),
        peak_memory: None,
    };
    // Once before it counts, so that what can be cached is.
    measured.read = read(&source)?;
    for _ in 0..runs {
        let (read, read_time) = timed(|| read(&source));
        let (bundles, export) = timed_export(&source, recipe)?;
        let (written, write) = write_as_many(&bundles)?;
        let ((), hash) = timed(|| hash(written));
        (measured.read, measured.written) = (read?, written);
        measured.runs.push(Run {
            read: read_time,
            write,
            hash,
            export,
        });
    }
    measured.peak_memory = peak_memory();
    Ok(measured)
}

/// Exports to a folder that is gone afterwards.
fn timed_export(source: &Source, recipe: &str) -> Result<(Vec<Exported>, f64)> {
    let folder = home::scratch()?;
    let job = Job::new(source.clone(), recipe, folder.path())?;
    let (bundles, seconds) = timed(|| job.run());
    Ok((bundles?, seconds))
}

/// Looks at every byte of every parameter; gives their number.
fn read(source: &Source) -> Result<u64> {
    let architecture = models::open(source)?;
    let checkpoint = models::open_weights(source, architecture.as_ref())?;
    let mut count = 0;
    for Parameter { name, shape, .. } in architecture.parameters() {
        let tensor = checkpoint.tensor(&name, &shape)?;
        for (index, bytes) in tensor.bytes().chunks(PIECE).enumerate() {
            let words = bytes.as_chunks().0.iter();
            black_box(words.fold(0, |sum, word| sum ^ u64::from_ne_bytes(*word)));
            tensor.release(index * PIECE..index * PIECE + bytes.len());
            count += bytes.len() as u64;
        }
        tensor.release_all();
    }
    Ok(count)
}

/// Writes files as long as the bundles' programs through to the disk, as an
/// export does; gives the number of bytes and the seconds.
fn write_as_many(bundles: &[Exported]) -> Result<(u64, f64)> {
    let folder = home::scratch()?;
    let piece = piece();
    let write = || {
        let mut count = 0;
        for (index, bundle) in bundles.iter().enumerate() {
            let mut file = File::create_new(folder.path().join(index.to_string()))?;
            for length in pieces(bundle.bytes) {
                file.write_all(&piece[..length])?;
            }
            file.sync_all()?;
            count += bundle.bytes;
        }
        anyhow::Ok(count)
    };
    let (count, seconds) = timed(write);
    Ok((count?, seconds))
}

/// Computes the SHA-256 of so many bytes.
fn hash(bytes: u64) {
    let piece = piece();
    let mut hash = Sha256::new();
    pieces(bytes).for_each(|length| hash.update(&piece[..length]));
    black_box(hash.finalize());
}

/// Bytes that no disk can take a short cut with.
fn piece() -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    std::iter::repeat_with(next).take(PIECE).collect()
}

/// The lengths of the pieces of so many bytes.
fn pieces(bytes: u64) -> impl Iterator<Item = usize> {
    (0..bytes)
        .step_by(PIECE)
        .map(move |at| (bytes - at).min(PIECE as u64) as usize)
}

impl Measured {
    /// How many times the floor of the same run an export takes, the median.
    fn ratio(&self) -> f64 {
        self.runs.median(Run::ratio)
    }
}

impl Report for Measured {
    fn text(&self) -> String {
        let (min, max) = self.runs.range(Run::ratio);
        let memory = memory_text(self.peak_memory);
        format!(
            "export {} {}, medians of {} runs\n\
             \x20 read the checkpoint  {:8.3} s  {}\n\
             \x20 write and sync       {:8.3} s  {}\n\
             \x20 SHA-256              {:8.3} s\n\
             \x20 floor, their sum     {:8.3} s\n\
             \x20 export               {:8.3} s  {:.2} × the floor of its run ({min:.2} to {max:.2})\n\
             \x20 largest memory       {memory}\n",
            self.model,
            self.recipe,
            self.runs.len(),
            self.runs.median(|run| run.read),
            size(self.read),
            self.runs.median(|run| run.write),
            size(self.written),
            self.runs.median(|run| run.hash),
            self.runs.median(Run::floor),
            self.runs.median(|run| run.export),
            self.ratio(),
        )
    }

    fn json(&self) -> Value {
        let runs = self.runs.iter().map(|run| {
            json!({
                "read": run.read,
                "write": run.write,
                "hash": run.hash,
                "floor": run.floor(),
                "export": run.export,
                "ratio": run.ratio(),
            })
        });
        json!({
            "bench": "export",
            "model": self.model,
            "mode": self.recipe,
            "checkpoint_bytes": self.read,
            "program_bytes": self.written,
            "seconds": runs.collect::<Vec<_>>(),
            "median": {
                "floor": self.runs.median(Run::floor),
                "export": self.runs.median(|run| run.export),
                "ratio": self.ratio(),
            },
            "peak_memory_bytes": self.peak_memory,
        })
    }
}
