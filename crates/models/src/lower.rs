//! What the lowering of every family is made of: composite graphs that Apple's
//! compiler replaces by its own kernels, and weights as constants.

pub mod composite;
mod pair;
pub mod weights;

pub(crate) use crate::Error;

/// The result of lowering.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;
