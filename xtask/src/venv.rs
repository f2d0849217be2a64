//! The Python environments that the checks need, made in `.venv/` when first
//! needed. Converting needs none of them.
//!
//! Every package is pinned by version and hash. pip's cache lies in `.venv/`
//! too, so that nothing is left outside the repository.

use crate::repo;
use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The versions of Core AI's library that assets must load under.
pub const CORE_AI: [&str; 3] = ["1.0.0b1", "1.0.0b2", "1.0.0b3"];
/// The one that runs them: the newest.
pub const CORE_AI_NEWEST: &str = "1.0.0b3";

/// Written last, and holding what the environment was made from: an
/// environment without it was interrupted, one with another is out of date.
const STAMP: &str = "made-from";

/// A Python environment that is ready to be used.
pub struct Venv {
    python: PathBuf,
}

impl Venv {
    /// The environment with coreai-core of `version`.
    pub fn core_ai(version: &str) -> Result<Venv> {
        let file = format!("requirements-{version}.txt");
        let shared = "requirements-shared.txt";
        ensure(&format!("coreai-{version}"), &[file.as_str(), shared])
    }

    /// The environment with the community's linter, `coreai doctor`.
    pub fn linter() -> Result<Venv> {
        ensure("linter", &["requirements-linter.txt"])
    }

    /// A command that runs its interpreter, with nothing of the user's own
    /// Python settings.
    pub fn python(&self) -> Command {
        let mut command = Command::new(&self.python);
        command.env_remove("PYTHONPATH").env_remove("PYTHONHOME");
        command.env("PYTHONNOUSERSITE", "1");
        // The scripts' folder is in the repository; leave no caches there.
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        // Core AI's library compiles into temporary folders.
        command.env("TMPDIR", repo::temporary());
        command.current_dir(repo::root());
        command
    }
}

/// Makes the environment `name` from requirement files, the first of which
/// names the others, unless it is there already.
fn ensure(name: &str, files: &[&str]) -> Result<Venv> {
    let all = repo::root().join(".venv");
    let folder = all.join(name);
    let python = folder.join(if cfg!(windows) {
        "Scripts/python.exe"
    } else {
        "bin/python"
    });
    let sources = files
        .iter()
        .map(|file| repo::root().join("conformance").join(file));
    let mut digest = Sha256::new();
    for path in sources.clone() {
        digest.update(fs::read(&path).with_context(|| format!("{} is missing", path.display()))?);
    }
    let stamp = aimodel::hex(&digest.finalize());
    let made = || {
        python.exists() && fs::read_to_string(folder.join(STAMP)).is_ok_and(|text| text == stamp)
    };
    if made() {
        return Ok(Venv { python });
    }

    fs::create_dir_all(&all).with_context(|| format!("{} cannot be made", all.display()))?;
    // Two commands at once: the second waits, and finds it made.
    let lock = all.join(format!("{name}.lock"));
    let lock = File::create(&lock)
        .and_then(|file| file.lock().map(|()| file))
        .with_context(|| format!("{} cannot be locked", lock.display()))?;
    if !made() {
        make(name, &folder, &python, &all, sources.clone().next())?;
        fs::write(folder.join(STAMP), stamp)
            .with_context(|| format!("{} cannot be written", folder.display()))?;
    }
    drop(lock);
    Ok(Venv { python })
}

fn make(
    name: &str,
    folder: &Path,
    python: &Path,
    all: &Path,
    requirements: Option<PathBuf>,
) -> Result<()> {
    let (base, version) = find_python()?;
    eprintln!(
        "setting up .venv/{name} with Python {version} (once; pinned by version and hash in conformance/)"
    );
    if folder.exists() {
        fs::remove_dir_all(folder)
            .with_context(|| format!("{} cannot be removed", folder.display()))?;
    }
    run(
        Command::new(base).args(["-m", "venv"]).arg(folder),
        "the environment cannot be made",
    )?;
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "install", "--quiet", "--no-input"])
        .args(["--disable-pip-version-check", "--no-warn-script-location"])
        .args(["--require-hashes", "--only-binary", ":all:"])
        .arg("--cache-dir")
        .arg(all.join("pip"));
    if let Some(file) = requirements {
        pip.arg("--requirement").arg(file);
    }
    run(
        &mut pip,
        "its packages cannot be installed; Core AI's library has wheels for Linux x86-64 and macOS",
    )
}

fn run(command: &mut Command, failure: &str) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| failure.to_owned())?;
    if !status.success() {
        bail!(
            "{failure}: {} ended with {status}; what it said is above",
            command.get_program().display()
        );
    }
    Ok(())
}

/// A Python that Core AI's wheels are made for, and that can make an
/// environment; some systems ship one that cannot.
fn find_python() -> Result<(&'static str, String)> {
    let probe = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])";
    let names = [
        "python3.11",
        "python3.12",
        "python3.13",
        "python3",
        "python",
    ];
    for name in names {
        let output = Command::new(name)
            .args(["-c", probe])
            .stdin(Stdio::null())
            .output();
        let Ok(output) = output else { continue };
        let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if output.status.success() && ["3.11", "3.12", "3.13"].contains(&version.as_str()) {
            return Ok((name, version));
        }
    }
    bail!(
        "no Python 3.11, 3.12 or 3.13 that has the venv module was found (looked for {}). Core AI's \
         library needs one; install it (on Debian and Ubuntu the package python3-venv belongs to it)",
        names.join(", ")
    )
}
