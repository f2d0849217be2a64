//! The Python environments that the checks need, made below [`home`] when first
//! needed. Converting needs none of them.
//!
//! Every package is pinned by version and hash. pip's cache lies there too, so
//! that nothing is left elsewhere.

use crate::{embedded, home};
use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The versions of Core AI's library under which assets must load.
pub const CORE_AI: [&str; 3] = ["1.0.0b1", "1.0.0b2", "1.0.0b3"];
/// The one that runs them: the newest.
pub const CORE_AI_NEWEST: &str = "1.0.0b3";

/// The file that is written last, with the digest of what the environment was
/// made from: one without it was interrupted, one with another is out of date.
const STAMP: &str = "made-from";

/// A Python environment that is ready to be used.
pub struct Venv {
    python: PathBuf,
}

impl Venv {
    /// The environment with coreai-core of `version`.
    pub fn core_ai(version: &str) -> Result<Venv> {
        ensure(Environment::core_ai(version)?)
    }

    /// The environment with the community's linter, `coreai doctor`.
    pub fn linter() -> Result<Venv> {
        ensure(Environment::of("linter", &["requirements-linter.txt"])?)
    }

    /// A command that runs its interpreter, with nothing of the user's own
    /// Python settings.
    ///
    /// # Errors
    /// The folder that it runs in cannot be made.
    pub fn python(&self) -> Result<Command> {
        let mut command = Command::new(&self.python);
        command.env_remove("PYTHONPATH").env_remove("PYTHONHOME");
        command.env("PYTHONNOUSERSITE", "1");
        // The scripts' folder holds what the program brings along, and no more.
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        // Core AI's library compiles into temporary folders.
        command.env("TMPDIR", home::temporary()?);
        // Python looks for modules where it runs; there are none here.
        command.current_dir(home::folder()?);
        Ok(command)
    }
}

/// Where an environment lies, and what it is made from.
struct Environment {
    name: String,
    folder: PathBuf,
    python: PathBuf,
    /// The first names the others.
    requirements: String,
    stamp: String,
}

impl Environment {
    fn of(name: &str, files: &[&str]) -> Result<Environment> {
        let folder = home::folder()?.join(name);
        let python = folder.join(if cfg!(windows) {
            "Scripts/python.exe"
        } else {
            "bin/python"
        });
        let at = |file: &str| format!("conformance/{file}");
        let mut digest = Sha256::new();
        for file in files {
            digest.update(embedded::bytes(&at(file))?);
        }
        Ok(Environment {
            name: name.to_owned(),
            folder,
            python,
            requirements: at(files.first().unwrap_or(&"")),
            stamp: hex::encode(digest.finalize()),
        })
    }

    fn core_ai(version: &str) -> Result<Environment> {
        let file = format!("requirements-{version}.txt");
        let shared = "requirements-shared.txt";
        Environment::of(&format!("coreai-{version}"), &[file.as_str(), shared])
    }

    fn is_made(&self) -> bool {
        self.python.exists()
            && fsutil::read_text(&self.folder.join(STAMP), self.stamp.len() as u64)
                .is_ok_and(|text| text == self.stamp)
    }
}

/// Whether the environment with coreai-core of `version` is set up.
pub fn has_core_ai(version: &str) -> bool {
    Environment::core_ai(version).is_ok_and(|environment| environment.is_made())
}

/// Gives an environment, made now unless it is there already.
fn ensure(environment: Environment) -> Result<Venv> {
    let python = environment.python.clone();
    if environment.is_made() {
        return Ok(Venv { python });
    }
    // Two commands at once: the second waits, and finds it made.
    let lock = home::lock(&environment.name)?;
    if !environment.is_made() {
        make(&environment)?;
        fsutil::replace(
            &environment.folder.join(STAMP),
            environment.stamp.as_bytes(),
        )?;
    }
    drop(lock);
    Ok(Venv { python })
}

fn make(environment: &Environment) -> Result<()> {
    let folder = &environment.folder;
    let (base, version) = find_python()?;
    eprintln!(
        "setting up {} with Python {version} (once; every package is pinned by version and hash)",
        folder.display()
    );
    if folder.exists() {
        fs::remove_dir_all(folder)
            .with_context(|| format!("{} cannot be removed", folder.display()))?;
    }
    run(
        Command::new(base).args(["-m", "venv"]).arg(folder),
        "the environment cannot be made",
    )?;
    let mut pip = Command::new(&environment.python);
    pip.args(["-m", "pip", "install", "--no-input"])
        .args(["--disable-pip-version-check", "--no-warn-script-location"])
        .args(["--require-hashes", "--only-binary", ":all:"])
        .arg("--cache-dir")
        .arg(home::folder()?.join("pip"));
    pip.arg("--requirement")
        .arg(embedded::path(&environment.requirements)?);
    // What it says is progress, and not what the command gives.
    pip.stdout(std::io::stderr());
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
            "{failure}: {} ended with {status}; its output is above",
            command.get_program().display()
        );
    }
    Ok(())
}

/// A Python that Core AI's wheels are made for, and that has the venv module;
/// some systems ship one without it.
pub fn find_python() -> Result<(&'static str, String)> {
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
