//! Runs Core AI `.aimodel` assets with candle, from the file alone.
//!
//! [`Program`] loads an asset and makes its graphs ready, [`Function`] calls
//! one of them, and [`States`] hold what it keeps between calls.
//!
//! Floats are tensors of the dtype that the graph states. Everything is computed
//! in f32 and rounded at the end of each operation, as Core AI's own runtime
//! does on a CPU. Integers and booleans, which are positions and extents, are
//! computed on the host.
//!
//! Where to look: `graph` compiles a module to steps, `program` runs them, `ops`
//! has what each operation computes, `backend` the seam between operations and
//! devices, `kernel` the loops of the CPU, and `thread_pool` its threads.
#![deny(missing_docs)]

mod backend;
mod error;
mod fuse;
mod graph;
mod kernel;
mod ops;
mod options;
mod program;
mod states;
mod thread_pool;
mod value;

pub use backend::{argmax, cuda};
pub use candle_core;
pub use error::{Error, Result};
pub use options::{Accumulate, Options};
pub use program::{Function, OutputRows, Program};
pub use states::States;
pub use thread_pool::ThreadPool;
