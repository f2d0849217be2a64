//! The Hugging Face hub, over hf-hub: what hf-hub does not promise is added
//! here, so that nothing wrong is ever taken or published.
//!
//! [`Hub::repository`] resolves a revision to a commit and lists its files.
//! [`Repository::fetch`] brings files into the hub's usual cache, where Python's
//! huggingface_hub finds them, too. A download that breaks off goes on where
//! it ended, and every file is compared with the hash that the hub states for
//! it, each time: an LFS file with its SHA-256, another with its git id.
//! Without the network, a repository is what the cache has of it.
//!
//! [`Hub::push`] makes a repository equal to a folder in one commit, and then
//! compares what the hub lists with the folder.
//!
//! Names of files come from a server and are not trusted: none leads out of
//! the folder that it belongs to. Errors and events never contain the token.
//!
//! ```no_run
//! let hub = hub::Hub::new(hub::Settings::from_env()?)?;
//! let repository = hub.repository("Qwen/Qwen3-VL-2B-Instruct", "main", &|_| ())?;
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
#[cfg(feature = "server")]
pub mod server;
mod settings;

pub use client::Hub;
pub use content::Entry;
pub use download::Repository;
pub use error::Error;
pub use name::{is_repository_id, is_safe};
pub use push::{File, Plan, Push, Pushed};
pub use settings::{Settings, Token};

/// What happens meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// So many bytes of so many are done.
    At {
        /// Bytes that are there and checked, or sent.
        done: u64,
        /// All bytes.
        total: u64,
    },
    /// Something that explains why it takes longer, for people.
    Note(&'a str),
}

/// Who is told.
pub type Tell<'a> = &'a dyn Fn(Event<'_>);
