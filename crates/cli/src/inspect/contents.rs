//! What a path holds: a bundle, an asset or a program, with what is wrong with it.

use crate::assets::{open_asset, open_program};
use aimodel::{Asset, METADATA, Module, PROGRAM, Summary, verify};
use anyhow::{Context, Result, bail};
use gate::{
    lint::{self, Opened},
    transcript::Finding,
};
use serde_json::Value;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The largest metadata of a bundle that is read, in bytes.
const MAX_METADATA: u64 = 1 << 20;

/// What a path contains.
pub struct Contents {
    /// The metadata and the tokenizer files with their sizes, of a bundle.
    pub bundle: Option<(Value, Vec<(String, u64)>)>,
    pub programs: Vec<Program>,
    /// What the device lint finds; `None` for a program without an asset, and
    /// where one is not valid.
    pub findings: Option<Vec<Finding>>,
}

/// One program, alone or in an asset.
pub struct Program {
    pub path: PathBuf,
    pub bytes: u64,
    pub module: Module,
    pub asset: Option<Asset>,
    /// The hash, where there is one to compare with.
    pub hash: Option<[u8; 32]>,
    pub summary: Result<Summary, String>,
    pub fault: Option<String>,
}

impl Contents {
    pub fn at(path: &Path) -> Result<Self> {
        let is_asset = |path: &Path| path.join(PROGRAM).exists();
        if !path.is_dir() || is_asset(path) {
            let programs = vec![Program::at(path)?];
            let opened = Program::opened(&programs);
            let findings = opened.first().map(lint::opened_asset).transpose()?;
            return Ok(Self {
                bundle: None,
                programs,
                findings,
            });
        }
        let mut assets: Vec<PathBuf> = entries(path)?
            .into_iter()
            .filter(|entry| {
                is_asset(entry) && entry.extension().is_some_and(|end| end == "aimodel")
            })
            .collect();
        assets.sort();
        if assets.is_empty() {
            bail!(
                "{} holds no {PROGRAM} and no folder with one: expected a bundle or an .aimodel \
                 folder",
                path.display()
            );
        }
        let metadata = path.join(METADATA);
        let metadata = match fs::symlink_metadata(&metadata) {
            Ok(_) => bundle_metadata(&metadata)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Value::Null,
            Err(error) => {
                return Err(error).with_context(|| format!("{}", metadata.display()));
            }
        };
        let tokenizer = path.join("tokenizer");
        let mut files = Vec::new();
        if tokenizer.is_dir() {
            for file in entries(&tokenizer)? {
                let name = file.file_name().unwrap_or_default().to_string_lossy();
                files.push((name.into_owned(), bytes_of(&file)?));
            }
            files.sort();
        }
        let programs = assets.iter().map(|path| Program::at(path));
        let programs: Vec<Program> = programs.collect::<Result<_>>()?;
        let opened = Program::opened(&programs);
        let findings = if opened.len() == programs.len() {
            Some(lint::opened_bundle(path, &opened)?)
        } else {
            None
        };
        Ok(Self {
            bundle: Some((metadata, files)),
            programs,
            findings,
        })
    }

    /// The first thing that is wrong, and how many more are.
    pub fn problem(&self) -> Option<String> {
        let mut problems: Vec<String> = self.programs.iter().flat_map(Program::problems).collect();
        let findings = self.findings.iter().flatten();
        problems.extend(findings.map(|finding| {
            let Finding {
                rule,
                place,
                message,
            } = finding;
            fsutil::one_line(&format!("{place}: {rule}: {message}"))
        }));
        match problems.len() {
            0 => None,
            1 => problems.pop(),
            count => Some(format!("{}; and {} more", problems[0], count - 1)),
        }
    }
}

/// The metadata of a bundle.
fn bundle_metadata(path: &Path) -> Result<Value> {
    let bytes = fsutil::read(path, MAX_METADATA)?;
    let value: Value = serde_json::from_slice(&bytes)
        .with_context(|| format!("{} is not JSON", path.display()))?;
    if !value.is_object() {
        bail!("{}: expected a JSON object", path.display());
    }
    Ok(value)
}

impl Program {
    pub fn at(path: &Path) -> Result<Self> {
        let (program, module, asset) = if path.is_dir() {
            let asset = open_asset(path)?;
            (path.join(PROGRAM), asset.module.clone(), Some(asset))
        } else {
            (path.to_owned(), open_program(path)?, None)
        };
        let hash = asset.as_ref().map(Asset::compute_hash).transpose()?;
        Ok(Self {
            path: path.to_owned(),
            bytes: bytes_of(&program)?,
            summary: Summary::of(&module).map_err(|error| error.to_string()),
            fault: verify(&module).err().map(|error| error.to_string()),
            hash,
            module,
            asset,
        })
    }

    pub fn hash_fits(&self) -> bool {
        let stated = self.asset.as_ref().map(|asset| asset.stated_hash);
        stated == self.hash
    }

    /// Those that are valid programs of an asset, for the lint.
    fn opened(programs: &[Self]) -> Vec<Opened<'_>> {
        let programs = programs.iter().filter(|program| program.fault.is_none());
        let opened = programs.filter_map(|program| {
            let (asset, hash) = (program.asset.as_ref()?, program.hash?);
            Some(Opened { asset, hash })
        });
        opened.collect()
    }

    /// What is wrong with it.
    pub fn problems(&self) -> Vec<String> {
        let path = self.path.display();
        let mut problems = Vec::new();
        if !self.hash_fits() {
            problems.push(format!(
                "{path}: {PROGRAM} does not have the hash that the asset states; fetch or export \
                 it again"
            ));
        }
        if let Some(fault) = &self.fault {
            problems.push(format!("{path}: {fault}"));
        }
        problems
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = || {
        let entries = fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
        entries.collect::<io::Result<Vec<_>>>()
    };
    read().with_context(|| format!("{} cannot be read", folder.display()))
}

fn bytes_of(file: &Path) -> Result<u64> {
    let metadata = fs::metadata(file).with_context(|| format!("{}", file.display()))?;
    Ok(metadata.len())
}
