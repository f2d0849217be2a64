//! What can go wrong.

use std::io;

/// Why something could not be fetched or published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not an id of a repository.
    #[error("{id:?} is not the id of a repository; expected organization/name")]
    Id {
        /// What was given.
        id: String,
    },
    /// Not a revision.
    #[error("{revision:?} is not a branch, tag or commit")]
    Revision {
        /// What was given.
        revision: String,
    },
    /// A variable of the environment that cannot be used.
    #[error("{name}: {message}")]
    Setting {
        /// The variable.
        name: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// The hub has no such thing.
    #[error("{what} is not on the hub{server_message}; check its spelling")]
    Missing {
        /// A repository, revision or file.
        what: String,
        /// The hub's message.
        server_message: String,
    },
    /// The hub requires a token.
    #[error(
        "the hub answers {status} for {what}{server_message}: it is private, gated, or not there at all; set \
         HF_TOKEN to a token that may use it, and accept its terms at {page} if it has any"
    )]
    Anonymous {
        /// A repository or file.
        what: String,
        /// The HTTP status.
        status: u16,
        /// The hub's message.
        server_message: String,
        /// Where its terms are.
        page: String,
    },
    /// The token does not suffice.
    #[error(
        "the hub answers {status} for {what}{server_message}: the token in use may not do this; accept the \
         terms at {page} if there are any, or set HF_TOKEN to a token that may"
    )]
    Denied {
        /// A repository or file.
        what: String,
        /// The HTTP status.
        status: u16,
        /// The hub's message.
        server_message: String,
        /// Where its terms are.
        page: String,
    },
    /// The hub does not answer.
    #[error("{endpoint} cannot be reached ({message}); check the network and HF_ENDPOINT")]
    Unreachable {
        /// The hub.
        endpoint: String,
        /// The network's error.
        message: String,
    },
    /// The hub answers, but not with what was asked for, again and again.
    #[error(
        "{endpoint} does not deliver {what}, after {tries} tries ({message}); try again later, what is done is kept"
    )]
    Busy {
        /// The hub.
        endpoint: String,
        /// What was asked for.
        what: String,
        /// How often it was asked for.
        tries: u32,
        /// What came last.
        message: String,
    },
    /// An answer that asking again does not change.
    #[error("the hub does not take the request for {what}: {message}")]
    Refused {
        /// What was asked for.
        what: String,
        /// What came.
        message: String,
    },
    /// A listing that cannot be right, or is hostile.
    #[error("the list of files of {repository} is not to be trusted: {message}")]
    Listing {
        /// The repository.
        repository: String,
        /// What is wrong with it.
        message: String,
    },
    /// Bytes that are not those that the hub states.
    #[error(
        "{file} arrived with other bytes than the hub states: its hash is {found}; nothing of it was \
         kept, try again, and if that fails too, ask whoever runs the hub or a proxy before it"
    )]
    Damaged {
        /// The file.
        file: String,
        /// Its hash.
        found: String,
    },
    /// The cache does not have a file, and the hub may not be asked.
    #[error("{file} is not in the cache {cache}, and the hub is not asked: {why}")]
    NotCached {
        /// The file, or the revision.
        file: String,
        /// The folder of the cache.
        cache: String,
        /// Why the hub is not asked.
        why: String,
    },
    /// A file of the cache whose bytes are not those that its name says.
    #[error("{file} in the cache is damaged; remove it, and it will be fetched again")]
    DamagedCache {
        /// Its path.
        file: String,
    },
    /// The disk.
    #[error("{path}: {source}{hint}")]
    Disk {
        /// The file.
        path: String,
        /// The system's error.
        source: io::Error,
        /// What to do about it.
        hint: &'static str,
    },
    /// A file that cannot be read or written.
    #[error(transparent)]
    File(#[from] fsutil::Error),
    /// A folder that cannot be published.
    #[error("{repository} is not published: {message}")]
    Push {
        /// The repository.
        repository: String,
        /// What is wrong.
        message: String,
    },
}

impl Error {
    pub(crate) fn disk(path: impl AsRef<std::path::Path>) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Disk {
            path: path.as_ref().display().to_string(),
            hint: match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    "; make room there, or set HF_HOME to a folder on another disk (what has arrived is kept)"
                }
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    "; set HF_HOME to a folder that can be written"
                }
                _ => "",
            },
            source,
        }
    }

    /// Whether the hub could not be asked, which says nothing about the
    /// repository.
    pub fn is_outage(&self) -> bool {
        matches!(self, Error::Unreachable { .. } | Error::Busy { .. })
    }
}
