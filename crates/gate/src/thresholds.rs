//! What must hold: one TOML file of `gates/` for each set of gates.

use std::path::Path;

use serde::Deserialize;

use crate::{Error, Result};

/// Thresholds and prompts.
///
/// ```
/// let gates = gate::Gates::parse(
///     "nano",
///     r#"
///     margin = 0.1
///     steps = 24
///     ladder = { cosine = 0.9999, greedy = 16 }
///     execute = { cosine = 0.999, greedy = 16 }
///     engine = { tokens = 24, largest_mb = 64 }
///     device = { tokens = 24, runs = 3 }
///
///     [[prompts]]
///     name = "count"
///     text = "count from one to twenty ."
///     "#,
/// )?;
/// assert_eq!(gates.execute.greedy, 16);
/// # Ok::<(), gate::Error>(())
/// ```
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gates {
    /// The set's name: that of its file.
    #[serde(skip)]
    pub name: String,
    /// SHA-256 of its text, in hexadecimal: a transcript says by it which
    /// thresholds applied.
    #[serde(skip)]
    pub sha256: String,
    /// By how many logits the best token must lead for a gate to rely on it;
    /// where it leads by less, another token is forgiven.
    pub margin: f32,
    /// Greedy tokens that an oracle of these gates records; 0 where weights are
    /// random, and cosines alone can be judged.
    pub steps: usize,
    /// The fp32 model against the oracle.
    pub ladder: Compared,
    /// The asset in our runtime against the oracle.
    #[serde(alias = "gpu")]
    pub execute: Compared,
    /// Our loop against Core AI's.
    pub engine: Engine,
    /// A device against our loop.
    pub device: Device,
    /// What is asked.
    pub prompts: Vec<Prompt>,
}

/// What a comparison with the oracle must reach.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compared {
    /// The min cosine of any row.
    pub cosine: f64,
    /// Greedy tokens that must be equal.
    pub greedy: usize,
}

/// What the comparison with Core AI's runtime must reach.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Engine {
    /// Tokens that must be equal.
    pub tokens: usize,
    /// The max size of a decoder, in MB of its program, that Core AI's runtime is
    /// asked to run on a CPU: it takes minutes a token beyond.
    #[serde(rename = "largest_mb")]
    pub max_mb: u64,
}

/// What a device must reach.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Tokens that must be equal in each run.
    pub tokens: usize,
    /// How many runs.
    pub runs: usize,
}

/// A prompt that the gates ask.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prompt {
    /// Its name, which names the oracle's files.
    pub name: String,
    /// What the user says.
    pub text: String,
    /// A picture, as seen from the folder above the set's file.
    pub image: Option<String>,
}

/// The max size of a set of gates, in bytes.
const MAX_BYTES: u64 = 1 << 20;

impl Gates {
    /// Reads a file; the set is called what the file is.
    ///
    /// # Errors
    /// A file that cannot be read, or as [`Gates::parse`].
    pub fn load(path: &Path) -> Result<Gates> {
        let text = fsutil::read_text(path, MAX_BYTES)?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        Gates::parse(&name, &text)
    }

    /// Reads a set from TOML.
    ///
    /// # Errors
    /// TOML that is not a set, a bar that nothing or everything would pass, or
    /// prompts whose names cannot be files'.
    pub fn parse(name: &str, toml: &str) -> Result<Gates> {
        let wrong = |problem: String| Error::input(format!("gates {name}"), problem);
        let mut gates: Gates = toml::from_str(toml).map_err(|error| wrong(error.to_string()))?;
        gates.name = name.to_owned();
        // As git stores it, whatever a checkout made of its ends of lines.
        let text = toml.replace("\r\n", "\n");
        gates.sha256 = fsutil::sha256(text.as_bytes());
        for (stage, bar) in [("ladder", gates.ladder), ("execute", gates.execute)] {
            if !(0.9..1.0).contains(&bar.cosine) {
                return Err(wrong(format!(
                    "{stage}.cosine is {}, expected 0.9 or more and less than 1",
                    bar.cosine
                )));
            }
            if gates.steps > 0 && !(1..=gates.steps).contains(&bar.greedy) {
                return Err(wrong(format!(
                    "{stage}.greedy is {}, expected 1 to the {} steps of the oracle",
                    bar.greedy, gates.steps
                )));
            }
        }
        if !(gates.margin > 0.0 && gates.margin.is_finite()) {
            return Err(wrong(format!(
                "margin is {}, expected more than 0",
                gates.margin
            )));
        }
        if gates.engine.tokens == 0 || gates.device.tokens == 0 || gates.device.runs == 0 {
            return Err(wrong(
                "engine.tokens, device.tokens and device.runs must be 1 or more".to_owned(),
            ));
        }
        if gates.prompts.is_empty() {
            return Err(wrong(
                "there are no prompts; a set needs at least one".to_owned(),
            ));
        }
        for (index, prompt) in gates.prompts.iter().enumerate() {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            if prompt.name.is_empty() || !prompt.name.chars().all(plain) {
                return Err(wrong(format!(
                    "the prompt {:?} is called with something else than letters, digits, - and _",
                    prompt.name
                )));
            }
            if gates.prompts[..index]
                .iter()
                .any(|other| other.name == prompt.name)
            {
                return Err(wrong(format!("two prompts are called {:?}", prompt.name)));
            }
        }
        Ok(gates)
    }
}
