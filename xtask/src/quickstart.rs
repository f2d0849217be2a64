//! `quickstart`: from nano's checkpoint to a caption, in one go.

use crate::export::Job;
use crate::progress::{self, seconds};
use crate::python::{self, Tensors};
use crate::venv::{CORE_AI_NEWEST, Venv};
use crate::{Refused, repo};
use anyhow::{Context, Result, bail};
use qwen3_vl::image::Image;
use qwen3_vl::{Chat, Config, TokenizerFiles};
use serde_json::Value;
use std::path::Path;
use std::time::Instant;

/// The picture and question, by their name in scenes.json.
const SCENE: &str = "scene-5";

/// Flags of `quickstart`: none.
#[derive(clap::Args)]
pub struct Args {}

/// Runs it.
pub fn run(_: Args) -> Result<()> {
    check().map(drop)
}

/// Runs it, and says in a few words what was found right.
pub fn check() -> Result<String> {
    // Set up first, so that the times below are those of the work.
    let venv = Venv::core_ai(CORE_AI_NEWEST)?;
    let started = Instant::now();
    let out = repo::root().join("exports/quickstart");
    if out.exists() {
        std::fs::remove_dir_all(&out)
            .with_context(|| format!("{} cannot be removed", out.display()))?;
    }
    let job = Job::nano("int8hu", &out)?;
    let bundles = job.run()?;
    say(
        "export",
        &format!("nano as int8hu, {}", seconds(started.elapsed())),
    )?;
    for bundle in &bundles {
        let opened = aimodel::open_asset(&bundle.asset)?;
        opened.check_hash()?;
        aimodel::verify(&opened.module)?;
        let bytes = progress::size(bundle.bytes);
        say(
            "verify",
            &format!(
                "{}: hash and program are right, {bytes}",
                name(&bundle.path)
            ),
        )?;
    }
    let [decoder, vision] = &bundles[..] else {
        bail!(
            "expected a decoder and a vision encoder, found {} bundles",
            bundles.len()
        );
    };

    let scene = scene()?;
    let text = |key: &str| {
        scene[key]
            .as_str()
            .with_context(|| format!("{SCENE} in scenes.json has no {key}"))
    };
    let (question, expected) = (text("prompt")?, text("answer")?);
    let picture = repo::scenes().join(text("image")?);
    let config = Config::load(&job.source)?;
    let chat = Chat::load(&TokenizerFiles::load(&job.source)?, &config)?;
    let prompt = chat.prompt(question, Some(job.grid()))?;
    let patches = Image::load(&picture)?.patches(job.grid(), &config.vision_config)?;
    say("picture", &from_root(&picture))?;
    say("prompt", question)?;

    let mut tensors = Tensors::default();
    tensors.i32("ids", &prompt.ids);
    tensors.f16("patches", patches.cols, &patches.values);
    let image_start = prompt.rope_shift_start - (job.grid() * job.grid()) as i32;
    tensors.i32("image_start", &[image_start]);
    let scratch = repo::scratch()?;
    let input = scratch.path().join("prompt.safetensors");
    tensors.write(&input)?;
    let paths = [decoder.asset.clone(), vision.asset.clone(), input];
    let mut command = python::script(&venv, "generate.py", paths);
    command.arg("--end");
    command.args(chat.end_tokens().iter().map(u32::to_string));

    let (mut ids, mut shown) = (Vec::new(), String::new());
    progress::print(&format!("{:>9}  ", "answer"))?;
    python::lines(&mut command, |line| {
        let id = line
            .parse()
            .with_context(|| format!("generate.py printed {line:?}, expected an id"))?;
        ids.push(id);
        let answer = chat.decode(&ids)?;
        if let Some(new) = answer.strip_prefix(&shown) {
            progress::print(new)?;
        }
        shown = answer;
        Ok(())
    })?;
    progress::print("\n")?;
    if shown.trim() != expected {
        return Err(Refused(format!("the answer is {shown:?}, expected {expected:?}")).into());
    }
    say("expected", "the same: this is the right caption")?;
    say("took", &seconds(started.elapsed()))?;
    say("where", &format!("the bundles are in {}", from_root(&out)))?;
    Ok(format!("{} tokens, the caption is right", ids.len()))
}

fn say(what: &str, text: &str) -> Result<()> {
    progress::print(&format!("{what:>9}  {text}\n"))?;
    Ok(())
}

/// A path as seen from the repository's root.
fn from_root(path: &Path) -> String {
    let short = path.strip_prefix(repo::root()).unwrap_or(path);
    short.display().to_string()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().display().to_string()
}

/// The scene's entry in scenes.json.
fn scene() -> Result<Value> {
    let path = repo::scenes().join("scenes.json");
    let read = || -> Result<Value> { Ok(serde_json::from_slice(&std::fs::read(&path)?)?) };
    let list = read().with_context(|| format!("{} cannot be read", path.display()))?;
    let prompts = list["prompts"].as_array().into_iter().flatten();
    prompts
        .into_iter()
        .find(|prompt| prompt["name"] == SCENE)
        .cloned()
        .with_context(|| format!("{} has no prompt {SCENE}", path.display()))
}
