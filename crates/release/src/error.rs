//! What can go wrong, and what a check says no to.

use std::{fmt, io, path::PathBuf};

/// The result of making or checking a release.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a release cannot be made, or is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Checks were made, and said no.
    #[error(transparent)]
    Refused(Refusal),
    /// A folder, file or option that nothing can be made of.
    #[error("{place}: {problem}")]
    Input {
        /// The folder, file or option.
        place: String,
        /// What was expected, what was found, and what to do.
        problem: String,
    },
    /// Reading or writing a file failed.
    #[error("{path}: {source}", path = .path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An asset.
    #[error(transparent)]
    Asset(#[from] aimodel::Error),
    /// The folder of the release cannot be made.
    #[error(transparent)]
    Folder(#[from] fsutil::Error),
    /// A set of gates.
    #[error(transparent)]
    Gates(Box<gate::Error>),
    /// The checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// The tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] text::Error),
    /// The model is not what it should be.
    #[error(transparent)]
    Architecture(#[from] models::Error),
    /// The card's template.
    #[error("the model card cannot be made: {0}")]
    Card(String),
}

impl Error {
    /// An [`Error::Input`].
    pub fn input(place: impl ToString, problem: impl Into<String>) -> Error {
        Error::Input {
            place: place.to_string(),
            problem: problem.into(),
        }
    }

    /// An [`Error::File`].
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        |source| Error::File { path, source }
    }
}

/// Everything that checks said no to: at least one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(pub Vec<Problem>);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [problem] = &self.0[..] {
            return problem.fmt(f);
        }
        write!(f, "{} things are wrong:", self.0.len())?;
        self.0
            .iter()
            .try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for Refusal {}

/// One thing that a check said no to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file in the folder, or the gate.
    pub place: String,
    /// What is wrong with it, and what to do.
    pub message: String,
    /// The option of an export or of the gates that caused it, where one did:
    /// `license`, `layers`.
    pub option: Option<&'static str>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Problems as they are found.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<Problem>);

impl Problems {
    /// Adds one.
    pub fn add(&mut self, place: impl ToString, message: impl Into<String>) {
        self.0.push(Problem {
            place: place.to_string(),
            message: message.into(),
            option: None,
        });
    }

    /// Adds one that an option of an export or of the gates caused.
    pub fn add_of_option(
        &mut self,
        option: &'static str,
        place: impl ToString,
        message: impl Into<String>,
    ) {
        self.0.push(Problem {
            place: place.to_string(),
            message: message.into(),
            option: Some(option),
        });
    }

    /// Adds one unless something holds.
    pub fn unless(&mut self, holds: bool, place: impl ToString, message: impl FnOnce() -> String) {
        if !holds {
            self.add(place, message());
        }
    }

    /// An error if there are any.
    pub fn none(self) -> Result<()> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(self.refusal())
        }
    }

    /// The error, where there is at least one.
    pub fn refusal(self) -> Error {
        Error::Refused(Refusal(self.0))
    }

    /// Keeps what was refused as problems; other errors go on.
    pub fn take<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(Error::Refused(Refusal(problems))) => {
                self.0.extend(problems);
                Ok(None)
            }
            Err(other) => Err(other),
        }
    }
}

impl From<gate::Error> for Error {
    fn from(error: gate::Error) -> Self {
        Self::Gates(Box::new(error))
    }
}
