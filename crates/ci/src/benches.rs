//! `bench export`, `quantize` and `decode` on nano. How fast nano is means
//! nothing; that figures are in a sane range and fit together does.

use super::{nano, outcome::Outcome, repo};
use anyhow::{Context, Result, ensure};
use approx::relative_eq;
use serde_json::Value;
use std::ops::RangeInclusive;
use std::process::{Command, Stdio};

/// How often each is measured: odd, so that the median of a figure is that of a
/// run.
const RUNS: usize = 3;
/// Work beside its floor, either way. A machine that others use, too, changes it
/// by a factor of ten, not of a thousand.
const RATIO: RangeInclusive<f64> = 1e-3..=1e3;
/// Seconds of anything that is done to nano once.
const SECONDS: RangeInclusive<f64> = 1e-9..=1e3;
/// What a sum or a quotient of printed figures may be off by: they are f64 and
/// printed with all digits, so that only the last are at stake.
const ROUNDING: f64 = 1e-9;

/// The step.
pub fn run() -> Outcome {
    let exports = nano::folder()?.join("int8hu");
    let exports = exports.display().to_string();
    check_export(&bench("export", &[])?)?;
    check_quantize(&bench("quantize", &[])?)?;
    let decoder = ["--exports", &exports, "--model", "nano", "--query"];
    let work = ["dynamic", "--prompt", "20", "--new", "4", "--vision"];
    check_decode(&bench("decode", &[&decoder[..], &work].concat())?)?;
    Ok(format!(
        "export, quantize and decode, {RUNS} runs each, print figures that fit together"
    ))
}

/// What a bench prints as JSON.
fn bench(name: &str, flags: &[&str]) -> Result<Value> {
    let mut command = Command::new(repo::tool()?);
    command.args(["bench", name, "--json", "--runs", &RUNS.to_string()]);
    command.args(flags).stdin(Stdio::null());
    let output = command.output()?;
    ensure!(
        output.status.success(),
        "bench {name} ended with {}:\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let printed: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("bench {name} printed no JSON"))?;
    ensure!(printed["bench"] == name, "bench {name} printed {printed:#}");
    Ok(printed)
}

fn check_export(printed: &Value) -> Result<()> {
    for bytes in ["checkpoint_bytes", "program_bytes"] {
        within(printed, bytes, &(1e6..=1e7))?;
    }
    for run in runs(printed)? {
        let part = |name| within(run, name, &SECONDS);
        let floor = part("read")? + part("write")? + part("hash")?;
        agrees(run, "floor", floor)?;
        agrees(run, "ratio", part("export")? / floor)?;
        within(run, "ratio", &RATIO)?;
    }
    medians(printed, &["floor", "export", "ratio"])
}

fn check_quantize(printed: &Value) -> Result<()> {
    within(printed, "matrix_bytes", &(1e6..=1e7))?;
    within(printed, "threads", &(1.0..=1e4))?;
    for run in runs(printed)? {
        let part = |name| within(run, name, &SECONDS);
        agrees(run, "ratio", part("copy")? / part("quantize")?)?;
        within(run, "ratio", &RATIO)?;
    }
    medians(printed, &["copy", "quantize", "ratio"])
}

fn check_decode(printed: &Value) -> Result<()> {
    let weights = within(printed, "weight_bytes", &(5e5..=1e6))?;
    // nano's cache: 4 layers with keys and values of 2 heads of 32 f16. Half of
    // the 4 new tokens come after the 20 of the prompt on average.
    let cache = f64::from(4 * 2 * 2 * 32 * 2 * (20 + 4 / 2));
    agrees(printed, "bytes_per_token", weights + cache)?;
    for run in runs(printed)? {
        within(run, "prefill", &SECONDS)?;
        within(run, "vision", &SECONDS)?;
        let rate = within(run, "memory_bytes_per_second", &(1e7..=1e14))?;
        let decode = within(run, "decode", &SECONDS)?;
        agrees(run, "of_floor", (weights + cache) / decode / rate)?;
        within(run, "of_floor", &RATIO)?;
    }
    let of_runs = ["memory_bytes_per_second", "decode", "of_floor", "prefill"];
    medians(printed, &[&of_runs[..], &["vision"]].concat())?;
    let median = &printed["median"];
    let rate = figure(median, "memory_bytes_per_second")?;
    agrees(median, "floor", (weights + cache) / rate)?;
    agrees(median, "tokens_per_second", 1.0 / figure(median, "decode")?)?;
    let prefill = figure(median, "prefill")?;
    agrees(median, "prefill_tokens_per_second", 20.0 / prefill)
}

fn runs(printed: &Value) -> Result<&[Value]> {
    let runs = printed["seconds"].as_array().map_or(&[][..], Vec::as_slice);
    ensure!(
        runs.len() == RUNS,
        "{} runs were printed, expected {RUNS}:\n{printed:#}",
        runs.len()
    );
    Ok(runs)
}

fn figure(of: &Value, name: &str) -> Result<f64> {
    let number = of[name].as_f64();
    number.with_context(|| format!("{name} is not a number:\n{of:#}"))
}

/// A figure, which must be in a range. JSON has neither infinity nor NaN: they
/// are printed as null, and are not numbers.
fn within(of: &Value, name: &str, range: &RangeInclusive<f64>) -> Result<f64> {
    let found = figure(of, name)?;
    ensure!(
        range.contains(&found),
        "{name} is {found}, expected {range:?}:\n{of:#}"
    );
    Ok(found)
}

/// Refuses a figure that is not what others make it.
fn agrees(of: &Value, name: &str, expected: f64) -> Result<()> {
    let found = figure(of, name)?;
    ensure!(
        relative_eq!(found, expected, max_relative = ROUNDING),
        "{name} is {found}, but the figures beside it make it {expected}:\n{of:#}"
    );
    Ok(())
}

/// Refuses medians that are not those of the runs.
fn medians(printed: &Value, names: &[&str]) -> Result<()> {
    for name in names {
        let figures = runs(printed)?.iter().map(|run| figure(run, name));
        let mut figures = figures.collect::<Result<Vec<f64>>>()?;
        figures.sort_by(f64::total_cmp);
        agrees(&printed["median"], name, figures[RUNS / 2])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(copy: f64) -> Value {
        json!({ "copy": copy, "quantize": 0.5, "ratio": copy / 0.5 })
    }

    fn good() -> Value {
        json!({
            "threads": 2,
            "matrix_bytes": 1_500_000,
            "seconds": [run(0.25), run(0.125), run(0.5)],
            "median": { "copy": 0.25, "quantize": 0.5, "ratio": 0.5 },
        })
    }

    #[test]
    fn figures_that_fit_together_hold() {
        check_quantize(&good()).unwrap();
    }

    #[test]
    fn figures_that_do_not_are_refused() {
        let faults: [(&str, Value, &str); 6] = [
            ("/seconds/1/ratio", json!(0.5), "ratio is 0.5"),
            ("/seconds/1/copy", json!(0), "copy is 0"),
            ("/seconds/1", run(1e-6), "expected 0.001..=1000.0"),
            ("/seconds/2/quantize", json!(null), "is not a number"),
            ("/median/copy", json!(0.125), "copy is 0.125"),
            ("/seconds", json!([]), "0 runs"),
        ];
        for (place, value, expected) in faults {
            let mut printed = good();
            *printed.pointer_mut(place).unwrap() = value;
            let error = check_quantize(&printed).unwrap_err().to_string();
            assert!(error.contains(expected), "{place}: {error}");
        }
    }
}
