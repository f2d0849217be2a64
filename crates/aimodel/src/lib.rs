//! Reader, writer, builder and verifier of Core AI .aimodel assets.
#![deny(missing_docs)]
mod attr;
mod build;
mod decompose;
mod error;
mod locate;
mod ops;
mod reduce;
mod schema;
mod shape;
mod types;
pub use attr::{Approximate, Attribute};
pub use build::{AssetBuilder, Body, Composite, Graph, GraphBuilder, PRODUCER};
pub use error::{Error, Result};
pub use mlir_bytecode::{self, Blob, BlobSource, Module, ResourceId, Value};
pub use schema::{AiCode, DIALECT_VERSION, NAMESPACE};
pub use types::{Dim, ElementType, TensorType, Type};
