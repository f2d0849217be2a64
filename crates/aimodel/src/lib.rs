//! Reader, writer, builder and verifier of Core AI .aimodel assets.
#![deny(missing_docs)]
mod asset;
mod attr;
mod build;
mod decompose;
mod error;
mod hashing;
mod literal;
mod locate;
mod ops;
mod print;
mod reduce;
mod rules;
mod schema;
mod shape;
mod staged;
mod summary;
mod types;
mod verify;
mod view;
pub use asset::{
    Asset, AssetMetadata, HASH, METADATA, PROGRAM, hex, open_asset, open_program, write_asset,
};
pub use attr::{Approximate, Attribute};
pub use build::{AssetBuilder, Body, Composite, Graph, GraphBuilder, PRODUCER};
pub use error::{Error, Result};
pub use mlir_bytecode::{self, Blob, BlobSource, Module, ResourceId, Value};
pub use print::{Form, print_ir};
pub use schema::{AiCode, Builtin, DIALECT_VERSION, NAMESPACE};
pub use staged::StagedDir;
pub use summary::{Function, GraphSummary, Parameter, Storage, Summary};
pub use types::{Dim, ElementType, TensorType, Type};
pub use verify::verify;
pub use view::{GraphView, graphs};
