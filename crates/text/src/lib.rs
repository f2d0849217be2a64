//! Text to tokens and back: a checkpoint's tokenizer and its chat template.
//!
//! [`ChatTemplate`] writes a [`Conversation`] as the checkpoint expects it,
//! [`Tokenizer`] encodes and decodes and knows which tokens end an answer, and
//! [`DecodeStream`] decodes tokens that arrive one by one.
//!
//! ```
//! use checkpoint::{Source, TokenizerFiles};
//! use text::{ChatTemplate, Conversation, DecodeStream, Tokenizer};
//!
//! let files = TokenizerFiles::load(&Source::nano())?;
//! let (template, tokenizer) = (ChatTemplate::find(&files)?, Tokenizer::load(&files)?);
//! let question = Conversation::<()>::question("count from one to five .", []);
//! let prompt = template.render(&question)?;
//! assert!(prompt.contains("count from one to five ."));
//!
//! let ids = tokenizer.encode("one two three")?;
//! let (mut stream, mut text) = (DecodeStream::new(), String::new());
//! for id in ids {
//!     text += &stream.push(&tokenizer, id)?;
//! }
//! text += &stream.finish(&tokenizer)?;
//! assert_eq!(text, "one two three");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
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
