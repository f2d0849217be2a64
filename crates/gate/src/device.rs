//! The device stage: what a host app is asked, and what it answers.
//!
//! A [`Fixture`] is one JSON file that an app on a Mac or an iPhone reads: the
//! bundles that it must run, prompts as the decoder takes them, and the tokens
//! that our engine gives. The app writes a [`DeviceTranscript`], and [`judge`]
//! says whether each run gave those tokens. docs/run-contract.md has the host's
//! side; conformance/device.py does the same in Core AI's runtime elsewhere.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{Read, Write},
    path::{Path, PathBuf},
};

use runtime::engine::{self, Engine, Image};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub mod devicectl;
mod judge;

pub use judge::judge;

/// The version of both files.
pub const VERSION: u32 = 1;

/// The largest transcript that is read, in bytes; 8 runs of two prompts take
/// some thousands.
const MOST_BYTES: u64 = 16 << 20;

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file that is not what it should be.
    #[error("{}: {source}; docs/run-contract.md says what belongs there", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A file beyond any sensible size.
    #[error("{} has more than {MOST_BYTES} bytes: it is no transcript", path.display())]
    Large {
        /// The file.
        path: PathBuf,
    },
    /// A transcript for another version of this tool.
    #[error(
        "the transcript has version {found}, expected {VERSION}: make it again with the host of \
         this version, from a new fixture"
    )]
    Version {
        /// Its version.
        found: u32,
    },
    /// A transcript that does not say where it comes from.
    #[error(
        "the transcript's `made_with` is empty: expected the runtime and the machine, such as \
         `coreai-core 1.0.0b3 on Linux`"
    )]
    Unlabelled,
    /// A transcript of another bundle.
    #[error(
        "the transcript is of another {which}: its main.mlirb has SHA-256 {found}, and the bundle \
         that is judged has {expected}; run the host on this bundle"
    )]
    Bundle {
        /// `decoder` or `vision encoder`.
        which: &'static str,
        /// The SHA-256 of the bundle that is judged.
        expected: String,
        /// What the host found.
        found: String,
    },
    /// A prompt that is not the fixture's.
    #[error("the transcript's prompt {name:?} {problem}; run the host on this fixture")]
    Prompt {
        /// Its name.
        name: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A fixture that would prove nothing.
    #[error("a fixture needs {0}")]
    Fixture(&'static str),
    /// The bundle does not open.
    #[error(transparent)]
    Asset(#[from] aimodel::Error),
    /// Our engine does not run the prompt.
    #[error(transparent)]
    Engine(#[from] runtime::Error),
    /// `xcrun devicectl` said no, or there is none.
    #[error("{line}: {problem}")]
    Tool {
        /// The command line.
        line: String,
        /// How it ended.
        problem: String,
    },
}

type Result<T> = std::result::Result<T, Error>;

/// What a host is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fixture {
    /// [`VERSION`].
    pub version: u32,
    /// The decoder's asset.
    pub decoder: AssetId,
    /// The vision encoder's, if a prompt has an image.
    pub vision: Option<AssetId>,
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
    /// By how many logits each of them leads. Where that is little, either
    /// token may win.
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
    /// A fixture for the assets at `decoder` and `vision`.
    ///
    /// # Errors
    /// An asset that does not open, nothing to run, or two prompts of one name.
    pub fn new(
        decoder: &Path,
        vision: Option<&Path>,
        runs: usize,
        prompts: Vec<Prompt>,
    ) -> Result<Self> {
        if runs == 0 || prompts.is_empty() {
            return Err(Error::Fixture("at least one prompt and one run"));
        }
        let mut names = BTreeSet::new();
        if !prompts.iter().all(|prompt| names.insert(&prompt.name)) {
            return Err(Error::Fixture("prompts of different names"));
        }
        Ok(Self {
            version: VERSION,
            decoder: AssetId::of(decoder)?,
            vision: vision.map(AssetId::of).transpose()?,
            runs,
            prompts,
        })
    }

    /// Writes it to a new file, whole or not at all.
    ///
    /// # Errors
    /// The file exists or cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(|source| json_error(path, source))?;
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let write = || {
            let mut builder = tempfile::Builder::new();
            // It becomes a file like any other, so others may read it.
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt;
                builder.permissions(std::fs::Permissions::from_mode(0o666));
            }
            let mut file = builder.tempfile_in(folder)?;
            writeln!(file, "{text}")?;
            file.persist_noclobber(path).map_err(|error| error.error)?;
            Ok(())
        };
        write().map_err(|source| io_error(path, source))
    }
}

impl AssetId {
    /// Of the `.aimodel` folder at `path`.
    fn of(path: &Path) -> Result<Self> {
        let name = path.file_name().unwrap_or_default();
        Ok(Self {
            name: name.to_string_lossy().into_owned(),
            sha256: aimodel::hex(&aimodel::open_asset(path)?.compute_hash()?),
        })
    }
}

impl Prompt {
    /// Asks our engine: `image` is what the vision encoder makes of `patches`.
    ///
    /// # Errors
    /// No tokens to ask for, or a call of the engine that fails.
    pub fn ask(
        name: &str,
        engine: &Engine,
        prompt: &qwen3_vl::Prompt,
        image: Option<(&Image, &qwen3_vl::image::Patches)>,
        tokens: usize,
    ) -> Result<Self> {
        if tokens == 0 {
            return Err(Error::Fixture("at least one token to ask for"));
        }
        let mut asked = Self {
            name: name.to_owned(),
            ids: prompt.ids.clone(),
            rope_shift_start: prompt.rope_shift_start,
            rope_shift_amount: prompt.rope_shift_amount,
            patches: image.map(|(_, patches)| Patches {
                rows: patches.rows,
                columns: patches.cols,
                values: patches.to_le_bytes(),
            }),
            input: String::new(),
            expected: Vec::new(),
            margins: Vec::new(),
        };
        asked.input = asked.digest();
        let mut session = engine.start(
            asked.rope_shift_start,
            asked.rope_shift_amount,
            image.map(|(image, _)| image),
        )?;
        let mut logits = session.read(&asked.ids)?;
        loop {
            let token = engine::best(&logits);
            asked.expected.push(token);
            asked.margins.push(lead(&logits, token));
            if asked.expected.len() == tokens {
                return Ok(asked);
            }
            logits = session.read(&[token as i32])?;
        }
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
        aimodel::hex(&digest.finalize())
    }
}

/// By how much the logit of `token` leads all others.
fn lead(logits: &[f32], token: u32) -> f32 {
    let others = logits.iter().enumerate();
    let others = others.filter(|(index, _)| *index != token as usize);
    let second = others.fold(f32::NEG_INFINITY, |most, (_, logit)| most.max(*logit));
    logits[token as usize] - second
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
    /// It cannot be read, or is no such file.
    pub fn load(path: &Path) -> Result<Self> {
        let mut text = Vec::new();
        File::open(path)
            .and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut text))
            .map_err(|source| io_error(path, source))?;
        if text.len() as u64 > MOST_BYTES {
            let path = path.to_owned();
            return Err(Error::Large { path });
        }
        serde_json::from_slice(&text).map_err(|source| json_error(path, source))
    }
}

fn io_error(path: &Path, source: std::io::Error) -> Error {
    let path = path.to_owned();
    Error::Io { path, source }
}

fn json_error(path: &Path, source: serde_json::Error) -> Error {
    let path = path.to_owned();
    Error::Json { path, source }
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
