//! Where weights come from: the files of a checkpoint, mapped and not read.
//!
//! [`Source`] says where the files are: in a folder, on the Hugging Face hub
//! (feature `hub`), or embedded in the program. [`Checkpoint`] gives the weights
//! of its safetensors files by their canonical names, which a [`Naming`] of the
//! architecture derives from the stored ones. [`TokenizerFiles`] collects the
//! files that a bundle carries along. Nothing here knows an architecture.
//!
//! ```no_run
//! use checkpoint::{Checkpoint, Naming, Source};
//!
//! let source = Source::folder("checkpoints/my-fine-tune")?;
//! let as_stored = Naming {
//!     canonical: |name| Some(name.to_owned()),
//!     accepted: |name| vec![name.to_owned()],
//! };
//! let checkpoint = Checkpoint::open(&source, as_stored)?;
//! let table = checkpoint.tensor("model.embed_tokens.weight", &[512, 128])?;
//! assert_eq!(table.bytes().len(), 512 * 128 * table.element().size());
//! # Ok::<(), checkpoint::Error>(())
//! ```
#![deny(missing_docs)]

mod error;
#[cfg(feature = "hub")]
mod hub;
mod open;
mod source;
mod tokenizer_files;
mod weights;

pub use error::Error;
pub use quantize::Element;
pub use source::{Bytes, Source};
pub use tokenizer_files::TokenizerFiles;
pub use weights::{Checkpoint, Naming, Tensor};

/// The name of the file with the configuration.
pub const CONFIG: &str = "config.json";
