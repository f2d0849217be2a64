//! Text to tokens and back: a checkpoint's tokenizer and its chat template.
//!
//! [`ChatTemplate`] writes messages as the checkpoint wants them, [`Tokenizer`]
//! encodes and decodes, knows which tokens end an answer, and streams the text
//! of tokens that come one by one.
#![deny(missing_docs)]

mod error;
mod template;
mod tokenizer;

pub use error::Error;
pub use template::ChatTemplate;
pub use tokenizer::{TextStream, Tokenizer};
