//! `verify`: checks a published folder.

use crate::assets::open_asset;
use crate::progress::{say, size};
use crate::release::{refused, source};
use crate::venv::{CORE_AI_NEWEST, Venv};
use crate::{Refused, gate, hub, python};
use ::gate::Gates;
use ::release::names::{GATES, TRANSCRIPTS};
use ::release::{Recipe, Release};
use aimodel::Summary;
use anyhow::{Context, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Flags of `verify`.
#[derive(clap::Args)]
pub struct Args {
    /// The published folder, or the repository on the hub, organization/name
    folder: String,
    /// Compare it with this checkpoint, too: a folder, nano, or a model id on the
    /// Hugging Face hub
    #[arg(long)]
    model: Option<String>,
}

/// Checks a published folder.
pub fn run(args: Args) -> Result<()> {
    let place = Place::of(&args.folder)?;
    let folder = place.path();
    let release = Release::open(folder).map_err(refused)?;
    let (listing, recipe) = (&release.listing, &release.given.recipe);
    let files = listing.files.len();
    say(
        "files",
        &format!("{files}, {}, each with its hash", size(listing.bytes())),
    )?;
    let bundles = recipe.decoders().count() + 1;
    say(
        "bundles",
        &format!("{bundles}, of {}, as their metadata states", recipe.model),
    )?;
    let required: Vec<&str> = recipe.required().iter().map(|stage| stage.name()).collect();
    say(
        "evidence",
        &format!(
            "{} transcripts in {TRANSCRIPTS}/, about these very bytes; {} passed for each decoder{}",
            release.evidence.len(),
            required.join(", "),
            without_stage(recipe)
        ),
    )?;
    say("gates", &thresholds(&release)?)?;
    say(
        "card",
        "what the evidence gives, with front matter as the hub wants it",
    )?;
    if let Some(model) = &args.model {
        let revision = release.facts.revision.as_deref();
        let source = source(recipe, Some(model), revision)?;
        release.check_source(&source).map_err(refused)?;
        say(
            "model",
            "the checkpoint's digest and its tokenizer's files are those",
        )?;
    }
    say("Core AI", &loads(folder, &release)?)
}

/// What is required and yet cannot run on some bundles.
fn without_stage(recipe: &Recipe) -> String {
    let required = recipe.required();
    let pairs = recipe.decoders().flat_map(|decoder| {
        let never = required.iter().filter(|stage| !decoder.has_stage(**stage));
        let never = never.map(|stage| format!("; {stage} cannot run on {}", decoder.name));
        never.collect::<Vec<_>>()
    });
    pairs.collect()
}

/// Where the published folder is.
enum Place {
    Folder(PathBuf),
    Fetched(TempDir),
}

impl Place {
    /// The folder that is meant, or the repository on the hub.
    fn of(given: &str) -> Result<Place> {
        if Path::new(given).is_dir() {
            Ok(Place::Folder(given.into()))
        } else {
            Ok(Place::Fetched(hub::published(given)?))
        }
    }

    fn path(&self) -> &Path {
        match self {
            Place::Folder(path) => path,
            Place::Fetched(folder) => folder.path(),
        }
    }
}

/// Compares the thresholds with those of this program.
fn thresholds(release: &Release) -> Result<String> {
    let published = &release.gates;
    let Ok(file) = gate::gates_file(&published.name) else {
        return Ok(format!(
            "a set of its own, {}: {GATES} has the thresholds",
            published.name
        ));
    };
    if Gates::load(&file)?.sha256 != published.sha256 {
        return Err(Refused(format!(
            "{GATES}: the set {} has other thresholds than gates/{}.toml here; verify it with the \
             version that made it, {}",
            published.name, published.name, release.facts.producer
        ))
        .into());
    }
    Ok(format!("the set {}, as it is here", published.name))
}

/// Checks that Core AI's own library loads every asset and finds the same
/// functions as we do.
fn loads(folder: &Path, release: &Release) -> Result<String> {
    let venv = match Venv::core_ai(CORE_AI_NEWEST) {
        Ok(venv) => venv,
        Err(error) => return Ok(format!("skipped: {error:#}")),
    };
    let assets = release.given.recipe.assets();
    let paths: Vec<PathBuf> = assets
        .iter()
        .map(|asset| {
            let path = folder.join(asset);
            path.canonicalize()
                .with_context(|| format!("{}", path.display()))
        })
        .collect::<Result<_>>()?;
    let printed = python::output(&mut python::script(&venv, "describe.py", &paths)?);
    let printed =
        printed.map_err(|error| Refused(format!("Core AI does not load it: {error:#}")))?;
    let printed: Value =
        serde_json::from_str(&printed).context("describe.py did not print JSON")?;
    for (index, path) in paths.iter().enumerate() {
        let functions = printed[index]["functions"].as_array().into_iter().flatten();
        let expected: Vec<&str> = functions.filter_map(|one| one["name"].as_str()).collect();
        let summary = Summary::of(&open_asset(path)?.module)?;
        let actual: Vec<&str> = summary
            .functions
            .iter()
            .map(|one| one.name.as_str())
            .collect();
        if actual != expected {
            return Err(Refused(format!(
                "{}: Core AI finds the functions {expected:?}, and we find {actual:?}",
                path.display()
            ))
            .into());
        }
    }
    Ok(format!(
        "coreai-core {CORE_AI_NEWEST} loads all {} assets",
        paths.len()
    ))
}
