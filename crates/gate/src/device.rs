//! The device stage: what a host app is asked, and what it answers.
//!
//! A [`Fixture`] is one JSON file that an app on a Mac or an iPhone reads: the
//! bundles that it must run, prompts as the decoder takes them, and the tokens
//! that our engine gives. The app writes a [`DeviceTranscript`], and [`judge()`]
//! says whether each run gave those tokens. docs/run-contract.md has the host's
//! side; conformance/device.py does the same in Core AI's runtime elsewhere.

use std::path::Path;

use aimodel::Asset;
use bundle::contract::{NO_IMAGE, ROPE_SHIFT_AMOUNT, ROPE_SHIFT_START};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{NamedPrompt, Result, json};

mod iphone;
mod judge;

pub use iphone::IPhone;
pub use judge::judge;

/// The version of both files.
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
                values: patches.to_le_bytes(),
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

/// What a host answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceTranscript {
    /// [`VERSION`].
    pub version: u32,
    /// The runtime and the machine in words: `coreai-core 1.0.0b3 on Linux`, or
    /// `Core AI on iPhone18,1, iOS 27.0 (24A5279h)`. Never empty.
    pub made_with: String,
    /// The machine.
    pub host: Host,
    /// What ran the decoder, such as `InferenceFunction.run, GPU` or
    /// `coreai-pipelined`.
    pub engine: String,
    /// The decoder's asset as the host found it.
    pub decoder: Loaded,
    /// The vision encoder's, if the host has loaded it.
    pub vision: Option<Loaded>,
    /// The prompts that were run.
    pub prompts: Vec<PromptRuns>,
}

/// The machine that a transcript comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Its kind.
    pub platform: Platform,
    /// The model identifier: `iPhone18,1`, `Mac16,5`, `x86_64`.
    pub model: String,
    /// The operating system and its version: `iOS 27.0`.
    pub os: String,
    /// The build of it: `24A5279h`.
    pub os_build: String,
}

/// Kinds of machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Platform {
    /// An iPhone or iPad.
    Ios,
    /// A Mac.
    Macos,
    /// The simulator of one of them, which has none of their delegates.
    Simulator,
    /// Core AI's library on Linux.
    Linux,
}

impl Platform {
    /// Whether it has the hardware that a bundle is made for.
    pub fn is_device(self) -> bool {
        matches!(self, Platform::Ios | Platform::Macos)
    }
}

/// An asset that a host has loaded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Loaded {
    /// The name of the `.aimodel` folder.
    pub name: String,
    /// SHA-256 of its `main.mlirb`, computed on the host.
    pub sha256: String,
    /// How long loading took, specialization included where it was not cached.
    pub load_seconds: f64,
}

/// All runs of a prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptRuns {
    /// The prompt's name in the fixture.
    pub name: String,
    /// [`Prompt::digest`], computed on the host.
    pub input: String,
    /// The runs, in their order.
    pub runs: Vec<Run>,
}

/// One run of a prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The tokens, as many as the fixture expects.
    pub tokens: Vec<u32>,
    /// How long the vision encoder took; absent without an image.
    pub vision_seconds: Option<f64>,
    /// From the first id that is fed to the first token.
    pub first_seconds: f64,
    /// From the first id that is fed to the last token.
    pub total_seconds: f64,
}

impl DeviceTranscript {
    /// Reads the file that a host has written.
    ///
    /// # Errors
    /// It cannot be read, or is not such a file.
    pub fn load(path: &Path) -> Result<Self> {
        json::read(path, "docs/run-contract.md says what a transcript holds")
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

#[cfg(test)]
mod tests {
    use super::{DeviceTranscript, Fixture, Patches, judge::tests::fixture};
    use crate::json::MAX_BYTES;

    /// What Swift's encoder writes: keys in another order, and none for what is
    /// nil.
    const TRANSCRIPT: &str = r#"{
        "decoder": {"load_seconds": 12, "name": "d.aimodel", "sha256": "00"},
        "engine": "InferenceFunction.run",
        "host": {"model": "m", "os": "iOS 27.0.0", "os_build": "24A1", "platform": "ios"},
        "made_with": "Core AI on m",
        "prompts": [{"input": "00", "name": "p", "runs": [
            {"first_seconds": 0.5, "tokens": [1, 2], "total_seconds": 1.25}
        ]}],
        "version": 1
    }"#;

    fn load(text: &str) -> Result<DeviceTranscript, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("transcript.json");
        std::fs::write(&path, text).unwrap();
        DeviceTranscript::load(&path).map_err(|error| {
            let text = error.to_string();
            assert!(text.contains("transcript.json"), "{text}");
            text
        })
    }

    #[test]
    fn a_transcript_may_leave_out_what_there_is_not() {
        let transcript = load(TRANSCRIPT).unwrap();
        assert_eq!(transcript.vision, None);
        assert_eq!(transcript.prompts[0].runs[0].vision_seconds, None);
        assert_eq!(transcript.prompts[0].runs[0].tokens, [1, 2]);
    }

    #[test]
    fn what_is_not_a_transcript_is_refused() {
        let unknown = TRANSCRIPT.replace("\"engine\"", "\"motor\"");
        assert!(
            load(&unknown)
                .unwrap_err()
                .contains("unknown field `motor`")
        );
        let unlabelled = TRANSCRIPT.replace("\"made_with\": \"Core AI on m\",", "");
        assert!(
            load(&unlabelled)
                .unwrap_err()
                .contains("missing field `made_with`")
        );
        let platform = TRANSCRIPT.replace("\"ios\"", "\"toaster\"");
        assert!(load(&platform).unwrap_err().contains("toaster"));
        let negative = TRANSCRIPT.replace("[1, 2]", "[-1]");
        assert!(load(&negative).is_err());
        let cut = &TRANSCRIPT[..TRANSCRIPT.len() / 2];
        assert!(load(cut).unwrap_err().contains("docs/run-contract.md"));
        let padded = format!("{TRANSCRIPT}{}", " ".repeat(MAX_BYTES as usize));
        assert!(load(&padded).unwrap_err().contains("at most"));
    }

    #[test]
    fn a_fixture_is_written_once_and_reads_the_same() {
        let fixture = fixture();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fixture.json");
        fixture.write(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(serde_json::from_str::<Fixture>(&text).unwrap(), fixture);
        assert!(fixture.write(&path).is_err());
        let left = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 1);
    }

    #[test]
    fn patches_are_base64() {
        let patches = Patches {
            rows: 1,
            columns: 2,
            values: vec![0, 0x3c, 0, 0xbc],
        };
        let text = serde_json::to_string(&patches).unwrap();
        assert_eq!(text, r#"{"rows":1,"columns":2,"values":"ADwAvA=="}"#);
        assert!(serde_json::from_str::<Patches>(&text.replace("A==", "!")).is_err());
    }
}
