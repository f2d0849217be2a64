//! The weights: safetensors, single or sharded, mapped and not read.

use crate::{Bytes, Error, Source};
use quantize::Element;
use quantize::Weights;
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

pub(crate) const SINGLE: &str = "model.safetensors";
pub(crate) const INDEX: &str = "model.safetensors.index.json";
/// More than any shard index has: one of an 8B model has 0.1 MB.
const MAX_INDEX: u64 = 4 << 20;
/// The limit of safetensors' own readers, in bytes.
const MAX_HEADER: u64 = 100_000_000;

/// How an architecture names its parameters, whatever prefixes a tool stored
/// them under.
#[derive(Clone, Copy, Debug)]
pub struct Naming {
    /// The canonical name of a stored tensor; `None` if it is not a parameter of
    /// the architecture.
    pub canonical: fn(&str) -> Option<String>,
    /// The stored names that become this canonical name, for messages.
    pub accepted: fn(&str) -> Vec<String>,
}

/// The weights of a checkpoint, found by their canonical names (see
/// [`Naming`]). Opening maps the files and reads their headers.
#[derive(Debug)]
pub struct Checkpoint {
    place: String,
    naming: Naming,
    shards: Vec<Arc<Shard>>,
    /// By canonical name; the order is that of the names.
    tensors: BTreeMap<String, Location>,
}

#[derive(Debug)]
struct Shard {
    file: String,
    bytes: Bytes,
}

#[derive(Debug)]
struct Location {
    shard: Arc<Shard>,
    stored: Arc<str>,
    dtype: Dtype,
    shape: Arc<[usize]>,
    /// Within the file; checked to lie in it.
    range: Range<usize>,
}

impl Location {
    fn describe(&self) -> String {
        format!("{} in {}", self.stored, self.shard.file)
    }
}

/// A handle to one parameter. It keeps the file mapped that the parameter is
/// stored in, and knows where in it: nothing is looked up again. Clones share
/// the mapping.
#[derive(Clone, Debug)]
pub struct Tensor {
    shard: Arc<Shard>,
    stored: Arc<str>,
    element: Element,
    shape: Arc<[usize]>,
    range: Range<usize>,
}

impl Tensor {
    /// The name under which it is stored.
    pub fn stored_name(&self) -> &str {
        &self.stored
    }

    /// The file in which it is stored.
    pub fn file(&self) -> &str {
        &self.shard.file
    }

    /// Type of its elements.
    pub fn element(&self) -> Element {
        self.element
    }

    /// Its dimensions, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Its elements, little-endian, row-major. They need not be aligned.
    pub fn bytes(&self) -> &[u8] {
        &self.shard.bytes[self.range.clone()]
    }

    /// The elements, for the quantizer.
    pub fn weights(&self) -> Weights<'_> {
        Weights::new(self.element, self.bytes())
    }

    /// Releases the memory of the pages that hold these bytes of the tensor,
    /// once they have been used, so that a large checkpoint does not count as
    /// memory in use. A range beyond the tensor is cut to it. Bytes that are
    /// read again come from the file again.
    pub fn release(&self, bytes: Range<usize>) {
        let start = (self.range.start + bytes.start.min(self.range.len())).min(self.range.end);
        let end = self.range.start + bytes.end.min(self.range.len());
        if start >= end {
            return;
        }
        #[cfg(unix)]
        if let Bytes::Mapped(map) = &self.shard.bytes {
            // SAFETY: nothing is written through the map, so that pages which
            // were dropped lose nothing: they come back from the file, with the
            // same bytes, as `Source::map` asks that nobody changes it. Advice
            // may be refused; that costs memory, nothing else.
            let _ = unsafe {
                map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, end - start)
            };
        }
    }

    /// As [`release`](Self::release), for all of the tensor.
    pub fn release_all(&self) {
        self.release(0..self.range.len());
    }
}

impl Checkpoint {
    /// Opens `model.safetensors`, or else the shards that
    /// `model.safetensors.index.json` names.
    ///
    /// # Errors
    /// [`Error::MissingFile`] if neither is there, [`Error::Index`] or
    /// [`Error::MissingShard`] for a wrong index, [`Error::Header`] or
    /// [`Error::Truncated`] for a wrong file, [`Error::DuplicateTensor`] if a
    /// parameter is stored twice.
    pub fn open(source: &Source, naming: Naming) -> Result<Checkpoint, Error> {
        let mut checkpoint = Checkpoint {
            place: source.place(),
            naming,
            shards: Vec::new(),
            tensors: BTreeMap::new(),
        };
        if let Some(bytes) = source.map(SINGLE)? {
            checkpoint.place = source.label(SINGLE);
            checkpoint.add(source.label(SINGLE), bytes)?;
            return Ok(checkpoint);
        }
        let index = source.label(INDEX);
        let places = read_index(source)?;
        let files: BTreeSet<&str> = places.values().map(String::as_str).collect();
        for file in &files {
            let bytes = source.map(file)?.ok_or_else(|| Error::MissingShard {
                index: index.clone(),
                shard: (*file).into(),
            })?;
            let stored = checkpoint.add(source.label(file), bytes)?;
            let missing = places
                .iter()
                .find(|(name, place)| place == file && !stored.contains(*name));
            if let Some((name, _)) = missing {
                return Err(Error::Index {
                    file: index,
                    message: format!(
                        "it puts the tensor {name} into {file}, which does not have it"
                    ),
                });
            }
        }
        Ok(checkpoint)
    }

