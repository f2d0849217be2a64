//! The architectures that can be exported, one module a family.
//!
//! A family knows its configuration, the names and shapes of its weights, how a
//! prompt becomes what its graph takes, and its positions.
//!
//! ```no_run
//! use checkpoint::Source;
//! use models::qwen3_vl::{self, Config, names};
//!
//! let source = Source::folder("checkpoints/my-fine-tune")?;
//! let config = Config::load(&source)?;
//! let weights = qwen3_vl::open(&source)?;
//! names::check(&weights, &config)?;
//! let text = &config.text_config;
//! let table = weights.tensor(names::EMBED_TOKENS, &[text.vocab_size, text.hidden_size])?;
//! assert_eq!(table.bytes.len(), text.vocab_size * text.hidden_size * table.element.size());
//! # Ok::<(), models::Error>(())
//! ```
#![deny(missing_docs)]

mod error;
mod lower;
mod prompt;
pub mod qwen3_vl;

pub use error::Error;
pub use prompt::{Grid, Placement, PromptWriter, TokenizedPrompt, prompt_writer};
