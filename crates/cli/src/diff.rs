//! `diff`: compares two assets by meaning.

use crate::assets::open_asset;
use crate::{Refused, progress};
use aimodel::{Asset, Difference};
use anyhow::{Result, bail};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Flags of `diff`.
#[derive(clap::Args)]
pub struct Args {
    /// An .aimodel folder, or a bundle that holds one
    a: PathBuf,
    /// Another
    b: PathBuf,
    /// Print what differs as JSON
    #[arg(long)]
    json: bool,
}

/// Compares. Names of resources and private graphs, the order of operations
/// and source locations do not count.
pub fn run(args: Args) -> Result<()> {
    let (a, b) = (open(&args.a)?, open(&args.b)?);
    let mut found = aimodel::diff(&a.module, &b.module)?;
    let [first, second] = [&a, &b].map(|asset| {
        let metadata = &asset.metadata;
        [
            ("creationDate", metadata.creation_date.clone()),
            ("producer", metadata.producer.clone()),
            ("author", metadata.author.clone()),
            ("license", metadata.license.clone()),
            ("description", metadata.description.clone()),
        ]
    });
    for ((key, first), (_, second)) in first.into_iter().zip(second) {
        if first != second {
            let message = format!("is {}, and {} in the other", text(first), text(second));
            found.push(Difference::new("metadata", key, message));
        }
    }
    if args.json {
        let list = found
            .iter()
            .map(|one| json!({ "kind": one.kind, "place": one.place, "message": one.message }));
        let list = serde_json::Value::from(list.collect::<Vec<_>>());
        progress::print(&format!("{list:#}\n"))?;
    } else {
        for one in &found {
            // Names come from files, which may hold anything.
            let line = format!("{:<9}  {}: {}", one.kind, one.place, one.message);
            progress::print(&format!("{}\n", fsutil::one_line(&line)))?;
        }
    }
    match found.len() {
        0 if args.json => Ok(()),
        0 => Ok(progress::print(
            "the same functions, operations, constants and metadata\n",
        )?),
        1 => Err(Refused("1 difference".to_owned()).into()),
        count => Err(Refused(format!("{count} differences")).into()),
    }
}

/// Opens an asset, or the only one that a bundle holds.
fn open(path: &Path) -> Result<Asset> {
    if path.join(aimodel::PROGRAM).exists() || !path.is_dir() {
        return Ok(open_asset(path)?);
    }
    let entries = std::fs::read_dir(path)?.collect::<std::io::Result<Vec<_>>>()?;
    let assets = entries.into_iter().map(|entry| entry.path());
    let assets = assets.filter(|path| path.join(aimodel::PROGRAM).exists());
    match assets.collect::<Vec<_>>().as_slice() {
        [asset] => Ok(open_asset(asset)?),
        found => bail!(
            "{} holds {} .aimodel folders, expected one; name the asset itself",
            path.display(),
            found.len()
        ),
    }
}

fn text(value: Option<String>) -> String {
    value.map_or_else(|| "absent".to_owned(), |value| format!("{value:?}"))
}
