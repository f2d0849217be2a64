//! The published folder of a model: bundles, evidence, and a model card that is
//! made from both.
//!
//! A [`Recipe`] says what is released and what must be proven of it.
//! [`assemble()`] makes the folder from exported bundles and transcripts of the
//! gates; [`Release::open`] checks one, whoever made it; [`check_for_push`]
//! gives the [`Listing`] of what may be uploaded; [`differences`] compares it
//! with an export made anew.
//!
//! | in the folder | | held by |
//! |---|---|---|
//! | `gpu-pipelined/`, `apple/` | the bundles | `SHA256SUMS`, their metadata, the transcripts |
//! | `recipe.toml`, `gates.toml` | what was asked for | `SHA256SUMS` |
//! | `LICENSE`, `NOTICE` | the terms of the weights, what was changed | `SHA256SUMS` |
//! | `SHA256SUMS` | all of the above | [`rebuild`](differences) on any machine |
//! | `transcripts/` | what the gates found | the card, by hash |
//! | `README.md` | the card | made again, and compared |
//!
//! A module uses only those before it in this list: `error`, `names`, `path`,
//! `folder`, `sums`; `front_matter`, `licence`, `recipe`; `bundle`, `evidence`,
//! `release`; `card`, `check`; `rebuild`, `assemble`.
#![deny(missing_docs)]

mod assemble;
mod bundle;
mod card;
mod check;
mod error;
mod evidence;
pub mod folder;
mod front_matter;
mod licence;
pub mod names;
mod path;
mod rebuild;
mod recipe;
mod release;
pub mod sums;

pub use assemble::{Parts, assemble};
pub use bundle::Facts;
pub use card::render as render_card;
pub use check::check_for_push;
pub use error::{Error, Problem, Refusal, Result};
pub use evidence::{Evidence, file_name as transcript_name, publish};
pub use folder::{Entry, Listing};
pub use front_matter::FrontMatter;
pub use rebuild::{differences, exports};
pub use recipe::{Decoder, Given, Recipe, Vlm};
pub use release::Release;
