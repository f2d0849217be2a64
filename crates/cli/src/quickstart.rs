//! `quickstart`: from nano's checkpoint to a caption, and to the proof that the
//! bundle is right, in one go.

use crate::answer;
use crate::bundles::BundleArgs;
use crate::device::Device;
use crate::export::Job;
use crate::progress::{self, say, seconds};
use crate::venv::{CORE_AI_NEWEST, Venv};
use crate::{Refused, embedded, gate};
use ::gate::Stage;
use anyhow::{Context, Result, ensure};
use bundle::{CallShape, Layout};
use checkpoint::Source;
use engine::{Conversation, Event, Limits, Sampler};
use picture::Image;
use quantize::Recipe;
use serde_json::Value;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The picture and question, by their name in scenes.json.
const SCENE: &str = "scene-5";
/// Where they are among the program's own files.
const SCENES: &str = "oracles/nano/scenes";

/// The folder that it writes, below the current one.
const OUT: &str = "exports/quickstart";

/// Flags of `quickstart`: none.
#[derive(clap::Args)]
pub struct Args {}

/// Runs it.
pub fn run(_: Args) -> Result<()> {
    // Set up first, so that the times below are those of the work.
    Venv::core_ai(CORE_AI_NEWEST)?;
    let started = Instant::now();
    let out = PathBuf::from(OUT);
    clear(&out)?;
    let bundles = Job::nano("int8hu", &out)?.run()?;
    for bundle in &bundles {
        let name = bundle.path.file_name().unwrap_or_default().display();
        say(
            "export",
            &format!("{name}, {}", progress::size(bundle.bytes)),
        )?;
    }

    let mut job = gate::Job::new(
        Source::nano(),
        &out,
        Recipe::named("int8hu")?,
        Layout::Pipelined(CallShape::One),
        None,
    )?;
    // There is no transcript of a device to judge.
    job.stages.retain(|stage| *stage != Stage::Device);
    job.required = vec![Stage::Engine];
    let transcript = job.run()?;
    let report = out.join("report.html");
    job.save(&transcript, None, Some(&report))?;
    transcript.holds(&[]).map_err(Refused)?;

    let scene = scene()?;
    let text = |key: &str| {
        scene[key]
            .as_str()
            .with_context(|| format!("{SCENE} in scenes.json has no {key}"))
    };
    let (question, expected) = (text("prompt")?, text("answer")?);
    let picture = embedded::path(&format!("{SCENES}/{}", text("image")?))?;
    let choice = BundleArgs {
        exports: out.clone(),
        model: None,
        mode: None,
        query: None,
        bundle: None,
    };
    let model = answer::open(&choice.find()?, Device::Cpu)?;
    say("ask", &format!("{}: {question}", embedded::shown(&picture)))?;
    progress::print(&format!("{:>9}  ", "answer"))?;
    let answer = model.session().answer(
        &Conversation::question(question, [Image::load(&picture)?]),
        &mut Sampler::greedy(),
        Limits::new(64),
        |event| match event {
            Event::Token { text, .. } | Event::Rest { text } if progress::print(text).is_err() => {
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        },
    );
    let answer = answer.map_err(answer::explain)?;
    progress::print("\n")?;
    if answer.text.trim() != expected {
        let found = answer.text;
        return Err(Refused(format!("the answer is {found:?}, expected {expected:?}")).into());
    }
    say("right", "this is what the picture shows")?;
    say("took", &seconds(started.elapsed()))?;
    say("report", &format!("open {} in a browser", report.display()))?;
    Ok(())
}

/// Removes what an earlier run wrote, and nothing else.
fn clear(out: &Path) -> Result<()> {
    if !out.exists() {
        return Ok(());
    }
    ensure!(
        out.join("nano_decode_int8hu_s1").is_dir(),
        "{} is there and was not made by quickstart; move it away",
        out.display()
    );
    std::fs::remove_dir_all(out).with_context(|| format!("{} cannot be removed", out.display()))
}

/// The scene's entry in scenes.json.
fn scene() -> Result<Value> {
    let list: Value = serde_json::from_slice(embedded::bytes(&format!("{SCENES}/scenes.json"))?)?;
    let prompts = list["prompts"].as_array().into_iter().flatten();
    prompts
        .into_iter()
        .find(|prompt| prompt["name"] == SCENE)
        .cloned()
        .with_context(|| format!("scenes.json has no prompt {SCENE}"))
}
