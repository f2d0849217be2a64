//! What lies on the disk.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use aimodel::{HASH as HASH_FILE, METADATA, PROGRAM};

use super::rule::{DELEGATES, Findings, LIBRARY, Opened, Rule, named};

/// An asset opens.
pub const OPENS: Rule = Rule {
    id: "asset-opens",
    what: "an asset that cannot be read: a file is missing, `assetVersion` is not 2.0, or the \
           program is not bytecode of the AICode dialect",
    reason: "no runtime loads it",
    remedy: "fetch or export it again",
    source: LIBRARY,
};

/// The stated hash is the program's.
pub const HASH: Rule = Rule {
    id: "asset-hash",
    what: "a program that has another SHA-256 than `main.hash` states",
    reason: "the program is not the one that was exported and proven",
    remedy: "fetch or export it again",
    source: LIBRARY,
};

/// The metadata says who made it.
pub const PRODUCER: Rule = Rule {
    id: "asset-producer",
    what: "an asset whose metadata names no producer",
    reason: "that is how assets of coreai-torch 0.4.0 look, which beta 2 and later do not load",
    remedy: "add one with `repair`, or export it again",
    source: DELEGATES,
};

/// The asset is there.
pub const ASSET: Rule = Rule {
    id: "bundle-asset",
    what: "a key of `assets` that names no asset in the folder",
    reason: "there is nothing to load",
    remedy: "put the asset there, or name the one that is there",
    source: "the bundle contract",
};

/// Nothing is behind a link.
pub const SYMLINK: Rule = Rule {
    id: "symlink",
    what: "an asset, its folder or one of its files that is a symbolic link",
    reason: "Apple's runtime does not follow links, and fails to specialize what is behind one",
    remedy: "copy the files themselves (the hub's cache holds links: download to a folder)",
    source: DELEGATES,
};

/// The rules for an asset's files.
pub fn asset(opened: &Opened<'_>, place: &str, findings: &mut Findings) {
    let asset = opened.asset;
    if asset.stated_hash != opened.hash {
        findings.add(
            &HASH,
            place,
            format!(
                "{PROGRAM} has the SHA-256 {}, and {HASH_FILE} states {}",
                hex::encode(opened.hash),
                hex::encode(asset.stated_hash)
            ),
        );
    }
    if asset.metadata.producer.is_none() {
        findings.add(
            &PRODUCER,
            place,
            format!("{METADATA} of the asset has no `producer`"),
        );
    }
    linked(&asset.dir, place, findings);
    for file in [PROGRAM, HASH_FILE, METADATA] {
        linked(&asset.dir.join(file), place, findings);
    }
}

/// Refuses a path that is a link.
pub fn linked(path: &Path, place: &str, findings: &mut Findings) {
    // A `/` at the end would look through the link.
    let path: PathBuf = path.components().collect();
    let last = path.components().next_back();
    let link = match (last, fs::symlink_metadata(&path)) {
        (Some(Component::Normal(_)), Ok(metadata)) => metadata.is_symlink(),
        _ => false,
    };
    if link {
        let name = named(&path);
        findings.add(&SYMLINK, place, format!("{name} is a symbolic link"));
    }
}
