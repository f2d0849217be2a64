//! `rebuild`: exports a published folder's checkpoint again and compares the
//! bytes.

use crate::progress::{say, seconds};
use crate::release::{refused, source};
use crate::{export, home};
use ::release::{Release, names::SUMS};
use anyhow::Result;
use std::path::PathBuf;
use std::time::Instant;

/// Flags of `rebuild`.
#[derive(clap::Args)]
pub struct Args {
    /// The published folder
    folder: PathBuf,
    /// The checkpoint: a folder, nano, or a model id on the Hugging Face hub
    /// [default: the one that the folder names]
    #[arg(long)]
    model: Option<String>,
}

/// Exports again, and compares.
pub fn run(args: Args) -> Result<()> {
    let started = Instant::now();
    let release = Release::open(&args.folder).map_err(refused)?;
    let (recipe, facts) = (&release.given.recipe, &release.facts);
    if facts.producer != ::export::PRODUCER {
        eprintln!(
            "made by {}, and this is {}: that alone may change the bytes",
            facts.producer,
            ::export::PRODUCER
        );
    }
    let revision = facts.revision.as_deref().or(recipe.revision.as_deref());
    let source = source(recipe, args.model.as_deref(), revision)?;
    let source = source.called(&recipe.model, facts.revision.clone());
    release.check_source(&source).map_err(refused)?;
    let scratch = home::scratch()?;
    for options in ::release::exports(recipe, facts.created) {
        let job = export::Job {
            source: source.clone(),
            options,
            out: scratch.path().to_owned(),
        };
        for bundle in job.run()? {
            say(
                "export",
                &bundle
                    .path
                    .file_name()
                    .unwrap_or_default()
                    .display()
                    .to_string(),
            )?;
        }
    }
    ::release::differences(&release, scratch.path()).map_err(refused)?;
    say(
        "same",
        &format!(
            "the checkpoint gives every file of {SUMS} again, in {}",
            seconds(started.elapsed())
        ),
    )
}
