//! The driver of an export: a checkpoint × its architecture × a recipe × a
//! layout of bundles becomes folders.
//!
//! What the graphs are is up to the [`models::Architecture`] of the checkpoint;
//! nothing here knows a model. Weights go from the mapped checkpoint through the
//! quantizer into the asset, a few megabytes at a time. All folders of an export
//! appear under their names, or none of them.
//!
//! ```no_run
//! use std::{ops::ControlFlow, path::Path, sync::Arc};
//!
//! use bundle::{CallShape, Layout};
//! use export::Options;
//! use quantize::Recipe;
//! use checkpoint::Source;
//!
//! let source = Source::folder("checkpoints/my-fine-tune")?;
//! let options = Options {
//!     recipe: Recipe::named("int8hu")?,
//!     layouts: vec![Layout::Pipelined(CallShape::One)],
//!     grid: 14,
//!     max_context: 4096,
//!     decoder: true,
//!     vision: true,
//!     name: None,
//!     license: Some("Apache-2.0".to_owned()),
//!     created: 0,
//! };
//! let progress = Arc::new(|done, total| {
//!     eprintln!("{done} of {total}");
//!     ControlFlow::Continue(())
//! });
//! for bundle in export::export(&source, Path::new("exports"), &options, progress)? {
//!     println!("{}", bundle.path.display());
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![deny(missing_docs)]

mod driver;
mod error;

pub use driver::{Exported, Options, PRODUCER, Progress, export};
pub use error::{Error, Result};
