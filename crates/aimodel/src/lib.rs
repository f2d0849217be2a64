//! Core AI `.aimodel` assets: reading, building, verifying, printing, writing.
//!
//! An asset is a folder with a program, the hash of the program, and a JSON file
//! with metadata. The program is MLIR bytecode of the AICode dialect, the
//! stored form of the `coreai` dialect. Core AI's own library loads and runs
//! what this crate writes; no Apple software is needed to write it.
//!
//! * [`AssetBuilder`] builds a program graph by graph. The methods of
//!   [`GraphBuilder`] are the operations; they infer the types of their
//!   results, and write the decompositions that the dialect stores.
//! * [`write_asset`] writes a new folder, [`write_asset_into`] writes into one.
//!   Large constants are streamed from their [`BlobSource`].
//! * [`open_asset`] reads an asset, `open_asset_mmap` (feature `mmap`) maps its
//!   program, and [`Asset::check_hash`] compares its hash.
//! * [`Locations`] finds the debug locations that stop older assets from
//!   loading, and [`repair_asset`] rewrites such an asset without them.
//! * [`verify`] checks a program, [`Summary`] counts what it holds as Core AI's
//!   own summary does, [`print_ir`] prints it, [`diff`] compares two, and
//!   [`graphs`] gives access to the graphs for anything else.
//!
//! Whatever a file holds, nothing here panics, hangs, or takes memory beyond a
//! multiple of the file's size.
//!
//! ```
//! use aimodel::{AssetBuilder, AssetMetadata, ElementType, Summary, TensorType, verify};
//!
//! let mut asset = AssetBuilder::new();
//! let mut graph = asset.graph("main");
//! let x = graph.input("x", TensorType::fixed([2, 3], ElementType::F16))?;
//! let axis = graph.scalar_si32(1)?;
//! let y = graph.softmax(x, axis)?;
//! graph.finish(&[("y", y)])?;
//! let module = asset.finish()?;
//! verify(&module)?;
//!
//! let parent = tempfile::tempdir()?;
//! let dir = parent.path().join("softmax.aimodel");
//! aimodel::write_asset(&dir, &module, &AssetMetadata::new("docs", 0)?)?;
//! let again = aimodel::open_asset(&dir)?;
//! assert_eq!(Summary::of(&again.module)?.functions[0].name, "main");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(missing_docs, unsafe_code)]

/// The example of the README, as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod asset;
mod attr;
mod build;
mod decompose;
mod diff;
mod error;
mod hashing;
mod literal;
mod locate;
mod metadata;
mod ops;
mod print;
mod progress;
mod reduce;
mod repair;
mod rules;
mod schema;
mod shape;
mod summary;
mod types;
mod verify;
mod view;

pub use asset::{
    Asset, HASH, METADATA, PROGRAM, open_asset, open_program, write_asset, write_asset_into,
};
#[cfg(feature = "mmap")]
pub use asset::{open_asset_mmap, open_program_mmap};
pub use attr::{Approximate, Attribute, PaddingMode};
pub use build::{AssetBuilder, Composite, Graph, GraphBuilder};
pub use diff::{Difference, diff};
pub use error::{Error, Result};
pub use locate::{Locations, strip_locations};
pub use metadata::AssetMetadata;
pub use mlir_bytecode::{
    AttrId, Blob, BlobError, BlobSource, Block, BlockArgument, Module, Operation, Region, Resource,
    ResourceId, ResourceValue, Str, Tables, TypeId, Value,
};
pub use print::{Form, print_ir};
pub use progress::{Progress, ProgressFn};
pub use repair::repair_asset;
pub use schema::{AiCode, Builtin, DIALECT_VERSION, NAMESPACE};
pub use summary::{Function, GraphSummary, Parameter, Storage, Summary};
pub use types::{Dim, ElementType, TensorType, Type};
pub use verify::verify;
pub use view::{GraphView, graphs};
