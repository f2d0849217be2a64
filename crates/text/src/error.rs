//! What can be wrong with a tokenizer or a chat template.

/// Why a tokenizer, a chat template or a text was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The chat template is missing, or fails.
    #[error("{message}")]
    Template {
        /// What is wrong, and with which file.
        message: String,
    },
    /// The tokenizer cannot be used, or cannot encode or decode.
    #[error("{message}")]
    Tokenizer {
        /// What is wrong, and with which file.
        message: String,
    },
}
