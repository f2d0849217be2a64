//! nano's assets under each version of Core AI's library: they load, and their
//! functions are those of the graph contract.

use super::{nano, outcome::Outcome, repo, vlm};
use aimodel_cli::venv::{CORE_AI, Venv};
use aimodel_cli::{export, python};
use anyhow::{Context, ensure};
use models::qwen3_vl::Config;
use quantize::RECIPES;
use serde_json::{Value, json};

/// Runs the step.
pub fn run() -> Outcome {
    let job = export::Job::nano("int8hu", &nano::folder()?)?;
    let (config, grid) = (Config::load(&job.source)?, job.grid());
    let mut assets = vec![(nano::asset(&nano::vision()?), vision(&config, grid))];
    for recipe in RECIPES {
        for shape in nano::CALL_SHAPES {
            let asset = nano::asset(&nano::decoder(recipe.name, shape)?);
            assets.push((asset, decoder(&config, grid, shape)));
        }
        let bundle = vlm::bundle(recipe.name)?;
        let name = bundle.file_name().unwrap_or_default().display();
        for (asset, functions) in [
            (format!("{name}.aimodel"), row_decoder(&config)),
            ("embedding.aimodel".to_owned(), embedding(&config)),
            ("vision.aimodel".to_owned(), row_vision(&config, grid)),
        ] {
            assets.push((bundle.join(asset), functions));
        }
    }
    let mut operations = Vec::new();
    for version in CORE_AI {
        let venv = Venv::core_ai(version)?;
        let paths = assets.iter().map(|(path, _)| path);
        let printed = python::output(&mut repo::script(&venv, "describe.py", paths)?)?;
        let printed: Value =
            serde_json::from_str(&printed).context("describe.py printed no JSON")?;
        for (index, (path, expected)) in assets.iter().enumerate() {
            let found = &printed[index]["functions"];
            ensure!(
                found == expected,
                "{} under coreai-core {version}: functions\n{found:#}\nexpected\n{expected:#}",
                path.display()
            );
        }
        operations.push(printed);
    }
    ensure!(
        operations.windows(2).all(|pair| pair[0] == pair[1]),
        "the versions of Core AI's library count different operations"
    );
    Ok(format!(
        "{} assets load under coreai-core {}, with the functions, names, types and shapes of the \
         graph contract",
        assets.len(),
        CORE_AI.join(", ")
    ))
}

fn value(name: &str, dtype: &str, shape: &[i64]) -> Value {
    json!({"name": name, "dtype": dtype, "shape": shape})
}

/// The functions of a vision encoder.
fn vision(config: &Config, grid: usize) -> Value {
    let tokens = (grid * grid) as i64;
    let hidden = config.text_config.hidden_size as i64;
    let patch = config.vision_config.patch_len() as i64;
    json!([{
        "name": "main",
        "inputs": [value("patches", "float16", &[4 * tokens, patch])],
        "states": [],
        "outputs": [
            value("image_embeds", "float16", &[tokens, hidden]),
            value("deepstack_embeds", "float16", &[3 * tokens, hidden]),
        ],
    }])
}

/// The functions of a decoder; -1 is a dimension known at run time.
fn decoder(config: &Config, grid: usize, shape: &str) -> Value {
    let text = &config.text_config;
    let tokens = (grid * grid) as i64;
    let hidden = text.hidden_size as i64;
    let (layers, heads) = (text.num_hidden_layers, text.num_key_value_heads);
    let cache = [layers as i64, 1, heads as i64, -1, text.head_dim as i64];
    let function = |name: &str, count: i64| {
        json!({
            "name": name,
            "inputs": [
                value("input_ids", "int32", &[1, count]),
                value("position_ids", "int32", &[1, -1]),
                value("image_embeds", "float16", &[tokens, hidden]),
                value("deepstack_embeds", "float16", &[3 * tokens, hidden]),
                value("rope_shift_start", "int32", &[1]),
                value("rope_shift_amount", "int32", &[1]),
            ],
            "states": [
                value("keyCache", "float16", &cache),
                value("valueCache", "float16", &cache),
            ],
            "outputs": [value("logits", "float16", &[1, count, text.vocab_size as i64])],
        })
    };
    match shape {
        "s1" => json!([function("main", 1)]),
        "dynamic" => json!([function("main", -1)]),
        _ => json!([function("main", 1), function("prefill", 64)]),
    }
}

/// Elements of a row: the embedding, three parts of DeepStack and three marks,
/// rounded up to a multiple of 32.
fn row(config: &Config) -> i64 {
    (4 * config.text_config.hidden_size as i64 + 3 + 31) / 32 * 32
}

/// The functions of a decoder that takes rows.
fn row_decoder(config: &Config) -> Value {
    let text = &config.text_config;
    let (layers, heads) = (text.num_hidden_layers as i64, text.num_key_value_heads);
    let cache = [layers + 1, 1, heads as i64, -1, text.head_dim as i64];
    json!([{
        "name": "main",
        "inputs": [
            value("inputs_embeds", "float16", &[1, -1, row(config)]),
            value("position_ids", "int32", &[1, -1]),
        ],
        "states": [
            value("keyCache", "float16", &cache),
            value("valueCache", "float16", &cache),
        ],
        "outputs": [value("logits", "float16", &[1, -1, text.vocab_size as i64])],
    }])
}

/// The functions of a table of embeddings.
fn embedding(config: &Config) -> Value {
    json!([{
        "name": "embed_tokens",
        "inputs": [value("input_ids", "int32", &[1, -1])],
        "states": [],
        "outputs": [value("inputs_embeds", "float16", &[1, -1, row(config)])],
    }])
}

/// The functions of a vision encoder that takes pixels.
fn row_vision(config: &Config, grid: usize) -> Value {
    let side = 32 * grid as i64;
    json!([{
        "name": "main",
        "inputs": [value("pixel_values", "float32", &[1, 3, side, side])],
        "states": [],
        "outputs": [value("image_features", "float16", &[1, (grid * grid) as i64, row(config)])],
    }])
}
