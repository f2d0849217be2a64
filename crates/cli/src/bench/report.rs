//! What a bench prints.

use crate::progress;
use anyhow::Result;
use serde_json::Value;

/// What a bench measured, for people and for programs.
pub trait Report {
    /// For people.
    fn text(&self) -> String;
    /// For programs.
    fn json(&self) -> Value;

    /// Prints it.
    fn print(&self, json: bool) -> Result<()> {
        let text = if json {
            format!("{:#}\n", self.json())
        } else {
            self.text()
        };
        Ok(progress::print(&text)?)
    }
}

/// A memory figure, which only some systems have.
pub fn memory_text(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "not known on this system".to_owned(), progress::size)
}
