//! `doctor`: what this machine can do, and how to add what is missing.

mod environment;
mod machine;
#[cfg(test)]
mod tests;

pub use machine::memory_there;

use crate::{Refused, progress};
use anyhow::Result;
use serde_json::{Value, json};
use std::{path::PathBuf, sync::mpsc, thread, time::Duration};

/// Flags of `doctor`.
#[derive(clap::Args)]
pub struct Args {
    /// The folder that exports would go to
    #[arg(long, default_value = "exports")]
    out: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One thing that a machine has or lacks.
struct Capability {
    name: &'static str,
    here: bool,
    /// Whether exporting and gating on the CPU need it.
    needed: bool,
    /// What was found.
    found: String,
    /// What to do where it is not here.
    remedy: Option<String>,
}

impl Capability {
    fn here(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            here: true,
            needed: false,
            found: found.into(),
            remedy: None,
        }
    }

    fn missing(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            remedy: Some(remedy.into()),
            ..Self::absent(name, found)
        }
    }

    /// One that cannot be added.
    fn absent(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            here: false,
            ..Self::here(name, found)
        }
    }

    fn needed(mut self) -> Self {
        self.needed = true;
        self
    }

    fn text(&self) -> String {
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

    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "here": self.here,
            "needed": self.needed,
            "found": self.found,
            "remedy": self.remedy,
        })
    }
}

/// Looks at the machine. Refuses one on which nothing can be exported and gated
/// on the CPU; everything else may be missing.
pub fn run(args: Args) -> Result<()> {
    let found = [
        machine::cpu(),
        machine::cuda(),
        machine::metal(),
        machine::memory(),
        machine::disk(&args.out),
        environment::core_ai(),
        environment::oracles(),
        environment::hub(),
        environment::checkpoints(),
    ];
    let lacking: Vec<&str> = found
        .iter()
        .filter(|one| one.needed && !one.here)
        .map(|one| one.name)
        .collect();
    if args.json {
        let list: Vec<Value> = found.iter().map(Capability::json).collect();
        let all = json!({ "able": lacking.is_empty(), "capabilities": list });
        progress::print(&format!("{all:#}\n"))?;
    } else {
        for one in &found {
            progress::print(&one.text())?;
        }
    }
    match lacking.as_slice() {
        [] if args.json => Ok(()),
        [] => Ok(progress::print(
            "models can be exported and gated on the CPU here\n",
        )?),
        lacking => {
            let lacking = lacking.join(" and ");
            Err(Refused(format!(
                "for exporting and gating, this machine lacks {lacking}"
            ))
            .into())
        }
    }
}

/// The result of `work`, unless it takes longer than `limit`: its thread is then
/// left behind, and ends with this program.
fn within<T: Send + 'static>(
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
