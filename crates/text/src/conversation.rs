//! Conversations: turns of text and pictures.

use serde_json::{Value, json};
use std::fmt;

/// Who speaks in a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// Instructions that hold for the whole conversation.
    System,
    /// The user.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// What chat templates call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A message of one side: pictures, and a text about them.
///
/// `P` is what stands for a picture: the picture itself where it is still to be
/// encoded, its grid of tokens where a prompt is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn<P> {
    /// Whose message it is.
    pub role: Role,
    /// The text.
    pub text: String,
    /// The pictures, in order; they come before the text.
    pub pictures: Vec<P>,
}

/// A conversation, from its first turn to the one that is to be answered.
///
/// ```
/// use text::{Conversation, Role, Turn};
///
/// let mut talk: Conversation<&str> = Conversation::question("what is this ?", ["cat.png"]);
/// talk.turns.push(Turn::new(Role::Assistant, "a cat ."));
/// talk.turns.push(Turn::new(Role::User, "what colour ?"));
/// assert_eq!(talk.pictures().count(), 1);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation<P> {
    /// The turns, in order.
    pub turns: Vec<Turn<P>>,
}

impl<P> Turn<P> {
    /// A turn without pictures.
    pub fn new(role: Role, text: impl Into<String>) -> Self {
        Turn {
            role,
            text: text.into(),
            pictures: Vec::new(),
        }
    }

    /// The turn as chat templates expect it: an entry for each picture, then
    /// the text.
    fn message(&self) -> Value {
        let mut content = vec![json!({"type": "image"}); self.pictures.len()];
        content.push(json!({"type": "text", "text": self.text}));
        json!({"role": self.role.as_str(), "content": content})
    }
}

impl<P> Conversation<P> {
    /// One user turn.
    pub fn question(text: impl Into<String>, pictures: impl IntoIterator<Item = P>) -> Self {
        Conversation {
            turns: vec![Turn {
                role: Role::User,
                text: text.into(),
                pictures: pictures.into_iter().collect(),
            }],
        }
    }

    /// The pictures of all turns, in order.
    pub fn pictures(&self) -> impl Iterator<Item = &P> {
        self.turns.iter().flat_map(|turn| &turn.pictures)
    }

    /// The same conversation with something else standing for each picture.
    pub fn map_pictures<Q>(&self, mut to: impl FnMut(&P) -> Q) -> Conversation<Q> {
        let turns = self.turns.iter().map(|turn| Turn {
            role: turn.role,
            text: turn.text.clone(),
            pictures: turn.pictures.iter().map(&mut to).collect(),
        });
        Conversation {
            turns: turns.collect(),
        }
    }

    /// The `messages` of a chat template.
    pub(crate) fn messages(&self) -> Value {
        self.turns.iter().map(Turn::message).collect()
    }
}
