//! What the tests of several crates use: an allocator that counts, folders to
//! copy and compare, safetensors files to change, and behind features the nano
//! checkpoint's bundles, stand-ins for the tools that the gates ask, and a hub
//! on loopback.
//!
//! It is a dev-dependency and part of no product. Everything panics where a
//! test would fail.
#![deny(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod alloc;
mod check;
mod folder;
#[cfg(feature = "gate")]
pub mod gate;
#[cfg(feature = "hub")]
pub mod hub;
#[cfg(feature = "nano")]
pub mod nano;
mod noise;
pub mod tensors;

pub use check::{assert_contains, assert_one_line};
pub use folder::{
    Tree, copy_folder, edit_json, foreign_bundle, names, read_json, repository, tree,
};
pub use noise::{Noise, noise, recorded_level};
