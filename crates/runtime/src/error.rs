//! Why an asset cannot be loaded or run.

use aimodel::TensorType;

/// Why an asset cannot be loaded or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The asset cannot be read, or is not what the dialect allows.
    #[error(transparent)]
    Asset(#[from] aimodel::Error),
    /// An operation that this runtime does not know.
    #[error(
        "graph @{graph}, operation {index}: the runtime does not know `{name}`; it runs what \
         this project exports"
    )]
    UnknownOperation {
        /// The graph.
        graph: String,
        /// The position among its operations.
        index: usize,
        /// The operation's stored name.
        name: String,
    },
    /// A graph that this runtime cannot run.
    #[error("graph @{graph}, operation {index}, `{op}`: {problem}")]
    Graph {
        /// The graph.
        graph: String,
        /// The position among its operations.
        index: usize,
        /// The operation's stored name.
        op: String,
        /// What is wrong.
        problem: String,
    },
    /// An operation that failed while it ran.
    #[error("graph @{graph}, operation {index}, `{op}` of {operands}: {problem}")]
    Step {
        /// The graph.
        graph: String,
        /// The position among its operations.
        index: usize,
        /// The operation's stored name.
        op: String,
        /// What it was given.
        operands: String,
        /// What is wrong.
        problem: String,
    },
    /// A function that the asset does not have.
    #[error("there is no function `{name}`; the asset has {known}")]
    Function {
        /// The name that was given.
        name: String,
        /// The names that the asset has.
        known: String,
    },
    /// An input that is missing, unknown or of another type.
    #[error("function `{function}`, input `{name}`: expected {expected}, found {found}")]
    Input {
        /// The function.
        function: String,
        /// The input.
        name: String,
        /// Its type; for an unknown name, the known ones.
        expected: String,
        /// The shape and dtype that were given.
        found: String,
    },
    /// A state that does not fit what a function declares.
    #[error("state `{name}`: expected {expected}, found {found}")]
    State {
        /// The state.
        name: String,
        /// Its type.
        expected: TensorType,
        /// What it holds.
        found: String,
    },
    /// The device failed, or cannot be used, outside of any operation.
    #[error("the device failed: {0}")]
    Device(String),
    /// A constant that cannot be moved to the device.
    #[error("the constant {constant} cannot be moved to the device: {problem}")]
    Constant {
        /// Its type.
        constant: String,
        /// What is wrong.
        problem: String,
    },
    /// An output that cannot be taken out of a call.
    #[error("function `{function}`, output `{name}`: {problem}")]
    Output {
        /// The function.
        function: String,
        /// The output.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// The tensor library failed outside of any operation.
    #[error("tensors: {0}")]
    Tensor(String),
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::Tensor(plain(&error))
    }
}

/// Shorthand.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why one operation failed. The caller adds which operation it was.
#[derive(Debug)]
pub(crate) struct Problem(pub String);

/// The result of one operation.
pub(crate) type OpResult<T> = std::result::Result<T, Problem>;

impl From<candle_core::Error> for Problem {
    fn from(error: candle_core::Error) -> Self {
        Self(plain(&error))
    }
}

/// The message of a tensor error, without the backtrace that it may carry.
fn plain(error: &candle_core::Error) -> String {
    match error {
        candle_core::Error::WithBacktrace { inner, .. } => plain(inner),
        other => other.to_string(),
    }
}

/// Fails with a problem of the operands.
pub(crate) fn refuse<T>(problem: impl Into<String>) -> OpResult<T> {
    Err(Problem(problem.into()))
}
