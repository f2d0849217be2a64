//! nano in Core AI's runtime against transformers in fp32, on the recorded
//! prompts: pictures and questions through our own image and prompt code.

use super::compare::{Likeness, compare};
use super::{nano, outcome::Outcome};
use crate::repo;
use aimodel_cli::export::Job;
use aimodel_cli::python::{self, Recorded, Tensors};
use aimodel_cli::venv::{CORE_AI_NEWEST, Venv};
use anyhow::{Context, Result, ensure};
use checkpoint::TokenizerFiles;
use models::qwen3_vl::Chat;
use models::qwen3_vl::Config;
use picture::Image;
use quantize::RECIPES;
use serde_json::Value;
use std::path::Path;

/// The cosine that every position must reach.
pub const MIN_COSINE: f64 = 0.999;

/// A call shape, the function that takes the prompt, and how many tokens at a time.
/// Every recipe has one of these; each of them takes Core AI's runtime a while.
const CALLS: [(&str, &str, usize); 3] = [
    ("pf64", "prefill", 64),
    ("dynamic", "main", 7),
    ("s1", "main", 1),
];

/// Runs the step.
pub fn run() -> Outcome {
    let job = Job::nano("int8hu", &nano::folder()?)?;
    let config = Config::load(&job.source)?;
    let chat = Chat::load(&TokenizerFiles::load(&job.source)?, &config)?;
    let recorded = Recorded::read(&repo::root().join("oracles/nano/oracle.safetensors"))?;
    let scenes = std::fs::read_to_string(repo::scenes().join("scenes.json"))?;
    let scenes: Value = serde_json::from_str(&scenes).context("scenes.json is not JSON")?;

    let (mut tensors, mut prompts) = (Tensors::default(), Vec::new());
    for scene in scenes["prompts"].as_array().into_iter().flatten() {
        let text = |key: &str| scene[key].as_str();
        let (Some(name), Some(question)) = (text("name"), text("prompt")) else {
            continue;
        };
        let Ok((_, _)) = recorded.get(&format!("{name}.ids")) else {
            continue;
        };
        let ids = recorded.ints(&format!("{name}.ids"))?;
        let prompt = chat.question(question, text("image").map(|_| job.grid()))?;
        ensure!(
            ids.starts_with(&prompt.ids),
            "{name}: the prompt's ids are {:?}, recorded are {ids:?}",
            prompt.ids
        );
        tensors.i32(format!("{name}.ids"), &ids);
        if let Some(image) = text("image") {
            let image = Image::load(&repo::scenes().join(image))?;
            let patches = image.patches(job.grid(), &config.vision_config)?;
            tensors.f16(format!("{name}.patches"), patches.cols, &patches.to_f16());
            let starts: Vec<i32> = prompt.placements.iter().map(|p| p.start as i32).collect();
            tensors.i32(format!("{name}.image_start"), &starts);
        }
        prompts.push(name.to_owned());
    }
    ensure!(!prompts.is_empty(), "no recorded prompt is in scenes.json");

    let scratch = repo::scratch()?;
    let mut found = Vec::new();
    for (recipe, (shape, function, chunk)) in RECIPES.iter().zip(CALLS.iter().cycle()) {
        let decoder = nano::asset(&nano::decoder(recipe.name, shape)?);
        let vision = nano::asset(&nano::vision()?);
        let got = decode(
            &decoder,
            &vision,
            &tensors,
            (function, *chunk),
            scratch.path(),
        )?;
        let worst = likeness(&recorded, &got, &prompts)
            .with_context(|| format!("{recipe}, {shape}, function {function}"))?;
        found.push(format!(
            "{recipe} {shape} cosine ≥ {:.6} at {} positions",
            worst.cosine, worst.positions
        ));
    }
    Ok(found.join("; "))
}

/// The smallest likeness over prompts.
pub fn likeness(recorded: &Recorded, got: &Recorded, prompts: &[String]) -> Result<Likeness> {
    let mut all: Option<Likeness> = None;
    for prompt in prompts {
        let one = compare(recorded, got, prompt, MIN_COSINE)?;
        all = Some(all.map_or(one, |all| all.and(one)));
    }
    all.context("nothing was compared")
}

/// Runs prompts through assets in Core AI's runtime, `chunk` ids at a time.
pub fn decode(
    decoder: &Path,
    vision: &Path,
    prompts: &Tensors,
    (function, chunk): (&str, usize),
    scratch: &Path,
) -> Result<Recorded> {
    let venv = Venv::core_ai(CORE_AI_NEWEST)?;
    let (input, output) = (
        scratch.join("in.safetensors"),
        scratch.join("out.safetensors"),
    );
    prompts.write(&input)?;
    let mut command = repo::script(&venv, "run_decoder.py", [decoder, vision, &input, &output])?;
    command.args(["--function", function, "--chunk", &chunk.to_string()]);
    python::output(&mut command)?;
    Recorded::read(&output)
}
