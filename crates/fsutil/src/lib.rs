//! Files and folders that appear whole or not at all.
#![deny(missing_docs)]

mod error;
mod staged;

pub use error::{Error, Result};
pub use staged::StagedDir;
