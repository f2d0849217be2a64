//! Where the program keeps what it makes for itself: Python environments, the
//! files that Python reads, and scratch.
//!
//! `AIMODEL_HOME` names the folder; otherwise it is `aimodel` in the user's
//! cache folder. All of it can be removed at any time, and is made again.

use anyhow::{Context, Result};
use std::fs::{self, File};
use std::path::PathBuf;
use tempfile::TempDir;

/// Names the folder where it is not the user's cache.
pub const VARIABLE: &str = "AIMODEL_HOME";

/// The folder, which exists then.
///
/// # Errors
/// There is no cache folder, or it cannot be made.
pub fn folder() -> Result<PathBuf> {
    let named = std::env::var_os(VARIABLE).filter(|name| !name.is_empty());
    let folder = match named {
        Some(folder) => std::path::absolute(folder)?,
        None => dirs::cache_dir()
            .with_context(|| format!("this user has no cache folder; name one in {VARIABLE}"))?
            .join("aimodel"),
    };
    fs::create_dir_all(&folder).with_context(|| {
        format!(
            "{} cannot be made; name another folder in {VARIABLE}",
            folder.display()
        )
    })?;
    Ok(folder)
}

/// The folder for temporary files. What a killed process leaves lies here and
/// nowhere else.
///
/// # Errors
/// It cannot be made.
pub fn temporary() -> Result<PathBuf> {
    let folder = folder()?.join("tmp");
    fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    Ok(folder)
}

/// A folder for files that a command needs only while it runs.
///
/// # Errors
/// It cannot be made.
pub fn scratch() -> Result<TempDir> {
    let folder = temporary()?;
    tempfile::Builder::new()
        .prefix("run-")
        .tempdir_in(&folder)
        .with_context(|| format!("{}: no folder can be made in it", folder.display()))
}

/// Holds off other processes that make the same thing, until it is dropped.
///
/// # Errors
/// The lock's file cannot be made.
pub fn lock(name: &str) -> Result<File> {
    let path = folder()?.join(format!("{name}.lock"));
    File::create(&path)
        .and_then(|file| file.lock().map(|()| file))
        .with_context(|| format!("{} cannot be locked", path.display()))
}
