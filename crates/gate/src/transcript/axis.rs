//! What the values of a series are counted by.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What an axis counts, in JSON by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
#[non_exhaustive]
pub enum Axis {
    /// Decoder layers.
    Layer,
    /// Positions of a prompt and its answer.
    Position,
    /// Tokens of an answer.
    Token,
    /// Rows of the head: tokens of the vocabulary.
    HeadRow,
    /// Runs on a device.
    Run,
    /// What another version counts, by the name that it has there.
    Other(String),
}

impl Axis {
    /// Those that this version counts.
    const KNOWN: [Axis; 5] = [
        Axis::Layer,
        Axis::Position,
        Axis::Token,
        Axis::HeadRow,
        Axis::Run,
    ];

    /// Its name, as a transcript and a report have it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Axis::Layer => "layer",
            Axis::Position => "position",
            Axis::Token => "token",
            Axis::HeadRow => "head row",
            Axis::Run => "run",
            Axis::Other(name) => name,
        }
    }
}

impl fmt::Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<String> for Axis {
    fn from(name: String) -> Self {
        let known = Axis::KNOWN.into_iter().find(|axis| axis.name() == name);
        known.unwrap_or(Axis::Other(name))
    }
}

impl From<Axis> for String {
    fn from(axis: Axis) -> Self {
        axis.name().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_known_or_not() {
        for (axis, json) in [
            (Axis::Layer, "\"layer\""),
            (Axis::Position, "\"position\""),
            (Axis::Token, "\"token\""),
            (Axis::HeadRow, "\"head row\""),
            (Axis::Run, "\"run\""),
            (Axis::Other("moon".to_owned()), "\"moon\""),
        ] {
            assert_eq!(serde_json::to_string(&axis).unwrap(), json);
            assert_eq!(serde_json::from_str::<Axis>(json).unwrap(), axis);
        }
        assert!(serde_json::from_str::<Axis>("1").is_err());
    }
}
