//! What can be chosen about an export.

use std::{fmt, str::FromStr};

use aimodel::Dim;
use quantize::Scheme;

use crate::{Error, weights::Storage};

/// How the weights of the decoder are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// All of them as f16.
    Fp16,
    /// The body as int8 in blocks of 32; the head as f16.
    Int8Lin,
    /// The body as int8 in blocks of 32, and an untied head as int8 by absmax.
    Int8Hu,
}

impl Mode {
    /// How matrices of the decoder layers are stored.
    pub(crate) fn body(self) -> Storage {
        match self {
            Self::Fp16 => Storage::Half,
            Self::Int8Lin | Self::Int8Hu => Storage::Int8(Scheme::SymmetricWithClipping),
        }
    }

    /// How the head is stored.
    pub(crate) fn head(self) -> Storage {
        match self {
            Self::Fp16 | Self::Int8Lin => Storage::Half,
            Self::Int8Hu => Storage::Int8(Scheme::Symmetric),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fp16 => "fp16",
            Self::Int8Lin => "int8lin",
            Self::Int8Hu => "int8hu",
        })
    }
}

impl FromStr for Mode {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "fp16" => Ok(Self::Fp16),
            "int8lin" => Ok(Self::Int8Lin),
            "int8hu" => Ok(Self::Int8Hu),
            _ => Err(Error::Option {
                option: "mode",
                problem: format!("`{text}` is none of fp16, int8lin and int8hu"),
            }),
        }
    }
}

/// How many tokens a call of the decoder takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query {
    /// One: what the pipelined engine decodes with.
    S1,
    /// As many as the caller likes.
    Dynamic,
    /// One in `main`, and this many in a function `prefill` beside it.
    Prefill(u64),
}

impl Query {
    /// What is appended to the name of a bundle.
    pub fn suffix(self) -> String {
        match self {
            Self::S1 => "_s1".to_owned(),
            Self::Dynamic => String::new(),
            Self::Prefill(rows) => format!("_pf{rows}"),
        }
    }

    /// The functions: their names, and how many tokens each takes.
    pub(crate) fn functions(self) -> Vec<(&'static str, Dim)> {
        match self {
            Self::S1 => vec![("main", Dim::Static(1))],
            Self::Dynamic => vec![("main", Dim::Dynamic)],
            Self::Prefill(rows) => vec![("main", Dim::Static(1)), ("prefill", Dim::Static(rows))],
        }
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S1 => f.write_str("s1"),
            Self::Dynamic => f.write_str("dynamic"),
            Self::Prefill(rows) => write!(f, "pf{rows}"),
        }
    }
}

impl FromStr for Query {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "s1" => return Ok(Self::S1),
            "dynamic" => return Ok(Self::Dynamic),
            _ => {}
        }
        match text.strip_prefix("pf").map(str::parse) {
            Some(Ok(rows @ 2..=4096)) if text == format!("pf{rows}") => Ok(Self::Prefill(rows)),
            _ => Err(Error::Option {
                option: "--query",
                problem: format!("`{text}` is none of s1, dynamic and pf2 to pf4096"),
            }),
        }
    }
}
