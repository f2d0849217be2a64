//! Recorded oracles: what transformers computes in fp32 for a checkpoint's
//! prompts, as `oracles/capture.py` writes it.
//!
//! ```no_run
//! use checkpoint::Source;
//! use models::qwen3_vl;
//! use reference::oracle::Oracle;
//!
//! let oracle = Oracle::open("oracles/nano/recorded")?;
//! oracle.check(&qwen3_vl::open(&Source::nano())?)?;
//! for entry in &oracle.prompts {
//!     let recorded = oracle.read(entry)?;
//!     assert_eq!(recorded.greedy_ids.len(), oracle.steps);
//! }
//! # Ok::<(), reference::Error>(())
//! ```

use crate::Error;
use checkpoint::Checkpoint;
use models::Grid;
use ndarray::{Array, Array1, Array2, Array3, Array5, Dimension, IxDyn};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The version of the files that is understood.
pub const VERSION: u64 = 1;
/// By how many logits every greedy token of an oracle leads, at least.
pub const MIN_MARGIN: f32 = 0.1;

/// More than any index has, in bytes.
const MAX_INDEX: u64 = 1 << 24;
/// More than any recording has, in bytes: one of 28 layers and 240 tokens has
/// 0.3 GB.
const MAX_RECORDING: u64 = 1 << 33;

/// A folder of recorded prompts of one checkpoint.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Oracle {
    folder: PathBuf,
    /// What it calls the model.
    pub model: String,
    /// SHA-256 of the weights: [`Checkpoint::digest`].
    pub checkpoint: String,
    /// The version of transformers that computed it.
    pub transformers: String,
    /// G: greedy tokens of each prompt. With none, no position is gated, and
    /// what was recorded is compared by cosine alone.
    pub steps: usize,
    /// The prompts, in the index's order.
    pub prompts: Vec<Entry>,
}

/// A prompt of the index.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// The user's message.
    pub prompt: String,
    /// What the greedy tokens say, special tokens written out.
    pub greedy_text: String,
    /// P: tokens of the prompt.
    pub prompt_tokens: usize,
    /// The image, if there is one.
    pub image: Option<Image>,
    file: String,
    sha256: String,
}

/// The image of a prompt.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Image {
    /// Name of the picture's file.
    pub file: String,
    /// H and W in merged tokens.
    pub grid: Grid,
    /// The place of its first token.
    pub start: usize,
    /// SHA-256 of the recorded patches.
    pub patches_sha256: String,
}

/// What transformers computed for a prompt of P tokens and G greedy ones,
/// T = P + max(G, 1) − 1.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Recorded {
    /// T tokens as transformers has them: the prompt, then all greedy tokens
    /// but the last.
    pub input_ids: Vec<u32>,
    /// (t, h, w) of each.
    pub positions: Vec<[i32; 3]>,
    /// G tokens.
    pub greedy_ids: Vec<u32>,
    /// [L, P, h]: after each decoder layer, and what is added to its output.
    pub hidden_states: Array3<f32>,
    /// [L, 1, KV, P, D]: the cache after the prompt.
    pub keys: Array5<f32>,
    /// [L, 1, KV, P, D].
    pub values: Array5<f32>,
    /// [T, V].
    pub logits: Array2<f32>,
    /// By how much the largest of each of the T rows of logits leads.
    pub margins: Vec<f32>,
    /// What belongs to the image, if there is one.
    pub vision: Option<RecordedVision>,
}

/// The vision encoder's part of [`Recorded`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RecordedVision {
    /// [4N, C · T · P · P]: pixel levels x / 127.5 − 1, from their 8 bits.
    pub patches: Array2<f32>,
    /// [N, h].
    pub image_embeds: Array2<f32>,
    /// [K · N, h]: tap 0's rows, then tap 1's, and so on.
    pub deepstack_embeds: Array2<f32>,
}

impl Oracle {
    /// Reads the index of a folder.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Json`], or [`Error::Oracle`] if it is of another
    /// version or lacks a key.
    pub fn open(folder: impl AsRef<Path>) -> Result<Oracle, Error> {
        let folder = folder.as_ref().to_path_buf();
        let path = folder.join("index.json");
        let file = path.display().to_string();
        let json = fsutil::read(&path, MAX_INDEX)?;
        let root: Value = serde_json::from_slice(&json).map_err(|error| Error::Json {
            file: file.clone(),
            message: error.to_string(),
        })?;
        let version = root.get("version").and_then(Value::as_u64);
        if version != Some(VERSION) {
            return Err(Error::Oracle {
                message: format!("its version is {version:?}, expected {VERSION}"),
                file,
            });
        }
        let read = Keys { file: &file };
        let prompts = read.list(&root, "prompts")?;
        Ok(Oracle {
            model: read.text(&root, "model")?,
            checkpoint: read.text(&root, "checkpoint")?,
            transformers: read.text(&root["made_with"], "transformers")?,
            steps: read.count(&root, "steps")?,
            prompts: prompts
                .iter()
                .map(|prompt| read.entry(prompt))
                .collect::<Result<_, _>>()?,
            folder,
        })
    }

