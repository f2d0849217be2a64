//! What a host is asked.

use std::path::Path;

use aimodel::Asset;
use bundle::contract::{NO_IMAGE, ROPE_SHIFT_AMOUNT, ROPE_SHIFT_START};
use half::f16;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{NamedPrompt, Result, json};

/// The version of a fixture, and of the transcript that answers it.
pub const VERSION: u32 = 1;

/// What a host is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fixture {
    /// [`VERSION`].
    pub version: u32,
    /// The decoder's asset.
    pub decoder: AssetId,
    /// The vision encoder's.
    pub vision: AssetId,
    /// How often to run each prompt, at least; each run starts with an empty
    /// cache.
    pub runs: usize,
    /// The prompts, in the order in which to run them.
    pub prompts: Vec<Prompt>,
}

/// Which asset: the folder and what is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AssetId {
    /// The name of the `.aimodel` folder.
    pub name: String,
    /// SHA-256 of its `main.mlirb`, in lower-case hexadecimal digits, computed
    /// from the file and not read from `main.hash`.
    pub sha256: String,
}

/// A prompt, and what comes after it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prompt {
    /// What it is called; no two are called the same.
    pub name: String,
    /// Token ids; the image's token in slot k is V + k.
    pub ids: Vec<i32>,
    /// The decoder's input of that name.
    pub rope_shift_start: i32,
    /// The decoder's input of that name.
    pub rope_shift_amount: i32,
    /// What the vision encoder is given, if there is an image.
    pub patches: Option<Patches>,
    /// SHA-256 of all of the above: [`Prompt::digest`].
    pub input: String,
    /// The tokens that our engine gives, greedily; end tokens do not end them.
    pub expected: Vec<u32>,
    /// By how many logits each of them leads in the recorded oracle, as far as
    /// that says the same. Where it is little, either token may win.
    pub margins: Vec<f32>,
}

/// Patches of a picture, `[rows, columns]` of f16.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Patches {
    /// 4 N, in block-major order.
    pub rows: usize,
    /// 1536 for patches of 16 × 16 pixels.
    pub columns: usize,
    /// The values as they lie in memory, little-endian, row by row; base64 in
    /// the file.
    #[serde(with = "base64_bytes")]
    pub values: Vec<u8>,
}

impl Fixture {
    /// Writes it to a new file, whole or not at all.
    ///
    /// # Errors
    /// The file exists or cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        json::write_new(path, self)
    }
}

impl AssetId {
    /// Of an asset.
    pub fn of(asset: &Asset) -> Self {
        let name = asset.dir.file_name().unwrap_or_default();
        Self {
            name: name.to_string_lossy().into_owned(),
            // Opening it has shown that the program has the stated hash.
            sha256: hex::encode(asset.stated_hash),
        }
    }
}

impl Prompt {
    /// A prompt with its answer.
    pub fn new(asked: &NamedPrompt, expected: &[u32], margins: &[f32]) -> Self {
        let engine::Prompt { tokens, patches } = &asked.prompt;
        let mut prompt = Self {
            name: asked.name.clone(),
            ids: tokens.ids.clone(),
            rope_shift_start: tokens.input(ROPE_SHIFT_START).unwrap_or(NO_IMAGE),
            rope_shift_amount: tokens.input(ROPE_SHIFT_AMOUNT).unwrap_or(0),
            patches: patches.first().map(|patches| Patches {
                rows: patches.rows,
                columns: patches.cols,
                values: patches
                    .to_f16()
                    .into_iter()
                    .flat_map(f16::to_le_bytes)
                    .collect(),
            }),
            input: String::new(),
            expected: expected.to_vec(),
            margins: margins.to_vec(),
        };
        prompt.input = prompt.digest();
        prompt
    }

    /// SHA-256 of what the model is given, in lower-case hexadecimal digits:
    /// the number of ids, the ids, `rope_shift_start` and `rope_shift_amount`,
    /// each an i32 in little-endian order, and the bytes of the patches. A host
    /// computes it from what it feeds.
    pub fn digest(&self) -> String {
        let mut digest = Sha256::new();
        digest.update((self.ids.len() as i32).to_le_bytes());
        let shift = [self.rope_shift_start, self.rope_shift_amount];
        for number in self.ids.iter().chain(&shift) {
            digest.update(number.to_le_bytes());
        }
        if let Some(patches) = &self.patches {
            digest.update(&patches.values);
        }
        hex::encode(digest.finalize())
    }
}

/// Bytes as base64, as Swift's `Data` and Python's `base64` have them.
mod base64_bytes {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map_err(D::Error::custom)
    }
}
