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
mod ir;
mod number;
mod read;
mod read_encoding;
mod read_ir;
mod write;

pub use blob::{Blob, BlobError, BlobSource};
pub use dialect::{Dialect, FieldReader};
pub use error::{Error, Result};
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

/// The bytecode version that this crate reads and writes.
pub const VERSION: u64 = 6;

/// How deep regions may nest, and attributes within attributes. Real files
/// stay below ten; the bound keeps a hostile file from exhausting the stack.
pub const MAX_DEPTH: usize = 64;

/// Section codes of the container.
mod section {
    pub const STRING: u8 = 0;
    pub const DIALECT: u8 = 1;
    pub const ATTR_TYPE: u8 = 2;
    pub const ATTR_TYPE_OFFSET: u8 = 3;
    pub const IR: u8 = 4;
    pub const RESOURCE: u8 = 5;
    pub const RESOURCE_OFFSET: u8 = 6;
    pub const DIALECT_VERSIONS: u8 = 7;
    pub const PROPERTIES: u8 = 8;
    pub const COUNT: usize = 9;

    /// The name of a section, for messages.
    pub fn name(code: u8) -> &'static str {
        match code {
            STRING => "string section",
            DIALECT => "dialect section",
            ATTR_TYPE => "attribute and type section",
            ATTR_TYPE_OFFSET => "attribute and type offset section",
            IR => "IR section",
            RESOURCE => "resource section",
            RESOURCE_OFFSET => "resource offset section",
            DIALECT_VERSIONS => "dialect version section",
            PROPERTIES => "properties section",
            _ => "unknown section",
        }
    }
}

/// Bits of the mask byte that precedes an operation.
mod op_mask {
    pub const ATTRIBUTES: u8 = 0x01;
    pub const RESULTS: u8 = 0x02;
    pub const OPERANDS: u8 = 0x04;
    pub const SUCCESSORS: u8 = 0x08;
    pub const REGIONS: u8 = 0x10;
    pub const USE_LIST_ORDERS: u8 = 0x20;
    pub const PROPERTIES: u8 = 0x40;
    pub const ALL: u8 = 0x7f;
}
