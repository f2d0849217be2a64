//! Prompts: the checkpoint's chat template and tokenizer, and the ids that
//! the exported decoder reads.

use super::Config;
use super::positions::{GraphPrompt, VisionTokens};
use crate::Error;
use checkpoint::TokenizerFiles;
use serde_json::json;
use text::{ChatTemplate, TextStream, Tokenizer};

/// The token that stands for an image.
const IMAGE: &str = "<|image_pad|>";

/// The checkpoint's way of writing a chat turn.
#[derive(Debug)]
pub struct Chat {
    tokenizer: Tokenizer,
    template: ChatTemplate,
    vision: VisionTokens,
}

/// A prompt as the decoder graph takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// What the template made, with one `<|image_pad|>` for the image.
    pub text: String,
    /// Token ids. The image's token in slot k of N is vocab_size + k.
    pub ids: Vec<i32>,
    /// The same with the image's tokens as transformers has them: all
    /// `image_token_id`.
    pub hf_ids: Vec<u32>,
    /// From this position on, positions are shifted: image start + N, or
    /// 2³⁰ without an image.
    pub rope_shift_start: i32,
    /// By how much: N less the grid's side, or 0 without an image.
    pub rope_shift_amount: i32,
}

impl Chat {
    /// The tokenizer and chat template of a checkpoint.
    ///
    /// # Errors
    /// [`Error::Prompt`] if one of them cannot be used, or if the tokenizer
    /// does not know the tokens that `config` names.
    pub fn load(files: &TokenizerFiles, config: &Config) -> Result<Chat, Error> {
        let tokenizer = Tokenizer::load(files)?;
        let vision = VisionTokens::from(config);
        match tokenizer.token_of(vision.image).as_deref() {
            Some(IMAGE) => {}
            other => {
                return Err(wrong(format!(
                    "config.json says that image_token_id is {}, and tokenizer.json has {} \
                     there, expected {IMAGE}",
                    vision.image,
                    other.unwrap_or("nothing")
                )));
            }
        }
        Chat::new(files, tokenizer, vision)
    }

    /// The tokenizer and chat template of an exported bundle, which has no
    /// `config.json`. `vocab_size` is the width of its decoder's logits.
    ///
    /// # Errors
    /// [`Error::Prompt`] if one of them cannot be used, or if the tokenizer
    /// lacks a token that pictures need.
    pub fn of_bundle(files: &TokenizerFiles, vocab_size: usize) -> Result<Chat, Error> {
        let tokenizer = Tokenizer::load(files)?;
        let id = |token: &str| {
            let found = tokenizer.id(token);
            found.ok_or_else(|| {
                wrong(format!(
                    "tokenizer.json has no token {token}; is it a Qwen3-VL's?"
                ))
            })
        };
        let vision = VisionTokens {
            vocab_size,
            image: id(IMAGE)?,
            video: id("<|video_pad|>")?,
            start: id("<|vision_start|>")?,
        };
        Chat::new(files, tokenizer, vision)
    }

    fn new(
        files: &TokenizerFiles,
        tokenizer: Tokenizer,
        vision: VisionTokens,
    ) -> Result<Chat, Error> {
        Ok(Chat {
            template: ChatTemplate::find(files)?,
            tokenizer,
            vision,
        })
    }

    /// The prompt of one user turn: an image of grid × grid tokens, if there
    /// is one, and a text.
    ///
    /// # Errors
    /// [`Error::Prompt`] if the template fails, if there is not exactly one
    /// image token for the image, or if [`GraphPrompt::new`] refuses what the
    /// tokenizer made; [`Error::Grid`] for a grid of 0 or beyond reason.
    pub fn prompt(&self, text: &str, image: Option<usize>) -> Result<Prompt, Error> {
        if let Some(grid) = image.filter(|grid| *grid == 0 || *grid > picture::MAX_GRID) {
            return Err(Error::Grid { grid });
        }
        let mut content = vec![json!({"type": "text", "text": text})];
        if image.is_some() {
            content.insert(0, json!({"type": "image"}));
        }
        let rendered = self
            .template
            .render(&json!([{"role": "user", "content": content}]), true)?;
        let encoded = self.tokenizer.encode(&rendered)?;
        let is_image = |id: &&u32| **id == self.vision.image;
        let pads = encoded.iter().filter(is_image).count();
        if pads != usize::from(image.is_some()) {
            return Err(wrong(format!(
                "the prompt has {pads} {IMAGE}, expected {}: {rendered:?}; the text may not \
                 contain it, and the chat template must write it for an image",
                usize::from(image.is_some())
            )));
        }
        let grids: Vec<_> = image.iter().map(|grid| [*grid, *grid]).collect();
        let slots = |id: &u32| match image {
            Some(grid) if *id == self.vision.image => grid * grid,
            _ => 1,
        };
        let hf_ids = encoded
            .iter()
            .flat_map(|id| std::iter::repeat_n(*id, slots(id)));
        let hf_ids: Vec<u32> = hf_ids.collect();
        let GraphPrompt { ids, rope } = GraphPrompt::new(&hf_ids, &grids, self.vision)?;
        Ok(Prompt {
            text: rendered,
            ids,
            hf_ids,
            rope_shift_start: rope.shift_start,
            rope_shift_amount: rope.shift_amount,
        })
    }

    /// The text of generated ids, special tokens left out.
    ///
    /// # Errors
    /// [`Error::Text`] if the tokenizer cannot decode them.
    pub fn decode(&self, ids: &[u32]) -> Result<String, Error> {
        Ok(self.tokenizer.decode(ids)?)
    }

    /// The text of one token, special ones written out; `id 7` where there is no
    /// text, as of a part of a character.
    pub fn token(&self, id: u32) -> String {
        self.tokenizer.text_of(id)
    }

    /// Begins an answer whose ids come one by one.
    pub fn stream(&self) -> TextStream<'_> {
        self.tokenizer.stream()
    }

    /// The ids that end an answer.
    pub fn end_tokens(&self) -> &[u32] {
        self.tokenizer.stop_tokens()
    }
}

fn wrong(message: String) -> Error {
    Error::Prompt { message }
}
