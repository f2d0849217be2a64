//! The architectures that can be exported, one module a family.
//!
//! A [`Family`] reads a configuration and gives an [`Architecture`], which knows
//! the names, shapes and roles of its parameters, lowers decoder and vision
//! encoder to programs, and says how pictures are cut and where tokens stand. A
//! [`PromptWriter`] writes conversations as its decoder reads them. What the
//! lowering of every family is made of is in `lower`.
//!
//! ```no_run
//! use bundle::{CallShape, Layout};
//! use checkpoint::Source;
//! use quantize::Recipe;
//!
//! let source = Source::folder("checkpoints/my-fine-tune")?;
//! let architecture = models::open(&source)?;
//! let weights = models::open_weights(&source, architecture.as_ref())?;
//! architecture.check(&weights)?;
//! let layout = Layout::Pipelined(CallShape::One);
//! let programs = architecture.lower(&weights, Recipe::F16, layout, 14)?;
//! # Ok::<(), models::Error>(())
//! ```
#![deny(missing_docs)]

mod architecture;
mod contract;
mod error;
mod families;
mod lower;
mod prompt;
pub mod qwen3_vl;
pub mod synth;

pub use architecture::{
    Architecture, Family, NewPromptWriter, Parameter, ParsedArchitecture, Role,
};
pub use contract::{Contract, Port};
pub use error::Error;
#[cfg(feature = "hub")]
pub use families::open_source_with_progress;
pub use families::{FAMILIES, known_license, open, open_source, open_weights, prompt_writer};
pub use prompt::{Grid, Placement, PromptWriter, TokenizedPrompt};
