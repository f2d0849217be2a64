//! What a bundle's `metadata.json` states, and whether its asset agrees.

use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
};

use aimodel::{Dim, Function, GraphView, METADATA, Summary, TensorType, graphs};
use bundle::{LLM, VLM, contract};
use serde_json::Value;

use super::{
    files::ASSET,
    graph::kernel,
    rule::{ENGINE, Findings, Opened, Rule, named, without},
    vlm,
};
use crate::Result;

/// The metadata is that of a LanguageBundle.
pub const MANIFEST: Rule = Rule {
    id: "bundle-manifest",
    what: "a `metadata.json` that is missing, or lacks one of `metadata_version` 0.2, `kind` llm \
           or vlm, `name`, `assets.main`, and of `language`: `tokenizer`, `vocab_size`, \
           `max_context_length`, `embedded_tokenizer` true, `function_map`",
    reason: "Swift reads these keys strictly, and does not load the bundle",
    remedy: "export it again",
    source: "the bundle contract",
};

/// The bundle is called as its folder.
pub const NAME: Rule = Rule {
    id: "bundle-name",
    what: "a `name` in the metadata that is not the folder's",
    reason: "hosts find bundles by name, and caches of what was compiled are kept by it",
    remedy: "give the folder its name back",
    source: "the bundle contract",
};

/// Its functions are those of a decoder.
pub const FUNCTIONS: Rule = Rule {
    id: "decoder-functions",
    what: "a function of `function_map` that the asset lacks, or one without `input_ids` [1, S], \
           `position_ids` [1, T], `logits` [1, S, V] or two states",
    reason: "the engine binds them by these names, and refuses the bundle",
    remedy: "export it again",
    source: ENGINE,
};

/// What else a decoder takes can be bound once.
pub const STATIC_INPUTS: Rule = Rule {
    id: "static-inputs",
    what: "a decoder with more than four inputs besides `input_ids` and `position_ids`, or one of \
           them with an unknown extent",
    reason: "the pipelined engine binds at most four buffers, once, of a size that it must know \
             (and of 64 bytes at least, to which the host pads)",
    remedy: "join inputs, or give them fixed extents",
    source: ENGINE,
};

/// A bundle for the pipelined engine has a call shape of fixed extents.
pub const STATIC_CALL_SHAPE: Rule = Rule {
    id: "static-query",
    what: "a bundle named `…_s1` or `…_pfN` (which promises to run in the pipelined engine) whose \
           `main` does not take one token, or whose `prefill` does not take N",
    reason: "a query of unknown length crashes the pipelined engine; a bundle without such a name \
             promises nothing of the kind, and runs in the sequential one",
    remedy: "export with the call shape `s1` or `pfN`",
    source: ENGINE,
};

/// A decoder has kernels.
pub const KERNELS: Rule = Rule {
    id: "decoder-kernels",
    what: "a decoder that calls no `rms_norm`, no `scaled_dot_product_attention` or, unless it \
           takes rows, no `rope`",
    reason: "spelled out, they run many times slower than Apple's fused kernels, and not as they \
             were proven there",
    remedy: "export it again",
    source: "the reference assets",
};

/// The pipelined engine's buffer has room for whole blocks of logits.
pub const LOGITS_WIDTH: Rule = Rule {
    id: "logits-width",
    what: "a bundle named `…_s1` or `…_pfN` (for the pipelined engine) whose logits have a width \
           that is not a multiple of 64",
    reason: "the engine makes its buffer for the next multiple, and aborts because it is not the \
             output's size",
    remedy: "pad the vocabulary of the checkpoint to a multiple of 64, or export a bundle for \
             another engine (`dynamic`, or the layout vlm)",
    source: ENGINE,
};

/// The vocabulary is as wide as the logits.
pub const VOCAB_SIZE: Rule = Rule {
    id: "vocab-size",
    what: "a `vocab_size` that is not the logits' width",
    reason: "the sampler trusts the metadata, and reads beside the logits without an error",
    remedy: "make the metadata say what the graph has",
    source: ENGINE,
};

