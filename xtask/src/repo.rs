//! Where things are in this repository.

use std::path::{Path, PathBuf};

/// The repository's root: the tool is built from it and run through
/// `cargo xtask`, from whichever folder.
pub fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// The nano checkpoint's folder of scenes.
pub fn scenes() -> PathBuf {
    root().join("oracles/nano/scenes")
}

/// Where temporary files lie: in the target folder, so that nothing is left
/// elsewhere if the process is killed.
pub fn temporary() -> PathBuf {
    let folder = root().join("target/xtask/tmp");
    // Where it cannot be made, whoever writes there says so.
    let _ = std::fs::create_dir_all(&folder);
    folder
}

/// A folder for files that a command needs only while it runs.
pub fn scratch() -> std::io::Result<tempfile::TempDir> {
    tempfile::Builder::new()
        .prefix("run-")
        .tempdir_in(temporary())
}
