//! Stand-ins for the tools that the gates ask.

use std::path::Path;

use gate::{Answer, Candidate, ExternalTools, NamedPrompt, Outcome, Recording, Result};

/// A machine without Python and without Core AI's runtime.
pub struct NoTools;

impl ExternalTools for NoTools {
    fn record(&self, _: &Recording<'_>, _: &Path) -> Result<Outcome> {
        Ok(Outcome::Unavailable("no Python in this test".to_owned()))
    }

    fn core_ai(
        &self,
        _: &Candidate,
        _: &[NamedPrompt],
        _: usize,
    ) -> Result<Result<(Vec<Answer>, String), String>> {
        Ok(Err("no runtime of Core AI in this test".to_owned()))
    }
}
