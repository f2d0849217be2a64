//! Everything that can be wrong with a model.

/// Why a model was refused.
///
/// Files are named by path, or by name alone if they are embedded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of the checkpoint is missing or wrong.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// The tokenizer or the chat template cannot be used.
    #[error(transparent)]
    Text(#[from] text::Error),
    /// A file or folder is there already, or cannot be written.
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
    /// The configuration is for a model of another kind.
    #[error(
        "{file}: {key} is {found}, and only {expected} can be exported; \
         other architectures, mixture-of-experts ones included, are not supported"
    )]
    Architecture {
        /// The configuration file.
        file: String,
        /// The key.
        key: &'static str,
        /// Its value.
        found: String,
        /// The values that are supported.
        expected: String,
    },
    /// A key of the configuration is absent, or its value cannot be used.
    #[error("{file}: {key}: {message}")]
    Config {
        /// The configuration file.
        file: String,
        /// The key, with its section: `text_config.hidden_size`.
        key: String,
        /// What was expected and what was found.
        message: String,
    },
    /// The head is declared tied, and another head is stored.
    #[error(
        "config.json ties the head to the embedding table, and {file} holds a lm_head.weight \
         that differs from it; remove the tensor or set text_config.tie_word_embeddings to false"
    )]
    TiedHead {
        /// The file that holds the head.
        file: String,
    },
    /// The grid is 0 or beyond reason.
    #[error(
        "a grid of {grid} is not possible, expected 1 to {}",
        picture::MAX_GRID
    )]
    Grid {
        /// Merged image tokens along each side.
        grid: usize,
    },
    /// A prompt cannot be made or read.
    #[error("{message}")]
    Prompt {
        /// What is wrong, and with which file or text.
        message: String,
    },
    /// A parameter cannot be stored.
    #[error("{tensor}: {source}")]
    Weights {
        /// The parameter, or the parameters that are stored as one matrix.
        tensor: String,
        /// Why.
        source: quantize::Error,
    },
    /// A matrix whose input width blocks do not divide.
    #[error(
        "{tensor}: its input width is {cols}, which blocks of {block} do not divide; export fp16 instead"
    )]
    Width {
        /// The parameter.
        tensor: String,
        /// The width.
        cols: usize,
        /// Inputs that share a scale.
        block: usize,
    },
    /// A model that has no graph here.
    #[error("{0}")]
    Unsupported(String),
    /// A graph could not be made.
    #[error(transparent)]
    Graph(aimodel::Error),
}

impl From<aimodel::Error> for Error {
    /// A blob that could not be made gives its own error back.
    fn from(error: aimodel::Error) -> Self {
        match error {
            aimodel::Error::Blob(error) => match error.downcast::<Self>() {
                Ok(own) => *own,
                Err(other) => Self::Graph(aimodel::Error::Blob(other)),
            },
            other => Self::Graph(other),
        }
    }
}
