//! Assets that Core AI's own library wrote, read and written by our crates:
//! the same bytes, with the file's own tables and with tables numbered anew.

use super::{nano, outcome::Outcome};
use crate::repo;
use aimodel::AiCode;
use aimodel_cli::python;
use aimodel_cli::venv::{CORE_AI_NEWEST, Venv};
use anyhow::{Context, Result, ensure};
use mlir_bytecode::{self, Entry, Field, Module, Tables};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Runs the step.
pub fn run() -> Outcome {
    let scratch = repo::scratch()?;
    let venv = Venv::core_ai(CORE_AI_NEWEST)?;
    python::output(&mut repo::script(
        &venv,
        "make_assets.py",
        [scratch.path()],
    )?)?;
    let mut covered = BTreeSet::new();
    let assets = programs(scratch.path())?;
    for path in &assets {
        covered.extend(round_trip(path).with_context(|| path.display().to_string())?);
    }
    let foreign = programs(&testkit::foreign_bundle(""))?;
    for path in &foreign {
        round_trip(path).with_context(|| path.display().to_string())?;
    }
    // What we write is in the form that the small assets were checked in.
    let mut used = BTreeSet::new();
    let exported = programs(&nano::folder()?)?;
    for path in &exported {
        used.extend(round_trip(path).with_context(|| path.display().to_string())?);
    }
    let unchecked: Vec<_> = used.difference(&covered).cloned().collect();
    ensure!(
        unchecked.is_empty(),
        "our graphs use what no small asset has: {}",
        unchecked.join(", ")
    );
    Ok(format!(
        "{} assets of Core AI's library, {} of Apple's exporters and {} of ours come out byte for \
         byte the same; the first have all {} operations, attributes and types of the last",
        assets.len(),
        foreign.len(),
        exported.len(),
        used.len()
    ))
}

/// Every `main.mlirb` below a folder, in order of their paths.
fn programs(folder: &Path) -> Result<Vec<PathBuf>> {
    let (mut found, mut pending) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = pending.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                pending.push(path);
            } else if path
                .file_name()
                .is_some_and(|name| name == aimodel::PROGRAM)
            {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Reads a program and writes it in both ways; gives what it is made of.
fn round_trip(path: &Path) -> Result<BTreeSet<String>> {
    let bytes: Arc<[u8]> = std::fs::read(path)?.into();
    let (mut module, kept) = mlir_bytecode::read(bytes.clone(), &[&AiCode])?;
    let parts = parts(&module, &kept);
    same(&bytes, &module, &kept, "with its tables kept")?;
    module.compute_isolation()?;
    let anew = Tables::number(&module)?;
    same(&bytes, &module, &anew, "with its tables numbered anew")?;
    Ok(parts)
}

fn same(bytes: &[u8], module: &Module, tables: &Tables, how: &str) -> Result<()> {
    let mut again = Vec::with_capacity(bytes.len());
    mlir_bytecode::write(module, tables, &mut again)?;
    let differs = bytes.iter().zip(&again).position(|(a, b)| a != b);
    ensure!(
        again.len() == bytes.len() && differs.is_none(),
        "written again {how}: {} bytes, the file has {}; the first difference is at byte {}",
        again.len(),
        bytes.len(),
        differs.unwrap_or(bytes.len().min(again.len()))
    );
    Ok(())
}

/// The operations, and the codes of attributes and types, that a program has.
fn parts(module: &Module, tables: &Tables) -> BTreeSet<String> {
    let mut parts: BTreeSet<String> = tables
        .op_names
        .iter()
        .map(|id| module.full_op_name(*id))
        .collect();
    let code = |fields: Option<&[Field]>| match fields.and_then(|fields| fields.first()) {
        Some(Field::Int(code)) => code.to_string(),
        _ => "without a code".to_owned(),
    };
    for id in &tables.attrs {
        let code = code(module.attr_entry(*id).and_then(Entry::as_fields));
        parts.insert(format!("attribute {code}"));
    }
    for id in &tables.types {
        let code = code(module.type_entry(*id).and_then(Entry::as_fields));
        parts.insert(format!("type {code}"));
    }
    parts
}