/// The context can be as long as promised.
pub const CONTEXT: Rule = Rule {
    id: "context-length",
    what: "a `max_context_length` of 0, of more than 2²⁰, or beyond the `model_max_length` of \
           `tokenizer_config.json`",
    reason: "the engine sizes its cache by it, and positions that training never saw give \
             garbage",
    remedy: "export with a maximum context that the model was trained for",
    source: ENGINE,
};

/// No model of this kind has seen more positions.
const MAX_CONTEXT: u64 = 1 << 20;
/// Inputs that the pipelined engine binds once.
const MAX_STATIC_INPUTS: usize = 4;
/// A larger file is not a manifest.
const MAX_METADATA: u64 = 1 << 20;
/// What every call gives anew.
const CALL_INPUTS: [&str; 2] = [contract::INPUT_IDS, contract::POSITION_IDS];

/// What the tokenizer must fit.
#[derive(Default)]
pub struct Language {
    /// The logits' width.
    pub vocab_size: Option<u64>,
    /// The longest context that is promised.
    pub context: Option<u64>,
    /// Whether the decoder takes pictures.
    pub pictures: bool,
    /// The token that Apple's adapter writes for a picture, in a bundle for
    /// Apple's package.
    pub adapter_token: Option<u64>,
}

/// The rules for a bundle's metadata.
pub fn bundle(dir: &Path, assets: &[Opened<'_>], findings: &mut Findings) -> Result<Language> {
    let place = format!("{}/{METADATA}", named(dir));
    let metadata = match read_json(&dir.join(METADATA), MAX_METADATA) {
        Ok(metadata) => metadata,
        Err(problem) => {
            findings.add(&MANIFEST, &place, problem);
            return Ok(Language::default());
        }
    };
    let language = &metadata["language"];
    let wrong = manifest(&metadata);
    if !wrong.is_empty() {
        findings.add(&MANIFEST, &place, format!("expected {}", wrong.join(", ")));
    }
    // What "." is called is not worth knowing.
    if let (Some(name), Some(folder)) = (metadata["name"].as_str(), dir.file_name())
        && folder != name
    {
        let folder = folder.to_string_lossy();
        let found = format!("the name is {name:?}, and the folder's is {folder:?}");
        findings.add(&NAME, &place, found);
    }
    let context = language["max_context_length"].as_u64();
    if let Some(context) = context.filter(|context| !(1..=MAX_CONTEXT).contains(context)) {
        findings.add(&CONTEXT, &place, format!("it is {context}"));
    }
    let mut found = Language {
        vocab_size: language["vocab_size"].as_u64(),
        context,
        ..Language::default()
    };
    let is_vlm = metadata["kind"] == VLM;
    if is_vlm {
        vlm::manifest(&metadata, &place, findings);
        let width = vlm::assets(dir, &metadata, assets, &place, findings)?;
        compare_vocabulary(width, &mut found, &place, findings);
        found.pictures = true;
        found.adapter_token = metadata["vision"]["image_token_id"].as_u64();
    }
    let Some(main) = metadata["assets"]["main"].as_str() else {
        return Ok(found);
    };
    let asset = assets
        .iter()
        .find(|opened| named(&opened.asset.dir) == main);
    let Some(Opened { asset, .. }) = asset else {
        // One that is there and cannot be opened is a finding of its own.
        if !dir.join(main).is_dir() || Path::new(main).components().count() != 1 {
            findings.add(&ASSET, &place, format!("`assets.main` is {main:?}"));
        }
        return Ok(found);
    };
    let summary = Summary::of(&asset.module)?;
    let views = graphs(&asset.module)?;
    let views = views.iter().map(|view| (view.name.as_ref(), view));
    let views: HashMap<&str, &GraphView<'_>> = views.collect();
    let functions = summary.functions.iter();
    let functions: HashMap<&str, &Function> = functions
        .map(|function| (function.name.as_str(), function))
        .collect();
    for name in listed(&language["function_map"]) {
        let place = format!("{main}, @{name}");
        let (Some(function), Some(view)) = (functions.get(name), views.get(name)) else {
            findings.add(&FUNCTIONS, &place, "there is no such function");
            continue;
        };
        if !is_vlm {
            let width = decoder(function, &place, findings);
            compare_vocabulary(width, &mut found, &place, findings);
            let unpadded = width.filter(|width| width % 64 != 0);
            if let Some(width) = unpadded.filter(|_| promised_prefill(&named(dir)).is_some()) {
                findings.add(&LOGITS_WIDTH, &place, format!("logits are {width} wide"));
            }
            found.pictures |= function
                .inputs
                .iter()
                .any(|x| x.name == contract::IMAGE_EMBEDS);
            call_shape(&named(dir), function, &place, findings);
        }
        let called = kernels(view, &views);
        for kernel in ["rms_norm", "rope", "scaled_dot_product_attention"] {
            // Rows carry marks, from which angles are computed once for all layers.
            let is_spelled_out = is_vlm && kernel == "rope";
            if !is_spelled_out && !called.contains(kernel) {
                findings.add(&KERNELS, &place, format!("it calls no `{kernel}`"));
            }
        }
    }
    Ok(found)
}

/// Holds the width of logits against what the metadata says.
fn compare_vocabulary(
    width: Option<u64>,
    found: &mut Language,
    place: &str,
    findings: &mut Findings,
) {
    if let (Some(width), Some(vocab_size)) = (width, found.vocab_size)
        && width != vocab_size
    {
        let found = format!("logits are {width} wide, and `vocab_size` is {vocab_size}");
        findings.add(&VOCAB_SIZE, place, found);
    }
    found.vocab_size = width.or(found.vocab_size);
}

/// A JSON object, or what is wrong.
fn read_json(path: &Path, max: u64) -> Result<Value, String> {
    let bytes = fsutil::read(path, max).map_err(|error| without(path, &error))?;
    let value: Value = serde_json::from_slice(&bytes)
        .map_err(|error| format!("{} is not JSON: {error}", named(path)))?;
    if value.is_object() {
        Ok(value)
    } else {
        Err(format!("{} is not a JSON object", named(path)))
    }
}

/// The keys that are missing or wrong.
fn manifest(metadata: &Value) -> Vec<String> {
    let language = &metadata["language"];
    let text = |value: &Value| value.is_string();
    let number = |value: &Value| value.as_u64().is_some();
    let map = &language["function_map"];
    let functions = map["main"].as_array();
    let functions = functions.is_some_and(|list| list.iter().any(|name| name == "main"))
        && map.as_object().is_some_and(|map| {
            let lists = map.values().map(Value::as_array);
            lists
                .into_iter()
                .all(|list| list.is_some_and(|list| list.iter().all(text)))
        });
    let keys = [
        (
            "metadata_version",
            metadata["metadata_version"] == "0.2",
            "\"0.2\"",
        ),
        (
            "kind",
            metadata["kind"] == LLM || metadata["kind"] == VLM,
            "\"llm\" or \"vlm\"",
        ),
        ("name", text(&metadata["name"]), "a text"),
        ("assets.main", text(&metadata["assets"]["main"]), "a text"),
        ("language.tokenizer", text(&language["tokenizer"]), "a text"),
        (
            "language.vocab_size",
            number(&language["vocab_size"]),
            "a number",
        ),
        (
            "language.max_context_length",
            number(&language["max_context_length"]),
            "a number",
        ),
        (
            "language.embedded_tokenizer",
            language["embedded_tokenizer"] == true,
            "true",
        ),
        (
            "language.function_map",
            functions,
            "lists of functions, with \"main\" in that of main",
        ),
    ];
    let wrong = keys.iter().filter(|(_, right, _)| !right);
    wrong
        .map(|(key, _, expected)| format!("`{key}` to be {expected}"))
        .collect()
}

/// The functions that a `function_map` lists, each once.
fn listed(map: &Value) -> BTreeSet<&str> {
    let lists = map.as_object().into_iter().flat_map(|map| map.values());
    let names = lists.filter_map(Value::as_array).flatten();
    names.filter_map(Value::as_str).collect()
}

/// Checks the signature of a decoder's function; gives the width of its logits.
fn decoder(function: &Function, place: &str, findings: &mut Findings) -> Option<u64> {
    let input = |name: &str| function.inputs.iter().find(|input| input.name == name);
    for name in CALL_INPUTS {
        match input(name).map(|input| &input.ty) {
            Some(ty) if ty.rank() == 2 && ty.dims[0] == Dim::Static(1) => {}
            Some(ty) => findings.add(&FUNCTIONS, place, format!("`{name}` is {ty}")),
            None => findings.add(&FUNCTIONS, place, format!("there is no input `{name}`")),
        }
    }
    if function.states.is_empty() {
        findings.add(&FUNCTIONS, place, "it has no states");
    }
    let others = function.inputs.iter();
    let others = others.filter(|input| !CALL_INPUTS.contains(&input.name.as_str()));
    let others: Vec<_> = others.collect();
    if others.len() > MAX_STATIC_INPUTS {
        let found = format!("there are {} such inputs", others.len());
        findings.add(&STATIC_INPUTS, place, found);
    }
    for input in others {
        if input.ty.static_dims().is_none() {
            findings.add(
                &STATIC_INPUTS,
                place,
                format!("`{}` is {}", input.name, input.ty),
            );
        }
    }
    let logits = function
        .outputs
        .iter()
        .find(|output| output.name == contract::LOGITS);
    let width = logits.and_then(|logits| match logits.ty.dims[..] {
        [Dim::Static(1), _, Dim::Static(width)] => Some(width),
        _ => None,
    });
    if width.is_none() {
        let found = match logits {
            Some(logits) => format!("`logits` is {}", logits.ty),
            None => "there is no output `logits`".to_owned(),
        };
        findings.add(&FUNCTIONS, place, found);
    }
    width
}

/// For a bundle whose name promises to run in the pipelined engine: how many
/// tokens its `prefill` takes, if it has one.
fn promised_prefill(bundle: &str) -> Option<Option<u64>> {
    let (_, suffix) = bundle.rsplit_once('_')?;
    match suffix.strip_prefix("pf").map(str::parse) {
        Some(Ok(rows)) => Some(Some(rows)),
        _ if suffix == "s1" => Some(None),
        _ => None,
    }
}

/// Checks that a bundle takes as many tokens as its name says.
fn call_shape(bundle: &str, function: &Function, place: &str, findings: &mut Findings) {
    let Some(rows) = promised_prefill(bundle) else {
        return;
    };
    let expected = match (function.name.as_str(), rows) {
        ("main", _) => 1,
        (_, Some(rows)) => rows,
        (_, None) => return,
    };
    let ids = function
        .inputs
        .iter()
        .find(|input| input.name == contract::INPUT_IDS);
    let taken = |ty: &TensorType| ty.dims.last().copied();
    if let Some(ids) = ids.filter(|ids| taken(&ids.ty) != Some(Dim::Static(expected))) {
        findings.add(
            &STATIC_CALL_SHAPE,
            place,
            format!("`input_ids` is {}, expected {expected} columns", ids.ty),
        );
    }
}

/// The kernels that a function calls.
fn kernels(function: &GraphView<'_>, all: &HashMap<&str, &GraphView<'_>>) -> BTreeSet<String> {
    let calls = function.operations().iter();
    let called: BTreeSet<_> = calls.filter_map(|op| function.callee(op)).collect();
    let called = called.iter().filter_map(|name| all.get(name.as_ref()));
    called.filter_map(|view| kernel(view)).collect()
}
