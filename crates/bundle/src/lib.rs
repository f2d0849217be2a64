//! Bundles: the folders that a host opens.
//!
//! A bundle is a folder with a [`Manifest`] (`metadata.json`), the tokenizer's
//! files and the assets that its [`Layout`] says. [`BundleName`] and
//! [`VisionName`] name folders, [`contract`] has the names of the graphs' inputs,
//! states and outputs, [`CallShape`] says how many tokens a call of the decoder
//! takes, and [`PictureGeometry`] how pictures are cut.
//!
//! A further layout is a variant of [`Layout`], the name of its folders in
//! `name.rs`, and names of its graphs' inputs in [`contract`].
//!
//! ```no_run
//! use bundle::Bundle;
//!
//! let bundle = Bundle::at("exports/nano_decode_int8hu_s1");
//! let manifest = bundle.manifest()?;
//! let geometry = manifest.geometry()?;
//! println!("{} tokens a picture", geometry.image_tokens);
//! # Ok::<(), bundle::Error>(())
//! ```
#![deny(missing_docs)]

mod call_shape;
pub mod contract;
mod date;
mod error;
mod folder;
mod geometry;
mod layout;
mod manifest;
mod name;

pub use call_shape::{CallShape, UnknownCallShape};
pub use date::iso_date;
pub use error::{Error, Result};
pub use folder::{Bundle, Selector, TOKENIZER, bundles_in};
pub use geometry::{GeometryError, PictureGeometry};
pub use layout::{AssetRole, LLM, Layout, VLM};
pub use manifest::{
    Compilation, Compression, Language, MANIFEST, Manifest, NewManifest, Origin, VERSION, Vision,
};
pub use name::{BundleName, MAX_MODEL_NAME, NotABundleName, VisionName, asset_name, short_name};
