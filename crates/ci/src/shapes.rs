//! Checkpoints of other shapes, exported and run in Core AI's runtime, against
//! what `oracles/record.py` recorded from transformers in fp32.

use super::{logits, outcome::Outcome};
use crate::repo;
use aimodel_cli::export::{self, Job};
use aimodel_cli::python::{Recorded, Tensors};
use anyhow::{Context, Result, ensure};
use checkpoint::Source;
use half::f16;
use models::qwen3_vl::Config;
use models::qwen3_vl::synth;
use models::qwen3_vl::synth::Options;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Runs the step.
pub fn run() -> Outcome {
    let mut shapes = files(&repo::root().join("oracles/shapes"), "json")?;
    shapes.sort();
    ensure!(!shapes.is_empty(), "oracles/shapes holds no shapes");
    let mut min = 1.0f64;
    for path in &shapes {
        let found = shape(path).with_context(|| path.display().to_string())?;
        println!(
            "  {}: cosine ≥ {found:.6}",
            path.file_stem().unwrap_or_default().display()
        );
        min = min.min(found);
    }
    Ok(format!("{} shapes, cosine ≥ {min:.6}", shapes.len()))
}

fn shape(path: &Path) -> Result<f64> {
    let given: Value = serde_json::from_slice(&std::fs::read(path)?)?;
    let number = |key: &str| {
        given[key]
            .as_u64()
            .with_context(|| format!("no number {key}"))
    };
    let text = |key: &str| {
        given[key]
            .as_str()
            .with_context(|| format!("no text {key}"))
    };
    let (grid, chunk) = (number("grid")? as usize, number("chunk")? as usize);
    let recorded = Recorded::read(&path.with_extension("safetensors"))?;

    let scratch = repo::scratch()?;
    let checkpoint = scratch.path().join("shape");
    let config = write(&given, &checkpoint)?;
    let source = Source::folder(&checkpoint)?;
    let digest = models::qwen3_vl::open(&source)?.digest();
    let expected = recorded.metadata.get("checkpoint").map_or("", |text| text);
    ensure!(
        digest == expected,
        "synth makes another checkpoint ({digest}) than was recorded ({expected}): record it again \
         with oracles/record.py"
    );

    let (recipe, call_shape) = (text("mode")?, text("query")?);
    let mut job = Job::new(source, recipe, scratch.path())?;
    job.options.grid = grid as u64;
    job.options.layouts = export::pipelined(call_shape)?;
    let bundles = job.run()?;
    let [decoder, vision] = &bundles[..] else {
        anyhow::bail!(
            "{} bundles were exported, expected a decoder and a vision encoder",
            bundles.len()
        );
    };

    let mut tensors = Tensors::default();
    for prompt in ["image", "text"] {
        tensors.i32(
            format!("{prompt}.ids"),
            &recorded.ints(&format!("{prompt}.ids"))?,
        );
    }
    let columns = config.vision_config.patch_len();
    tensors.f16(
        "image.patches",
        columns,
        &patches(4 * grid * grid * columns),
    );
    tensors.i32("image.image_start", &recorded.ints("image.image_start")?);
    let function = if call_shape.starts_with("pf") {
        "prefill"
    } else {
        "main"
    };
    let got = logits::decode(
        &decoder.asset,
        &vision.asset,
        &tensors,
        (function, chunk),
        scratch.path(),
    )?;
    let prompts = ["image".to_owned(), "text".to_owned()];
    Ok(logits::likeness(&recorded, &got, &prompts)?.cosine)
}

/// Writes the checkpoint of a shape file's content.
pub fn write(given: &Value, checkpoint: &Path) -> Result<Config> {
    let config = Config::parse(given["config"].to_string().as_bytes(), "config.json")?;
    let mut options = Options::default();
    if let Some(bytes) = given["shard_bytes"].as_u64() {
        options = options.shard_bytes(bytes as usize);
    }
    synth::write(&config, checkpoint, options, |_, _| {})?;
    Ok(config)
}

/// The patches that `oracles/record.py` takes: bits of a multiplicative hash of
/// the index, as 256 levels from -1.
fn patches(count: usize) -> Vec<f16> {
    let level = |index: usize| testkit::recorded_level(index as u32);
    (0..count)
        .map(|index| f16::from_f32(level(index) as f32 / 128.0 - 1.0))
        .collect()
}

/// The files of a folder with an extension.
pub fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    Ok(found)
}
