//! Prompts: what a decoder is given for a conversation.

use crate::Error;
use bundle::Layout;
use text::{Conversation, Tokenizer};

/// Rows and columns of a picture, in the tokens that the decoder sees: H and W.
pub type Grid = [usize; 2];

/// A prompt as an exported decoder takes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenizedPrompt {
    /// The decoder's token ids. Those of a picture are the family's own: they
    /// say which rows of the encoded picture stand there.
    pub ids: Vec<i32>,
    /// The same tokens as transformers has them: all tokens of a picture are
    /// the one that stands for a picture.
    pub hf_ids: Vec<u32>,
    /// Inputs of the decoder that stay the same for the whole prompt and the
    /// answer, by name; each is a single number, `[1]`.
    pub inputs: Vec<(&'static str, i32)>,
    /// Where the pictures are, in order.
    pub placements: Vec<Placement>,
}

/// A picture in a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The position of its first token.
    pub start: usize,
    /// Its grid of tokens, row by row.
    pub grid: Grid,
}

impl Placement {
    /// How many tokens the picture has.
    pub fn tokens(&self) -> usize {
        self.grid[0] * self.grid[1]
    }
}

impl TokenizedPrompt {
    /// The input of this name.
    pub fn input(&self, name: &str) -> Option<i32> {
        let found = self.inputs.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| *value)
    }
}

/// Writes conversations as the decoder of one family reads them.
pub trait PromptWriter: std::fmt::Debug + Send + Sync {
    /// The prompt of a conversation for a decoder of this layout, up to where the
    /// answer begins. Each picture is given by its grid.
    ///
    /// # Errors
    /// The chat template or the tokenizer fails, or the conversation is not
    /// possible for the family: pictures in the wrong place, or too many.
    fn prompt(
        &self,
        conversation: &Conversation<Grid>,
        layout: Layout,
    ) -> Result<TokenizedPrompt, Error>;

    /// The tokenizer.
    fn tokenizer(&self) -> &Tokenizer;
}
