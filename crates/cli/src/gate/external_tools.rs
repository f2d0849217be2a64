//! External tools: transformers, and Core AI's own runtime, both in Python.

use crate::python::{self, Tensors};
use crate::venv::{CORE_AI_NEWEST, Venv};
use crate::{doctor, embedded, home, progress};
use anyhow::{Context, ensure};
use bundle::{AssetRole, Layout};
use gate::{Answer, Candidate, Error, ExternalTools, NamedPrompt, Outcome, Recording, Result};
use rayon::prelude::*;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Names the Python that has torch and transformers, where it is not `python3`.
const PYTHON: &str = "AIMODEL_PYTHON";

/// The exit code of `oracles/capture.py` where a checkpoint or a prompt cannot
/// serve as an oracle; the last line that it prints says why.
const REFUSED: i32 = 3;

/// Python on this machine.
pub struct Python;

impl ExternalTools for Python {
    fn record(&self, request: &Recording<'_>, folder: &Path) -> Result<Outcome> {
        let python = std::env::var_os(PYTHON).unwrap_or_else(|| "python3".into());
        // Transcripts are published, and where somebody's Python lies is not.
        let (shown, other) = match std::env::var_os(PYTHON) {
            Some(_) => (format!("the Python that {PYTHON} names"), String::new()),
            None => ("python3".to_owned(), format!(" ({PYTHON} names another)")),
        };
        let mut probe = Command::new(&python);
        probe.args(["-c", "import numpy, PIL, torch, transformers"]);
        probe
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if !probe.status().is_ok_and(|status| status.success()) {
            return Ok(Outcome::Unavailable(format!(
                "{shown} has no torch and transformers{other}"
            )));
        }
        let source = &request.candidate.source;
        let mut command = Command::new(&python);
        command.arg(embedded::path("oracles/capture.py").map_err(unwritten)?);
        command.arg("--model").arg(checkpoint(request.candidate)?);
        command.args(["--name", source.model()]);
        if let Some(revision) = source.revision() {
            command.args(["--revision", revision]);
        }
        command.args(["--grid", &request.candidate.geometry.grid.to_string()]);
        command.args(["--steps", &request.gates.steps.to_string()]);
        command.arg("--out").arg(folder);
        for prompt in &request.gates.prompts {
            command.args(["--prompt", &prompt.name, &prompt.text]);
            command.args(prompt.image.iter().map(|image| request.root.join(image)));
        }
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        let output = command.stdin(Stdio::null()).output();
        let output = output.map_err(|error| failed(format!("{shown} does not start: {error}")))?;
        let printed = String::from_utf8_lossy(&output.stderr);
        let last = printed.trim().lines().last().unwrap_or_default().to_owned();
        match output.status.code() {
            Some(0) => Ok(Outcome::Done),
            Some(REFUSED) => Ok(Outcome::Refused(last)),
            _ => Err(failed(format!(
                "oracles/capture.py ended with {}:\n{printed}",
                output.status
            ))),
        }
    }

    fn core_ai(
        &self,
        candidate: &Candidate,
        prompts: &[NamedPrompt],
        tokens: usize,
    ) -> Result<Result<(Vec<Answer>, String), String>> {
        let venv = match Venv::core_ai(CORE_AI_NEWEST) {
            Ok(venv) => venv,
            Err(error) => {
                return Ok(Err(format!(
                    "Core AI's library cannot be set up: {error:#}"
                )));
            }
        };
        let made = ask(&venv, candidate, prompts, tokens);
        let made = made.map_err(|error| failed(format!("{error:#}")))?;
        Ok(Ok((made, format!("coreai-core {CORE_AI_NEWEST}"))))
    }
}

/// A run of Core AI's library keeps one core busy, and takes this many times
/// the memory of the decoder's program.
const MEMORY: u64 = 3;

