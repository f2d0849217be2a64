//! Text to tokens and back: a checkpoint's tokenizer and its chat template.
//!
//! [`ChatTemplate`] writes a [`Conversation`] as the checkpoint expects it,
//! [`Tokenizer`] encodes and decodes and knows which tokens end an answer, and
//! [`DecodeStream`] decodes tokens that arrive one by one.
#![deny(missing_docs)]

mod conversation;
mod decode_stream;
mod error;
mod template;
mod tokenizer;

pub use conversation::{Conversation, Role, Turn};
pub use decode_stream::DecodeStream;
pub use error::Error;
pub use template::ChatTemplate;
pub use tokenizer::Tokenizer;
