//! Where things are in this repository.

use std::path::{Path, PathBuf};

/// The repository's root: the tool is built from it and run through
/// `cargo xtask`, from whichever folder.
pub fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

/// The nano checkpoint's folder of scenes.
pub fn scenes() -> PathBuf {
    root().join("oracles/nano/scenes")
}

/// The names of a folder's TOML files, without the ending, in order.
pub fn toml_names(folder: &Path) -> std::io::Result<Vec<String>> {
    let paths = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
    let paths = paths.collect::<std::io::Result<Vec<_>>>()?;
    let files = paths
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == "toml"));
    let names = files.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()));
    let mut names: Vec<String> = names.collect();
    names.sort();
    Ok(names)
}

/// Where temporary files lie: in the target folder, so that nothing is left
/// elsewhere if the process is killed.
pub fn temporary() -> PathBuf {
    let folder = root().join("target/aimodel/tmp");
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
