//! `doctor`: what this machine can do, and how to add what is missing.

mod capability;
mod environment;
mod machine;
#[cfg(test)]
mod tests;

pub use machine::memory_there;

use self::capability::Capability;
use crate::{Refused, progress};
use anyhow::Result;
use serde_json::{Value, json};
use std::path::PathBuf;

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
