//! A release of nano from nothing, by the commands themselves: made twice,
//! verified, rebuilt; and what is spoilt in it is refused, with exit code 1.

use super::outcome::Outcome;
use crate::repo;
use anyhow::{Context, Result, bail, ensure};
use release::{Listing, Release, names};
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The bundles with decoders of nano's recipe.
const DECODER: &str = "nano_decode_int8hu_s1";
const OTHER: &str = "nano_decode_int8lin_s1";
const VLM: &str = "nano_vlm_int8hu";

/// The step.
pub fn run() -> Outcome {
    let scratch = repo::scratch()?;
    let path = |name: &str| scratch.path().join(name).display().to_string();
    let (exports, a, b) = (path("exports"), path("a"), path("b"));
    let recipe = ["--recipe", "nano", "--exports", &exports];
    let made = ok(&[&["release", "--out", &a], &recipe[..]].concat())?;
    ensure!(
        made.contains("export  nano_vision") && made.contains("export  nano_vlm_int8hu"),
        "not all was exported:\n{made}"
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
        printed.contains("loads all 6 assets"),
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
    let file = |bundle: &str| transcripts.join(names::transcript(bundle, "cpu"));
    let out = path("c");
    let args = [&["release", "--out", &out], &recipe[..]].concat();
    for (from, to) in [(OTHER, DECODER), (VLM, DECODER), (DECODER, VLM)] {
        let good = fs::read(file(to))?;
        fs::copy(file(from), file(to))?;
        no(&args, 1, &format!("would be called {from}_cpu.json"))?;
        fs::write(file(to), good)?;
    }
    for bundle in [DECODER, VLM] {
        let tokenizer = format!("exports/{bundle}/tokenizer/tokenizer_config.json");
        let tokenizer = scratch.path().join(tokenizer);
        let text = fs::read_to_string(&tokenizer)?;
        fs::write(&tokenizer, format!("{text}\n"))?;
        no(
            &args,
            1,
            &format!("{bundle}_cpu.json: is about other bytes"),
        )?;
        fs::write(&tokenizer, text)?;
    }
    let embedding = scratch
        .path()
        .join(format!("exports/{VLM}/embedding.aimodel"));
    let aside = scratch.path().join("embedding.aimodel");
    fs::rename(&embedding, &aside)?;
    no(&args, 1, "embedding.aimodel/main.mlirb: is missing")?;
    fs::rename(&aside, &embedding)?;
    ensure!(!Path::new(&out).exists(), "a refused release appeared");

    // The published folder, spoilt.
    let model_card = Path::new(&a).join(names::CARD);
    let text = fs::read_to_string(&model_card)?;
    ensure!(
        text.contains("- **device** (vlm int8hu on cpu): there is no fixture")
            && text.contains("| vlm int8hu, cpu |"),
        "the card does not say what the vlm bundle lacks:\n{text}"
    );
    fs::write(
        &model_card,
        text.replacen("min cosine 0.9", "min cosine 1.0", 1),
    )?;
    no(&["verify", &a], 1, "README.md: line")?;
    no(&["release", "--out", &a, "--dry-run"], 1, "README.md: line")?;
    no(&["rebuild", &a, "--model", "nano"], 1, "README.md: line")?;
    fs::write(&model_card, text)?;
    fs::remove_dir_all(
        Path::new(&a)
            .join(names::APPLE)
            .join(VLM)
            .join("vision.aimodel"),
    )?;
    no(&["verify", &a], 1, "vision.aimodel/main.mlirb: is missing")?;
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
    let bundles = release.given.recipe.decoders().count();
    Ok(format!(
        "nano, {bundles} bundles with decoders, {} files, twice the same; verified, loaded, rebuilt from two places; what is spoilt \
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