    /// Checks that it was recorded of this checkpoint.
    ///
    /// # Errors
    /// [`Error::Oracle`] if the weights are others.
    pub fn check(&self, checkpoint: &Checkpoint) -> Result<(), Error> {
        let found = checkpoint.digest();
        if found != self.checkpoint {
            return Err(Error::Oracle {
                file: self.folder.join("index.json").display().to_string(),
                message: format!(
                    "it was recorded of weights with SHA-256 {}, and those of the checkpoint \
                     have {found}",
                    self.checkpoint
                ),
            });
        }
        Ok(())
    }

    /// Reads what was recorded for a prompt.
    ///
    /// # Errors
    /// [`Error::File`], or [`Error::Oracle`] if the file is not the one that the
    /// index means, if a tensor is missing or has an unexpected shape, or if a
    /// greedy token leads by less than [`MIN_MARGIN`].
    pub fn read(&self, entry: &Entry) -> Result<Recorded, Error> {
        let path = self.folder.join(&entry.file);
        let file = path.display().to_string();
        let wrong = |message: String| Error::Oracle {
            file: file.clone(),
            message,
        };
        let bytes = fsutil::read(&path, MAX_RECORDING)?;
        let found = fsutil::sha256(&bytes);
        if found != entry.sha256 {
            return Err(wrong(format!(
                "its SHA-256 is {found}, and that of the index is {}",
                entry.sha256
            )));
        }
        let tensors = SafeTensors::deserialize(&bytes).map_err(|error| wrong(error.to_string()))?;
        let stored = Stored {
            tensors,
            file: &file,
        };
        let (prompt, greedy) = (entry.prompt_tokens, self.steps);
        let total = prompt + greedy.max(1) - 1;
        let logits = stored.floats("logits", &[Some(total), None])?;
        let hidden_states: Array3<f32> =
            stored.floats("hidden_states", &[None, Some(prompt), None])?;
        let (layers, _, width) = hidden_states.dim();
        let (layers, width) = (Some(layers), Some(width));
        let cache = [layers, Some(1), None, Some(prompt), None];
        let places: Array2<i32> = stored.integers("position_ids", &[Some(3), Some(total)])?;
        let margins: Array1<f32> = stored.floats("margins", &[Some(total)])?;
        let tokens = |values: Array1<i32>| values.iter().map(|id| *id as u32).collect();
        let recorded = Recorded {
            input_ids: tokens(stored.integers("input_ids", &[Some(total)])?),
            positions: places
                .columns()
                .into_iter()
                .map(|place| [place[0], place[1], place[2]])
                .collect(),
            greedy_ids: tokens(stored.integers("greedy_ids", &[Some(greedy)])?),
            keys: stored.floats("keys", &cache)?,
            values: stored.floats("values", &cache)?,
            margins: margins.to_vec(),
            vision: match &entry.image {
                None => None,
                Some(image) => {
                    let count = image.grid[0] * image.grid[1];
                    Some(RecordedVision {
                        patches: stored.levels("patches", &[Some(4 * count), None])?,
                        image_embeds: stored.floats("image_embeds", &[Some(count), width])?,
                        deepstack_embeds: stored.floats("deepstack_embeds", &[None, width])?,
                    })
                }
            },
            hidden_states,
            logits,
        };
        let mut gated = prompt - 1..prompt - 1 + greedy;
        if let Some(step) = gated.position(|at| recorded.margins[at] < MIN_MARGIN) {
            return Err(wrong(format!(
                "greedy token {step} leads by {} logits, at least {MIN_MARGIN} is needed",
                recorded.margins[prompt - 1 + step]
            )));
        }
        Ok(recorded)
    }
}

/// Reads keys of the index.
struct Keys<'a> {
    file: &'a str,
}

