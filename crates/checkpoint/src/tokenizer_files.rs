//! The tokenizer's files, which travel into a bundle as they are.

use crate::{Error, Source};
use serde::de::IgnoredAny;
use serde_json::Value;
use std::collections::BTreeMap;

/// The files that a bundle's `tokenizer/` folder may have, in this order.
pub(crate) const FILES: [&str; 8] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
];

const GENERATION_CONFIG: &str = "generation_config.json";

/// More than any tokenizer file has; the largest are about 12 MB.
const MAX_FILE: u64 = 64 << 20;

/// The tokenizer's files with their content.
#[derive(Clone, Debug)]
pub struct TokenizerFiles {
    /// Name and content of each file that is there, in a fixed order.
    pub files: Vec<(&'static str, Vec<u8>)>,
    /// `generation_config.json`, which does not travel with the others.
    generation_config: Option<Vec<u8>>,
}

impl TokenizerFiles {
    /// The names of the files that there may be.
    pub const NAMES: [&'static str; 8] = FILES;

    /// Collects the files that the checkpoint has.
    ///
    /// # Errors
    /// [`Error::NoTokenizer`] if `tokenizer.json` or `tokenizer_config.json`
    /// is absent; the others are optional. [`Error::Io`] and
    /// [`Error::TooLarge`] if one cannot be read, and [`Error::Json`] if one
    /// of the two is not JSON.
    pub fn load(source: &Source) -> Result<TokenizerFiles, Error> {
        let mut files = Vec::new();
        for name in FILES {
            let needed = matches!(name, "tokenizer.json" | "tokenizer_config.json");
            let Some(bytes) = source.read(name, MAX_FILE)? else {
                if needed {
                    return Err(Error::NoTokenizer {
                        place: source.place(),
                        missing: name,
                        looked_for: FILES.join(", "),
                    });
                }
                continue;
            };
            if needed {
                // Only checked: values would take many times the file's memory.
                let object = serde_json::from_slice::<BTreeMap<String, IgnoredAny>>(&bytes);
                object.map_err(|error| Error::Json {
                    file: source.label(name),
                    message: error.to_string(),
                })?;
            }
            files.push((name, bytes));
        }
        Ok(TokenizerFiles {
            files,
            generation_config: source.read(GENERATION_CONFIG, MAX_FILE)?,
        })
    }

    /// The content of one file, if it is there.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let found = self.files.iter().find(|(file, _)| *file == name);
        found.map(|(_, bytes)| bytes.as_slice())
    }

    /// Replaces the content of a file, or adds it in its place.
    pub fn set(&mut self, name: &'static str, content: Vec<u8>) {
        let place = |name: &str| FILES.iter().position(|file| *file == name);
        match self.files.iter_mut().find(|(file, _)| *file == name) {
            Some((_, bytes)) => *bytes = content,
            None => {
                let before = |(file, _): &(&'static str, Vec<u8>)| place(file) < place(name);
                let at = self.files.partition_point(before);
                self.files.insert(at, (name, content));
            }
        }
    }

    /// The content of `generation_config.json`, if it is there: it may name
    /// more tokens that end an answer.
    pub fn generation_config(&self) -> Option<&[u8]> {
        self.generation_config.as_deref()
    }

    /// `tokenizer_config.json`; null where it is absent or not JSON.
    pub fn settings(&self) -> Value {
        let json = self.get("tokenizer_config.json");
        json.and_then(|json| serde_json::from_slice(json).ok())
            .unwrap_or_default()
    }

    /// The text of the token that ends an answer, as `tokenizer_config.json`
    /// declares it: by its text, or by an object that has it.
    pub fn end_token(&self) -> Option<String> {
        let token = &self.settings()["eos_token"];
        let text = token.as_str().or_else(|| token["content"].as_str());
        text.map(str::to_owned)
    }
}
