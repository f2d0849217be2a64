//! Everything that CI runs, step by step: `cargo xtask test`.

#[cfg(test)]
mod architecture;
mod benches;
mod browser;
mod compare;
mod device;
mod elsewhere;
mod engine;
mod hub;
mod linter;
mod loads;
mod logits;
mod nano;
mod outcome;
mod recipe;
mod release;
mod repair;
mod repo;
mod report;
mod round_trip;
mod scenes;
mod shapes;
mod swift;
mod vlm;

use aimodel_cli::progress::seconds;
use anyhow::{Result, bail};
use clap::Parser;
use outcome::Outcome;
use std::process::{Command, ExitCode};
use std::time::Instant;

/// Run everything that CI runs.
#[derive(Parser)]
#[command(name = "cargo xtask test", bin_name = "cargo xtask test")]
struct Args {
    /// Run only the steps whose name contains this
    #[arg(long)]
    only: Option<String>,
}

/// A step and its name.
type Step = (&'static str, fn() -> Outcome);

const STEPS: &[Step] = &[
    ("format", || cargo(&["fmt", "--all", "--check"], &[])),
    ("dependencies", dependencies),
    ("lints", || {
        checked("clippy", &["--all-targets"], &["-D", "warnings"], &[])
    }),
    // All crates at once have the hub, because the steps need it.
    ("the tool without the hub", || {
        cargo(&["check", "--locked", "--package", "aimodel-cli"], &[])
    }),
    ("documentation", documentation),
    ("crates", crates),
    ("export nano", nano::export),
    ("round trip of foreign assets", round_trip::run),
    ("loads under Core AI's betas", loads::run),
    ("the recipe's graphs", recipe::run),
    ("repair", repair::run),
    ("nano against transformers", logits::run),
    ("vlm bundles", vlm::run),
    ("unseen scenes", scenes::run),
    ("other shapes against transformers", shapes::run),
    ("engine stage by a file", engine::run),
    ("device stage", device::run),
    ("Swift hosts", swift::run),
    ("linter", linter::run),
    ("report in a browser", report::run),
    ("release", release::run),
    ("hub", hub::run),
    ("benches", benches::run),
    ("an empty folder", elsewhere::run),
];

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            aimodel_cli::report(&error);
            ExitCode::from(2)
        }
    }
}

/// Runs the steps in order, up to the first that fails; says whether none did.
fn run(args: &Args) -> Result<bool> {
    let chosen: Vec<&Step> = match &args.only {
        Some(part) => STEPS.iter().filter(|step| step.0.contains(part)).collect(),
        None => STEPS.iter().collect(),
    };
    if chosen.is_empty() {
        let names = STEPS
            .iter()
            .map(|step| step.0)
            .collect::<Vec<_>>()
            .join(", ");
        bail!("no step is named like that; the steps are: {names}");
    }
    let mut passed = 0;
    for (index, (name, step)) in chosen.iter().enumerate() {
        println!("[{}/{}] {name}", index + 1, chosen.len());
        let started = Instant::now();
        let outcome = step();
        let took = seconds(started.elapsed());
        match outcome {
            Ok(found) => {
                passed += 1;
                println!(
                    "[{}/{}] {name}: ok in {took}: {found}",
                    index + 1,
                    chosen.len()
                );
            }
            Err(error) => {
                aimodel_cli::report(&error);
                println!(
                    "[{}/{}] {name}: FAILED after {took}",
                    index + 1,
                    chosen.len()
                );
                println!("{passed} passed, 1 failed");
                return Ok(false);
            }
        }
    }
    println!("{passed} passed, 0 failed");
    Ok(true)
}

/// Licences, sources and duplicates of all dependencies. Advisories take the
/// network; the workflow on GitHub looks at them.
fn dependencies() -> Outcome {
    let found = Command::new("cargo-deny").arg("--version").output();
    if !found.is_ok_and(|output| output.status.success()) {
        return Ok("skipped: cargo-deny is not on the PATH".to_owned());
    }
    let checks = ["licenses", "bans", "sources"];
    let quiet = ["deny", "--offline", "--log-level", "error", "check"];
    cargo(&[&quiet[..], &checks].concat(), &[])
}

/// The documentation of all crates, and the package of the one that is made to
/// be published: it must build from the files that the package holds, and from
/// crates of the registry alone.
fn documentation() -> Outcome {
    let strict = [("RUSTDOCFLAGS", "-D warnings")];
    let doc = checked("doc", &["--no-deps"], &[], &strict)?;
    // What a `cargo publish --dry-run` checks, without the network.
    let package = ["package", "--package", "mlir-bytecode", "--locked"];
    // Whether everything is committed is not the question here.
    let here = ["--offline", "--allow-dirty"];
    let package = cargo(&[&package[..], &here].concat(), &[])?;
    Ok(format!("{doc}; {package}"))
}

/// The crates' own tests, which leave nothing in the user's cache of the hub.
fn crates() -> Outcome {
    let cache = repo::scratch()?;
    let cache = cache.path().join("xet").display().to_string();
    checked("test", &[], &[], &[("HF_XET_CACHE", &cache)])
}

/// Runs a cargo command on all crates, the reference model included.
fn checked(command: &str, flags: &[&str], last: &[&str], variables: &[(&str, &str)]) -> Outcome {
    let all = ["--workspace", "--locked", "--features", "models/hub"];
    let mut args = [&[command], &all[..], flags].concat();
    if !last.is_empty() {
        args.extend(["--"].iter().chain(last));
    }
    cargo(&args, variables)
}

/// Runs cargo, whose output is shown. What it runs is called by no other
/// program: the crates' tests expect the messages of `aimodel` itself.
fn cargo(args: &[&str], variables: &[(&str, &str)]) -> Outcome {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.args(args).current_dir(repo::root());
    command.env_remove(aimodel_cli::call::VARIABLE);
    command.envs(variables.iter().copied());
    let status = command.status()?;
    let line = format!("cargo {}", args.join(" "));
    if status.success() {
        Ok(line)
    } else {
        bail!("{line} ended with {status}; its output is above")
    }
}
