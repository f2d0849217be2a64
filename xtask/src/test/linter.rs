//! The community's linter on nano's bundles: it finds nothing.

use super::{Outcome, nano};
use crate::venv::Venv;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::Path;

/// Runs the step.
pub fn run() -> Outcome {
    let venv = Venv::linter()?;
    let mut rules = lint(&venv, &nano::asset(&nano::vision()?))?;
    let mut count = 1;
    for mode in nano::MODES {
        for query in nano::QUERIES {
            rules = rules.max(lint(&venv, &nano::decoder(mode, query)?)?);
            count += 1;
        }
    }
    Ok(format!(
        "coreai doctor has no finding on {count} bundles and assets, up to {rules} rules each"
    ))
}

/// Refuses what the linter has a finding on; gives how many rules it ran.
fn lint(venv: &Venv, target: &Path) -> Result<usize> {
    let mut doctor = venv.python();
    doctor.args(["-m", "coreai_cli", "doctor", "--json"]);
    // Not through `output`: it ends with an error code when it has findings.
    let output = doctor.arg(target).output()?;
    let said: Value = serde_json::from_slice(&output.stdout).with_context(|| {
        format!(
            "coreai doctor {} printed no JSON: {}",
            target.display(),
            String::from_utf8_lossy(&output.stderr)
        )
    })?;
    let findings = said["findings"].as_array().context("no list of findings")?;
    ensure!(
        findings.is_empty() && output.status.success(),
        "coreai doctor {}: {said:#}",
        target.display()
    );
    Ok(said["rules_run"].as_array().map_or(0, Vec::len))
}
