//! How fast memory is read, and how much of it a call of a decoder reads.
//!
//! A core that reads in one stream, as most code does, gets less from memory
//! than one that reads in several. Both are told.

use super::timing::timed;
use aimodel::mlir_bytecode::ResourceValue;
use aimodel::{Attribute, GraphView, Module, Type, graphs};
use anyhow::{Context, Result};
use rayon::prelude::*;
use runtime::candle_core::{DType, Device, Tensor};
use std::collections::{HashMap, HashSet};
use std::hint::black_box;

/// How much is read: many times what caches hold.
const BYTES: usize = 1 << 30;
/// How often, the fastest of which counts: it is a bound.
const PASSES: usize = 3;

/// Memory to be read.
pub enum Stream {
    /// The processor's.
    Host(Vec<u64>),
    /// A card's.
    Card(Tensor),
}

impl Stream {
    /// Memory of the device.
    pub fn new(device: &Device) -> Result<Stream> {
        if !device.is_cpu() {
            let bytes = Tensor::zeros(BYTES, DType::U8, device)?;
            return Ok(Stream::Card(bytes));
        }
        let mut words = vec![0; BYTES / 8];
        // Pages that were never written are all the same one.
        words.par_iter_mut().for_each(|word| *word = 1);
        Ok(Stream::Host(words))
    }

    /// Bytes a second: read by all cores of a processor, each in so many
    /// streams, or read and written by a card that copies.
    pub fn rate(&self, streams: usize) -> Result<f64> {
        let mut best = f64::INFINITY;
        for _ in 0..PASSES {
            let (done, seconds) = timed(|| self.pass(streams));
            done?;
            best = best.min(seconds);
        }
        Ok(match self {
            Stream::Host(_) => BYTES as f64 / best,
            Stream::Card(_) => 2.0 * BYTES as f64 / best,
        })
    }

    fn pass(&self, streams: usize) -> Result<()> {
        match self {
            Stream::Host(words) => {
                let share = words.len().div_ceil(rayon::current_num_threads());
                words.par_chunks(share).for_each(|words| {
                    let lines = words.as_chunks().0;
                    black_box(match streams {
                        1 => read::<1>(lines),
                        _ => read::<4>(lines),
                    });
                });
            }
            Stream::Card(bytes) => {
                black_box(bytes.copy()?);
                bytes.device().synchronize()?;
            }
        }
        Ok(())
    }
}

/// Looks at every word, in streams that begin at equal parts.
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
