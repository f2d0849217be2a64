//! The weights: safetensors, single or sharded, mapped and not read.

use crate::{Bytes, Error, Source};
use quantize::Element;
use quantize::Weights;
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

pub(crate) const SINGLE: &str = "model.safetensors";
pub(crate) const INDEX: &str = "model.safetensors.index.json";
/// More than any shard index has; that of the 8B model has 0.1 MB.
const MOST_INDEX: u64 = 4 << 20;
/// Bound on a safetensors header, the one that the format's own readers have.
const MOST_HEADER: u64 = 100_000_000;

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
    shards: Vec<Shard>,
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
    shard: usize,
    stored: String,
    dtype: Dtype,
    shape: Vec<usize>,
    /// Within the file; checked to lie in it.
    start: usize,
    end: usize,
}

/// One parameter, borrowed from the mapped file.
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a> {
    /// The name under which it is stored.
    pub name: &'a str,
    /// Type of its elements.
    pub element: Element,
    /// Its dimensions, outermost first.
    pub shape: &'a [usize],
    /// Its elements, little-endian, row-major. They need not be aligned.
    pub bytes: &'a [u8],
}

impl<'a> TensorView<'a> {
    /// The elements, for the quantizer.
    pub fn weights(&self) -> Weights<'a> {
        Weights::new(self.element, self.bytes)
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
        let shard = self.shards.len();
        self.shards.push(Shard { file, bytes });
        for stored in metadata.offset_keys() {
            let Some(info) = metadata.info(&stored) else {
                continue;
            };
            if let Some(name) = (self.naming.canonical)(&stored) {
                let location = Location {
                    shard,
                    stored: stored.clone(),
                    dtype: info.dtype,
                    shape: info.shape.clone(),
                    start: data_start + info.data_offsets.0,
                    end: data_start + info.data_offsets.1,
                };
                let second = self.describe(&location);
                if let Some(earlier) = self.tensors.insert(name.clone(), location) {
                    return Err(Error::DuplicateTensor {
                        name,
                        first: self.describe(&earlier),
                        second,
                    });
                }
            }
            stored_names.insert(stored);
        }
        Ok(stored_names)
    }

    fn describe(&self, location: &Location) -> String {
        format!(
            "{} in {}",
            location.stored, self.shards[location.shard].file
        )
    }

    /// The file in which a parameter is stored.
    pub fn file_of(&self, name: &str) -> Option<&str> {
        let location = self.tensors.get(name)?;
        Some(&self.shards[location.shard].file)
    }

    /// Whether a parameter is stored, in whatever shape.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// A parameter by its canonical name.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::Shape`] if it has not `shape`,
    /// [`Error::Dtype`] if it is not bf16, f16 or f32.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<TensorView<'_>, Error> {
        let location = self.tensors.get(name).ok_or_else(|| Error::MissingTensor {
            name: name.into(),
            place: self.place.clone(),
            looked_for: (self.naming.accepted)(name).join(", "),
        })?;
        let shard = &self.shards[location.shard];
        if location.shape != shape {
            return Err(Error::Shape {
                name: location.stored.clone(),
                file: shard.file.clone(),
                expected: shape.to_vec(),
                found: location.shape.clone(),
            });
        }
        let element = match location.dtype {
            Dtype::BF16 => Element::Bf16,
            Dtype::F16 => Element::F16,
            Dtype::F32 => Element::F32,
            other => {
                return Err(Error::Dtype {
                    name: location.stored.clone(),
                    file: shard.file.clone(),
                    found: format!("{other:?}"),
                });
            }
        };
        Ok(TensorView {
            name: &location.stored,
            element,
            shape: &location.shape,
            bytes: &shard.bytes[location.start..location.end],
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

    /// Lets go of the memory that holds a tensor's pages, now that they have
    /// been used. Another look at them reads the file again.
    pub fn release(&self, tensor: &TensorView) {
        #[cfg(unix)]
        for shard in &self.shards {
            if let Bytes::Mapped(map) = &shard.bytes {
                let within = map.as_ptr_range();
                let start = tensor.bytes.as_ptr();
                if !tensor.bytes.is_empty() && within.contains(&start) {
                    let offset = start as usize - within.start as usize;
                    // SAFETY: the map is shared with the file and never
                    // written, so dropped pages come back with the same bytes.
                    // Advice may be refused; that costs memory, nothing else.
                    let _ = unsafe {
                        map.unchecked_advise_range(
                            memmap2::UncheckedAdvice::DontNeed,
                            offset,
                            tensor.bytes.len(),
                        )
                    };
                }
            }
        }
        #[cfg(not(unix))]
        let _ = tensor;
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
    if length > MOST_HEADER {
        return Err(header(format!(
            "its header would have {length} bytes, and at most {MOST_HEADER} are accepted"
        )));
    }
    // At most 100 MB, so it fits.
    let data_start = 8 + length as usize;
    let Some(json) = bytes.get(8..data_start) else {
        return Err(truncated(data_start as u64));
    };
    let metadata: Metadata =
        serde_json::from_slice(json).map_err(|error| header(error.to_string()))?;
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
    let json = source.read(INDEX, MOST_INDEX)?;
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
        if !is_plain_name(file) {
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

/// Whether `file` names something in the folder itself, on any system.
fn is_plain_name(file: &str) -> bool {
    let mut components = Path::new(file).components();
    let single = matches!(components.next(), Some(Component::Normal(name)) if name == file);
    single && components.next().is_none() && !file.contains(['/', '\\', ':', '\0'])
}
