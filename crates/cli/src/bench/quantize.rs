//! `bench quantize`: quantizing the matrices of a decoder as int8hu does. Its
//! lower bound is a copy of the same bytes in memory, by as many threads.

use super::report::{Report, memory_text};
use super::timing::{Runs, peak_memory, timed};
use crate::hub;
use crate::progress::size;
use ::quantize::{BLOCK, BlockFormat, Matrix, Scheme, Weights};
use anyhow::Result;
use checkpoint::Element;
use models::{Parameter, Role};
use rayon::prelude::*;
use serde_json::{Value, json};
use std::hint::black_box;

/// How many bytes of a matrix are taken between two measurements: more than a
/// CPU's cache holds, so that both read from memory.
const PART: usize = 64 << 20;

/// How much a thread copies at a time.
const PIECE: usize = 1 << 17;

/// Flags of `bench quantize`.
#[derive(clap::Args)]
pub struct Args {
    /// A folder, nano, or a model id on the Hugging Face hub
    #[arg(long, default_value = "nano")]
    model: String,
    /// How many times everything is measured; the medians are printed
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Measures, and prints.
pub fn run(args: Args) -> Result<()> {
    let measured = measure(&args.model, args.runs)?;
    measured.print(args.json)
}

/// What was measured.
struct Measured {
    model: String,
    threads: usize,
    /// Bytes of the matrices in the checkpoint.
    bytes: u64,
    runs: Runs<Run>,
    /// What is copied and quantized at once included.
    peak_memory: Option<u64>,
}

/// Seconds of one run.
#[derive(Default)]
struct Run {
    copy: f64,
    quantize: f64,
}

impl Run {
    /// How fast quantizing is, where copying is 1.
    fn ratio(&self) -> f64 {
        self.copy / self.quantize
    }
}

fn measure(model: &str, runs: u32) -> Result<Measured> {
    let source = hub::source(model, None)?;
    let architecture = models::open(&source)?;
    let checkpoint = models::open_weights(&source, architecture.as_ref())?;
    let mut matrices = Vec::new();
    let parameters = architecture.parameters();
    // A tied head is the embedding table.
    let untied = parameters
        .iter()
        .any(|parameter| parameter.role == Role::Head);
    let head = if untied { Role::Head } else { Role::Embedding };
    for Parameter { name, shape, role } in &parameters {
        let scheme = match role {
            Role::Body => Scheme::SymmetricWithClipping,
            role if *role == head => Scheme::Symmetric,
            _ => continue,
        };
        matrices.push((checkpoint.tensor(name, shape)?, scheme));
    }

    let mut measured = Measured {
        model: source.model().to_owned(),
        threads: rayon::current_num_threads(),
        bytes: matrices
            .iter()
            .map(|(tensor, _)| tensor.bytes().len() as u64)
            .sum(),
        runs: Runs::new(),
        peak_memory: None,
    };
    let mut buffers = Buffers::default();
    for _ in 0..runs {
        let mut run = Run::default();
        for (tensor, scheme) in &matrices {
            let (cols, element) = (tensor.shape()[1], tensor.element());
            let row_bytes = cols * element.size();
            let step = (PART / row_bytes).max(1) * row_bytes;
            for (index, bytes) in tensor.bytes().chunks(step).enumerate() {
                buffers.measure(element, bytes, cols, *scheme, &mut run)?;
                tensor.release(index * step..index * step + bytes.len());
            }
        }
        measured.runs.push(run);
    }
    measured.peak_memory = peak_memory();
    Ok(measured)
}

/// Where copies and quantized weights go.
#[derive(Default)]
struct Buffers {
    copy: Vec<u8>,
    data: Vec<u8>,
    scales: Vec<u8>,
}

impl Buffers {
    /// Adds the times of some rows of a matrix.
    fn measure(
        &mut self,
        element: Element,
        from: &[u8],
        cols: usize,
        scheme: Scheme,
        run: &mut Run,
    ) -> Result<()> {
        let count = from.len() / element.size();
        let copy = &mut self.copy;
        copy.resize(from.len(), 0);
        self.data.resize(count, 0);
        self.scales.resize(count / BLOCK * 2, 0);
        let mut duplicate = || {
            let pieces = copy.par_chunks_mut(PIECE).zip(from.par_chunks(PIECE));
            pieces.for_each(|(to, from)| to.copy_from_slice(from));
        };
        // The first copy brings the pages in, and does not count.
        duplicate();
        run.copy += timed(duplicate).1;
        black_box(&mut *copy);

        let matrix = Matrix::new(&[Weights::new(element, from)], cols)?;
        let (data, scales) = (&mut self.data, &mut self.scales);
        let (done, seconds) =
            timed(|| matrix.quantize(BlockFormat::int8(scheme), 0..count / cols, data, scales));
        done?;
        run.quantize += seconds;
        Ok(())
    }
}

impl Measured {
    /// How fast quantizing is, where copying in the same run is 1: the median.
    fn ratio(&self) -> f64 {
        self.runs.median(Run::ratio)
    }
}

impl Report for Measured {
    fn text(&self) -> String {
        let (min, max) = self.runs.range(Run::ratio);
        let memory = memory_text(self.peak_memory);
        let line = |seconds: f64| {
            let rate = size((self.bytes as f64 / seconds) as u64);
            format!("{seconds:8.3} s  {rate}/s")
        };
        format!(
            "quantize the matrices of {}, {} in the checkpoint, {} threads, medians of {} runs\n\
             \x20 copy in memory  {}\n\
             \x20 quantize        {}, {:.2} of the copy of its run ({min:.2} to {max:.2})\n\
             \x20 largest memory  {memory}\n",
            self.model,
            size(self.bytes),
            self.threads,
            self.runs.len(),
            line(self.runs.median(|run| run.copy)),
            line(self.runs.median(|run| run.quantize)),
            self.ratio(),
        )
    }

    fn json(&self) -> Value {
        let runs = self
            .runs
            .iter()
            .map(|run| json!({ "copy": run.copy, "quantize": run.quantize, "ratio": run.ratio() }));
        json!({
            "bench": "quantize",
            "model": self.model,
            "threads": self.threads,
            "matrix_bytes": self.bytes,
            "seconds": runs.collect::<Vec<_>>(),
            "median": {
                "copy": self.runs.median(|run| run.copy),
                "quantize": self.runs.median(|run| run.quantize),
                "ratio": self.ratio(),
            },
            "peak_memory_bytes": self.peak_memory,
        })
    }
}
