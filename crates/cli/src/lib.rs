//! The command line `aimodel`, one module a command.
//!
//! A command reads its flags, calls the libraries, and prints. Its exit code is
//! 0 if it is done, 1 if a check failed, and 2 for bad usage, bad input, or a
//! machine that lacks something.
#![deny(missing_docs)]

pub mod answer;
pub mod ask;
mod assets;
pub mod bench;
pub mod bundles;
pub mod call;
pub mod chat;
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
mod refused;
pub mod release;
pub mod repair;
pub mod synth;
mod threads;
pub mod venv;
pub mod verify;

pub use refused::Refused;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use std::process::ExitCode;

/// Converts checkpoints to Core AI .aimodel bundles, and proves that they are right.
#[derive(Parser)]
#[command(name = "aimodel", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Export a checkpoint as bundles: a decoder for each call shape, and a vision encoder.
    Export(export::Args),
    /// Check a bundle against its checkpoint, and record the evidence.
    Gate(Box<gate::Args>),
    /// Answer a question with exported bundles, about pictures or without one.
    Ask(ask::Args),
    /// Talk with an exported bundle on the terminal, about pictures or without one.
    Chat(chat::Args),
    /// Show what a bundle or an asset contains, and check its hash.
    Inspect(inspect::Args),
    /// Compare two assets, or those of two bundles, by meaning.
    Diff(diff::Args),
    /// Copy assets that newer systems refuse to load, without the debug locations that stop them.
    Repair(repair::Args),
    /// Make the folder that is published on the hub, from bundles and evidence.
    Release(release::Args),
    /// Check a published folder against its sums, its evidence and Core AI's library.
    Verify(verify::Args),
    /// Export a published folder's checkpoint again, and compare the bytes.
    Rebuild(rebuild::Args),
    /// Write a checkpoint with random weights from a fixed seed, for benchmarks and tests.
    Synth(synth::Args),
    /// Measure how long work takes, and the lower bound of this machine in the same run.
    Bench(bench::Args),
    /// Show what this machine can do, and how to add what is missing.
    Doctor(doctor::Args),
    /// Export the built-in model nano, check it, and describe a picture with it.
    Quickstart(quickstart::Args),
}

/// Runs the command that the arguments of this process name, and prints the
/// error if there is one.
pub fn run() -> ExitCode {
    let matches = Cli::command().bin_name(call::name()).get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let result = threads::set().and_then(|()| match cli.command {
        Command::Export(args) => export::run(args),
        Command::Gate(args) => gate::run(*args),
        Command::Ask(args) => ask::run(args),
        Command::Chat(args) => chat::run(args),
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
    });
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    report(&error);
    match error.downcast_ref::<Refused>() {
        Some(_) => ExitCode::from(1),
        None => ExitCode::from(2),
    }
}

/// Prints an error and its causes, one a line, but for a cause that the line
/// above it quotes.
pub fn report(error: &anyhow::Error) {
    let mut printed = String::new();
    for (depth, cause) in error.chain().enumerate() {
        let text = cause.to_string();
        if printed.contains(&text) {
            continue;
        }
        match depth {
            0 => eprintln!("error: {text}"),
            _ => eprintln!("  because: {text}"),
        }
        printed = text;
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