/// Prompts side by side, as far as memory goes.
fn ask(
    venv: &Venv,
    candidate: &Candidate,
    prompts: &[NamedPrompt],
    tokens: usize,
) -> anyhow::Result<Vec<Answer>> {
    let program = candidate.asset(AssetRole::Main)?;
    let program = program.dir.join(aimodel::PROGRAM);
    let bytes = std::fs::metadata(program)?.len();
    let (free, _) = doctor::memory_there();
    let at_once = usize::try_from(free / (MEMORY * bytes).max(1))?.clamp(1, prompts.len().max(1));
    if bytes > LONG {
        let steps: usize = prompts
            .iter()
            .map(|asked| asked.prompt.tokens.ids.len() + tokens)
            .sum();
        eprintln!(
            "Core AI's runtime is asked for {steps} tokens in {} prompts, {at_once} at once: about a \
             minute each, for a program of {}",
            prompts.len(),
            progress::size(bytes)
        );
    }
    let mut answers = Vec::new();
    for prompts in prompts.chunks(at_once) {
        let some = prompts
            .par_iter()
            .map(|asked| continue_greedily(venv, candidate, asked, tokens));
        answers.extend(some.collect::<anyhow::Result<Vec<_>>>()?);
    }
    Ok(answers)
}

/// From how many bytes of a decoder's program on an answer takes so long that
/// it is printed beforehand.
const LONG: u64 = 500_000_000;

fn continue_greedily(
    venv: &Venv,
    candidate: &Candidate,
    asked: &NamedPrompt,
    tokens: usize,
) -> anyhow::Result<Answer> {
    let scratch = home::scratch()?;
    let input = scratch.path().join("prompt.safetensors");
    given(candidate, asked)?.write(&input)?;
    // The script runs in another folder, and Core AI's library crashes where
    // there is no asset.
    let mut command = if candidate.layout == Layout::Vlm {
        let bundle = std::path::absolute(&candidate.decoder.path)?;
        python::script(venv, "generate_vlm.py", [bundle, input])?
    } else {
        let paths = [
            std::path::absolute(&candidate.asset(AssetRole::Main)?.dir)?,
            std::path::absolute(&candidate.asset(AssetRole::Vision)?.dir)?,
            input,
        ];
        let mut command = python::script(venv, "generate.py", paths)?;
        // No token is -1: what follows an end token is compared, too.
        command.args(["--margins", "--end", "-1"]);
        command
    };
    command.args(["--max-tokens", &tokens.to_string()]);
    let printed = python::output(&mut command)?;
    let (mut ids, mut margins) = (Vec::new(), Vec::new());
    for line in printed.lines() {
        let wrong = || format!("generate.py printed {line:?}, expected a token and its margin");
        let (token, margin) = line.split_once(' ').with_context(wrong)?;
        ids.push(token.parse().with_context(wrong)?);
        let margin: f32 = margin.parse().with_context(wrong)?;
        ensure!(margin.is_finite(), wrong());
        margins.push(margin);
    }
    ensure!(
        ids.len() == tokens,
        "generate.py gave {} tokens, expected {tokens}",
        ids.len()
    );
    Ok(Answer::new(asked, ids, margins))
}

/// What Core AI's runtime is given for a prompt.
fn given(candidate: &Candidate, asked: &NamedPrompt) -> anyhow::Result<Tensors> {
    let mut given = Tensors::default();
    let prompt = &asked.prompt;
    given.i32("ids", &prompt.tokens.ids);
    if candidate.layout == Layout::Vlm {
        let (grid, cut) = (candidate.geometry.grid, candidate.geometry.patches);
        let pictures = prompt.patches.iter().map(|patches| {
            let pixels = patches.pixels(grid, cut);
            pixels.context("a picture is not cut as the bundle says")
        });
        let pictures = pictures.collect::<anyhow::Result<Vec<_>>>()?;
        let side = candidate.geometry.pixels();
        let shape = vec![pictures.len(), 3, side, side];
        if !pictures.is_empty() {
            given.f32("pixels", shape, &pictures.concat());
        }
    } else if let Some(patches) = prompt.patches.first() {
        given.f16("patches", patches.cols, &patches.to_f16());
        let images = prompt.tokens.placements.iter();
        let starts: Vec<i32> = images.map(|image| image.start as i32).collect();
        given.i32("image_start", &starts);
    }
    Ok(given)
}

/// The folder that a checkpoint lies in; nano's is written to one for Python.
fn checkpoint(candidate: &Candidate) -> Result<PathBuf> {
    match candidate.source.embedded_files() {
        [] => Ok(candidate.source.place().into()),
        _ => embedded::nano().map_err(unwritten),
    }
}

fn unwritten(error: anyhow::Error) -> Error {
    failed(format!("{error:#}"))
}

fn failed(message: String) -> Error {
    Error::ExternalTools(message)
}
