//! `diff`: compares two assets, or the assets of two bundles, by meaning.

use crate::assets::open_asset;
use crate::{Refused, progress};
use aimodel::{Asset, Difference};
use anyhow::{Context, Result, bail};
use bundle::Manifest;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Flags of `diff`.
#[derive(clap::Args)]
pub struct Args {
    /// An .aimodel folder, or a bundle
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
    let (assets, found) = compare(&args.a, &args.b)?;
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
    let same = "the same functions, operations, constants and metadata";
    match (found.len(), assets) {
        (0, _) if args.json => Ok(()),
        (0, 1) => Ok(progress::print(&format!("{same}\n"))?),
        (0, assets) => Ok(progress::print(&format!(
            "{same} in {assets} assets; manifests and tokenizers were not compared\n"
        ))?),
        (1, _) => Err(Refused("1 difference".to_owned()).into()),
        (count, _) => Err(Refused(format!("{count} differences")).into()),
    }
}

/// How many pairs of assets were compared, and what differs.
fn compare(a: &Path, b: &Path) -> Result<(usize, Vec<Difference>)> {
    let (left, right) = (parts(a)?, parts(b)?);
    if let ([left], [right]) = (&left[..], &right[..]) {
        let found = differences(&open_asset(&left.path)?, &open_asset(&right.path)?)?;
        return Ok((1, found));
    }
    for (path, parts, other, count) in [(a, &left, b, right.len()), (b, &right, a, left.len())] {
        if parts.iter().any(|part| part.role.is_none()) {
            bail!(
                "{} is one asset, and {} holds {count}; name the asset in it",
                path.display(),
                other.display()
            );
        }
    }
    let roles: BTreeSet<&String> = left
        .iter()
        .chain(&right)
        .filter_map(|part| part.role.as_ref())
        .collect();
    let (mut pairs, mut found) = (0, Vec::new());
    for role in roles {
        let of = |parts: &[Part]| {
            let mut parts = parts.iter();
            let part = parts.find(|part| part.role.as_ref() == Some(role))?;
            Some(part.path.clone())
        };
        match (of(&left), of(&right)) {
            (Some(left), Some(right)) => {
                pairs += 1;
                let differ = differences(&open_asset(&left)?, &open_asset(&right)?)?;
                found.extend(differ.into_iter().map(|one| {
                    let place = format!("{role}, {}", one.place);
                    Difference::new(one.kind, place, one.message)
                }));
            }
            (left, _) => {
                let (has, lacks) = if left.is_some() { (a, b) } else { (b, a) };
                let message = format!("is in {}, and not in {}", has.display(), lacks.display());
                found.push(Difference::new("asset", role.as_str(), message));
            }
        }
    }
    Ok((pairs, found))
}

