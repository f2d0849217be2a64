//! How fast memory is read, and how much of it a call of a decoder reads.
//!
//! A core that reads in several streams gets more from memory than one that
//! reads in one, up to some number that machines differ in. What counts is the
//! best of a few.

use super::timing::{median, timed};
use aimodel::ResourceValue;
use aimodel::{Attribute, GraphView, Module, Type, graphs};
use anyhow::{Context, Result};
use rayon::prelude::*;
use runtime::candle_core::{DType, Device, Tensor};
use std::collections::{HashMap, HashSet};
use std::hint::black_box;

/// How much is read: many times what caches hold.
const BYTES: usize = 1 << 30;
/// Looks at every word, in lines of a cache.
type Reader = fn(&[[u64; 8]]) -> [u64; 8];
/// In one, two, four and eight streams.
const READERS: [Reader; 4] = [read::<1>, read::<2>, read::<4>, read::<8>];
/// How often each is tried, before and after what is measured.
const PASSES: usize = 3;
/// Words that a core reads before it goes on to the next ones. Streams begin at
/// equal parts of them, as those of products do: if they lay farther from each
/// other, more tables that translate addresses would be needed.
const PIECE: usize = 1 << 16;

/// Memory to be read.
pub enum Stream {
    /// The CPU's.
    Host(Vec<u64>),
    /// A GPU's.
    Gpu(Tensor),
}

impl Stream {
    /// Memory of the device.
    pub fn new(device: &Device) -> Result<Stream> {
        if !device.is_cpu() {
            let bytes = Tensor::zeros(BYTES, DType::U8, device)?;
            return Ok(Stream::Gpu(bytes));
        }
        let mut words = vec![0; BYTES / 8];
        // Pages that were never written are all the same one.
        words.par_iter_mut().for_each(|word| *word = 1);
        Ok(Stream::Host(words))
    }

    /// Reads all of it with all CPU cores, in each number of streams; a GPU
    /// reads and writes it.
    pub fn read(&self) -> Result<Reads> {
        let mut reads = Reads::default();
        for _ in 0..PASSES {
            match self {
                Stream::Host(words) => {
                    for (reader, rates) in READERS.iter().zip(&mut reads.0) {
                        let ((), seconds) = timed(|| pass(words, *reader));
                        rates.push(BYTES as f64 / seconds);
                    }
                }
                Stream::Gpu(bytes) => {
                    let copy = || -> Result<()> {
                        black_box(bytes.copy()?);
                        Ok(bytes.device().synchronize()?)
                    };
                    let (done, seconds) = timed(copy);
                    done?;
                    reads.0[0].push(2.0 * BYTES as f64 / seconds);
                }
            }
        }
        Ok(reads)
    }
}

/// Reads all words, each core its share.
fn pass(words: &[u64], reader: Reader) {
    let share = words.len().div_ceil(rayon::current_num_threads());
    words.par_chunks(share).for_each(|words| {
        for piece in words.chunks(PIECE) {
            black_box(reader(piece.as_chunks().0));
        }
    });
}

/// Bytes a second of passes over memory, for each number of streams.
#[derive(Default)]
pub struct Reads([Vec<f64>; READERS.len()]);

impl Reads {
    /// These, and those of another time.
    pub fn and(mut self, others: Reads) -> Reads {
        for (passes, others) in self.0.iter_mut().zip(others.0) {
            passes.extend(others);
        }
        self
    }

    /// Bytes a second in as many streams as are best: the median of the passes,
    /// because what is compared with it is a median as well.
    pub fn rate(self) -> f64 {
        let medians = self.0.into_iter().map(median);
        medians.fold(0.0, f64::max)
    }
}

/// Looks at every word, in streams that begin at equal parts; lines left over
/// are too few to count.
fn read<const STREAMS: usize>(lines: &[[u64; 8]]) -> [u64; 8] {
    let length = lines.len() / STREAMS;
    let streams: [_; STREAMS] = std::array::from_fn(|i| &lines[i * length..(i + 1) * length]);
    let mut sums = [0; 8];
    for at in 0..length {
        for stream in streams {
            for (sum, word) in sums.iter_mut().zip(&stream[at]) {
                *sum ^= word;
            }
        }
    }
    sums
}

/// What a call of a decoder's function has to read.
pub struct Touched {
    /// Bytes of the constants that it takes whole. Tables in which it looks
    /// single rows up are left out.
    pub weights: u64,
    /// Bytes of the cache for each token that was read before.
    pub cache: u64,
}

impl Touched {
    /// By a function of a program.
    pub fn by(module: &Module, function: &str) -> Result<Touched> {
        let views = graphs(module)?;
        let view = views.iter().find(|view| view.name.as_ref() == function);
        let view = view.with_context(|| format!("there is no function {function}"))?;
        Ok(Touched {
            weights: weights(view)?,
            cache: cache(view)?,
        })
    }
}

fn weights(view: &GraphView<'_>) -> Result<u64> {
    let mut constants = HashMap::new();
    let mut taken = HashSet::new();
    for op in view.operations() {
        let name = view.op_name(op).unwrap_or_default();
        if let Some(value) = view.property(op, "value")
            && let Attribute::DenseResource(id) = Attribute::read(view.module, value)?
        {
            let results = op.results.iter().map(|result| (result.index(), id));
            constants.extend(results);
            continue;
        }
        for (at, operand) in op.operands.iter().enumerate() {
            let table = at == 0 && name.starts_with("primitive.gather");
            if let Some(id) = constants.get(&operand.index())
                && !table
            {
                taken.insert(*id);
            }
        }
    }
    let sizes = taken.iter().map(|id| {
        let resource = view.module.resources.get(id.index());
        match resource.map(|(_, resource)| &resource.value) {
            Some(ResourceValue::Blob { data, .. }) => data.len(),
            _ => 0,
        }
    });
    Ok(sizes.sum())
}

/// The extent that a state leaves open grows by one with each token.
fn cache(view: &GraphView<'_>) -> Result<u64> {
    let mut bytes = 0;
    for input in &view.inputs {
        if let Type::Handle(state) = Type::read(view.module, *input)? {
            let known = state.dims.iter().filter_map(|dim| dim.known());
            bytes += known.product::<u64>() * state.element.bits() / 8;
        }
    }
    Ok(bytes)
}
