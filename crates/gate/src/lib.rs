//! The gates: they say, with evidence, whether exported bundles are the model
//! that they claim to be.
//!
//! Each [`Stage`] proves one thing, and none trusts the one before it. A
//! [`Candidate`] is what is judged, [`Gates`] are what must hold, [`run`] goes
//! through the stages, and what it finds is a [`Transcript`]: plain data, from
//! which the report and the model card of a release are made.
//!
//! This crate knows nothing of Python: what only transformers and Core AI's own
//! runtime can say is asked through [`ExternalTools`].
#![deny(missing_docs)]

mod candidate;
mod context;
pub mod device;
mod error;
mod evidence;
mod external_tools;
mod golden;
mod json;
pub mod lint;
mod named_prompt;
mod quantization;
pub mod report;
mod run;
mod stages;
mod thresholds;
pub mod transcript;

pub use candidate::{Candidate, Exported};
pub use context::{Context, CoreAi, NoOracle, Recordings, Settings, device_name};
pub use error::{Error, Result};
pub use evidence::Evidence;
pub use external_tools::{ExternalTools, Outcome, Recording};
pub use golden::{Answer, Answers};
pub use named_prompt::NamedPrompt;
pub use run::run;
pub use thresholds::{Compared, Device, Engine, Gates, Prompt};
pub use transcript::{Stage, StageReport, Transcript, Verdict};
