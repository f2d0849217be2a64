//! The tokenizer: encoding, decoding, stop tokens, and text as it comes.

use crate::Error;
use checkpoint::TokenizerFiles;

/// Most tokens that one character takes: UTF-8 has four bytes at most.
const MAX_TOKENS_OF_A_CHARACTER: usize = 4;

/// A checkpoint's tokenizer.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    stop_tokens: Vec<u32>,
}

impl Tokenizer {
    /// Reads `tokenizer.json`, and which tokens end an answer: `eos_token` of
    /// `tokenizer_config.json`, and `<|endoftext|>` where there is one.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if a file cannot be used, or if no token ends an
    /// answer.
    pub fn load(files: &TokenizerFiles) -> Result<Tokenizer, Error> {
        let json = files.get("tokenizer.json").unwrap_or_default();
        let inner = tokenizers::Tokenizer::from_bytes(json)
            .map_err(|error| wrong(format!("tokenizer.json cannot be used: {error}")))?;
        let end = files.end_token().ok_or_else(|| {
            wrong("tokenizer_config.json has no eos_token; generation would not end".into())
        })?;
        let end = inner.token_to_id(&end).ok_or_else(|| {
            wrong(format!(
                "tokenizer.json has no token {end:?}, the eos_token of tokenizer_config.json"
            ))
        })?;
        let mut stop_tokens = vec![end];
        stop_tokens.extend(inner.token_to_id("<|endoftext|>").filter(|id| *id != end));
        Ok(Tokenizer { inner, stop_tokens })
    }

    /// The id of a token, if there is one of this text.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The text of the token with this id, if there is one.
    pub fn token_of(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The ids that end an answer.
    pub fn stop_tokens(&self) -> &[u32] {
        &self.stop_tokens
    }

    /// The ids of a text, without special tokens of its own.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the text cannot be encoded.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        let encoding = self.inner.encode(text, false);
        let encoding =
            encoding.map_err(|error| wrong(format!("the prompt cannot be tokenized: {error}")))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of generated ids, special tokens left out.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the tokenizer cannot decode them.
    pub fn decode(&self, ids: &[u32]) -> Result<String, Error> {
        self.inner
            .decode(ids, true)
            .map_err(|error| wrong(format!("the answer cannot be decoded: {error}")))
    }

    /// The text of one token, special ones written out; `id 7` where there is no
    /// text, as of a part of a character.
    pub fn text_of(&self, id: u32) -> String {
        match self.inner.decode(&[id], false) {
            Ok(text) if !text.is_empty() => text,
            _ => format!("id {id}"),
        }
    }

    /// Begins an answer whose ids come one by one.
    pub fn stream(&self) -> TextStream<'_> {
        TextStream {
            tokenizer: self,
            waiting: Vec::new(),
        }
    }
}

/// The text of an answer as its tokens come.
///
/// A byte-level token may end within a character: text is given out where a
/// character is whole.
#[derive(Debug)]
pub struct TextStream<'t> {
    tokenizer: &'t Tokenizer,
    /// Ids whose text was not given out yet.
    waiting: Vec<u32>,
}

impl TextStream<'_> {
    /// Takes the next id; gives the text that is new, which may be empty.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    pub fn push(&mut self, id: u32) -> Result<String, Error> {
        self.waiting.push(id);
        let text = self.tokenizer.decode(&self.waiting)?;
        let partial = text.ends_with(char::REPLACEMENT_CHARACTER);
        if partial && self.waiting.len() < MAX_TOKENS_OF_A_CHARACTER {
            return Ok(String::new());
        }
        self.waiting.clear();
        Ok(text)
    }

    /// The text of an answer that ended within a character.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    pub fn finish(self) -> Result<String, Error> {
        self.tokenizer.decode(&self.waiting)
    }
}

fn wrong(message: String) -> Error {
    Error::Tokenizer { message }
}
