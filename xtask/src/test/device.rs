//! The device stage from end to end, with Core AI's library in place of a
//! device: a fixture for nano, a transcript, a verdict; and transcripts that
//! must not pass.

use super::{Outcome, nano};
use crate::export::Job;
use crate::venv::{CORE_AI_NEWEST, Venv};
use crate::{python, repo};
use anyhow::{Context, Result, bail, ensure};
use gate::Verdict;
use gate::device::{DeviceTranscript, Fixture, Prompt, judge};
use qwen3_vl::image::Image;
use qwen3_vl::{Chat, Config, TokenizerFiles};
use runtime::candle_core::{DType, Device, Tensor};
use runtime::{Options, Program, engine};

/// Tokens a run, and runs a prompt.
const TOKENS: usize = 24;
const RUNS: usize = 2;

/// The step.
pub fn run() -> Outcome {
    let venv = Venv::core_ai(CORE_AI_NEWEST)?;
    let decoder = nano::asset(&nano::decoder("int8hu", "s1")?);
    let vision = nano::asset(&nano::vision()?);
    let fixture = Fixture::new(&decoder, Some(&vision), RUNS, prompts()?)?;

    let scratch = repo::scratch()?;
    let path = |name: &str| scratch.path().join(name);
    fixture.write(&path("fixture.json"))?;
    let host = |decoder: &std::path::Path, transcript: &str| {
        let given = [path("fixture.json"), decoder.to_owned(), vision.clone()];
        let paths = given.into_iter().chain([path(transcript)]);
        python::output(&mut python::script(&venv, "device.py", paths))
    };
    host(&decoder, "transcript.json")?;
    let transcript = DeviceTranscript::load(&path("transcript.json"))?;
    let report = judge(&transcript, &fixture)?;
    ensure!(report.verdict == Verdict::Pass, "{}", report.summary);
    let label = format!("coreai-core {CORE_AI_NEWEST} on ");
    ensure!(
        report.summary.contains(&label),
        "the verdict does not say {label:?}: {}",
        report.summary
    );

    // A host may not run another bundle, and no such transcript may pass.
    let other = nano::asset(&nano::decoder("int8lin", "s1")?);
    match host(&other, "other.json") {
        Ok(_) => bail!("the host ran another bundle than the fixture's"),
        Err(error) => ensure!(format!("{error:#}").contains("the fixture is for"), error),
    }
    let mut tampered = transcript.clone();
    tampered.decoder.sha256 = Fixture::new(&other, None, RUNS, fixture.prompts.clone())?
        .decoder
        .sha256;
    ensure!(
        judge(&tampered, &fixture).is_err(),
        "a transcript of another bundle was judged"
    );
    let mut tampered = transcript;
    let last = tampered
        .prompts
        .last_mut()
        .and_then(|prompt| prompt.runs.last_mut())
        .and_then(|run| run.tokens.last_mut())
        .context("the transcript has no tokens")?;
    *last ^= 1;
    ensure!(
        judge(&tampered, &fixture)?.verdict == Verdict::Fail,
        "a transcript with another token passed"
    );
    Ok(report.summary)
}

/// A picture and a text, with what our engine says to them.
fn prompts() -> Result<Vec<Prompt>> {
    // Only for its checkpoint and grid: the bundles are there.
    let job = Job::nano("int8hu", repo::root())?;
    let config = Config::load(&job.source)?;
    let chat = Chat::load(&TokenizerFiles::load(&job.source)?, &config)?;
    let load = |asset| Program::load(asset, Device::Cpu, Options::default());
    let vision = load(nano::asset(&nano::vision()?))?;
    let engine = engine::Engine::new(load(nano::asset(&nano::decoder("int8hu", "s1")?))?)?;

    let picture = Image::load(&repo::scenes().join("scene-5.png"))?;
    let patches = picture.patches(job.grid(), &config.vision_config)?;
    let shape = (patches.rows, patches.cols);
    let tensor = Tensor::from_vec(patches.values.clone(), shape, &Device::Cpu)?;
    let image = engine::Image::encode(&vision, tensor.to_dtype(DType::F16)?)?;
    let asked = chat.prompt("describe the image .", Some(job.grid()))?;
    let seen = Prompt::ask("image", &engine, &asked, Some((&image, &patches)), TOKENS)?;
    let asked = chat.prompt("count from one to twenty .", None)?;
    let read = Prompt::ask("text", &engine, &asked, None, TOKENS)?;
    Ok(vec![seen, read])
}
