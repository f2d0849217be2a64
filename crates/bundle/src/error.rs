//! What can be wrong with a bundle.

/// The result of an operation on bundles.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a bundle cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder cannot be read.
    #[error(transparent)]
    File(#[from] fsutil::Error),
    /// A key of the manifest is absent or has an unusable value.
    #[error("{file}: {key}: expected {expected}, {found}")]
    Manifest {
        /// The file.
        file: String,
        /// The key, with its section: `language.vocab_size`.
        key: String,
        /// What was expected.
        expected: &'static str,
        /// What was found.
        found: String,
    },
    /// The manifest does not state how pictures are cut.
    #[error(
        "{0}; the bundle does not state how pictures are cut for it, as those of earlier versions: \
         export it again"
    )]
    Geometry(#[from] crate::GeometryError),
    /// Something that a bundle consists of is missing.
    #[error("{path}: {problem}", path = .path.display())]
    Missing {
        /// Where it was looked for.
        path: std::path::PathBuf,
        /// What is missing, and what to do.
        problem: String,
    },
    /// A time that `YYYY` cannot state.
    #[error("{0} seconds since 1970 are after the year 9999")]
    Date(u64),
}
