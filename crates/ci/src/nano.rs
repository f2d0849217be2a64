//! nano, exported in every recipe for the steps that look at it.

use super::outcome::Outcome;
use crate::repo;
use ::gate::{Stage, StageReport};
use aimodel_cli::export::{self, Job};
use aimodel_cli::gate;
use anyhow::{Context, Result, ensure};
use bundle::{BundleName, CallShape, Layout, asset_name};
use checkpoint::Source;
use quantize::RECIPES;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// How many tokens a call takes.
pub const CALL_SHAPES: [&str; 3] = ["s1", "dynamic", "pf64"];

/// Whether this process has exported nano.
static DONE: AtomicBool = AtomicBool::new(false);

/// The step: exports nano in all recipes, and int8hu a second time.
pub fn export() -> Outcome {
    let folder = repo::root().join("target/ci/nano");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)
            .with_context(|| format!("{} cannot be removed", folder.display()))?;
    }
    for recipe in RECIPES {
        write(recipe.name, &folder.join(recipe.name))?;
    }
    write("int8hu", &folder.join("again"))?;
    let count = same_folders(&folder.join("int8hu"), &folder.join("again"))?;
    std::fs::remove_dir_all(folder.join("again"))?;
    DONE.store(true, Ordering::Relaxed);
    Ok(format!(
        "{} recipes, {} call shapes and a vlm bundle each, and the vision encoder; int8hu twice, \
         {count} files the same",
        RECIPES.len(),
        CALL_SHAPES.len()
    ))
}

fn write(recipe: &str, out: &Path) -> Result<()> {
    let mut job = Job::nano(recipe, out)?;
    job.options.layouts = export::pipelined(&CALL_SHAPES.join(","))?;
    job.options.layouts.push(Layout::Vlm);
    job.run()?;
    Ok(())
}

/// The folder with a folder for each recipe, exported anew once in a process.
pub fn folder() -> Result<PathBuf> {
    if !DONE.load(Ordering::Relaxed) {
        export()?;
    }
    Ok(repo::root().join("target/ci/nano"))
}

/// The decoder bundle of a recipe and call shape.
pub fn decoder(recipe: &str, shape: &str) -> Result<PathBuf> {
    let name = BundleName {
        model: "nano".to_owned(),
        recipe: recipe.to_owned(),
        layout: Layout::Pipelined(shape.parse()?),
    };
    Ok(folder()?.join(recipe).join(name.to_string()))
}

/// The vision encoder's folder; it is the same in each recipe.
pub fn vision() -> Result<PathBuf> {
    Ok(folder()?.join("int8hu/nano_vision"))
}

/// The asset in a bundle's folder, which has its name.
pub fn asset(bundle: &Path) -> PathBuf {
    let name = bundle.file_name().unwrap_or_default().display();
    bundle.join(asset_name(&name.to_string()))
}

/// What a stage of the gates says of the bundles of a recipe, one token a call.
pub fn stage(stage: Stage, recipe: &str, set: impl FnOnce(&mut gate::Job)) -> Result<StageReport> {
    let exports = folder()?.join(recipe);
    let mut job = gate::Job::new(
        Source::nano(),
        &exports,
        recipe.parse()?,
        Layout::Pipelined(CallShape::One),
        None,
    )?;
    job.stages = vec![stage];
    job.quiet = true;
    set(&mut job);
    let report = job.run()?.stages.pop();
    report.context("the chain gave no report")
}

/// Refuses folders that differ in any file; gives the number of files.
fn same_folders(a: &Path, b: &Path) -> Result<usize> {
    let names = |folder: &Path| -> Result<Vec<_>> {
        let entries = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name()));
        let mut names = entries.collect::<Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    };
    let list = names(a)?;
    ensure!(
        list == names(b)?,
        "{} and {} hold other files",
        a.display(),
        b.display()
    );
    let mut count = 0;
    for name in list {
        let (a, b) = (a.join(&name), b.join(&name));
        if a.is_dir() {
            count += same_folders(&a, &b)?;
        } else {
            let same = std::fs::read(&a)? == std::fs::read(&b)?;
            ensure!(
                same,
                "exported twice, {} and {} differ",
                a.display(),
                b.display()
            );
            count += 1;
        }
    }
    Ok(count)
}
