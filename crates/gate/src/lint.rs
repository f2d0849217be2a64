//! The device lint: what is known to break on Apple's devices, as static rules
//! over an asset's graphs, a bundle's metadata and its tokenizer.
//!
//! Core AI's runtime on Linux computes all of it right, so nothing but a look
//! at the files can tell. Each [`Rule`] says what it refuses, why, and what to
//! do; `docs/lint.md` lists them. A finding is never a remark: whatever a rule
//! finds must be mended before the bundle goes to a device.

mod files;
mod graph;
mod metadata;
mod program;
mod scales;
mod states;
mod tokenizer;
mod vlm;

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
};

use aimodel::{Asset, METADATA, PROGRAM, open_asset_mmap};

use crate::{Error, Result, transcript::Finding};

/// Something that is known to break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its short name.
    pub id: &'static str,
    /// What it refuses.
    pub what: &'static str,
    /// Why that matters.
    pub reason: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
    /// Where it is known from.
    pub source: &'static str,
}

/// What Apple's delegates do was measured on devices by the community.
const DELEGATES: &str = "measured on devices by the community (OS 27 betas)";
/// The pipelined engine of Apple's coreai-models, as the community drives it.
const ENGINE: &str = "the pipelined engine's contract";
/// What Apple's coreai-models does with vision-language models.
const APPLE: &str = "the source of Apple's coreai-models, August 2026";
/// What swift-transformers' tokenizers do.
const SWIFT: &str = "swift-transformers";
/// What was tried with Core AI's library on Linux.
const LIBRARY: &str = "coreai-core 1.0.0b1 to b3";

/// Every rule.
pub const RULES: &[Rule] = &[
    program::FLOAT_FLOOR,
    program::FLOAT_ROUND,
    program::ZERO_EXTENT,
    program::COMPOSITE,
    program::LOCATIONS,
    scales::CHANNEL_SCALES,
    scales::BLOCK_SIZE,
    scales::PALETTE,
    states::KV_POSITION,
    states::STATE_WRITES,
    states::TWO_STATES,
    files::OPENS,
    files::HASH,
    files::PRODUCER,
    files::SYMLINK,
    metadata::MANIFEST,
    metadata::NAME,
    metadata::ASSET,
    metadata::FUNCTIONS,
    metadata::STATIC_INPUTS,
    metadata::STATIC_CALL_SHAPE,
    metadata::KERNELS,
    metadata::VOCAB_SIZE,
    metadata::CONTEXT,
    vlm::MANIFEST,
    vlm::FUNCTIONS,
    vlm::ROWS,
    vlm::IOS_CONTEXT,
    tokenizer::FILES,
    tokenizer::CLASS,
    tokenizer::IDS,
    tokenizer::TEMPLATE,
    tokenizer::ADAPTER,
    tokenizer::END_TOKEN,
];

/// An asset that somebody opened and hashed already, so that neither happens
/// twice.
#[derive(Clone, Copy, Debug)]
pub struct Opened<'a> {
    /// The asset.
    pub asset: &'a Asset,
    /// The SHA-256 of its program as it lies on the disk.
    pub hash: [u8; 32],
}

/// Looks at an asset by itself: its files and its graphs.
///
/// # Errors
/// There is no such folder, or a disk that refuses. An asset that cannot be
/// opened is a finding.
pub fn asset(dir: &Path) -> Result<Vec<Finding>> {
    let mut findings = Findings::default();
    if let Some((asset, hash)) = open(dir, &mut findings)? {
        look_at(
            &Opened {
                asset: &asset,
                hash,
            },
            &mut findings,
        )?;
    }
    Ok(findings.list())
}

/// As [`asset`], of one that is open.
///
/// # Errors
/// A disk that refuses, or graphs that cannot be read.
pub fn opened_asset(opened: &Opened<'_>) -> Result<Vec<Finding>> {
    let mut findings = Findings::default();
    look_at(opened, &mut findings)?;
    Ok(findings.list())
}

/// Looks at a bundle's folder: the assets in it, and what its metadata and its
/// tokenizer promise. A folder without either, such as a vision encoder's, is
/// only its assets.
///
/// # Errors
/// There is no such folder, or a disk that refuses.
pub fn bundle(dir: &Path) -> Result<Vec<Finding>> {
    let mut findings = Findings::default();
    let mut assets = Vec::new();
    for path in assets_in(dir)? {
        assets.extend(open(&path, &mut findings)?);
    }
    let opened = assets.iter();
    let opened = opened.map(|(asset, hash)| Opened { asset, hash: *hash });
    let assets: Vec<Opened<'_>> = opened.collect();
    look_into(dir, &assets, &mut findings)?;
    Ok(findings.list())
}

