//! The gate chain: says, with evidence, whether exported bundles are the model
//! that they claim to be.
//!
//! Each [`Stage`] proves one link, and none trusts the one before it. What a
//! run finds is a [`Transcript`]: plain data, from which the report and the
//! model card of a release are made.
#![deny(missing_docs)]

pub mod lint;
pub mod transcript;

pub use transcript::{Stage, Transcript, Verdict};