/// What two assets do not have in common.
fn differences(a: &Asset, b: &Asset) -> Result<Vec<Difference>> {
    let mut found = aimodel::diff(&a.module, &b.module)?;
    let [first, second] = [a, b].map(|asset| {
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
    Ok(found)
}

/// An asset that was named, or one of a bundle.
struct Part {
    /// The part that it plays in its bundle, as the manifest says, or its folder's
    /// name if the manifest does not; `None` where there is no bundle.
    role: Option<String>,
    path: PathBuf,
}

/// An asset, or all that a bundle holds.
fn parts(path: &Path) -> Result<Vec<Part>> {
    if path.join(aimodel::PROGRAM).exists() || !path.is_dir() {
        return Ok(vec![Part {
            role: None,
            path: path.to_owned(),
        }]);
    }
    let entries = std::fs::read_dir(path)
        .and_then(Iterator::collect::<std::io::Result<Vec<_>>>)
        .with_context(|| path.display().to_string())?;
    let assets = entries.into_iter().map(|entry| entry.path());
    let assets = assets.filter(|path| path.join(aimodel::PROGRAM).exists());
    let assets: Vec<PathBuf> = assets.collect();
    let manifest = Manifest::load(path);
    match (&assets[..], manifest) {
        ([], _) => bail!("{} holds no .aimodel folder", path.display()),
        // A vision encoder's folder has no manifest, and other people's may have
        // one that cannot be read.
        ([asset], Err(_)) => Ok(vec![Part {
            role: None,
            path: asset.clone(),
        }]),
        (several, Err(error)) => Err(anyhow::Error::from(error).context(format!(
            "{} holds {} .aimodel folders, and what they are for cannot be read; name the asset \
             itself",
            path.display(),
            several.len()
        ))),
        (_, Ok(manifest)) => Ok(assets
            .into_iter()
            .map(|asset| {
                let name = asset.file_name().unwrap_or_default().to_string_lossy();
                let mut roles = manifest.assets.iter();
                let role = roles.find(|(_, folder)| **folder == *name);
                let role = role.map_or_else(|| name.to_string(), |(role, _)| role.clone());
                Part {
                    role: Some(role),
                    path: asset,
                }
            })
            .collect()),
    }
}

fn text(value: Option<String>) -> String {
    value.map_or_else(|| "absent".to_owned(), |value| format!("{value:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export;
    use bundle::Layout;
    use std::fs;

    /// nano in a layout, alone in a folder of that name below `folder`.
    fn nano(folder: &Path, name: &str, mode: &str, layout: Layout) -> PathBuf {
        let out = folder.join(name);
        let mut job = export::Job::nano(mode, &out).unwrap();
        job.options.layouts = vec![layout];
        job.run().unwrap().remove(0).path
    }

    #[test]
    fn bundles_are_compared_asset_by_asset() {
        let folder = tempfile::tempdir().unwrap();
        let hu = nano(folder.path(), "a", "int8hu", Layout::Vlm);
        let again = nano(folder.path(), "b", "int8hu", Layout::Vlm);
        assert_eq!(compare(&hu, &again).unwrap(), (3, Vec::new()));

        // Another mode is another decoder, with the same embedding table and vision
        // encoder.
        let lin = nano(folder.path(), "c", "int8lin", Layout::Vlm);
        let (pairs, found) = compare(&hu, &lin).unwrap();
        assert_eq!(pairs, 3);
        assert!(!found.is_empty());
        let other = found.iter().find(|one| !one.place.starts_with("main, "));
        assert_eq!(other, None);

        // What is missing is named, whichever side lacks it.
        fs::remove_dir_all(again.join("embedding.aimodel")).unwrap();
        for (a, b) in [(&hu, &again), (&again, &hu)] {
            let (pairs, found) = compare(a, b).unwrap();
            let [one] = &found[..] else {
                panic!("{found:?}");
            };
            assert_eq!(
                (pairs, one.kind, one.place.as_str()),
                (2, "asset", "embedding")
            );
            let message = format!("is in {}, and not in {}", hu.display(), again.display());
            assert_eq!(one.message, message);
        }
        // An asset of which the manifest does not know is one, too.
        fs::rename(again.join("vision.aimodel"), again.join("eyes.aimodel")).unwrap();
        let (_, found) = compare(&hu, &again).unwrap();
        let places: Vec<&str> = found.iter().map(|one| one.place.as_str()).collect();
        assert_eq!(places, ["embedding", "eyes.aimodel", "vision"]);
        // Without a manifest nobody knows which is which.
        fs::remove_file(again.join("metadata.json")).unwrap();
        let error = format!("{:#}", compare(&hu, &again).unwrap_err());
        assert!(error.contains("holds 2 .aimodel folders"), "{error}");
    }

    #[test]
    fn single_assets_are_compared_as_before() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::Pipelined("s1".parse().unwrap());
        let pipelined = nano(folder.path(), "a", "int8hu", layout);
        let asset = pipelined.join("nano_decode_int8hu_s1.aimodel");
        assert_eq!(compare(&pipelined, &asset).unwrap(), (1, Vec::new()));
        let vision = folder.path().join("a/nano_vision");
        assert_eq!(compare(&vision, &vision).unwrap(), (1, Vec::new()));

        let vlm = nano(folder.path(), "b", "int8hu", Layout::Vlm);
        let embedding = vlm.join("embedding.aimodel");
        assert_eq!(compare(&embedding, &embedding).unwrap(), (1, Vec::new()));
        for (a, b) in [(&asset, &vlm), (&vlm, &asset)] {
            let error = compare(a, b).unwrap_err().to_string();
            let expected = format!(
                "{} is one asset, and {} holds 3",
                asset.display(),
                vlm.display()
            );
            assert!(error.starts_with(&expected), "{error}");
        }
        // A decoder of one layout is that of the other, by its part.
        let (pairs, found) = compare(&pipelined, &vlm).unwrap();
        assert_eq!(pairs, 1);
        let missing = found.iter().filter(|one| one.kind == "asset");
        let missing: Vec<&str> = missing.map(|one| one.place.as_str()).collect();
        assert_eq!(missing, ["embedding", "vision"]);
        let error = compare(folder.path(), &vlm).unwrap_err().to_string();
        assert!(error.contains("holds no .aimodel folder"), "{error}");
    }
}
