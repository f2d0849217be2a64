//! `cargo xtask COMMAND …`: builds the tool with cargo's own progress on the
//! screen, and hands the command over to it. `test` builds and runs the steps of
//! CI.
//!
//! Its own flag is `--features`, before the command: features of the tool, such
//! as `cuda`.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let mut args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let mut features = String::new();
    if args.first().is_some_and(|flag| flag == "--features") {
        if args.len() < 2 {
            eprintln!("error: --features: expected features of the tool, such as cuda");
            return ExitCode::from(2);
        }
        features = args.remove(1).to_string_lossy().into_owned();
        args.remove(0);
    }
    let program = if args.first().is_some_and(|command| command == "test") {
        args.remove(0);
        "ci"
    } else {
        "aimodel"
    };
    if let Some(failed) = build(program, &features) {
        return failed;
    }
    let name = format!("{program}{}", std::env::consts::EXE_SUFFIX);
    let mut command = Command::new(target().join("release").join(name));
    command.args(args);
    ended(command.status())
}

/// Builds a program, and the tool for the steps of CI, which run it; gives the
/// exit code if that fails.
fn build(program: &str, features: &str) -> Option<ExitCode> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--release", "--locked", "--bin", "aimodel"]);
    cargo.args(["--package", "aimodel-cli"]);
    if program == "ci" {
        cargo.args(["--package", "ci", "--bin", "ci"]);
    }
    if !features.is_empty() {
        let features = features
            .split(',')
            .map(|name| format!("aimodel-cli/{name}"));
        cargo.arg("--features");
        cargo.arg(features.collect::<Vec<_>>().join(","));
    }
    cargo.arg("--manifest-path").arg(root().join("Cargo.toml"));
    match cargo.status() {
        Ok(status) if status.success() => None,
        other => Some(ended(other)),
    }
}

fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// Where cargo builds to.
fn target() -> std::path::PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), Into::into)
}

/// The exit code of a program that ended, as far as it has one.
fn ended(status: std::io::Result<std::process::ExitStatus>) -> ExitCode {
    match status {
        Ok(status) => {
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            ExitCode::from(code.unwrap_or(2))
        }
        Err(error) => {
            eprintln!("error: cannot be started: {error}");
            ExitCode::from(2)
        }
    }
}
