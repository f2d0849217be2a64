//! From a prompt to tokens: the loop around an exported decoder.
#![deny(missing_docs)]

mod decoder;
mod error;
mod sampler;

pub use decoder::{Decoder, Image, Session, Step};
pub use error::{Error, Result};
pub use sampler::{Sampler, Sampling, argmax};
