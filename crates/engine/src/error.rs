//! What can go wrong.

/// Why a model cannot be opened, or a prompt cannot be answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A program that cannot be loaded or run.
    #[error(transparent)]
    Runtime(#[from] runtime::Error),
    /// The asset is not a decoder that this crate can drive, or inputs do not
    /// fit it.
    #[error("{0}")]
    Decoder(String),
    /// Settings of a sampler that mean nothing.
    #[error("{0}")]
    Sampling(String),
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::Runtime(error.into())
    }
}

/// Shorthand.
pub type Result<T, E = Error> = std::result::Result<T, E>;
