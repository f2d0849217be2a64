//! `cargo xtask COMMAND …` does what `aimodel COMMAND …` does, from this
//! repository: it builds the tool with cargo's own progress on the screen, and
//! hands the command over. `cargo xtask test` does so with the steps of CI.
//!
//! The tool is built without the client of the Hugging Face hub, which is two
//! fifths of what there is to compile, unless the command needs it. Other
//! features are named before the command: `cargo xtask --features cuda gate`.

use std::env::{consts::EXE_SUFFIX, current_dir, var_os};
use std::ffi::OsString;
use std::io::Result;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};

fn main() -> ExitCode {
    let mut args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let mut features = Vec::new();
    if args.first().is_some_and(|first| first == "--features") {
        let Some(names) = args.get(1).and_then(|names| names.to_str()) else {
            eprintln!("error: --features: expected features of the tool, such as cuda");
            return ExitCode::from(2);
        };
        features.extend(names.split(',').map(str::to_owned));
        args.drain(..2);
    }
    let called = if features.is_empty() {
        "cargo xtask".to_owned()
    } else {
        format!("cargo xtask --features {}", features.join(","))
    };
    let test = args.first().is_some_and(|command| command == "test");
    if test {
        args.remove(0);
    }
    if test || needs_hub(&args) {
        features.push("hub".to_owned());
    }
    let status = build(test, &features).and_then(|built| {
        if built.success() {
            command(test, &args, &called).status()
        } else {
            Ok(built)
        }
    });
    match status {
        Ok(status) => {
            // A program that a signal ended has no code.
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            ExitCode::from(code.unwrap_or(2))
        }
        Err(error) => {
            eprintln!("error: a program cannot be started: {error}");
            ExitCode::from(2)
        }
    }
}

/// Builds the tool, and for `test` the steps of CI, which run it.
fn build(test: bool, features: &[String]) -> Result<ExitStatus> {
    let mut cargo = Command::new(var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--release", "--locked", "--manifest-path"]);
    cargo.arg(root().join("Cargo.toml"));
    // Whatever the user's own settings say, so that the program is found.
    cargo.arg("--target-dir").arg(target());
    cargo.args(["--package", "aimodel-cli", "--bin", "aimodel"]);
    if test {
        cargo.args(["--package", "ci", "--bin", "ci"]);
    }
    for feature in features {
        cargo
            .arg("--features")
            .arg(format!("aimodel-cli/{feature}"));
    }
    cargo.status()
}

/// The command, to be run by the program that was built.
fn command(test: bool, args: &[OsString], called: &str) -> Command {
    let program = if test { "ci" } else { "aimodel" };
    let mut command = Command::new(target().join(format!("release/{program}{EXE_SUFFIX}")));
    command.args(args).env("AIMODEL_CALLED_AS", called);
    // Nothing is left outside the repository.
    if var_os("AIMODEL_HOME").is_none_or(|home| home.is_empty()) {
        command.env("AIMODEL_HOME", root().join(".venv"));
    }
    command
}

/// Where cargo builds to.
fn target() -> PathBuf {
    var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// Whether a command takes a checkpoint or a release from the hub, or publishes
/// one: as far as can be told from its words. Where it cannot, it may.
fn needs_hub(args: &[OsString]) -> bool {
    let words: Vec<&str> = args.iter().filter_map(|word| word.to_str()).collect();
    let flag = |name: &str| words.contains(&name) || value(&words, name).is_some();
    if flag("--help") || flag("-h") {
        return false;
    }
    let here = current_dir().unwrap_or_default();
    let on_hub = |name: &str| name != "nano" && !here.join(name).exists();
    let model = value(&words, "--model");
    match words.as_slice() {
        ["export" | "gate", ..] | ["bench", "export" | "quantize", ..] => model.is_none_or(on_hub),
        ["release", ..] => {
            let nano = value(&words, "--recipe") == Some("nano");
            flag("--push") || model.map_or(!nano, on_hub)
        }
        ["rebuild", ..] => model.is_none_or(on_hub),
        ["verify", rest @ ..] => {
            let folder = rest.iter().find(|word| here.join(word).is_dir());
            folder.is_none() || model.is_some_and(on_hub)
        }
        _ => false,
    }
}

/// What a flag is given: `--flag value` or `--flag=value`.
fn value<'a>(words: &[&'a str], flag: &str) -> Option<&'a str> {
    words.iter().enumerate().find_map(|(index, word)| {
        let rest = word.strip_prefix(flag)?;
        match rest.strip_prefix('=') {
            None if rest.is_empty() => words.get(index + 1).copied(),
            value => value,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_commands_that_take_the_network_need_the_hub() {
        let needs = |line: &str| {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            needs_hub(&words)
        };
        for line in [
            "export int8hu",
            "export int8hu --model me/my-tune",
            "export int8hu --model=me/my-tune",
            "gate --layers 28",
            "bench export",
            "release --out x",
            "release --recipe nano --out x --push=me/nano",
            "release --out x --dry-run --push me/nano",
            "verify me/nano",
            "verify src --model me/my-tune",
            "rebuild src",
        ] {
            assert!(needs(line), "{line}");
        }
        for line in [
            "quickstart",
            "doctor",
            "ask --model me/my-tune what",
            "export int8hu --model nano",
            "export int8hu --model=src",
            "export --help",
            "gate --model nano --layers 2",
            "bench decode",
            "bench quantize --model src",
            "release --recipe nano --out x",
            "release --model nano --out x",
            "verify src",
            "rebuild src --model nano",
            "synth 2b --out x",
        ] {
            assert!(!needs(line), "{line}");
        }
    }
}
