//! A prompt that stages, external tools and devices are given.

use ::engine::Prompt;

/// A prompt of the set, as a host makes it.
#[derive(Clone, Debug)]
pub struct NamedPrompt {
    /// Its name.
    pub name: String,
    /// The tokens, and the patches of its picture.
    pub prompt: Prompt,
}
