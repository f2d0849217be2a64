//! Checkpoints with seeded weights, for benches and tests: the exact shape of
//! a real one, any size, the same bytes for the same seed. Each family adds its
//! configuration and tokenizer.

use crate::{Error, Parameter, Role};
use fsutil::StagedDir;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;
use serde_json::{Map, Value, json};
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// Shards hold about this many bytes, as large published checkpoints' do.
const SHARD: usize = 4 << 30;
/// Weights that share one random stream.
const STREAM: usize = 1 << 15;
/// Weights made before they are written.
const SLAB: usize = 1 << 23;

/// Which weights, and in how many files.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Other seeds give other weights.
    pub seed: u64,
    /// A new shard begins where one would grow beyond this many bytes.
    pub shard_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            seed: 0,
            shard_bytes: SHARD,
        }
    }
}

impl Options {
    /// With another seed.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// With shards of another size, in bytes.
    pub fn shard_bytes(mut self, shard_bytes: usize) -> Self {
        self.shard_bytes = shard_bytes;
        self
    }
}

/// Writes a checkpoint with these parameters and other files to the folder
/// `out`.
///
/// Weights are bf16: matrices and biases about normal with deviation 0.02,
/// norm weights with deviation 0.1 around 1. `progress` gets the bytes written
/// and the bytes in all, now and then. The folder appears whole or not at all.
///
/// # Errors
/// [`Error::File`] if `out` is there or cannot be written.
pub fn write(
    parameters: Vec<Parameter>,
    files: Vec<(&'static str, Vec<u8>)>,
    out: &Path,
    options: Options,
    mut progress: impl FnMut(u64, u64),
) -> Result<(), Error> {
    let folder = StagedDir::create(out)?;
    let total: usize = parameters.iter().map(bytes_of).sum();
    let shards = plan(parameters, options.shard_bytes);
    let name_of = |index: usize| match shards.len() {
        1 => "model.safetensors".to_owned(),
        count => format!("model-{:05}-of-{count:05}.safetensors", index + 1),
    };
    if shards.len() > 1 {
        let mut map = Map::new();
        for (index, shard) in shards.iter().enumerate() {
            for parameter in shard {
                map.insert(parameter.name.clone(), name_of(index).into());
            }
        }
        let index = json!({"metadata": {"total_size": total}, "weight_map": map});
        folder.write_file("model.safetensors.index.json", &pretty(&index))?;
    }
    for (name, bytes) in files {
        folder.write_file(name, &bytes)?;
    }
    let mut done = 0;
    for (index, shard) in shards.iter().enumerate() {
        let name = name_of(index);
        let mut file = folder.create_file(&name)?;
        let mut write = || {
            file.write_all(&header(shard))?;
            for parameter in shard {
                write_tensor(&mut file, parameter, options.seed, |bytes| {
                    done += bytes;
                    progress(done, total as u64);
                })?;
            }
            Ok(())
        };
        write().map_err(|error| folder.failed(&name, error))?;
    }
    Ok(folder.commit()?)
}

/// JSON as files have it.
pub(crate) fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

fn bytes_of(parameter: &Parameter) -> usize {
    parameter.shape.iter().product::<usize>() * 2
}

/// Which parameters go into which shard.
fn plan(parameters: Vec<Parameter>, limit: usize) -> Vec<Vec<Parameter>> {
    let mut shards = vec![Vec::new()];
    let mut room = limit;
    for parameter in parameters {
        let bytes = bytes_of(&parameter);
        if bytes > room && shards.last().is_some_and(|shard| !shard.is_empty()) {
            shards.push(Vec::new());
            room = limit;
        }
        room = room.saturating_sub(bytes);
        if let Some(shard) = shards.last_mut() {
            shard.push(parameter);
        }
    }
    shards
}

/// A safetensors header with its length, padded so that the data is aligned.
fn header(shard: &[Parameter]) -> Vec<u8> {
    let mut map = Map::new();
    // transformers refuses a file that does not say so.
    map.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut start = 0;
    for parameter in shard {
        let end = start + bytes_of(parameter);
        let info = json!({
            "dtype": "BF16", "shape": parameter.shape, "data_offsets": [start, end]
        });
        map.insert(parameter.name.clone(), info);
        start = end;
    }
    let mut json = Value::from(map).to_string();
    json.push_str(&" ".repeat(json.len().next_multiple_of(8) - json.len()));
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(json.as_bytes());
    bytes
}

fn write_tensor(
    file: &mut File,
    Parameter { name, shape, role }: &Parameter,
    seed: u64,
    mut wrote: impl FnMut(u64),
) -> std::io::Result<()> {
    let (mean, deviation) = match role {
        Role::Norm => (1.0, 0.1),
        _ => (0.0, 0.02),
    };
    let seed = seed_of(name, seed);
    let count: usize = shape.iter().product();
    let mut slab = vec![0; count.min(SLAB) * 2];
    for start in (0..count).step_by(SLAB) {
        let bytes = &mut slab[..(count - start).min(SLAB) * 2];
        bytes
            .par_chunks_mut(STREAM * 2)
            .enumerate()
            .for_each(|(chunk, out)| {
                let stream = (start / STREAM + chunk) as u64;
                fill(out, seed.wrapping_add(stream), mean, deviation);
            });
        file.write_all(bytes)?;
        wrote(bytes.len() as u64);
    }
    Ok(())
}

/// FNV-1a of the name, so that a tensor's weights depend on nothing else.
fn seed_of(name: &str, seed: u64) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = name.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, step);
    hash ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Fills `out` with bf16 values. The sum of four uniform numbers is near
/// enough to normal, and needs only arithmetic that is exact everywhere.
fn fill(out: &mut [u8], seed: u64, mean: f32, deviation: f32) {
    /// The standard deviation of such a sum: sqrt(4 / 12) · 65536.
    const SPREAD: f32 = 37_837.23;
    /// Its mean: 4 · 65535 / 2.
    const MIDDLE: i32 = 131_070;
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let scale = deviation / SPREAD;
    for bytes in out.chunks_exact_mut(2) {
        let bits = random.next_u64();
        let part = |shift: u32| ((bits >> shift) & 0xffff) as i32;
        let sum = part(0) + part(16) + part(32) + part(48) - MIDDLE;
        let value = (mean + sum as f32 * scale).to_bits();
        // To nearest, ties to even; the values are all finite.
        let rounded = (value + 0x7fff + ((value >> 16) & 1)) >> 16;
        bytes.copy_from_slice(&(rounded as u16).to_le_bytes());
    }
}
