//! Sessions: conversations with a model.

use std::{
    borrow::Borrow,
    ops::ControlFlow,
    time::{Duration, Instant},
};

use picture::Image;
use text::{Conversation, DecodeStream};

use crate::{Error, FinishReason, Generated, Model, Prompt, Result, Sampler, Sequence, Step};

/// A conversation with a model. It owns what it has read, and may move to
/// another thread.
///
/// What a conversation has in common with the one before is not read again: an
/// answer to the next turn costs that turn alone.
#[derive(Debug)]
pub struct Session {
    model: Model,
    /// What the last answer was made from, with its cache.
    last: Option<Last>,
}

/// What a session has read.
#[derive(Debug)]
struct Last {
    sequence: Sequence,
    prompt: Prompt,
    /// All tokens that are in the cache: the prompt's, and those of the answer.
    ids: Vec<i32>,
}

impl Last {
    /// How many tokens and pictures of a prompt are in the cache already, the
    /// last token of the prompt left out.
    fn common(&self, prompt: &Prompt) -> (usize, usize) {
        let pairs = self.prompt.patches.iter().zip(&prompt.patches);
        let pictures = pairs.take_while(|(a, b)| a == b).count();
        let ids = self.ids.iter().zip(&prompt.tokens.ids);
        let ids = ids.take_while(|(a, b)| a == b).count();
        let ids = ids.min(prompt.tokens.ids.len().saturating_sub(1));
        let all = [&self.prompt, prompt];
        let other = all.map(|prompt| prompt.tokens.placements.get(pictures));
        let starts = other.into_iter().flatten().map(|picture| picture.start);
        (starts.fold(ids, usize::min), pictures)
    }
}

/// How long an answer may get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The most tokens that it may have.
    pub max_tokens: usize,
}

impl Limits {
    /// At most this many tokens.
    #[must_use]
    pub fn new(max_tokens: usize) -> Self {
        Self { max_tokens }
    }
}

/// What happens while an answer is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Part of the prompt was read.
    Prompt {
        /// Tokens that were read, those of earlier turns included.
        read: usize,
        /// Tokens that it has.
        total: usize,
    },
    /// The next token of the answer.
    Token {
        /// The token.
        token: u32,
        /// The text that is certain with it; empty inside a character, and for
        /// special tokens.
        text: &'a str,
    },
    /// The text of tokens that ended inside a character. Comes last, if at all,
    /// and cannot be cancelled any more.
    Rest {
        /// The text.
        text: &'a str,
    },
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer {
    /// Its tokens, the one that ended it included.
    pub tokens: Vec<u32>,
    /// Their text, without special tokens.
    pub text: String,
    /// Why it ended.
    pub finish: FinishReason,
    /// How long it took.
    pub timings: Timings,
}

/// How long an answer took, from the question to an opened model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timings {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Until the first token: encoding pictures and reading the prompt.
    pub first: Duration,
    /// From there to the last token.
    pub rest: Duration,
}

impl Model {
    /// A session that has read nothing yet.
    #[must_use]
    pub fn session(&self) -> Session {
        Session::new(self.clone())
    }
}

impl Session {
    fn new(model: Model) -> Self {
        Self { model, last: None }
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// What the last answer was made from: the tokens that were read, in the
    /// cache. `None` before the first answer.
    pub fn sequence(&self) -> Option<&Sequence> {
        self.last.as_ref().map(|last| &last.sequence)
    }

    /// Answers the last turn of a conversation. `each` is told of every step
    /// and may cancel the answer.
    ///
    /// # Errors
    /// A prompt that cannot be made ([`Model::prompt`]) or that leaves no room
    /// for an answer ([`Error::PromptTooLong`]), or a run that fails.
    pub fn answer<P: Borrow<Image>>(
        &mut self,
        conversation: &Conversation<P>,
        sampler: &mut Sampler,
        limits: Limits,
        mut each: impl FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Answer> {
        let started = Instant::now();
        let model = &self.model;
        let prompt = model.prompt(conversation)?;
        let total = prompt.tokens.ids.len();
        let room = model.max_context().saturating_sub(total);
        if room == 0 {
            return Err(Error::PromptTooLong {
                tokens: total,
                model: model.name().to_owned(),
                context: model.max_context(),
            });
        }
        let (mut sequence, known) = match self.last.take() {
            Some(last) => {
                let (known, pictures) = last.common(&prompt);
                model.resume(last.sequence, &prompt, known, pictures)?
            }
            None => (model.start(&prompt)?, 0),
        };
        let tokenizer = model.tokenizer();
        let (mut stream, mut text) = (DecodeStream::new(), String::new());
        let (mut first, mut failed) = (None, None);
        let Generated { tokens, finish } = sequence.generate(
            &prompt.tokens.ids[known..],
            sampler,
            limits.max_tokens.min(room),
            tokenizer.stop_tokens(),
            |step| match step {
                Step::Read(read) => each(Event::Prompt {
                    read: known + read,
                    total,
                }),
                Step::Token(token) => {
                    first.get_or_insert_with(|| started.elapsed());
                    match stream.push(tokenizer, token) {
                        Ok(new) => {
                            text.push_str(&new);
                            each(Event::Token { token, text: &new })
                        }
                        Err(error) => {
                            failed = Some(error);
                            ControlFlow::Break(())
                        }
                    }
                }
            },
        )?;
        if let Some(error) = failed {
            return Err(error.into());
        }
        let rest = stream.finish(tokenizer)?;
        if !rest.is_empty() {
            text.push_str(&rest);
            let _ = each(Event::Rest { text: &rest });
        }
        let took = started.elapsed();
        let first = first.unwrap_or(took);
        let mut ids = prompt.tokens.ids.clone();
        ids.extend(tokens.iter().map(|token| *token as i32));
        ids.truncate(sequence.len());
        self.last = Some(Last {
            sequence,
            prompt,
            ids,
        });
        Ok(Answer {
            tokens,
            text,
            finish: match finish {
                FinishReason::Length if limits.max_tokens > room => FinishReason::ContextFull,
                finish => finish,
            },
            timings: Timings {
                prompt_tokens: total,
                first,
                rest: took - first,
            },
        })
    }
}
