//! `bench`: how long work takes, and its lower bound: how long this machine
//! takes for the smallest part of it that cannot be avoided, measured in the
//! same run.

mod decode;
mod export;
mod memory;
mod quantize;
mod report;
mod timing;

use anyhow::Result;

/// Flags of `bench`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Export a checkpoint; the bound is to read it, write as many bytes and hash them
    Export(export::Args),
    /// Decode with an exported bundle; the bound is to read its weights from memory
    Decode(decode::Args),
    /// Quantize a checkpoint's matrices; the bound is to copy them in memory
    Quantize(quantize::Args),
}

/// Measures.
pub fn run(args: Args) -> Result<()> {
    match args.command {
        Command::Export(args) => export::run(args),
        Command::Decode(args) => decode::run(args),
        Command::Quantize(args) => quantize::run(args),
    }
}
