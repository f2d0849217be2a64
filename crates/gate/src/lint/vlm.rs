//! Bundles for Apple's own package: what its engine for vision-language models
//! reads in a manifest, and binds of three assets by position.

use std::path::Path;

use aimodel::{Dim, ElementType, Function, Summary, TensorType};
use bundle::{AssetRole, contract};
use serde_json::Value;

use super::{
    files::ASSET,
    rule::{APPLE, DELEGATES, Findings, Opened, Rule, named},
};
use crate::Result;

/// The section about pictures is whole.
pub const MANIFEST: Rule = Rule {
    id: "vlm-manifest",
    what: "a bundle of kind vlm whose `metadata.json` lacks `assets.embedding` or `assets.vision`, \
           or of `vision`: `image_size`, `patch_size`, `image_token_count`, `image_token_id`, \
           `image_mean` and `image_std`",
    reason: "Swift reads all but the last two strictly, and takes CLIP's mean and deviation where \
             they are not stated, so that the model sees other colours",
    remedy: "export it again",
    source: APPLE,
};

/// Functions are those that the engine calls.
pub const FUNCTIONS: Rule = Rule {
    id: "vlm-functions",
    what: "a `main` that does not take exactly f16 [1, S, W] and si32 [1, T], keep exactly two f16 \
           states of rank 5 and give f16 [1, S, V] first, with S and T open; an embedding asset \
           that does not make f16 [1, S, W] of si32 [1, S]; or a vision asset that does not make \
           f16 [1, N, W] of f32 [1, 3, H, H], with H = `image_size` and N = `image_token_count`",
    reason: "the engine binds inputs, states and outputs by position and throws, or reads memory \
             as something that it is not",
    remedy: "export it again",
    source: APPLE,
};

/// Rows are as wide everywhere.
pub const ROWS: Rule = Rule {
    id: "row-width",
    what: "rows whose width differs between the three assets, or is not a multiple of 32",
    reason: "the engine copies rows as if nothing lay between them: another width, or one that a \
             device pads, gives wrong tokens without an error",
    remedy: "export all three assets together",
    source: APPLE,
};

/// An iPhone's context.
pub const IOS_CONTEXT: Rule = Rule {
    id: "ios-context",
    what: "a bundle of kind vlm with a target of iOS in `compilation.targets` and a \
           `max_context_length` of more than 1,024",
    reason: "on iOS a cache that grows to 2,048 tokens or more corrupts all output from the first \
             token on",
    remedy: "export with a maximum context of 1024 for iOS",
    source: DELEGATES,
};

/// The longest context that an iPhone stands.
const MAX_IOS_CONTEXT: u64 = 1024;
/// Widths of rows are multiples of this.
const ALIGNMENT: u64 = 32;

/// The keys that are missing or wrong in the manifest of a vlm bundle.
pub fn manifest(metadata: &Value, place: &str, findings: &mut Findings) {
    let vision = &metadata["vision"];
    let three = |value: &Value| {
        value
            .as_array()
            .is_some_and(|list| list.len() == 3 && list.iter().all(Value::is_number))
    };
    let mut wrong = Vec::new();
    for role in [AssetRole::Embedding, AssetRole::Vision] {
        if !metadata["assets"][role.key()].is_string() {
            wrong.push(format!("`assets.{role}` to be a text"));
        }
    }
    for key in [
        "image_size",
        "patch_size",
        "image_token_count",
        "image_token_id",
    ] {
        if vision[key].as_u64().is_none() {
            wrong.push(format!("`vision.{key}` to be a number"));
        }
    }
    for key in ["image_mean", "image_std"] {
        if !three(&vision[key]) {
            wrong.push(format!("`vision.{key}` to be three numbers"));
        }
    }
    if !wrong.is_empty() {
        findings.add(&MANIFEST, place, format!("expected {}", wrong.join(", ")));
    }
    let targets = metadata["compilation"]["targets"].as_array();
    let ios = targets.into_iter().flatten().filter_map(Value::as_str);
    let ios = ios.filter(|target| target.to_ascii_lowercase().contains("ios"));
    let context = metadata["language"]["max_context_length"].as_u64();
    if let (Some(context), true) = (context, ios.count() > 0)
        && context > MAX_IOS_CONTEXT
    {
        findings.add(&IOS_CONTEXT, place, format!("it is {context}"));
    }
}

