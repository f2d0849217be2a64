//! The tokenizer: encoding, decoding and stop tokens.

use crate::Error;
use checkpoint::TokenizerFiles;
use serde_json::Value;
use tokenizers::step_decode_stream;

/// A checkpoint's tokenizer.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    stop_tokens: Vec<u32>,
}

impl Tokenizer {
    /// Reads `tokenizer.json`, and which tokens end an answer: `eos_token` of
    /// `tokenizer_config.json`, `<|endoftext|>` where there is one, and all of
    /// `eos_token_id` of `generation_config.json`.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if a file cannot be used, or if no token ends an
    /// answer.
    pub fn load(files: &TokenizerFiles) -> Result<Tokenizer, Error> {
        let json = files.get("tokenizer.json").unwrap_or_default();
        let inner = tokenizers::Tokenizer::from_bytes(json)
            .map_err(|error| wrong(format!("tokenizer.json cannot be used: {error}")))?;
        let mut stop_tokens = Vec::new();
        if let Some(end) = files.end_token() {
            stop_tokens.push(inner.token_to_id(&end).ok_or_else(|| {
                wrong(format!(
                    "tokenizer.json has no token {end:?}, the eos_token of tokenizer_config.json"
                ))
            })?);
        }
        let more = inner.token_to_id("<|endoftext|>");
        for id in more.into_iter().chain(generation_stops(files)?) {
            if !stop_tokens.contains(&id) {
                stop_tokens.push(id);
            }
        }
        if stop_tokens.is_empty() {
            return Err(wrong(
                "tokenizer_config.json has no eos_token; generation would not end".into(),
            ));
        }
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

    /// One step of [`crate::DecodeStream`], which holds the other arguments.
    pub(crate) fn step(
        &self,
        id: u32,
        ids: &mut Vec<u32>,
        prefix: &mut String,
        prefix_index: &mut usize,
    ) -> Result<Option<String>, Error> {
        step_decode_stream(&self.inner, vec![id], true, ids, prefix, prefix_index)
            .map_err(|error| wrong(format!("the answer cannot be decoded: {error}")))
    }
}

/// `eos_token_id` of `generation_config.json`: an id, a list of them, or
/// nothing.
fn generation_stops(files: &TokenizerFiles) -> Result<Vec<u32>, Error> {
    let Some(json) = files.generation_config() else {
        return Ok(Vec::new());
    };
    let config: Value = serde_json::from_slice(json)
        .map_err(|error| wrong(format!("generation_config.json is not valid JSON: {error}")))?;
    let stops = &config["eos_token_id"];
    let id = |value: &Value| {
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| {
            wrong(format!(
                "generation_config.json: eos_token_id: expected a token id or a list of them, \
                 found {stops:.60}"
            ))
        })
    };
    match stops {
        Value::Null => Ok(Vec::new()),
        Value::Array(list) => list.iter().map(id).collect(),
        one => Ok(vec![id(one)?]),
    }
}

fn wrong(message: String) -> Error {
    Error::Tokenizer { message }
}
