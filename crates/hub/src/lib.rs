//! A client of the Hugging Face hub, on top of hf-hub: it adds the checks that
//! hf-hub does not make, so that nothing wrong is downloaded or published.
//!
//! [`Hub::repository`] resolves a revision to a commit and lists its files.
//! [`Repository::fetch`] brings files into the hub's usual cache, where Python's
//! huggingface_hub finds them, too. An interrupted download is resumed, and every file is compared with the hash that the hub states for
//! it, each time: an LFS file with its SHA-256, another with its git id.
//! Without the network, a repository consists of what the cache has.
//!
//! [`Hub::push`] makes a repository equal to a folder in one commit, and then
//! compares what the hub lists with the folder.
//!
//! Names of files come from a server and are not trusted: none leads out of
//! the folder that it belongs to. Errors and progress never contain the token.
//!
//! ```no_run
//! let hub = hub::Hub::new(hub::Settings::from_env()?)?;
//! let repository = hub.repository("organization/model", "main", &|_| ())?;
//! repository.fetch(&["config.json"])?;
//! let config = repository.folder().join("config.json");
//! # Ok::<(), hub::Error>(())
//! ```
#![deny(missing_docs)]

mod cache;
mod client;
mod content;
mod download;
mod error;
mod name;
mod push;
mod retry;
mod settings;

pub use client::Hub;
pub use content::Entry;
pub use download::Repository;
pub use error::Error;
pub use name::{is_repository_id, is_safe};
pub use push::{File, Plan, Push, Pushed};
pub use settings::{Settings, Token};

/// How far a download or an upload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress<'a> {
    /// So many bytes of so many are done.
    Bytes {
        /// Bytes that are on disk and checked, or sent.
        done: u64,
        /// All bytes.
        total: u64,
    },
    /// Why it takes longer, for people.
    Note(&'a str),
}

/// The callback for [`Progress`].
pub type ProgressFn<'a> = &'a dyn Fn(Progress<'_>);
