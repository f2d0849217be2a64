//! The text of an answer while its tokens arrive.

use crate::{Error, Tokenizer};

/// No character takes more tokens: UTF-8 has at most four bytes.
const MAX_TOKENS_PER_CHARACTER: usize = 4;

/// Decodes tokens one by one.
///
/// A byte-level token may end inside a character, and other tokenizers write a
/// token differently depending on what precedes it. So text is given out once
/// it is certain: when a character is complete. Special tokens have no text.
///
/// The stream holds the tokenizer's state only, so that it can be kept beside
/// the tokenizer; every call has to pass the same one.
#[derive(Clone, Debug, Default)]
pub struct DecodeStream {
    /// Tokens that still matter for the text of the next one.
    ids: Vec<u32>,
    /// Their text as far as it was given out.
    prefix: String,
    /// How many of the tokens that is.
    prefix_index: usize,
    /// Tokens since text was last given out.
    pending: usize,
}

impl DecodeStream {
    /// A stream before its first token.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next token; returns the text that is certain now, which may be
    /// empty.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> Result<String, Error> {
        let text = tokenizer.step(id, &mut self.ids, &mut self.prefix, &mut self.prefix_index)?;
        if let Some(text) = text {
            self.pending = 0;
            return Ok(text);
        }
        self.pending += 1;
        if self.pending >= MAX_TOKENS_PER_CHARACTER {
            // Bytes that never become a character are not waited for any longer.
            let text = self.rest(tokenizer)?;
            if text.ends_with(char::REPLACEMENT_CHARACTER) {
                *self = Self::default();
                return Ok(text);
            }
        }
        Ok(String::new())
    }

    /// The text of tokens that end inside a character.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    pub fn finish(self, tokenizer: &Tokenizer) -> Result<String, Error> {
        self.rest(tokenizer)
    }

    /// What was not given out yet.
    fn rest(&self, tokenizer: &Tokenizer) -> Result<String, Error> {
        let text = tokenizer.decode(&self.ids)?;
        Ok(text.strip_prefix(&self.prefix).unwrap_or(&text).to_owned())
    }
}