impl Keys<'_> {
    fn absent(&self, key: &str, kind: &str) -> Error {
        Error::Oracle {
            file: self.file.into(),
            message: format!("{key} is absent or is not {kind}"),
        }
    }

    fn text(&self, of: &Value, key: &str) -> Result<String, Error> {
        let text = of.get(key).and_then(Value::as_str).map(String::from);
        text.ok_or_else(|| self.absent(key, "a string"))
    }

    /// A number that no oracle exceeds.
    fn count(&self, of: &Value, key: &str) -> Result<usize, Error> {
        let count = of.get(key).and_then(Value::as_u64);
        let count = count.filter(|count| *count < 1 << 24);
        let count = count.map(|count| count as usize);
        count.ok_or_else(|| self.absent(key, "a number of reasonable size"))
    }

    /// The same, and not 0.
    fn size(&self, of: &Value, key: &str) -> Result<usize, Error> {
        match self.count(of, key)? {
            0 => Err(self.absent(key, "a number from 1 on")),
            size => Ok(size),
        }
    }

    fn list<'v>(&self, of: &'v Value, key: &str) -> Result<&'v [Value], Error> {
        let list = of.get(key).and_then(Value::as_array);
        list.map(Vec::as_slice)
            .ok_or_else(|| self.absent(key, "a list"))
    }

    fn entry(&self, prompt: &Value) -> Result<Entry, Error> {
        let image = prompt
            .get("image")
            .map(|image| self.image(image))
            .transpose()?;
        let entry = Entry {
            name: self.text(prompt, "name")?,
            prompt: self.text(prompt, "prompt")?,
            greedy_text: self.text(prompt, "greedy_text")?,
            prompt_tokens: self.size(prompt, "prompt_tokens")?,
            image,
            file: self.text(prompt, "file")?,
            sha256: self.text(prompt, "sha256")?,
        };
        // A name of the folder itself, and nothing elsewhere.
        let plain = entry.file.strip_suffix(".safetensors");
        if plain.is_none_or(str::is_empty) || fsutil::check_name(&entry.file).is_err() {
            return Err(self.absent("file", "the name of a safetensors file beside the index"));
        }
        Ok(entry)
    }

    fn image(&self, image: &Value) -> Result<Image, Error> {
        let grid: Vec<usize> = self
            .list(image, "grid")?
            .iter()
            .filter_map(|side| side.as_u64().filter(|side| (1..1 << 12).contains(side)))
            .map(|side| side as usize)
            .collect();
        Ok(Image {
            file: self.text(image, "file")?,
            grid: grid
                .try_into()
                .map_err(|_| self.absent("grid", "two numbers from 1 on"))?,
            start: self.size(image, "start")?,
            patches_sha256: self.text(image, "patches_sha256")?,
        })
    }
}

/// Reads tensors of a prompt's file.
struct Stored<'a> {
    tensors: SafeTensors<'a>,
    file: &'a str,
}

impl Stored<'_> {
    /// Bytes and shape of a tensor; an extent of `None` may be any but 0.
    fn tensor(
        &self,
        name: &str,
        dtype: Dtype,
        shape: &[Option<usize>],
    ) -> Result<(&[u8], Vec<usize>), Error> {
        let wrong = |message: String| Error::Oracle {
            file: self.file.into(),
            message: format!("the tensor {name}: {message}"),
        };
        let tensor = self
            .tensors
            .tensor(name)
            .map_err(|error| wrong(error.to_string()))?;
        let fits = |(found, wanted): (&usize, &Option<usize>)| match wanted {
            Some(wanted) => found == wanted,
            None => *found > 0,
        };
        let found = tensor.shape();
        if found.len() != shape.len() || !found.iter().zip(shape).all(fits) {
            return Err(wrong(format!("its shape is {found:?}, expected {shape:?}")));
        }
        if tensor.dtype() != dtype {
            return Err(wrong(format!(
                "its type is {:?}, expected {dtype:?}",
                tensor.dtype()
            )));
        }
        Ok((tensor.data(), found.to_vec()))
    }

    fn floats<D: Dimension>(
        &self,
        name: &str,
        shape: &[Option<usize>],
    ) -> Result<Array<f32, D>, Error> {
        let (bytes, shape) = self.tensor(name, Dtype::F32, shape)?;
        let values = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b));
        self.array(name, shape, values.collect())
    }

    fn levels<D: Dimension>(
        &self,
        name: &str,
        shape: &[Option<usize>],
    ) -> Result<Array<f32, D>, Error> {
        let (bytes, shape) = self.tensor(name, Dtype::U8, shape)?;
        let values = bytes.iter().map(|level| f32::from(*level) / 127.5 - 1.0);
        self.array(name, shape, values.collect())
    }

    fn integers<D: Dimension>(
        &self,
        name: &str,
        shape: &[Option<usize>],
    ) -> Result<Array<i32, D>, Error> {
        let (bytes, shape) = self.tensor(name, Dtype::I32, shape)?;
        let values = bytes.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b));
        self.array(name, shape, values.collect())
    }

    fn array<T, D: Dimension>(
        &self,
        name: &str,
        shape: Vec<usize>,
        values: Vec<T>,
    ) -> Result<Array<T, D>, Error> {
        Array::from_shape_vec(IxDyn(&shape), values)
            .and_then(Array::into_dimensionality)
            .map_err(|error| Error::Oracle {
                file: self.file.into(),
                message: format!("the tensor {name}, of shape {shape:?}: {error}"),
            })
    }
}
