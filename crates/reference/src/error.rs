//! What keeps a reference from being computed or read.

/// Why a reference cannot be computed or read.
///
/// Files are named by path, or by name alone if they are embedded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of the checkpoint is missing or wrong.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// The configuration or a prompt is wrong.
    #[error(transparent)]
    Model(#[from] models::Error),
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] fsutil::Error),
    /// A JSON file does not parse, or is not an object.
    #[error("{file} is not valid JSON: {message}")]
    Json {
        /// The file.
        file: String,
        /// The parser's message.
        message: String,
    },
    /// A recorded oracle cannot serve.
    #[error("{file}: {message}; record the oracle again with oracles/capture.py")]
    Oracle {
        /// The file.
        file: String,
        /// What is wrong.
        message: String,
    },
    /// The reference model was given inputs that it has no answer to.
    #[error("the reference model cannot run: {message}")]
    Input {
        /// What is wrong, and what was expected.
        message: String,
    },
    /// A computation of the reference model failed: memory or the device.
    #[error("the reference model failed at {what}: {message}")]
    Compute {
        /// What was being computed.
        what: String,
        /// candle's message.
        message: String,
    },
}
