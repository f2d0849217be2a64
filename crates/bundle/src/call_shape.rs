//! How many tokens a call of the decoder takes.

use std::{fmt, str::FromStr};

use crate::contract::{MAIN, PREFILL};

/// How many tokens a call of the decoder takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallShape {
    /// One: what the pipelined engine decodes with.
    One,
    /// As many as the caller likes.
    Dynamic,
    /// One in `main`, and this many in a function `prefill` beside it.
    Prefill(u64),
}

impl CallShape {
    /// What is appended to the name of a bundle.
    #[must_use]
    pub fn suffix(self) -> String {
        match self {
            Self::One => "_s1".to_owned(),
            Self::Dynamic => String::new(),
            Self::Prefill(rows) => format!("_pf{rows}"),
        }
    }

    /// The functions of the decoder: their names, and how many tokens a call of
    /// each takes; `None` is any number.
    #[must_use]
    pub fn functions(self) -> Vec<(&'static str, Option<u64>)> {
        match self {
            Self::One => vec![(MAIN, Some(1))],
            Self::Dynamic => vec![(MAIN, None)],
            Self::Prefill(tokens) => vec![(MAIN, Some(1)), (PREFILL, Some(tokens))],
        }
    }
}

impl fmt::Display for CallShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One => f.write_str("s1"),
            Self::Dynamic => f.write_str("dynamic"),
            Self::Prefill(rows) => write!(f, "pf{rows}"),
        }
    }
}

impl FromStr for CallShape {
    type Err = UnknownCallShape;
    fn from_str(text: &str) -> Result<Self, UnknownCallShape> {
        match text {
            "s1" => return Ok(Self::One),
            "dynamic" => return Ok(Self::Dynamic),
            _ => {}
        }
        match text.strip_prefix("pf").map(str::parse) {
            Some(Ok(rows @ 2..=4096)) if text == format!("pf{rows}") => Ok(Self::Prefill(rows)),
            _ => Err(UnknownCallShape(text.to_owned())),
        }
    }
}

/// A text that does not name a [`CallShape`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not one of s1, dynamic and pf2 to pf4096")]
pub struct UnknownCallShape(pub String);
