//! Runs Core AI `.aimodel` assets with candle, from the file alone.
//!
//! [`Program`] loads an asset and makes its graphs ready, [`Function`] calls
//! one of them, and [`States`] hold what it keeps between calls.
//!
//! Floats are tensors of the type that the graph states. Everything is
//! computed in single precision and rounded at the end of each operation, as
//! Core AI's own runtime does on a processor. Integers and booleans, which say
//! where and how much, are computed on the host.
#![deny(
    missing_docs,
    clippy::undocumented_unsafe_blocks,
    clippy::missing_safety_doc
)]

mod backend;
mod error;
mod fuse;
mod graph;
mod kernel;
mod ops;
mod program;
mod states;
mod thread_pool;
mod value;

pub use backend::{argmax, cuda};
pub use candle_core;
pub use error::{Error, Result};
pub use program::{Accumulate, Function, Options, OutputRows, Program};
pub use states::States;
pub use thread_pool::ThreadPool;
