//! Files, names and text of the outside world: one of each.
//!
//! [`read`] reads what somebody else wrote, within a limit; [`StagedDir`],
//! [`write_new`] and [`replace`] write folders and files that appear whole or not
//! at all; [`check_name`] and [`check_relative`] judge names; [`visible`] and
//! [`one_line`] make text safe for a terminal or a page; [`sha256_of_folder`]
//! hashes a folder.
#![deny(missing_docs)]

mod atomic;
mod digest;
mod error;
mod names;
mod read;
mod staged;
mod terminal;

pub use atomic::{check_new, replace, write_new};
pub use digest::{sha256, sha256_of_file, sha256_of_folder};
pub use error::{Error, Result};
pub use names::{check_name, check_relative};
pub use read::{read, read_text};
pub use staged::StagedDir;
pub use terminal::{is_unseen, one_line, size, visible};