    /// Adds one file; returns the stored names of its tensors.
    fn add(&mut self, file: String, bytes: Bytes) -> Result<BTreeSet<String>, Error> {
        let (metadata, data_start) = parse_header(&file, &bytes)?;
        let mut stored_names = BTreeSet::new();
        let shard = Arc::new(Shard { file, bytes });
        self.shards.push(shard.clone());
        for stored in metadata.offset_keys() {
            let Some(info) = metadata.info(&stored) else {
                continue;
            };
            if let Some(name) = (self.naming.canonical)(&stored) {
                let location = Location {
                    shard: shard.clone(),
                    stored: stored.as_str().into(),
                    dtype: info.dtype,
                    shape: info.shape.as_slice().into(),
                    range: data_start + info.data_offsets.0..data_start + info.data_offsets.1,
                };
                let second = location.describe();
                if let Some(earlier) = self.tensors.insert(name.clone(), location) {
                    return Err(Error::DuplicateTensor {
                        name,
                        first: earlier.describe(),
                        second,
                    });
                }
            }
            stored_names.insert(stored);
        }
        Ok(stored_names)
    }

    /// Whether a parameter is stored, in whatever shape.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// A parameter by its canonical name.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::Shape`] if its shape is not `shape`,
    /// [`Error::Dtype`] if it is not bf16, f16 or f32.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor, Error> {
        let location = self.tensors.get(name).ok_or_else(|| Error::MissingTensor {
            name: name.into(),
            place: self.place.clone(),
            looked_for: (self.naming.accepted)(name).join(", "),
        })?;
        if *location.shape != *shape {
            return Err(Error::Shape {
                name: location.stored.to_string(),
                file: location.shard.file.clone(),
                expected: shape.to_vec(),
                found: location.shape.to_vec(),
            });
        }
        let element = match location.dtype {
            Dtype::BF16 => Element::Bf16,
            Dtype::F16 => Element::F16,
            Dtype::F32 => Element::F32,
            other => {
                return Err(Error::Dtype {
                    name: location.stored.to_string(),
                    file: location.shard.file.clone(),
                    found: format!("{other:?}"),
                });
            }
        };
        Ok(Tensor {
            shard: location.shard.clone(),
            stored: location.stored.clone(),
            element,
            shape: location.shape.clone(),
            range: location.range.clone(),
        })
    }

    /// SHA-256 over the safetensors files in order of their names, in
    /// hexadecimal: what recorded oracles are keyed by. Reads every file.
    pub fn digest(&self) -> String {
        let mut whole = Sha256::new();
        for shard in &self.shards {
            whole.update(&shard.bytes[..]);
        }
        hex::encode(whole.finalize())
    }
}

/// Reads a file's header: the tensors, and where their data begins.
fn parse_header(file: &str, bytes: &[u8]) -> Result<(Metadata, usize), Error> {
    let header = |message: String| Error::Header {
        file: file.into(),
        message,
    };
    let found = bytes.len() as u64;
    let truncated = |expected| Error::Truncated {
        file: file.into(),
        expected,
        found,
    };
    let Some(length) = bytes.first_chunk::<8>() else {
        return Err(truncated(8));
    };
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER {
        return Err(header(format!(
            "its header would have {length} bytes, and at most {MAX_HEADER} are accepted"
        )));
    }
    // At most 100 MB, so it fits.
    let data_start = 8 + length as usize;
    let Some(json) = bytes.get(8..data_start) else {
        return Err(truncated(data_start as u64));
    };
    // A copy, so that what is parsed stays as it is even where somebody writes
    // into the file: the parser checks once that the text is UTF-8.
    let json = json.to_vec();
    let metadata: Metadata =
        serde_json::from_slice(&json).map_err(|error| header(error.to_string()))?;
    let expected = (data_start as u64).checked_add(metadata.data_len() as u64);
    match expected {
        Some(expected) if expected == found => Ok((metadata, data_start)),
        Some(expected) => Err(truncated(expected)),
        None => Err(header("the tensors' sizes overflow".into())),
    }
}

/// The files that the index names, each once.
#[cfg(feature = "hub")]
pub(crate) fn shards(source: &Source) -> Result<BTreeSet<String>, Error> {
    Ok(read_index(source)?.into_values().collect())
}

fn read_index(source: &Source) -> Result<BTreeMap<String, String>, Error> {
    let json = source.read(INDEX, MAX_INDEX)?;
    let json = json.ok_or_else(|| Error::MissingFile {
        place: source.place(),
        file: format!("{SINGLE} and no {INDEX}"),
    })?;
    parse_index(&json, &source.label(INDEX))
}

/// Stored name → file name, as the index says.
fn parse_index(json: &[u8], index: &str) -> Result<BTreeMap<String, String>, Error> {
    let wrong = |message: String| Error::Index {
        file: index.into(),
        message,
    };
    let root: Value = serde_json::from_slice(json).map_err(|error| Error::Json {
        file: index.into(),
        message: error.to_string(),
    })?;
    let Some(Value::Object(map)) = root.get("weight_map") else {
        return Err(wrong("it has no object weight_map".into()));
    };
    let mut places = BTreeMap::new();
    for (name, file) in map {
        let Some(file) = file.as_str() else {
            return Err(wrong(format!(
                "weight_map.{name} is {file}, expected a file name"
            )));
        };
        if fsutil::check_name(file).is_err() {
            return Err(wrong(format!(
                "weight_map.{name} is {file:?}, expected the name of a file in the same folder"
            )));
        }
        places.insert(name.clone(), file.to_owned());
    }
    if places.is_empty() {
        return Err(wrong("its weight_map is empty".into()));
    }
    Ok(places)
}
