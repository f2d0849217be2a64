//! Which assets a bundle has, and how hosts call them.

use std::fmt;

use crate::CallShape;

/// The kind of a bundle with a decoder that takes token ids.
pub const LLM: &str = "llm";
/// The kind of a bundle whose decoder takes rows of embeddings, with the assets
/// that make them.
pub const VLM: &str = "vlm";

/// Which assets a bundle has, and how hosts call them.
///
/// ```
/// use bundle::{CallShape, Layout};
///
/// assert_eq!(Layout::Vlm.to_string(), "vlm");
/// assert_eq!(Layout::Pipelined(CallShape::One).kind(), "llm");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A decoder that takes token ids and an encoded picture as inputs that stay
    /// the same; the vision encoder of all decoders of a model lies in a folder
    /// beside. What the community's fork of Apple's pipelined engine runs.
    Pipelined(CallShape),
    /// A decoder that takes rows of embeddings, the table that makes them of
    /// token ids, and the vision encoder, in one folder. What Apple's own
    /// package runs.
    Vlm,
}

impl Layout {
    /// `kind` of the manifest: which pipeline of a host runs it.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::Pipelined(_) => LLM,
            Self::Vlm => VLM,
        }
    }

    /// The assets in the bundle's folder, the decoder first.
    #[must_use]
    pub fn roles(self) -> &'static [AssetRole] {
        match self {
            Self::Pipelined(_) => &[AssetRole::Main],
            Self::Vlm => &[AssetRole::Main, AssetRole::Embedding, AssetRole::Vision],
        }
    }

    /// How many tokens a call of the decoder takes.
    #[must_use]
    pub fn call_shape(self) -> CallShape {
        match self {
            Self::Pipelined(shape) => shape,
            Self::Vlm => CallShape::Dynamic,
        }
    }

    /// The layout's name, as `--bundle` takes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pipelined(_) => "pipelined",
            Self::Vlm => "vlm",
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The part that an asset plays in a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AssetRole {
    /// The decoder.
    Main,
    /// The table of token embeddings, as a program.
    Embedding,
    /// The vision encoder.
    Vision,
}

impl AssetRole {
    /// The key below `assets` in the manifest.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Embedding => "embedding",
            Self::Vision => "vision",
        }
    }
}

impl fmt::Display for AssetRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key())
    }
}
