//! `inspect`: what a bundle or an asset contains.

mod contents;
mod json;
mod model;
#[cfg(test)]
mod tests;
mod text;

use crate::Refused;
use aimodel::{Form, print_ir};
use anyhow::Result;
use contents::Contents;
use std::{
    io::{self, BufWriter, Write as _},
    path::PathBuf,
};

/// Flags of `inspect`.
#[derive(clap::Args)]
pub struct Args {
    /// A bundle, an .aimodel folder, or the main.mlirb of one
    path: PathBuf,
    /// Print the IR, close to the text of the coreai dialect
    #[arg(long, conflicts_with = "json")]
    ir: bool,
    /// Print the IR as it is stored, with all regions and properties
    #[arg(long, conflicts_with = "json")]
    stored: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints what is there, and fails if it is damaged.
pub fn run(args: Args) -> Result<()> {
    let found = Contents::at(&args.path)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let printed = print(&args, &found, &mut out).and_then(|()| Ok(out.flush()?));
    // The reader may have closed the pipe.
    let quit = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    match printed {
        Err(error)
            if error
                .chain()
                .any(|cause| cause.downcast_ref().is_some_and(quit)) =>
        {
            // What is left in the buffer has nowhere to go.
            drop(out.into_parts());
        }
        other => other?,
    }
    match found.problem() {
        Some(problem) => Err(Refused(problem).into()),
        None => Ok(()),
    }
}

fn print(args: &Args, found: &Contents, out: &mut dyn io::Write) -> Result<()> {
    if args.json {
        writeln!(out, "{:#}", found.json())?;
    } else if args.ir || args.stored {
        let form = if args.stored {
            Form::Stored
        } else {
            Form::Dialect
        };
        for program in &found.programs {
            print_ir(&program.module, form, out).map_err(|error| match error {
                aimodel::Error::Output(error) => error.into(),
                error => anyhow::Error::from(error).context(format!(
                    "{} cannot be shown; --stored shows it as it is",
                    program.path.display()
                )),
            })?;
        }
    } else {
        out.write_all(found.text()?.as_bytes())?;
    }
    Ok(())
}
