//! Everything that can be wrong with the files of a checkpoint.

/// Why a checkpoint, or a file of it, was refused.
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
        /// The system's message.
        source: std::io::Error,
    },
    /// A file that every checkpoint has is absent.
    #[error("{place} has no {file}; is it a checkpoint?")]
    MissingFile {
        /// The folder.
        place: String,
        /// The file, or the files any of which would do.
        file: String,
    },
    /// A file is larger than any real one of its kind.
    #[error("{file} has {found} bytes, and at most {max} are accepted")]
    TooLarge {
        /// The file.
        file: String,
        /// Its size in bytes.
        found: u64,
        /// The limit in bytes.
        max: u64,
    },
    /// A JSON file does not parse, or is not an object.
    #[error("{file} is not valid JSON: {message}")]
    Json {
        /// The file.
        file: String,
        /// The parser's message.
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
    /// A parameter's shape is not that of the configuration.
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
        "{model} could not be fetched at revision {revision}, and there is no folder of that name: \
         {message}; a folder that holds the checkpoint can be named instead"
    )]
    Hub {
        /// The model's id.
        model: String,
        /// The revision that was asked for.
        revision: String,
        /// What went wrong, and with which file.
        message: String,
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
