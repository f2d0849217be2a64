//! An asset that coreai-torch 0.4.0 made: newer versions of Core AI's library
//! refuse it, and load its repaired copy, which computes the same.

use super::outcome::Outcome;
use crate::repo;
use aimodel::{Locations, open_asset};
use aimodel_cli::python::{self, Recorded, Tensors};
use aimodel_cli::repair;
use aimodel_cli::venv::{CORE_AI, Venv};
use anyhow::{Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the library says when it refuses.
const REFUSAL: &str = "expected AICode versioned location";

/// Runs the step.
pub fn run() -> Outcome {
    let early = repo::root().join("crates/aimodel/tests/fixtures/early.aimodel");
    let scratch = repo::scratch()?;
    let input = scratch.path().join("input.safetensors");
    let mut tensors = Tensors::default();
    tensors.i32("ids", &[3, 1, 4, 1, 5, 9, 2, 6]);
    tensors.write(&input)?;
    let [oldest, newer @ ..] = CORE_AI;

    let output = scratch.path().join("early.safetensors");
    python::output(&mut function(oldest, &early, &input, &output)?)?;
    let expected = next(&output)?;
    for version in newer {
        let mut command = function(version, &early, &input, &scratch.path().join("none"))?;
        let refused = command.output()?;
        let said = String::from_utf8_lossy(&refused.stderr);
        ensure!(
            !refused.status.success() && said.contains(REFUSAL),
            "coreai-core {version} does not refuse {}: {said}",
            early.display()
        );
    }

    repair::run(repair::Args {
        path: early.clone(),
        out: scratch.path().join("repaired"),
        name_producer: false,
    })?;
    let copy = scratch.path().join("repaired/early.aimodel");
    let (was, is) = (open_asset(&early)?, open_asset(&copy)?);
    let differences = aimodel::diff(&is.module, &was.module)?;
    ensure!(differences.is_empty(), "the copy differs: {differences:?}");
    for version in CORE_AI {
        let output = scratch.path().join(format!("{version}.safetensors"));
        python::output(&mut function(version, &copy, &input, &output)?)?;
        ensure!(
            next(&output)? == expected,
            "under coreai-core {version} the repaired copy computes something else than the \
             original does under {oldest}"
        );
    }
    Ok(format!(
        "coreai-core {} refuse an asset of coreai-torch 0.4.0 with {} locations; its repaired copy \
         gives the same {} values under {}",
        newer.join(" and "),
        Locations::of(&was.module).faulty(),
        expected.1.len(),
        CORE_AI.join(", ")
    ))
}

fn function(version: &str, asset: &Path, input: &Path, output: &Path) -> Result<Command> {
    let venv = Venv::core_ai(version)?;
    let paths: [&Path; 3] = [asset, input, output];
    repo::script(&venv, "run_function.py", paths.map(PathBuf::from))
}

fn next(output: &Path) -> Result<(Vec<usize>, Vec<f64>)> {
    let recorded = Recorded::read(output)?;
    let found = recorded.get("next")?.clone();
    ensure!(
        found.1.iter().any(|value| *value > 0.01 && *value < 0.99),
        "the outputs say nothing"
    );
    Ok(found)
}
