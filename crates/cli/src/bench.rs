//! `bench`: how long work takes, beside its floor: what the machine needs for
//! the least of that work, measured in the same run.

mod decode;
mod export;
mod memory;
mod quantize;
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
    /// Export a checkpoint, beside reading it, writing and hashing as many bytes
    Export(export::Args),
    /// Decode with an exported bundle, beside reading its weights from memory
    Decode(decode::Args),
    /// Quantize a checkpoint's matrices, beside copying them in memory
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

/// The step of `test`: all of them on nano, so that they do not rot. What they
/// measure there says nothing.
pub fn check() -> Result<String> {
    export::check()?;
    quantize::check()?;
    decode::check()?;
    Ok("export, quantize and decode, on nano".to_owned())
}
