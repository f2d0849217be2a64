//! From pictures and a prompt to tokens: exported bundles that answer.
//!
//! A [`Model`] is an opened bundle, and a [`Session`] answers conversations with
//! it: [`Model::open`] has an example. Both are owned and can move between
//! threads; sessions of one model run side by side and give the tokens that
//! each gives alone.
//!
//! Below that, a [`Prompter`] makes [`Prompt`]s of conversations, a
//! [`VisionEncoder`] makes [`StaticInputs`] of pictures, a [`Decoder`] begins
//! [`Sequence`]s, and a [`Sampler`] picks tokens. The decoder's inputs are taken
//! from its signature: whatever it declares besides tokens and positions is a
//! static input, and zeros where nobody gives one. What goes into them is known
//! to the model's family alone, in `models`.
#![deny(missing_docs)]

mod decoder;
mod error;
mod inputs;
mod model;
mod prompt;
mod rows;
mod sampler;
mod sequence;
mod session;
mod vision;

pub use decoder::Decoder;
pub use error::{Error, Result};
pub use inputs::StaticInputs;
pub use model::{Model, Options};
pub use prompt::{Prompt, Prompter};
pub use sampler::{Sampler, Sampling, argmax};
pub use sequence::{FinishReason, Generated, Sequence, Step};
pub use session::{Answer, Event, Limits, Session, Timings};
pub use text::{Conversation, Role, Turn};
pub use vision::{PictureSpec, VisionEncoder};
