//! Prompts: the checkpoint's chat template and tokenizer, and the ids that
//! the exported decoder reads.

use super::Config;
use super::positions::{self, VisionTokens};
use crate::{Error, Grid, PromptWriter, TokenizedPrompt};
use bundle::{CallShape, Layout};
use checkpoint::TokenizerFiles;
use text::{ChatTemplate, Conversation, Tokenizer};

/// The token that stands for an image.
const IMAGE: &str = "<|image_pad|>";

/// The checkpoint's way of writing a chat turn.
#[derive(Debug)]
pub struct Chat {
    tokenizer: Tokenizer,
    template: ChatTemplate,
    vision: VisionTokens,
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

    /// The text that the chat template makes of a conversation.
    ///
    /// # Errors
    /// [`Error::Text`] if the template fails.
    pub fn render<P>(&self, conversation: &Conversation<P>) -> Result<String, Error> {
        Ok(self.template.render(conversation)?)
    }

    /// The pipelined prompt of one user turn: a text, and a picture of grid × grid
    /// tokens if there is one.
    ///
    /// # Errors
    /// As [`PromptWriter::prompt`].
    pub fn question(&self, text: &str, image: Option<usize>) -> Result<TokenizedPrompt, Error> {
        let question = Conversation::question(text, image.map(|grid| [grid; 2]));
        self.prompt(&question, Layout::Pipelined(CallShape::One))
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

    /// The ids that end an answer.
    pub fn end_tokens(&self) -> &[u32] {
        self.tokenizer.stop_tokens()
    }
}

impl PromptWriter for Chat {
    /// # Errors
    /// [`Error::Prompt`] if there is not exactly one image token for each
    /// picture, or if [`positions::prompt`] refuses what the tokenizer made;
    /// [`Error::Grid`] for a grid of 0 or beyond reason; [`Error::Text`] if the
    /// template or the tokenizer fails.
    fn prompt(
        &self,
        conversation: &Conversation<Grid>,
        layout: Layout,
    ) -> Result<TokenizedPrompt, Error> {
        let grids: Vec<Grid> = conversation.pictures().copied().collect();
        let possible = 1..=picture::MAX_GRID;
        if let Some(grid) = grids
            .iter()
            .flatten()
            .find(|side| !possible.contains(*side))
        {
            return Err(Error::Grid { grid: *grid });
        }
        let rendered = self.render(conversation)?;
        let encoded = self.tokenizer.encode(&rendered)?;
        let is_image = |id: &&u32| **id == self.vision.image;
        let pads = encoded.iter().filter(is_image).count();
        if pads != grids.len() {
            return Err(wrong(format!(
                "the prompt has {pads} {IMAGE}, expected {}: {rendered:?}; the text may not \
                 contain it, and the chat template must write it for an image",
                grids.len()
            )));
        }
        let mut rest = grids.iter();
        let mut hf_ids = Vec::with_capacity(encoded.len());
        for id in encoded {
            let grid = (id == self.vision.image).then(|| rest.next()).flatten();
            let count = grid.map_or(1, |[height, width]| height * width);
            hf_ids.extend(std::iter::repeat_n(id, count));
        }
        positions::prompt(hf_ids, &grids, self.vision, layout)
    }

    fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }
}

fn wrong(message: String) -> Error {
    Error::Prompt { message }
}
