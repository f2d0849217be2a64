//! The files that the program brings along, so that it needs nothing of its
//! repository: gates, recipes, Python scripts with their requirements, and
//! nano's pictures and recorded oracle.
//!
//! They are written to a folder below [`home`] when first needed, in the layout of the
//! repository: some are read by Python, others name one another by path. The
//! folder is called after its content, so that another version of the program
//! has another one.

use crate::home;
use anyhow::{Context, Result, bail};
use checkpoint::Source;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("../../../", $name)))),*]
    };
}

/// The files by their path in the repository.
const FILES: &[(&str, &[u8])] = files![
    "LICENSE",
    "conformance/decoder.py",
    "conformance/describe.py",
    "conformance/generate.py",
    "conformance/generate_vlm.py",
    "conformance/requirements-1.0.0b1.txt",
    "conformance/requirements-1.0.0b2.txt",
    "conformance/requirements-1.0.0b3.txt",
    "conformance/requirements-linter.txt",
    "conformance/requirements-shared.txt",
    "conformance/tensors.py",
    "conformance/vlm.py",
    "gates/nano.toml",
    "gates/qwen3-vl.toml",
    "gates/random-short.toml",
    "gates/random.toml",
    "oracles/capture.py",
    "oracles/nano/recorded/count.safetensors",
    "oracles/nano/recorded/index.json",
    "oracles/nano/recorded/scene-1.safetensors",
    "oracles/nano/recorded/scene-7.safetensors",
    "oracles/nano/scenes/scene-1.png",
    "oracles/nano/scenes/scene-5.png",
    "oracles/nano/scenes/scene-7.png",
    "oracles/nano/scenes/scenes.json",
    "recipes/nano.toml",
    "recipes/qwen3-vl-2b.toml",
    "recipes/qwen3-vl-4b.toml",
    "recipes/qwen3-vl-8b.toml",
];

/// Where nano's checkpoint is written for Python.
const NANO: &str = "oracles/nano/checkpoint";

/// A file that the program brings along, as a path that can be read.
///
/// # Errors
/// The files cannot be written.
pub fn path(name: &str) -> Result<PathBuf> {
    Ok(folder()?.join(name))
}

/// The folder of nano's checkpoint.
///
/// # Errors
/// The files cannot be written.
pub fn nano() -> Result<PathBuf> {
    path(NANO)
}

/// The content of a file that the program brings along.
///
/// # Errors
/// There is none of that name.
pub fn bytes(name: &str) -> Result<&'static [u8]> {
    let found = FILES.iter().find(|(known, _)| *known == name);
    let (_, bytes) = found.with_context(|| format!("the program has no file {name}"))?;
    Ok(bytes)
}

/// The names of the TOML files of a folder, without the ending, in order.
pub fn toml_names(folder: &str) -> Vec<&'static str> {
    let names = FILES.iter().filter_map(|(name, _)| {
        let name = name.strip_prefix(folder)?.strip_prefix('/')?;
        name.strip_suffix(".toml")
    });
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    names
}

/// What a flag names: the set of that name in `folder` which the program brings
/// along, or else a file. `what` says what the folder holds, for messages.
///
/// # Errors
/// It is neither; the message lists what there is.
pub fn named_or_file(flag: &str, given: &str, folder: &str, what: &str) -> Result<PathBuf> {
    let names = toml_names(folder);
    if names.contains(&given) {
        return path(&format!("{folder}/{given}.toml"));
    }
    if Path::new(given).is_file() {
        return Ok(given.into());
    }
    bail!(
        "{flag} {given}: there is no such file, and no such {what}; the {what}s are {}",
        names.join(", ")
    )
}

/// A path for messages: within the files of the program, as it is there.
pub fn shown(path: &Path) -> String {
    let folder = FOLDER.get();
    let short = folder.and_then(|folder| path.strip_prefix(folder).ok());
    short.unwrap_or(path).display().to_string()
}

