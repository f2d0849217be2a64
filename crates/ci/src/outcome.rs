//! What a step of CI gives.

/// In a few words, what the step checked.
pub type Outcome = anyhow::Result<String>;
