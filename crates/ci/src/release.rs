//! A release of nano from nothing, by the commands themselves: made twice,
//! verified, rebuilt; and what is spoilt in it is refused, with exit code 1.

use super::outcome::Outcome;
use crate::repo;
use anyhow::{Context, Result, bail, ensure};
use release::{Listing, Release, names};
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The step.
pub fn run() -> Outcome {
    let scratch = repo::scratch()?;
    let path = |name: &str| scratch.path().join(name).display().to_string();
    let (exports, a, b) = (path("exports"), path("a"), path("b"));
    let recipe = ["--recipe", "nano", "--exports", &exports];
    let made = ok(&[&["release", "--out", &a], &recipe[..]].concat())?;
    ensure!(
        made.contains("export  nano_vision"),
        "nothing was exported:\n{made}"
    );
    // Now all is there, and nothing is made again.
    let again = ok(&[&["release", "--out", &b], &recipe[..]].concat())?;
    ensure!(
        !again.contains("export  "),
        "it was exported again:\n{again}"
    );
    let listing = Listing::read(Path::new(&a))?;
    ensure!(
        listing == Listing::read(Path::new(&b))?,
        "two releases differ"
    );

    let printed = ok(&["verify", &a, "--model", "nano"])?;
    ensure!(
        printed.contains("loads all 3 assets"),
        "Core AI loads nothing:\n{printed}"
    );
    ok(&["rebuild", &a, "--model", "nano"])?;
    let folder = repo::root()
        .join("oracles/nano/checkpoint")
        .display()
        .to_string();
    ok(&["rebuild", &a, "--model", &folder])?;
    let listed = ok(&["release", "--out", &a, "--dry-run"])?;
    ensure!(
        listing.files.iter().all(|file| listed.contains(&file.path)),
        "--dry-run leaves files out:\n{listed}"
    );

    // Evidence of another bundle, and of one that was made again.
    let transcripts = scratch.path().join("exports").join(names::TRANSCRIPTS);
    let file =
        |mode: &str| transcripts.join(names::transcript(&format!("nano_decode_{mode}_s1"), "cpu"));
    let good = fs::read(file("int8hu"))?;
    fs::copy(file("int8lin"), file("int8hu"))?;
    let out = path("c");
    let args = [&["release", "--out", &out], &recipe[..]].concat();
    no(&args, 1, "is about")?;
    fs::write(file("int8hu"), good)?;
    let tokenizer = "exports/nano_decode_int8hu_s1/tokenizer/tokenizer_config.json";
    let tokenizer = scratch.path().join(tokenizer);
    let text = fs::read_to_string(&tokenizer)?;
    fs::write(&tokenizer, format!("{text}\n"))?;
    no(&args, 1, "is about other bytes")?;
    ensure!(!Path::new(&out).exists(), "a refused release appeared");

    // The published folder, spoilt.
    let model_card = Path::new(&a).join(names::CARD);
    let text = fs::read_to_string(&model_card)?;
    fs::write(
        &model_card,
        text.replacen("min cosine 0.9", "min cosine 1.0", 1),
    )?;
    no(&["verify", &a], 1, "README.md: line")?;
    no(&["release", "--out", &a, "--dry-run"], 1, "README.md: line")?;
    no(&["rebuild", &a, "--model", "nano"], 1, "README.md: line")?;
    no(&["verify", &path("nowhere")], 2, "there is no such folder")?;
    no(
        &["release", "--out", &b, "--recipe", "nano"],
        2,
        "exists already",
    )?;
    no(
        &["release", "--out", &out, "--recipe", "no-such"],
        2,
        "the recipes are nano",
    )?;
    let other = "--model Qwen/X: expected nano";
    no(&["rebuild", &b, "--model", "Qwen/X"], 2, other)?;

    let release = Release::open(Path::new(&b))?;
    Ok(format!(
        "nano, {} files, twice the same; verified, loaded, rebuilt from two places; what is spoilt \
         is refused",
        release.listing.files.len()
    ))
}

/// Runs a command of the tool that must succeed; gives what it printed.
fn ok(args: &[&str]) -> Result<String> {
    let output = command(args)?;
    if !output.status.success() {
        bail!(
            "{} ended with {}:\n{}",
            args.join(" "),
            output.status,
            text_of(&output)
        );
    }
    Ok(text_of(&output))
}

/// Runs one that must not.
fn no(args: &[&str], code: i32, part: &str) -> Result<()> {
    let output = command(args)?;
    let (found, printed) = (output.status.code(), text_of(&output));
    ensure!(
        found == Some(code) && printed.contains(part),
        "{} ended with {found:?}, expected {code} and {part:?}:\n{printed}",
        args.join(" ")
    );
    Ok(())
}

fn command(args: &[&str]) -> Result<Output> {
    let mut command = Command::new(repo::tool()?);
    command
        .args(args)
        .current_dir(repo::root())
        .stdin(Stdio::null());
    command.output().context("the tool does not start")
}

fn text_of(output: &Output) -> String {
    let all = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&all).into_owned()
}
