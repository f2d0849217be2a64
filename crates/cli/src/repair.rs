//! `repair`: copies of assets without the debug locations that stop newer
//! systems from loading them.

#[cfg(test)]
mod tests;

use crate::Refused;
use crate::assets::open_asset;
use crate::export::interrupt;
use crate::progress::{self, Progress, size};
use aimodel::{Asset, HASH, Locations, METADATA, PROGRAM, repair_asset};
use anyhow::{Context, Result, bail};
use fsutil::StagedDir;
use std::{
    fs::{self, File},
    io,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

/// What `metadata.json` names as the producer of what this tool writes.
const PRODUCER: &str = concat!("aimodel ", env!("CARGO_PKG_VERSION"));

/// Flags of `repair`.
#[derive(clap::Args)]
pub struct Args {
    /// An .aimodel folder, or a folder with some in it, such as a bundle
    pub path: PathBuf,
    /// The folder to write the repaired copy to, under the name that it has
    #[arg(long, default_value = "repaired")]
    pub out: PathBuf,
    /// Name this tool as the producer in the metadata.json of an asset that names none
    #[arg(long)]
    pub name_producer: bool,
}

/// Repairs.
pub fn run(args: Args) -> Result<()> {
    let path = &args.path;
    let mut found = Contents::default();
    found.look(path, Path::new(""))?;
    if found.assets.is_empty() {
        bail!(
            "{} holds no {PROGRAM} and no folder with one: expected an .aimodel folder, or a \
             bundle",
            path.display()
        );
    }
    let mut faulty = 0;
    for (_, asset, locations) in &found.assets {
        match asset.check_hash() {
            // It was read, and is not what the asset states.
            Err(error @ aimodel::Error::Asset { .. }) => {
                return Err(Refused(error.to_string()).into());
            }
            other => other?,
        }
        faulty += usize::from(locations.faulty() > 0);
        progress::print(&format!(
            "{}: {}\n",
            shown(&asset.dir),
            described(locations)
        ))?;
    }
    if faulty == 0 {
        return Ok(progress::print(
            "nothing to repair, so nothing was written\n",
        )?);
    }
    // `.` and the like have no name of their own.
    let whole = path
        .canonicalize()
        .with_context(|| format!("{}", path.display()))?;
    let Some(name) = whole.file_name() else {
        bail!("{} has no name that its copy could have", path.display());
    };
    let target = args.out.join(name);
    let bytes = found.write(&target, args.name_producer)?;
    progress::print(&format!("{}  {}\n", shown(&target), size(bytes)))?;
    let unnamed = |(_, asset, locations): &&(PathBuf, Asset, Locations)| {
        locations.faulty() > 0 && asset.metadata.producer.is_none()
    };
    if !args.name_producer && found.assets.iter().any(|asset| unnamed(&asset)) {
        progress::print(&format!(
            "{METADATA} names no producer, as before; tools that judge an asset by that still \
             report it, and --name-producer adds one\n"
        ))?;
    }
    Ok(progress::print(&format!(
        "repaired {faulty} of {}: the same graphs, constants and metadata; {HASH} is new, so gate \
         it again\n",
        found.assets.len()
    ))?)
}

/// An asset's locations, in words.
fn described(locations: &Locations) -> String {
    let Locations {
        total,
        unknown,
        builtin,
        ..
    } = *locations;
    if locations.faulty() == 0 {
        return format!("{total} locations, and all of them load");
    }
    let kinds = [(builtin, "of the builtin dialect"), (unknown, "unknown")];
    let kinds: Vec<String> = kinds
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, kind)| format!("{count} {kind}"))
        .collect();
    format!(
        "{} of {total} locations stop it from loading on OS 27 beta 2 and later ({})",
        locations.faulty(),
        kinds.join(", ")
    )
}

/// A path for a message; names come from elsewhere, and may hold anything.
fn shown(path: &Path) -> String {
    fsutil::one_line(&path.display().to_string())
}

