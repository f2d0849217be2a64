//! What takes the network: fetching a release, and publishing one.

use crate::progress::{self, Progress, say, size};
use ::hub::{File, Hub, Push, Settings};
use ::release::Listing;
use anyhow::{Context, Result};
use tempfile::TempDir;

/// The message of the commit that publishes a release.
pub const MESSAGE: &str = "Release made by aimodel";

/// Publishes what may be published of a folder as a repository, or says what
/// that would do.
pub fn push(push: &Push<'_>, dry_run: bool) -> Result<()> {
    let repository = push.repository;
    let hub = Hub::new(Settings::from_env()?)?;
    let progress = Progress::new(format!("push {repository}"));
    if dry_run {
        let plan = hub.plan(push, &|event| progress.hub(event));
        progress.finish();
        let plan = plan.context("the hub was not asked to change anything")?;
        if plan.create {
            say(
                "create",
                &format!("{}/{repository}", hub.settings().endpoint),
            )?;
        }
        for (path, bytes) in &plan.send {
            say("send", &format!("{path}, {}", size(*bytes)))?;
        }
        for path in &plan.keep {
            say("keep", path)?;
        }
        for path in &plan.foreign {
            let what = if push.prune { "remove" } else { "in the way" };
            say(what, path)?;
        }
        let bytes = plan.send.iter().map(|(_, bytes)| bytes).sum();
        let (send, keep) = (plan.send.len(), plan.keep.len());
        let counts = format!("{send} files to send, {}; {keep} are there", size(bytes));
        progress::print(&format!("{counts}; nothing was done\n"))?;
        return Ok(());
    }
    let pushed = hub.push(push, &|event| progress.hub(event));
    progress.finish();
    let pushed = pushed?;
    let (sent, kept) = (pushed.sent, pushed.kept);
    say(
        "pushed",
        &format!("{sent} files, {kept} were there; the hub lists the folder's hashes"),
    )?;
    say("commit", &format!("{} of {}", pushed.commit, pushed.page))?;
    Ok(())
}

/// The files of a listing, as the hub's client takes them.
pub fn files(listing: &Listing) -> Vec<File> {
    let files = listing.files.iter().map(|entry| File {
        path: entry.path.clone(),
        size: entry.bytes,
        sha256: entry.sha256.clone(),
    });
    files.collect()
}

/// A published repository as plain files, in a folder that goes away. Its
/// content stays in the hub's cache.
pub fn published(repository: &str) -> Result<TempDir> {
    let hub = Hub::new(Settings::from_env()?)?;
    let progress = Progress::new(format!("fetch {repository}"));
    let report = |event: ::hub::Progress<'_>| progress.hub(event);
    let remote = hub.repository(repository, "main", &report)?;
    let names = remote.names()?;
    remote.fetch(&names)?;
    if remote.cached().is_none() {
        remote.keep()?;
    }
    progress.finish();
    // Beside the cache, where a file need not be copied.
    let cache = &hub.settings().cache;
    let folder = tempfile::Builder::new()
        .prefix(".verify-")
        .tempdir_in(cache);
    let folder = folder.with_context(|| cache.display().to_string())?;
    remote.place(&names, folder.path())?;
    say("commit", &format!("{} of {repository}", remote.commit()))?;
    Ok(folder)
}