/// The rules for the assets beside the decoder, and for what all three agree on.
/// Gives the width of the logits.
pub fn assets(
    dir: &Path,
    metadata: &Value,
    assets: &[Opened<'_>],
    place: &str,
    findings: &mut Findings,
) -> Result<Option<u64>> {
    let number = |key: &str| metadata["vision"][key].as_u64();
    let (mut widths, mut logits) = (Vec::new(), None);
    for role in [AssetRole::Main, AssetRole::Embedding, AssetRole::Vision] {
        let Some(name) = metadata["assets"][role.key()].as_str() else {
            continue;
        };
        let opened = assets
            .iter()
            .find(|opened| named(&opened.asset.dir) == name);
        let Some(Opened { asset, .. }) = opened else {
            // That of `main` is looked for elsewhere, and one that is there and
            // cannot be opened is a finding of its own.
            let is_there = dir.join(name).is_dir() && Path::new(name).components().count() == 1;
            if role != AssetRole::Main && !is_there {
                findings.add(&ASSET, place, format!("`assets.{role}` is {name:?}"));
            }
            continue;
        };
        let summary = Summary::of(&asset.module)?;
        let function = |name: &str| summary.functions.iter().find(|one| one.name == name);
        let function = match role {
            AssetRole::Embedding => function(contract::EMBED_TOKENS).or(function(contract::MAIN)),
            _ => function(contract::MAIN),
        };
        let Some(function) = function else {
            findings.add(&FUNCTIONS, name, "there is no function to call");
            continue;
        };
        let place = format!("{name}, @{}", function.name);
        let (found, width) = match role {
            AssetRole::Main => {
                logits = logits_width(function);
                main(function)
            }
            AssetRole::Embedding => embedding(function),
            AssetRole::Vision => {
                vision(function, number("image_size"), number("image_token_count"))
            }
        };
        if let Some(found) = found {
            findings.add(&FUNCTIONS, &place, found);
        }
        widths.extend(width.map(|width| (role, width)));
    }
    let told: Vec<String> = widths
        .iter()
        .map(|(role, width)| format!("{width} in {role}"))
        .collect();
    let mut different = widths.windows(2).map(|pair| pair[0].1 != pair[1].1);
    if different.any(|different| different) {
        findings.add(&ROWS, place, format!("widths are {}", told.join(", ")));
    } else if let Some((_, width)) = widths.first()
        && width % ALIGNMENT != 0
    {
        findings.add(&ROWS, place, format!("rows are {width} wide"));
    }
    Ok(logits)
}

/// W of `[1, S, W]` in f16, with S open or as given.
fn row(ty: &TensorType, count: Dim) -> Option<u64> {
    match ty.dims[..] {
        [Dim::Static(1), rows, Dim::Static(width)]
            if rows == count && ty.element == ElementType::F16 =>
        {
            Some(width)
        }
        _ => None,
    }
}

fn is_ids(ty: &TensorType) -> bool {
    ty.dims == [Dim::Static(1), Dim::Dynamic] && ty.element == ElementType::Si32
}

fn logits_width(function: &Function) -> Option<u64> {
    row(&function.outputs.first()?.ty, Dim::Dynamic)
}

/// What is wrong with a decoder, and the width of its rows.
fn main(function: &Function) -> (Option<String>, Option<u64>) {
    let types = |parameters: &[aimodel::Parameter]| {
        let types = parameters.iter();
        let types: Vec<String> = types.map(|one| one.ty.to_string()).collect();
        types.join(", ")
    };
    let [rows, positions] = &function.inputs[..] else {
        let found = format!("it takes {}", types(&function.inputs));
        return (Some(found), None);
    };
    let width = row(&rows.ty, Dim::Dynamic);
    let is_state = |ty: &TensorType| ty.rank() == 5 && ty.element == ElementType::F16;
    let states = &function.states;
    let problem = if width.is_none() || !is_ids(&positions.ty) {
        Some(format!("it takes {}", types(&function.inputs)))
    } else if states.len() != 2 || !states.iter().all(|state| is_state(&state.ty)) {
        Some(format!("it keeps {}", types(states)))
    } else if logits_width(function).is_none() {
        Some(format!("it gives {}", types(&function.outputs)))
    } else {
        None
    };
    (problem, width)
}

/// The same of a table of embeddings.
fn embedding(function: &Function) -> (Option<String>, Option<u64>) {
    let width = function.outputs.first();
    let width = width.and_then(|output| row(&output.ty, Dim::Dynamic));
    let [ids] = &function.inputs[..] else {
        let found = format!("it takes {} inputs", function.inputs.len());
        return (Some(found), width);
    };
    let fits = is_ids(&ids.ty) && width.is_some();
    let found = || format!("it takes {}, and does not give rows", ids.ty);
    ((!fits).then(found), width)
}

/// The same of a vision encoder.
fn vision(
    function: &Function,
    side: Option<u64>,
    tokens: Option<u64>,
) -> (Option<String>, Option<u64>) {
    let output = function.outputs.first();
    let rows = tokens.map_or(Dim::Dynamic, Dim::Static);
    let width = output.and_then(|output| row(&output.ty, rows));
    let [pixels] = &function.inputs[..] else {
        let found = format!("it takes {} inputs", function.inputs.len());
        return (Some(found), width);
    };
    let side = side.unwrap_or_default();
    let fits = pixels.ty == TensorType::fixed([1, 3, side, side], ElementType::F32);
    let given = output.map_or_else(|| "nothing".to_owned(), |output| output.ty.to_string());
    let found = || format!("it makes {given} of {}", pixels.ty);
    ((!fits || width.is_none()).then(found), width)
}
