//! What a host answers.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Result, json};

/// What a host answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceTranscript {
    /// [`VERSION`](super::VERSION).
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
    /// [`Prompt::digest`](super::Prompt::digest), computed on the host.
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
