//! What a rule is, and what rules find.

use std::{collections::HashMap, path::Path};

use aimodel::Asset;

use crate::transcript::Finding;

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
pub(super) const DELEGATES: &str = "measured on devices by the community (OS 27 betas)";
/// The pipelined engine of Apple's coreai-models, as the community drives it.
pub(super) const ENGINE: &str = "the pipelined engine's contract";
/// What Apple's coreai-models does with vision-language models.
pub(super) const APPLE: &str = "the source of Apple's coreai-models, August 2026";
/// What swift-transformers' tokenizers do.
pub(super) const SWIFT: &str = "swift-transformers";
/// What was tried with Core AI's library on Linux.
pub(super) const LIBRARY: &str = "coreai-core 1.0.0b1 to b3";

/// An asset that somebody opened and hashed already, so that neither happens
/// twice.
#[derive(Clone, Copy, Debug)]
pub struct Opened<'a> {
    /// The asset.
    pub asset: &'a Asset,
    /// The SHA-256 of its program as it lies on the disk.
    pub hash: [u8; 32],
}

/// How a path is called in a finding: by its last part, for the folder that it
/// lies in says nothing about it.
pub(super) fn named(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy());
    name.map_or_else(|| path.display().to_string(), |name| name.into_owned())
}

/// The text of an error about something at a path, which it names by its last
/// part: findings are evidence, and the same on every machine.
pub(super) fn without(path: &Path, error: &impl std::fmt::Display) -> String {
    let (text, path_text) = (error.to_string(), path.display().to_string());
    text.replace(&path_text, &named(path))
}

/// What was found so far.
#[derive(Default)]
pub(super) struct Findings {
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
    pub(super) fn add(&mut self, rule: &'static Rule, place: &str, first: impl Into<String>) {
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

    pub(super) fn list(self) -> Vec<Finding> {
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
