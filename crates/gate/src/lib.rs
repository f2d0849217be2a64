//! The gate chain: says, with evidence, whether exported bundles are the model
//! that they claim to be.
//!
//! Each [`Stage`] proves one link, and none trusts the one before it. A
//! [`Subject`] is what is judged, [`Gates`] are what must hold, [`run`] goes
//! through the stages, and what it finds is a [`Transcript`]: plain data, from
//! which the report and the model card of a release are made.
//!
//! This crate knows nothing of Python: what only transformers and Core AI's own
//! runtime can say is asked through [`Outside`].
#![deny(missing_docs)]

mod answers;
mod chain;
pub mod device;
mod error;
mod evidence;
mod json;
pub mod lint;
mod quantization;
pub mod report;
mod set;
mod stages;
mod subject;
pub mod transcript;

pub use answers::{Answer, Answers};
pub use chain::{
    Chain, CoreAi, NamedPrompt, NoOracle, Outcome, Outside, Recording, Recordings, Settings,
    device_name, run,
};
pub use error::{Error, Result};
pub use evidence::Evidence;
pub use json::temporary_beside;
pub use set::{Compared, Device, Engine, Gates, Prompt};
pub use subject::{Exported, Subject};
pub use transcript::{Stage, StageReport, Transcript, Verdict};
