//! What is reported of a machine, line by line.

use serde_json::{Value, json};
use std::{sync::mpsc, thread, time::Duration};

/// One thing that a machine has or lacks.
pub struct Capability {
    pub name: &'static str,
    pub here: bool,
    /// Whether exporting and gating on the CPU need it.
    pub needed: bool,
    /// What was found.
    pub found: String,
    /// What to do where it is not here.
    pub remedy: Option<String>,
}

impl Capability {
    pub fn here(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            here: true,
            needed: false,
            found: found.into(),
            remedy: None,
        }
    }

    pub fn missing(
        name: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            remedy: Some(remedy.into()),
            ..Self::absent(name, found)
        }
    }

    /// One that cannot be added.
    pub fn absent(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            here: false,
            ..Self::here(name, found)
        }
    }

    pub fn needed(mut self) -> Self {
        self.needed = true;
        self
    }

    pub fn text(&self) -> String {
        let here = if self.here { "ok" } else { "not here" };
        let mut text = format!(
            "{:>11}  {here:<8}  {}\n",
            self.name,
            fsutil::one_line(&self.found)
        );
        if let Some(remedy) = &self.remedy {
            text.push_str(&format!("{:>21}  {}\n", "do", fsutil::one_line(remedy)));
        }
        text
    }

    pub fn json(&self) -> Value {
        json!({
            "name": self.name,
            "here": self.here,
            "needed": self.needed,
            "found": self.found,
            "remedy": self.remedy,
        })
    }
}

/// The result of `work`, unless it takes longer than `limit`: its thread is then
/// left behind, and ends with this program.
pub fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        // The receiver is gone if it took too long.
        let _ = sender.send(work());
    });
    receiver.recv_timeout(limit).ok()
}
