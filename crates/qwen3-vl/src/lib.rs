//! Qwen3-VL checkpoints: configuration, weights, tokenizer and prompt.
//!
//! [`Source`] says where the files of a checkpoint are, [`Config`] what
//! architecture they hold, [`Checkpoint`] gives the weights without reading
//! them all, and [`TokenizerFiles`] collects what a bundle carries along.
//! [`positions`] are those of M-RoPE, and [`oracle`] reads what transformers
//! computed. With the feature `model`, the module `model` is the network
//! itself in fp32.
//!
//! ```no_run
//! use qwen3_vl::{Checkpoint, Config, Source};
//!
//! let source = Source::folder("checkpoints/my-fine-tune")?;
//! let config = Config::load(&source)?;
//! let checkpoint = Checkpoint::open(&source)?;
//! checkpoint.check(&config)?;
//! let text = &config.text_config;
//! let table = checkpoint.tensor(
//!     qwen3_vl::names::EMBED_TOKENS,
//!     &[text.vocab_size, text.hidden_size],
//! )?;
//! assert_eq!(table.bytes.len(), text.vocab_size * text.hidden_size * table.element.size());
//! # Ok::<(), qwen3_vl::Error>(())
//! ```
#![deny(missing_docs)]

mod checkpoint;
mod config;
mod error;
pub mod image;
#[cfg(feature = "model")]
pub mod model;
pub mod names;
pub mod oracle;
pub mod positions;
mod prompt;
mod source;
pub mod synth;
mod template;
mod tokenizer;

pub use checkpoint::{Checkpoint, TensorView};
pub use config::{Config, TextConfig, VisionConfig};
pub use error::Error;
pub use prompt::{Chat, Prompt, Stream};
pub use quantize::Element;
pub use source::{Bytes, Source};
pub use template::ChatTemplate;
pub use tokenizer::TokenizerFiles;
