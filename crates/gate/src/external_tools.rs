//! What only others can say: transformers, and Core AI's own runtime.

use std::path::Path;

use crate::{Answer, Candidate, Gates, NamedPrompt, Result};

/// What external tools are asked: Python with transformers, and Core AI's
/// own runtime.
pub trait ExternalTools {
    /// Records what transformers makes of the checkpoint, into `folder`.
    ///
    /// # Errors
    /// transformers is there, and something else failed.
    fn record(&self, request: &Recording<'_>, folder: &Path) -> Result<Outcome>;

    /// Continues prompts greedily in Core AI's own runtime, through the
    /// function `main`, one token a call, past end tokens. Gives the tokens of
    /// each, and which runtime it was. `Ok(Err(why))` where there is none.
    ///
    /// # Errors
    /// The runtime is there, and failed.
    fn core_ai(
        &self,
        candidate: &Candidate,
        prompts: &[NamedPrompt],
        tokens: usize,
    ) -> Result<Result<(Vec<Answer>, String), String>>;
}

/// What came of recording an oracle.
pub enum Outcome {
    /// It is there.
    Done,
    /// There is no Python with transformers here, and why that is known.
    Unavailable(String),
    /// transformers could not serve: a token leads by too little, or the
    /// checkpoint is not whole.
    Refused(String),
}

/// What an oracle is to be recorded of.
pub struct Recording<'a> {
    /// The checkpoint: a folder, or what names it.
    pub candidate: &'a Candidate,
    /// Prompts, and greedy tokens of each.
    pub gates: &'a Gates,
    /// Where pictures lie.
    pub root: &'a Path,
}
