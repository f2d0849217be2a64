//! Where things are in this repository.

use aimodel_cli::python;
use aimodel_cli::venv::Venv;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The repository's root.
pub fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

/// The folder of nano's scenes.
pub fn scenes() -> PathBuf {
    root().join("oracles/nano/scenes")
}

/// A folder for files that a step needs only while it runs. It lies in the
/// target folder, so that nothing is left elsewhere if the process is killed.
pub fn scratch() -> std::io::Result<tempfile::TempDir> {
    let folder = root().join("target/ci/tmp");
    std::fs::create_dir_all(&folder)?;
    tempfile::Builder::new().prefix("run-").tempdir_in(folder)
}

/// The tool under test, which lies beside this program: `cargo xtask test`
/// builds both.
pub fn tool() -> anyhow::Result<PathBuf> {
    let name = format!("aimodel{}", std::env::consts::EXE_SUFFIX);
    let path = std::env::current_exe()?.with_file_name(name);
    anyhow::ensure!(
        path.is_file(),
        "{} is missing; run the steps with `cargo xtask test`, which builds it",
        path.display()
    );
    Ok(path)
}

/// A run of a script in `conformance` with arguments.
pub fn script(
    venv: &Venv,
    name: &str,
    args: impl IntoIterator<Item = impl Into<OsString>>,
) -> anyhow::Result<Command> {
    python::run(venv, &root().join("conformance").join(name), args)
}
