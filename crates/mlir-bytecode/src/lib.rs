//! Reader and writer of [MLIR bytecode], version 6, generic over dialects.
//!
//! The container has no knowledge of any dialect. A [`Dialect`] implementation
//! says what a dialect's attributes, types and properties are made of, by
//! naming the kind of each [`Field`] as it is read. That is enough to hold a
//! file in memory as a [`Module`], to change it, and to number its tables.
//!
//! * [`read`] gives a [`Module`] and the [`Tables`] that the file was numbered
//!   with. Blobs are not copied. With the feature `mmap`, `open_mmap` does the
//!   same for a mapped file.
//! * [`Tables::number`] numbers a module from its IR alone, in the order of
//!   MLIR's own writer (`IRNumbering.cpp`).
//! * [`write()`] streams a module; blobs go from their [`BlobSource`] straight
//!   to the output.
//!
//! Ids ([`AttrId`], [`TypeId`], [`Value`] and so on) belong to one module.
//! Nothing panics on those of another one: lookups give `None`, and writing
//! gives an error where it can tell.
//!
//! ```
//! use mlir_bytecode::{Module, Operation, Tables};
//!
//! // A module with one op and no dialect-specific content at all.
//! let mut module = Module::new("docs");
//! let name = module.op_name("demo", "nothing", true);
//! let unknown = module.attribute(mlir_bytecode::Entry::text("demo", "loc"));
//! module.root = Operation::new(name, unknown);
//!
//! let mut bytes = Vec::new();
//! mlir_bytecode::write(&module, &Tables::number(&module)?, &mut bytes)?;
//! let (again, _) = mlir_bytecode::read(bytes.into(), &[])?;
//! assert_eq!(again.op_names[0].name.as_ref(), "nothing");
//! # Ok::<(), mlir_bytecode::Error>(())
//! ```
//!
//! [MLIR bytecode]: https://mlir.llvm.org/docs/BytecodeFormat/
#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(missing_docs, unsafe_code)]

/// The example of the README, as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod blob;
mod cursor;
mod dialect;
mod emit;
mod error;
mod format;
mod ir;
mod number;
mod read;
mod read_encoding;
mod read_ir;
mod write;

pub use blob::{Blob, BlobError, BlobSource};
pub use dialect::{Dialect, FieldReader};
pub use error::{Error, Result};
pub use format::{MAX_DEPTH, VERSION};
pub use ir::{
    AttrId, Block, BlockArgument, DialectId, DialectName, Encoding, Entry, ExternalResources,
    Field, Module, OpName, OpNameId, Operation, PropertiesId, Region, Resource, ResourceId,
    ResourceValue, Str, TypeId, UseListOrder, Value,
};
pub use number::Tables;
#[cfg(feature = "mmap")]
pub use read::open_mmap;
pub use read::read;
pub use write::write;
