//! The command line `aimodel`.
//!
//! Thin: each command reads its flags, calls the crates, and prints. Exit code
//! 0 means done, 1 that a check said no, 2 bad usage, bad input or a machine
//! that lacks something.
#![deny(missing_docs)]

pub mod ask;
pub mod bench;
pub mod bundles;
pub mod call;
pub mod device;
pub mod diff;
pub mod doctor;
pub mod embedded;
pub mod export;
pub mod gate;
pub mod home;
pub mod hub;
pub mod inspect;
pub mod progress;
pub mod python;
pub mod quickstart;
pub mod rebuild;
pub mod release;
pub mod repair;
pub mod synth;
pub mod venv;
pub mod verify;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use std::process::ExitCode;

/// Turns Qwen3-VL checkpoints into Core AI .aimodel bundles.
#[derive(Parser)]
#[command(name = "aimodel", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Export a checkpoint: a decoder bundle for each query, and a vision encoder.
    Export(export::Args),
    /// Say, with evidence, whether a bundle is the model that it claims to be.
    Gate(Box<gate::Args>),
    /// Answer a question from exported bundles, about a picture or without one.
    Ask(ask::Args),
    /// Say what a bundle or an asset holds, and check its hash.
    Inspect(inspect::Args),
    /// Say what differs between two assets, by meaning.
    Diff(diff::Args),
    /// Write a copy of assets whose debug locations newer systems refuse, without them.
    Repair(repair::Args),
    /// Make the folder that becomes a repository on the hub, from bundles and
    /// evidence.
    Release(release::Args),
    /// Say whether a published folder is what it says.
    Verify(verify::Args),
    /// Export a published folder's checkpoint again, and compare.
    Rebuild(rebuild::Args),
    /// Write a checkpoint with seeded weights, for benches and tests.
    Synth(synth::Args),
    /// Measure work beside its floor in the same run.
    Bench(bench::Args),
    /// Say what this machine can do, and what to do about what it cannot.
    Doctor(doctor::Args),
    /// Export nano, run it on a picture in Core AI's runtime, show the caption.
    Quickstart(quickstart::Args),
}

/// A check that was made and said no, in contrast to one that could not be
/// made. Exit code 1.
#[derive(Debug)]
pub struct Refused(pub String);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

/// Runs the command that the arguments of this process name, and prints the
/// error if there is one.
pub fn run() -> ExitCode {
    let matches = Cli::command().bin_name(call::name()).get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let result = match cli.command {
        Command::Export(args) => export::run(args),
        Command::Gate(args) => gate::run(*args),
        Command::Ask(args) => ask::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Diff(args) => diff::run(args),
        Command::Repair(args) => repair::run(args),
        Command::Release(args) => release::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Rebuild(args) => rebuild::run(args),
        Command::Synth(args) => synth::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Quickstart(args) => quickstart::run(args),
    };
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    report(&error);
    match error.downcast_ref::<Refused>() {
        Some(_) => ExitCode::from(1),
        None => ExitCode::from(2),
    }
}

/// Prints an error and its causes, one a line. A cause that the line above
/// already quotes is not repeated.
pub fn report(error: &anyhow::Error) {
    let mut said = String::new();
    for (depth, cause) in error.chain().enumerate() {
        let text = cause.to_string();
        if said.contains(&text) {
            continue;
        }
        match depth {
            0 => eprintln!("error: {text}"),
            _ => eprintln!("  because: {text}"),
        }
        said = text;
    }
}

#[cfg(test)]
mod tests {
    use super::{Cli, CommandFactory};

    #[test]
    fn flags_are_consistent() {
        Cli::command().debug_assert();
    }
}
