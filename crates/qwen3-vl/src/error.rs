//! Everything that can be wrong with a checkpoint.

/// Why a checkpoint, or a part of it, was refused.
///
/// Files are named by path, or by name alone if they are embedded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused to read or write a file.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that every checkpoint has is absent.
    #[error("{place} has no {file}; is it a Qwen3-VL checkpoint?")]
    MissingFile {
        /// The folder.
        place: String,
        /// The file, or the files any of which would do.
        file: String,
    },
    /// A file is larger than any real one of its kind.
    #[error("{file} has {found} bytes, and at most {most} are accepted")]
    TooLarge {
        /// The file.
        file: String,
        /// Its size in bytes.
        found: u64,
        /// The limit in bytes.
        most: u64,
    },
    /// A JSON file does not parse, or is not an object.
    #[error("{file} is not valid JSON: {message}")]
    Json {
        /// The file.
        file: String,
        /// What the parser said.
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
        /// The key that says so.
        key: &'static str,
        /// Its value.
        found: String,
        /// The value that is supported.
        expected: &'static str,
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
    /// The header of a safetensors file is wrong.
    #[error("{file} is not a valid safetensors file: {message}")]
    Header {
        /// The file.
        file: String,
        /// What is wrong.
        message: String,
    },
    /// A safetensors file is shorter or longer than its header says.
    #[error(
        "{file} has {found} bytes and its header promises {expected}: \
         the download or copy is incomplete, fetch it again"
    )]
    Truncated {
        /// The file.
        file: String,
        /// Bytes that the header promises.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },
    /// The shard index is wrong.
    #[error("{file}: {message}")]
    Index {
        /// The index file.
        file: String,
        /// What is wrong.
        message: String,
    },
    /// The shard index names a file that is not there.
    #[error("{index} names the shard {shard}, which is absent; fetch the checkpoint again")]
    MissingShard {
        /// The index file.
        index: String,
        /// The shard.
        shard: String,
    },
    /// Two stored tensors are the same parameter.
    #[error("the tensor {name} is stored twice: as {first} and as {second}; remove one of them")]
    DuplicateTensor {
        /// The parameter's canonical name.
        name: String,
        /// File and stored name of one.
        first: String,
        /// File and stored name of the other.
        second: String,
    },
    /// A parameter is absent.
    #[error(
        "the tensor {name} is absent from {place} (looked for {looked_for}); \
         the checkpoint is incomplete or its config.json belongs to another model"
    )]
    MissingTensor {
        /// The parameter's canonical name.
        name: String,
        /// The file or folder that was searched.
        place: String,
        /// The stored names that would have been accepted.
        looked_for: String,
    },
    /// A parameter's shape is not what the configuration says.
    #[error("the tensor {name} in {file} has shape {found:?}, and config.json says {expected:?}")]
    Shape {
        /// The tensor's stored name.
        name: String,
        /// The file.
        file: String,
        /// Shape by the configuration.
        expected: Vec<usize>,
        /// Shape in the file.
        found: Vec<usize>,
    },
    /// A parameter is stored in a type that cannot be exported.
    #[error(
        "the tensor {name} in {file} has type {found}, and BF16, F16 or F32 is needed; \
         export from the unquantized checkpoint"
    )]
    Dtype {
        /// The tensor's stored name.
        name: String,
        /// The file.
        file: String,
        /// Its type.
        found: String,
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
    /// A tokenizer file is absent.
    #[error(
        "{place} has no {missing}; a bundle carries the tokenizer ({looked_for}), \
         copy its files from the base model"
    )]
    NoTokenizer {
        /// The folder.
        place: String,
        /// The file that is needed.
        missing: &'static str,
        /// The files that are collected.
        looked_for: String,
    },
    /// A model cannot be fetched.
    #[error(
        "{model} cannot be had at revision {revision}, and there is no folder of that name: {message}; \
         or name a folder that has the checkpoint: --model DIR"
    )]
    Hub {
        /// The model's id.
        model: String,
        /// The revision that was asked for.
        revision: String,
        /// What went wrong, and with which file.
        message: String,
    },
    /// A picture cannot be decoded.
    #[error("{file} is not a usable PNG or JPEG picture: {message}")]
    Image {
        /// The file.
        file: String,
        /// What the decoder said.
        message: String,
    },
    /// The grid is 0 or beyond reason.
    #[error(
        "a grid of {grid} is not possible, expected 1 to {}",
        crate::image::MOST_GRID
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
        /// What the tensor library said.
        message: String,
    },
    /// The output is there already.
    #[error("{path} exists already; name another output or remove it")]
    Exists {
        /// The file or folder.
        path: String,
    },
    /// The model argument names nothing that can be opened.
    #[error("the model {model:?} {message}")]
    Model {
        /// The argument.
        model: String,
        /// What is wrong and what would do.
        message: String,
    },
}

impl Error {
    /// An [`Error::Io`] at `path`.
    pub(crate) fn io(path: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.into();
        |source| Error::Io { path, source }
    }
}
