//! The device lint: what is known to break on Apple's devices, as static rules
//! over an asset's graphs, a bundle's metadata and its tokenizer.
//!
//! Core AI's runtime on Linux computes all of it right, so nothing but a look
//! at the files can tell. Each [`Rule`] says what it refuses, why, and what to
//! do; `docs/lint.md` lists them. A finding is never a remark: whatever a rule
//! finds must be mended before the bundle goes to a device.

mod attention;
mod files;
mod graph;
mod metadata;
mod program;
mod rule;
mod scales;
mod states;
mod tokenizer;
mod vlm;

pub use rule::{Opened, Rule};

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aimodel::{Asset, METADATA, PROGRAM, open_asset_mmap};

use self::rule::{Findings, named, without};
use crate::{Error, Result, transcript::Finding};

/// Every rule.
pub const RULES: &[Rule] = &[
    program::FLOAT_FLOOR,
    program::FLOAT_ROUND,
    program::ZERO_EXTENT,
    program::COMPOSITE,
    program::LOCATIONS,
    program::WIDE_COMPARE,
    attention::ATTENTION_QUERY,
    attention::ATTENTION_WIDTH,
    scales::CHANNEL_SCALES,
    scales::BLOCK_SIZE,
    scales::PALETTE,
    states::KV_POSITION,
    states::STATE_WRITES,
    states::TWO_STATES,
    states::STATE_WIDTH,
    files::OPENS,
    files::HASH,
    files::PRODUCER,
    files::SYMLINK,
    metadata::MANIFEST,
    metadata::NAME,
    files::ASSET,
    metadata::FUNCTIONS,
    metadata::STATIC_INPUTS,
    metadata::STATIC_CALL_SHAPE,
    metadata::KERNELS,
    metadata::VOCAB_SIZE,
    metadata::LOGITS_WIDTH,
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
