//! Checkpoints by what `--model` names, and releases on the hub. What takes the
//! network needs the feature `hub`.

#[cfg(feature = "hub")]
mod remote;

use ::release::Listing;
use anyhow::Result;
use checkpoint::Source;
use std::path::Path;

/// A checkpoint by what `--model` names, with the progress of fetching it.
///
/// # Errors
/// It is not there or cannot be fetched, or its configuration is not one that
/// can be exported.
pub fn source(model: &str, revision: Option<&str>) -> Result<Source> {
    #[cfg(feature = "hub")]
    {
        let progress = crate::progress::Progress::new(format!("fetch {model}"));
        let report = |event: ::hub::Progress<'_>| progress.hub(event);
        let source = models::open_source_with_progress(model, revision, &report);
        progress.finish();
        source.map_err(|error| {
            let unfetched = matches!(
                error,
                models::Error::Checkpoint(checkpoint::Error::Hub { .. })
            );
            // The library does not know the flag that takes a folder.
            if unfetched {
                anyhow::anyhow!("{error}: --model DIR")
            } else {
                error.into()
            }
        })
    }
    #[cfg(not(feature = "hub"))]
    {
        use anyhow::Context;
        let source = models::open_source(model, revision);
        let may_be_an_id = model != "nano" && !Path::new(model).exists();
        match source {
            Err(error) if may_be_an_id => {
                Err(error).context(unable("fetch checkpoints from the hub"))
            }
            source => Ok(source?),
        }
    }
}

/// Flags of publishing.
#[derive(clap::Args)]
#[group(skip)]
pub struct Args {
    /// Publish the folder as this repository on the hub, organization/name
    #[arg(long, value_name = "REPO")]
    push: Option<String>,
    /// Make the repository a private one
    #[arg(long, requires = "push")]
    private: bool,
    /// Remove files that the repository has and the folder has not
    #[arg(long, requires = "push")]
    prune: bool,
}

impl Args {
    /// Whether there is something to publish.
    pub fn wanted(&self) -> bool {
        self.push.is_some()
    }

    /// Publishes what may be published of a folder, or says what that would do;
    /// does nothing where no repository is named.
    ///
    /// # Errors
    /// The hub refuses it, cannot be reached, or has files that the folder does
    /// not have.
    pub fn push(&self, folder: &Path, listing: &Listing, dry_run: bool) -> Result<()> {
        let Some(repository) = &self.push else {
            return Ok(());
        };
        #[cfg(feature = "hub")]
        {
            let push = ::hub::Push {
                repository,
                folder,
                files: &remote::files(listing),
                message: remote::MESSAGE,
                private: self.private,
                prune: self.prune,
            };
            remote::push(&push, dry_run)
        }
        #[cfg(not(feature = "hub"))]
        {
            let _ = (folder, listing, dry_run);
            anyhow::bail!("--push {repository}: {}", unable("publish on the hub"))
        }
    }
}

/// A published release, as a folder that goes away again.
///
/// # Errors
/// The name is not a repository's, or it cannot be fetched.
pub fn published(name: &str) -> Result<tempfile::TempDir> {
    #[cfg(feature = "hub")]
    {
        anyhow::ensure!(
            ::hub::is_repository_id(name),
            "{name}: there is no such folder, and it is not the id of a repository on the hub, \
             organization/name"
        );
        remote::published(name)
    }
    #[cfg(not(feature = "hub"))]
    anyhow::bail!(
        "{name}: there is no such folder, and {}",
        unable("fetch releases from the hub")
    )
}

/// What this build lacks, and how to have it.
#[cfg(not(feature = "hub"))]
fn unable(what: &str) -> String {
    format!(
        "this build cannot {what}; {}",
        crate::call::build_with("hub")
    )
}
