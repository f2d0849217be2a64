//! nano and the other shapes, exported in all ways, against what
//! `oracles/fingerprint.py` recorded of the published Python recipe's assets:
//! the same graphs and the same constants.

use super::{outcome::Outcome, shapes};
use crate::repo;
use aimodel_cli::export::{self, Job};
use aimodel_cli::venv::{CORE_AI_NEWEST, Venv};
use anyhow::{Context, Result, bail, ensure};
use checkpoint::Source;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What was recorded of each checkpoint: recipes, and the call shapes of each. It
/// does not follow `quantize::RECIPES`: a way to store weights has fingerprints
/// only if the published Python recipe has it, and somebody recorded them.
const DECODERS: [(&str, &str); 3] = [
    ("int8hu", "s1,dynamic,pf8"),
    ("int8lin", "s1"),
    ("fp16", "s1"),
];
/// More differences than this are not listed.
const LISTED: usize = 12;

/// Runs the step.
pub fn run() -> Outcome {
    let mut recorded = shapes::files(&repo::root().join("oracles/recipe"), "json")?;
    recorded.sort();
    ensure!(!recorded.is_empty(), "oracles/recipe holds no fingerprints");
    let mut assets = 0;
    for path in &recorded {
        assets += checkpoint(path).with_context(|| path.display().to_string())?;
    }
    Ok(format!(
        "{assets} assets of {} checkpoints have the graphs and constants of the published recipe's",
        recorded.len()
    ))
}

/// Compares all assets of one checkpoint; gives how many.
fn checkpoint(path: &Path) -> Result<usize> {
    let recorded: Value = serde_json::from_slice(&std::fs::read(path)?)?;
    let assets = recorded["assets"].as_object().context("no assets")?;
    let name = path.file_stem().unwrap_or_default();
    let scratch = repo::scratch()?;
    let folder = scratch.path().join(name);
    let (source, grid) = if name == "nano" {
        (Source::nano(), None)
    } else {
        let shape = repo::root().join("oracles/shapes").join(name);
        let given: Value = serde_json::from_slice(&std::fs::read(shape.with_extension("json"))?)?;
        shapes::write(&given, &folder)?;
        (Source::folder(&folder)?, given["grid"].as_u64())
    };
    let digest = models::qwen3_vl::open(&source)?.digest();
    ensure!(
        recorded["checkpoint"] == digest,
        "the checkpoint is another ({digest}) than the recipe was given ({}): run the recipe on it, \
         as oracles/recipe/README.md says",
        recorded["checkpoint"]
    );

    let mut exported = Vec::new();
    let decoder = assets.keys().any(|asset| asset.contains("_decode_"));
    for (index, (recipe, call_shapes)) in DECODERS.into_iter().enumerate() {
        let mut job = Job::new(source.clone(), recipe, &scratch.path().join(recipe))?;
        job.options.grid = grid.unwrap_or(job.options.grid);
        job.options.layouts = export::pipelined(call_shapes)?;
        job.options.vision = index == 0;
        job.options.decoder = decoder;
        if job.options.vision || job.options.decoder {
            exported.extend(job.run()?.into_iter().map(|bundle| bundle.asset));
        }
    }
    let found = fingerprint(&exported)?;
    let found = found["assets"].as_object().context("no assets")?;
    let names = |of: &Map<String, Value>| of.keys().cloned().collect::<BTreeSet<_>>();
    ensure!(
        names(found) == names(assets),
        "exported were {:?}, recorded are {:?}",
        names(found),
        names(assets)
    );
    for (asset, expected) in assets {
        let mut list = Vec::new();
        differences("", &found[asset], expected, &mut list);
        if !list.is_empty() {
            let more = list.len().saturating_sub(LISTED);
            list.truncate(LISTED);
            if more > 0 {
                list.push(format!("and {more} more"));
            }
            bail!(
                "{asset} is not what the published recipe makes; the recipe's is what ran on devices. \
                 Counts and digests of what differs:\n  {}",
                list.join("\n  ")
            );
        }
    }
    println!("  {}: same assets: {}", name.display(), assets.len());
    Ok(assets.len())
}

fn fingerprint(assets: &[PathBuf]) -> Result<Value> {
    let mut python = Venv::core_ai(CORE_AI_NEWEST)?.python()?;
    python.arg(repo::root().join("oracles/fingerprint.py"));
    python.args(assets);
    let printed = aimodel_cli::python::output(&mut python)?;
    serde_json::from_str(&printed).context("fingerprint.py printed no JSON")
}

/// Lists where two JSON values differ, by the way to it.
fn differences(way: &str, found: &Value, expected: &Value, list: &mut Vec<String>) {
    let (Some(actual), Some(recorded)) = (found.as_object(), expected.as_object()) else {
        if found != expected {
            let text = |value: &Value| value.as_str().map_or(value.to_string(), str::to_owned);
            let (found, expected) = (text(found), text(expected));
            list.push(format!("{way}: found {found}, recorded {expected}"));
        }
        return;
    };
    let others = recorded.keys().filter(|key| !actual.contains_key(*key));
    for key in actual.keys().chain(others) {
        let way = match way {
            "" => key.clone(),
            _ => format!("{way}, {key}"),
        };
        differences(&way, &found[key], &expected[key], list);
    }
}

#[cfg(test)]
mod tests {
    use super::differences;
    use serde_json::json;

    #[test]
    fn differences_are_named_with_their_way() {
        let actual = json!({"kinds": {"add": "2 aa", "sub": "1 bb"}, "resources": "1 4"});
        let expected = json!({"kinds": {"add": "3 aa", "mul": "1 cc"}, "resources": "1 4"});
        let mut list = Vec::new();
        differences("", &actual, &expected, &mut list);
        let expected = [
            "kinds, add: found 2 aa, recorded 3 aa",
            "kinds, sub: found 1 bb, recorded null",
            "kinds, mul: found null, recorded 1 cc",
        ];
        assert_eq!(list, expected);
    }
}
