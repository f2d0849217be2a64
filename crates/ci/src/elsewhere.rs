//! The tool where it is installed: in an empty folder outside the repository,
//! as a copy that has nothing beside it.

use super::{outcome::Outcome, repo};
use anyhow::{Result, ensure};
use std::path::Path;
use std::process::{Command, Stdio};

/// The step.
pub fn run() -> Outcome {
    let scratch = tempfile::tempdir()?;
    let tool = scratch.path().join("aimodel");
    std::fs::copy(repo::tool()?, &tool)?;
    let folder = scratch.path().join("empty");
    std::fs::create_dir(&folder)?;
    let caption = printed(&tool, &folder, &["quickstart"])?;
    ensure!(
        caption.contains("this is what the picture shows"),
        "quickstart printed:\n{caption}"
    );
    printed(&tool, &folder, &["export", "int8hu", "--model", "nano"])?;
    let proven = printed(&tool, &folder, &["gate", "--model", "nano"])?;
    ensure!(proven.contains("proven"), "gate printed:\n{proven}");
    Ok("quickstart gives the right caption; nano is exported and gated".to_owned())
}

/// Runs a command of the tool, which must succeed; gives what it printed. Its
/// Python environments are those of the other steps.
fn printed(tool: &Path, folder: &Path, args: &[&str]) -> Result<String> {
    let mut command = Command::new(tool);
    command.args(args).current_dir(folder).stdin(Stdio::null());
    let output = command.output()?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{} ended with {}:\n{printed}{}",
        args.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(printed)
}
