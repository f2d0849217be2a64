//! Prompts: conversations, ready for a decoder and a vision encoder.

use std::borrow::Borrow;

use bundle::Layout;
use models::{PromptWriter, TokenizedPrompt};
use picture::{Image, Patches};
use text::{Conversation, Tokenizer};

use crate::{Decoder, Error, PictureSpec, Result, Sequence, StaticInputs, VisionEncoder};

/// A conversation as a model takes it.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// The tokens, and what goes with them.
    pub tokens: TokenizedPrompt,
    /// The pictures, in order, cut for the vision encoder.
    pub patches: Vec<Patches>,
}

/// Makes prompts for one model.
#[derive(Debug)]
pub struct Prompter {
    /// The model's name, for errors.
    model: String,
    writer: Box<dyn PromptWriter>,
    /// How it takes pictures, if it does.
    pictures: Option<PictureSpec>,
    layout: Layout,
}

impl Prompter {
    /// Prompts for the model of this name, as `writer` writes them.
    pub fn new(
        model: impl Into<String>,
        writer: Box<dyn PromptWriter>,
        pictures: Option<PictureSpec>,
        layout: Layout,
    ) -> Self {
        Self {
            model: model.into(),
            writer,
            pictures,
            layout,
        }
    }

    /// How many pictures a conversation may have.
    fn max_pictures(&self) -> usize {
        match (&self.pictures, self.layout) {
            (None, _) => 0,
            (Some(_), Layout::Pipelined(_)) => 1,
            (Some(_), Layout::Vlm) => usize::MAX,
        }
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        self.writer.tokenizer()
    }

    /// The prompt of a conversation, up to where the answer begins.
    ///
    /// # Errors
    /// [`Error::TooManyPictures`], [`Error::Picture`] for a picture that cannot
    /// be cut, and [`Error::Prompt`] for what cannot be tokenized.
    pub fn prompt<P: Borrow<Image>>(&self, conversation: &Conversation<P>) -> Result<Prompt> {
        let given = conversation.pictures().count();
        let max = self.max_pictures();
        if given > max {
            return Err(Error::TooManyPictures {
                given,
                model: self.model.clone(),
                max,
            });
        }
        let (tokens, patches) = match &self.pictures {
            None => (conversation.map_pictures(|_| [0, 0]), Vec::new()),
            Some(spec) => {
                let images = conversation.pictures();
                let patches = images.map(|image| spec.cut(image.borrow()));
                (
                    conversation.map_pictures(|_| [spec.grid; 2]),
                    patches.collect::<Result<_>>()?,
                )
            }
        };
        Ok(Prompt {
            tokens: self.writer.prompt(&tokens, self.layout)?,
            patches,
        })
    }
}

impl Prompt {
    /// Encodes the pictures and begins a sequence for the prompt, whose tokens
    /// are still to be read.
    ///
    /// # Errors
    /// A picture without a vision encoder, inputs that do not fit the decoder,
    /// or a run that fails.
    pub fn start(&self, decoder: &Decoder, vision: Option<&VisionEncoder>) -> Result<Sequence> {
        let mut pictures = StaticInputs::new();
        for patches in &self.patches {
            let Some(vision) = vision else {
                return Err(Error::Mismatch(
                    "a picture needs a vision encoder, and there is none".to_owned(),
                ));
            };
            pictures.append(vision.encode(patches)?)?;
        }
        decoder.start(&decoder.inputs(&self.tokens, pictures)?)
    }
}