/// As [`fn@bundle`], where the assets in the folder are open.
///
/// # Errors
/// A disk that refuses, or graphs that cannot be read.
pub fn opened_bundle(dir: &Path, assets: &[Opened<'_>]) -> Result<Vec<Finding>> {
    let mut findings = Findings::default();
    look_into(dir, assets, &mut findings)?;
    Ok(findings.list())
}

/// Opens and hashes an asset, or notes that it does not open.
fn open(dir: &Path, findings: &mut Findings) -> Result<Option<(Asset, [u8; 32])>> {
    if !dir.is_dir() {
        return Err(Error::input(
            dir.display(),
            "there is no such folder; expected an .aimodel folder",
        ));
    }
    // SAFETY: the lint only reads, and the README asks of the user that nobody
    // else writes into a bundle that a command looks at.
    match unsafe { open_asset_mmap(dir) } {
        Ok(asset) => {
            let hash = asset.compute_hash()?;
            Ok(Some((asset, hash)))
        }
        Err(error) => {
            findings.add(&files::OPENS, &named(dir), without(dir, &error));
            Ok(None)
        }
    }
}

/// The rules for an asset.
fn look_at(opened: &Opened<'_>, findings: &mut Findings) -> Result<()> {
    let place = named(&opened.asset.dir);
    files::asset(opened, &place, findings);
    program::program(&opened.asset.module, &place, findings)
}

/// The rules for a folder.
fn look_into(dir: &Path, assets: &[Opened<'_>], findings: &mut Findings) -> Result<()> {
    files::linked(dir, &named(dir), findings);
    for opened in assets {
        look_at(opened, findings)?;
    }
    let there = |name: &str| fs::symlink_metadata(dir.join(name)).is_ok();
    if there(METADATA) || there(tokenizer::FOLDER) {
        let language = metadata::bundle(dir, assets, findings)?;
        tokenizer::folder(dir, &language, findings)?;
    }
    Ok(())
}

/// The assets in a folder, in the order of their names.
fn assets_in(dir: &Path) -> Result<Vec<PathBuf>> {
    let wrong = |source| Error::File {
        path: dir.to_owned(),
        source,
    };
    let entries = fs::read_dir(dir).map_err(wrong)?;
    let entries = entries.map(|entry| Ok(entry?.path()));
    let mut paths = entries.collect::<io::Result<Vec<_>>>().map_err(wrong)?;
    paths.retain(|path| {
        path.extension().is_some_and(|end| end == "aimodel") && path.join(PROGRAM).exists()
    });
    paths.sort();
    Ok(paths)
}

/// How a path is called in a finding: by its last part, for the folder that it
/// lies in says nothing about it.
fn named(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy());
    name.map_or_else(|| path.display().to_string(), |name| name.into_owned())
}

/// The text of an error about something at a path, which it names by its last
/// part: findings are evidence, and the same on every machine.
fn without(path: &Path, error: &impl std::fmt::Display) -> String {
    let (text, path_text) = (error.to_string(), path.display().to_string());
    text.replace(&path_text, &named(path))
}

/// What was found so far.
#[derive(Default)]
struct Findings {
    found: Vec<Found>,
    /// Where in the list a rule speaks of a place.
    known: HashMap<(&'static str, String), usize>,
}

struct Found {
    rule: &'static Rule,
    place: String,
    first: String,
    more: usize,
}

impl Findings {
    /// Notes what is wrong at a place. A rule speaks once of a place: a model
    /// has hundreds of matrices, and one mistake is in all of them.
    fn add(&mut self, rule: &'static Rule, place: &str, first: impl Into<String>) {
        let place = place.to_owned();
        let at = *self
            .known
            .entry((rule.id, place.clone()))
            .or_insert(self.found.len());
        match self.found.get_mut(at) {
            Some(found) => found.more += 1,
            None => self.found.push(Found {
                rule,
                place,
                first: first.into(),
                more: 0,
            }),
        }
    }

    fn list(self) -> Vec<Finding> {
        let findings = self.found.into_iter().map(|found| {
            let more = match found.more {
                0 => String::new(),
                more => format!(", and {more} more of the kind"),
            };
            Finding {
                rule: found.rule.id.to_owned(),
                message: format!(
                    "{}{more}; {}; {}",
                    found.first, found.rule.reason, found.rule.remedy
                ),
                place: found.place,
            }
        });
        findings.collect()
    }
}
