//! What can go wrong.

use std::path::PathBuf;

/// Why a model cannot be opened, or a prompt cannot be answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bundle is not what it should be.
    #[error(transparent)]
    Bundle(#[from] bundle::Error),
    /// An asset cannot be read.
    #[error(transparent)]
    Asset(#[from] aimodel::Error),
    /// An asset's program does not have the hash that the asset states: it was
    /// damaged or changed.
    #[error("{0}")]
    Damaged(String),
    /// An asset's program cannot be loaded, or is not one that can be driven.
    #[error("{path}: {source}", path = .path.display())]
    Program {
        /// The asset.
        path: PathBuf,
        /// Why.
        source: Box<Error>,
    },
    /// A program failed.
    #[error(transparent)]
    Runtime(#[from] runtime::Error),
    /// The tokenizer's files cannot be read.
    #[error(transparent)]
    Files(#[from] checkpoint::Error),
    /// The tokenizer or the chat template cannot be used.
    #[error("{path}: {source}", path = .path.display())]
    Tokenizer {
        /// The folder of the tokenizer's files.
        path: PathBuf,
        /// Why.
        source: models::Error,
    },
    /// A prompt cannot be made of a conversation.
    #[error(transparent)]
    Prompt(#[from] models::Error),
    /// The tokens of an answer cannot be decoded.
    #[error(transparent)]
    Text(#[from] text::Error),
    /// A picture cannot be cut into patches.
    #[error(transparent)]
    Picture(#[from] picture::Error),
    /// The asset lacks something that every decoder has.
    #[error("the asset is not a decoder of this project's exports: it lacks {0}")]
    NotADecoder(String),
    /// The asset lacks something that every vision encoder has.
    #[error("the asset is not a vision encoder of this project's exports: {0}")]
    NotAVisionEncoder(String),
    /// Parts of a bundle that do not belong together.
    #[error("{0}")]
    Mismatch(String),
    /// An input that is given has another shape than the decoder declares.
    #[error(
        "the decoder's input `{name}`: expected {expected}, found {found:?}; a picture must be \
         encoded by the vision encoder of the same export"
    )]
    Input {
        /// The input.
        name: String,
        /// Its type.
        expected: String,
        /// The shape that was given.
        found: Vec<usize>,
    },
    /// An input that is given and that the decoder does not declare.
    #[error("the decoder has no input `{name}`; it has {known}")]
    UnknownInput {
        /// The input.
        name: String,
        /// The static inputs that there are.
        known: String,
    },
    /// An input that a prompt with pictures needs and that nobody gives.
    #[error("the decoder's input `{name}` is not given; its vision encoder has no such output")]
    MissingInput {
        /// The input.
        name: String,
    },
    /// There are no tokens to read.
    #[error("there are no tokens to read")]
    NoTokens,
    /// A decoder that takes a fixed number of tokens a call, and fewer are left.
    #[error("`main` takes {takes} tokens at a time, and {left} are left")]
    Chunk {
        /// How many it takes.
        takes: usize,
        /// How many are left.
        left: usize,
    },
    /// A prompt that leaves no room for an answer.
    #[error(
        "the prompt has {tokens} tokens, and {model} was exported for a context of {context}, the \
         answer included; ask something shorter, or export it with a longer context"
    )]
    PromptTooLong {
        /// Tokens of the prompt.
        tokens: usize,
        /// The model's name.
        model: String,
        /// The longest context, in tokens.
        context: usize,
    },
    /// More pictures than the model takes.
    #[error("the conversation has {given} pictures, and {model} takes at most {max}")]
    TooManyPictures {
        /// How many there are.
        given: usize,
        /// The model's name.
        model: String,
        /// How many are possible.
        max: usize,
    },
    /// Settings of a sampler that mean nothing.
    #[error("{0}")]
    Sampling(String),
}

impl Error {
    /// An asset that lacks this.
    pub(crate) fn not_a_decoder(missing: &str) -> Self {
        Self::NotADecoder(missing.to_owned())
    }
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::Runtime(error.into())
    }
}

/// Shorthand.
pub type Result<T, E = Error> = std::result::Result<T, E>;
