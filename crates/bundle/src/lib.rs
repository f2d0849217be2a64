//! Bundles: the folders that a host opens.
//!
//! [`contract`] has the names of a graph's inputs, states and outputs, and
//! [`CallShape`] says how many tokens a call of the decoder takes.
#![deny(missing_docs)]

mod call_shape;
pub mod contract;

pub use call_shape::{CallShape, UnknownCallShape};