/// What a folder contains. All names are relative to it.
#[derive(Default)]
struct Contents {
    assets: Vec<(PathBuf, Asset, Locations)>,
    /// Everything that is copied, and its size.
    files: Vec<(PathBuf, PathBuf, u64)>,
    folders: Vec<PathBuf>,
}

impl Contents {
    /// Looks into the folder at `path`, which is called `name` below the first.
    fn look(&mut self, path: &Path, name: &Path) -> Result<()> {
        let mut entries = read_dir(path)?;
        entries.sort();
        let is_asset = entries.iter().any(|entry| entry.ends_with(PROGRAM));
        let mut faulty = false;
        if is_asset {
            let asset = open_asset(path)?;
            let locations = Locations::of(&asset.module);
            faulty = locations.faulty() > 0;
            self.assets.push((name.to_owned(), asset, locations));
        }
        for entry in entries {
            let kind = fs::symlink_metadata(&entry)
                .with_context(|| format!("{} cannot be read", entry.display()))?;
            let name = name.join(entry.file_name().unwrap_or_default());
            if kind.is_dir() {
                self.folders.push(name.clone());
                self.look(&entry, &name)?;
            } else if !kind.is_file() {
                bail!(
                    "{} is a link or not a regular file, which is not followed; copy or download the folder \
                     so that it holds the files themselves",
                    shown(&entry)
                );
            } else if !(faulty
                && [PROGRAM, HASH, METADATA]
                    .iter()
                    .any(|own| entry.ends_with(own)))
            {
                self.files.push((entry, name, kind.len()));
            }
        }
        Ok(())
    }

    /// Writes the copy, whole or not at all; gives its size.
    fn write(&self, target: &Path, name_producer: bool) -> Result<u64> {
        let producer = name_producer.then_some(PRODUCER);
        let staged = StagedDir::create(target)?;
        let faulty = || {
            self.assets
                .iter()
                .filter(|(_, _, found)| found.faulty() > 0)
        };
        let copied = self.files.iter().map(|(_, _, bytes)| bytes);
        let constants = faulty().flat_map(|(_, asset, _)| blobs(asset));
        let total = copied.sum::<u64>() + constants.sum::<u64>();

        let progress = Progress::new("repair");
        let (interrupted, mut done) = (interrupt()?, 0);
        let mut advance = |bytes: u64| {
            done += bytes;
            progress.at(done.min(total), total);
            if interrupted.load(Ordering::Relaxed) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        for name in &self.folders {
            fs::create_dir_all(staged.path().join(name))
                .map_err(|error| staged.failed(name, error))?;
        }
        for (name, asset, _) in faulty() {
            let folder = staged.path().join(name);
            repair_asset(asset, folder, producer, &mut |more| advance(more.bytes))
                .map_err(|error| error.map_path(|path| staged.final_path(path)))?;
        }
        for (from, name, bytes) in &self.files {
            let copy = || {
                // Not `fs::copy`: a file that only the owner reads, or nobody
                // writes, need not be so in a copy.
                let mut file = File::create_new(staged.path().join(name))?;
                io::copy(&mut File::open(from)?, &mut file).map(drop)
            };
            copy().map_err(|error| staged.failed(name, error))?;
            if advance(*bytes).is_break() {
                bail!("interrupted: nothing was written");
            }
        }
        progress.finish();
        let bytes = size_of(staged.path()).map_err(|error| staged.failed("", error))?;
        staged.commit()?;
        Ok(bytes)
    }
}

fn blobs(asset: &Asset) -> impl Iterator<Item = u64> + '_ {
    let resources = asset.module.resources.iter();
    resources.map(|(_, resource)| match &resource.value {
        aimodel::ResourceValue::Blob { data, .. } => data.len(),
        _ => 0,
    })
}

fn read_dir(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = || {
        let entries = fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
        entries.collect::<io::Result<Vec<_>>>()
    };
    read().with_context(|| format!("{} cannot be read", folder.display()))
}

fn size_of(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() {
            size_of(&entry.path())?
        } else {
            metadata.len()
        };
    }
    Ok(bytes)
}
