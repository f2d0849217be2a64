//! `inspect`: what a bundle or an asset contains.

mod json;
#[cfg(test)]
mod tests;
mod text;

use crate::Refused;
use crate::assets::{open_asset, open_program};
use aimodel::{Asset, Form, METADATA, Module, PROGRAM, Summary, print_ir, verify};
use anyhow::{Context, Result, bail};
use gate::{
    lint::{self, Opened},
    transcript::Finding,
};
use serde_json::Value;
use std::{
    fs,
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
};

/// The largest metadata of a bundle that is read, in bytes.
const MAX_METADATA: u64 = 1 << 20;

/// Flags of `inspect`.
#[derive(clap::Args)]
pub struct Args {
    /// A bundle, an .aimodel folder, or the main.mlirb of one
    path: PathBuf,
    /// Print the IR, close to the text of the coreai dialect
    #[arg(long, conflicts_with = "json")]
    ir: bool,
    /// Print the IR as it is stored, with all regions and properties
    #[arg(long, conflicts_with = "json")]
    stored: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints what is there, and fails if it is damaged.
pub fn run(args: Args) -> Result<()> {
    let found = Contents::at(&args.path)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let printed = print(&args, &found, &mut out).and_then(|()| Ok(out.flush()?));
    // The reader may have closed the pipe.
    let quit = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    match printed {
        Err(error)
            if error
                .chain()
                .any(|cause| cause.downcast_ref().is_some_and(quit)) =>
        {
            // What is left in the buffer has nowhere to go.
            drop(out.into_parts());
        }
        other => other?,
    }
    match found.problem() {
        Some(problem) => Err(Refused(problem).into()),
        None => Ok(()),
    }
}

fn print(args: &Args, found: &Contents, out: &mut dyn io::Write) -> Result<()> {
    if args.json {
        writeln!(out, "{:#}", found.json())?;
    } else if args.ir || args.stored {
        let form = if args.stored {
            Form::Stored
        } else {
            Form::Dialect
        };
        for program in &found.programs {
            print_ir(&program.module, form, out).map_err(|error| match error {
                aimodel::Error::Output(error) => error.into(),
                error => anyhow::Error::from(error).context(format!(
                    "{} cannot be shown; --stored shows it as it is",
                    program.path.display()
                )),
            })?;
        }
    } else {
        out.write_all(found.text()?.as_bytes())?;
    }
    Ok(())
}

/// What a path contains.
struct Contents {
    /// The metadata and the tokenizer files with their sizes, of a bundle.
    bundle: Option<(Value, Vec<(String, u64)>)>,
    programs: Vec<Program>,
    /// What the device lint finds; `None` for a program without an asset, and
    /// where one is not valid.
    findings: Option<Vec<Finding>>,
}

/// One program, alone or in an asset.
struct Program {
    path: PathBuf,
    bytes: u64,
    module: Module,
    asset: Option<Asset>,
    /// The hash, where there is one to compare with.
    hash: Option<[u8; 32]>,
    summary: Result<Summary, String>,
    fault: Option<String>,
}

impl Contents {
    fn at(path: &Path) -> Result<Self> {
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
    fn problem(&self) -> Option<String> {
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
pub fn bundle_metadata(path: &Path) -> Result<Value> {
    let bytes = fsutil::read(path, MAX_METADATA)?;
    let value: Value = serde_json::from_slice(&bytes)
        .with_context(|| format!("{} is not JSON", path.display()))?;
    if !value.is_object() {
        bail!("{}: expected a JSON object", path.display());
    }
    Ok(value)
}

impl Program {
    fn at(path: &Path) -> Result<Self> {
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

    fn hash_fits(&self) -> bool {
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
    fn problems(&self) -> Vec<String> {
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