static FOLDER: OnceLock<PathBuf> = OnceLock::new();

/// The folder with all files, written now where one is missing or damaged.
///
/// # Errors
/// The files cannot be written.
pub fn folder() -> Result<&'static Path> {
    if let Some(folder) = FOLDER.get() {
        return Ok(folder);
    }
    let nano = Source::nano();
    let nano = nano.embedded_files().iter();
    let nano = nano.map(|(name, bytes)| (format!("{NANO}/{name}"), *bytes));
    let files = FILES
        .iter()
        .map(|(name, bytes)| ((*name).to_owned(), *bytes));
    let files: Vec<(String, &[u8])> = files.chain(nano).collect();
    let mut digest = Sha256::new();
    for (name, bytes) in &files {
        digest.update(format!("{name} {}\n", bytes.len()));
        digest.update(bytes);
    }
    let digest = hex::encode(digest.finalize());
    let folder = home::folder()?.join(format!("files-{}", &digest[..16]));
    // Two processes at once: the second waits, and finds them written.
    let lock = home::lock("files")?;
    fill(&folder, &files)?;
    drop(lock);
    Ok(FOLDER.get_or_init(|| folder))
}

/// Writes the files that are missing or differ.
fn fill(folder: &Path, files: &[(String, &[u8])]) -> Result<()> {
    for (name, bytes) in files {
        let path = folder.join(name);
        if fsutil::read(&path, bytes.len() as u64).is_ok_and(|found| found == *bytes) {
            continue;
        }
        fsutil::replace(&path, bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn all_sets_of_gates_and_all_recipes_are_embedded() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for folder in ["gates", "recipes"] {
            let mut names = Vec::new();
            for entry in fs::read_dir(root.join(folder)).unwrap() {
                let path = entry.unwrap().path();
                names.push(path.file_stem().unwrap().to_str().unwrap().to_owned());
            }
            names.sort();
            assert_eq!(toml_names(folder), names, "{folder}");
        }
    }

    #[test]
    fn pictures_and_scripts_that_are_named_are_embedded() {
        for name in toml_names("gates") {
            let text = bytes(&format!("gates/{name}.toml")).unwrap();
            let text = std::str::from_utf8(text).unwrap();
            let gates = gate::Gates::parse(name, text).unwrap();
            for image in gates
                .prompts
                .iter()
                .filter_map(|prompt| prompt.image.as_ref())
            {
                bytes(image).unwrap();
            }
        }
        for version in crate::venv::CORE_AI {
            bytes(&format!("conformance/requirements-{version}.txt")).unwrap();
        }
        assert!(bytes("conformance/none.py").is_err());
    }

    #[test]
    fn what_scripts_import_is_embedded() {
        let conformance = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance");
        let scripts = FILES.iter().filter(|(name, _)| name.ends_with(".py"));
        let mut imports = 0;
        for (script, text) in scripts {
            for line in std::str::from_utf8(text).unwrap().lines() {
                let mut words = line.split_whitespace();
                let Some("import" | "from") = words.next() else {
                    continue;
                };
                let module = format!("{}.py", words.next().unwrap_or_default());
                if conformance.join(&module).is_file() {
                    imports += 1;
                    let found = bytes(&format!("conformance/{module}"));
                    assert!(found.is_ok(), "{script} imports {module}");
                }
            }
        }
        assert!(imports > 2);
    }

    #[test]
    fn what_is_missing_or_damaged_is_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let files: [(String, &[u8]); 2] = [("a".into(), b"one"), ("b/c".into(), b"two")];
        let at = |name: &str| folder.path().join(name);
        for _ in 0..2 {
            fill(folder.path(), &files).unwrap();
            assert_eq!(fs::read(at("a")).unwrap(), b"one");
            assert_eq!(fs::read(at("b/c")).unwrap(), b"two");
            fs::write(at("a"), "on").unwrap();
            fs::remove_dir_all(at("b")).unwrap();
        }
    }
}
