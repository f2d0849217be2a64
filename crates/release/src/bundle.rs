//! The bundles of a release: what their metadata says, held to what they are.

use std::path::Path;

use ::bundle::{Manifest, asset_name, contract};
use aimodel::{Asset, Parameter, Summary};
use checkpoint::TokenizerFiles;

use crate::{Decoder, Listing, Recipe, Result, error::Problems, folder::read_text};

/// The folder of a release that the bundles are in. Its name says which engine
/// they are for, as published repositories have it.
pub const FOLDER: &str = "gpu-pipelined";

/// No metadata of a bundle is larger.
const MAX_BYTES: u64 = 1 << 20;

/// What the bundles of a release say of themselves, all of them alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What made them.
    pub producer: String,
    /// When, in seconds since the start of 1970: not the clock's.
    pub created: u64,
    /// The commit of the checkpoint on the hub.
    pub revision: Option<String>,
    /// Image tokens of a picture.
    pub image_tokens: u64,
    /// Hidden size.
    pub hidden: u64,
    /// Numbers in a patch.
    pub patch: u64,
    /// Tokens that there are.
    pub vocabulary: u64,
    /// Layers, and key-value heads, and their size: of the cache.
    pub cache: [u64; 3],
}

/// Opens the bundles of a release and holds them to the recipe and to each
/// other. Gives what they say, if all of it could be read.
pub(crate) fn check(
    folder: &Path,
    listing: &Listing,
    recipe: &Recipe,
    problems: &mut Problems,
) -> Result<Option<Facts>> {
    let vision = recipe.vision();
    let decoders: Vec<Decoder> = recipe.decoders().collect();
    let names: Vec<&str> = decoders
        .iter()
        .map(|decoder| decoder.name.as_str())
        .chain([vision.as_str()])
        .collect();
    for (path, entry) in listing.below(FOLDER) {
        let (bundle, file) = path.split_once('/').unwrap_or((path, ""));
        let known = names.contains(&bundle) && belongs(bundle, file, bundle == vision);
        problems.unless(known, &entry.path, || {
            "belongs to no bundle of the recipe; a release holds nothing else".to_owned()
        });
    }
    let mut all: Vec<(String, Facts)> = Vec::new();
    let mut whole = true;
    let encoder = asset(folder, listing, &vision, recipe, problems);
    let encoder = encoder.and_then(|asset| shape_of_vision(&asset, recipe, problems));
    whole &= encoder.is_some();
    for decoder in &decoders {
        match decoder_facts(folder, listing, decoder, recipe, problems)? {
            Some(facts) => all.push((decoder.name.clone(), facts)),
            None => whole = false,
        }
    }
    let ([(first, facts), rest @ ..], Some((producer, created, shape))) = (&all[..], encoder)
    else {
        return Ok(None);
    };
    for (name, other) in rest {
        problems.unless(facts == other, format!("{FOLDER}/{name}"), || {
            format!("says other things of itself than {first} beside it: {other:?}, {facts:?}")
        });
    }
    let theirs = [facts.image_tokens, facts.hidden];
    problems.unless(shape[..2] == theirs, format!("{FOLDER}/{vision}"), || {
        format!(
            "gives embeddings of {:?}, and the decoders take {theirs:?}",
            &shape[..2]
        )
    });
    let same = (&facts.producer, facts.created) == (&producer, created);
    problems.unless(same, format!("{FOLDER}/{vision}"), || {
        "was made by another program, or at another time, than the decoders".to_owned()
    });
    let facts = Facts {
        patch: shape[2],
        ..facts.clone()
    };
    Ok(whole.then_some(facts))
}

/// Whether a bundle may hold a file.
fn belongs(bundle: &str, file: &str, vision: bool) -> bool {
    let asset = file.strip_prefix(&asset_name(bundle));
    let asset = asset.and_then(|rest| rest.strip_prefix('/'));
    match (asset, file.strip_prefix("tokenizer/")) {
        (Some(part), _) => [aimodel::PROGRAM, aimodel::HASH, aimodel::METADATA].contains(&part),
        (None, Some(name)) => !vision && TokenizerFiles::NAMES.contains(&name),
        (None, None) => !vision && file == aimodel::METADATA,
    }
}

/// Opens the asset of a bundle; what is wrong with it is a problem.
fn asset(
    folder: &Path,
    listing: &Listing,
    bundle: &str,
    recipe: &Recipe,
    problems: &mut Problems,
) -> Option<Asset> {
    let place = format!("{FOLDER}/{bundle}/{}", asset_name(bundle));
    let program = format!("{place}/{}", aimodel::PROGRAM);
    let Some(entry) = listing.get(&program) else {
        problems.add(program, "is missing; export the bundle again");
        return None;
    };
    // SAFETY: a check only reads the release; the README asks of the user that
    // nobody else writes into it meanwhile.
    let opened = unsafe { aimodel::open_asset_mmap(folder.join(&place)) };
    let asset = match opened {
        Ok(asset) => asset,
        Err(error) => {
            // Said of the place in the release, wherever the folder lies.
            let said = error.to_string();
            let prefix = folder.join("").display().to_string();
            problems.add(&place, said.replace(&prefix, ""));
            return None;
        }
    };
    let stated = hex::encode(asset.stated_hash);
    problems.unless(stated == entry.sha256, &program, || {
        format!(
            "its SHA-256 is {}, and {} beside it states {stated}; fetch or export it again",
            entry.sha256,
            aimodel::HASH
        )
    });
    let license = asset.metadata.license.as_deref();
    problems.unless(license == Some(recipe.stated_license()), &place, || {
        format!(
            "states the licence {license:?}, and the recipe {:?}; export it with --license",
            recipe.stated_license()
        )
    });
    Some(asset)
}

/// What made an asset, and when.
fn origin(asset: &Asset, place: &str, problems: &mut Problems) -> Option<(String, u64)> {
    let found = asset
        .metadata
        .producer
        .clone()
        .zip(asset.metadata.created());
    if found.is_none() {
        problems.add(place, "its metadata states no producer or no date");
    }
    found
}

/// Image tokens, hidden size and numbers in a patch of a vision encoder.
fn shape_of_vision(
    asset: &Asset,
    recipe: &Recipe,
    problems: &mut Problems,
) -> Option<(String, u64, [u64; 3])> {
    let place = format!("{FOLDER}/{}", recipe.vision());
    let (producer, created) = origin(asset, &place, problems)?;
    let summary = Summary::of(&asset.module).ok();
    let shape = summary.and_then(|summary| {
        let main = summary.functions.first()?;
        let [tokens, hidden] = sizes(&main.outputs, contract::IMAGE_EMBEDS)?[..] else {
            return None;
        };
        let [_, patch] = sizes(&main.inputs, contract::PATCHES)?[..] else {
            return None;
        };
        Some([tokens?, hidden?, patch?])
    });
    match shape {
        Some(shape) => Some((producer, created, shape)),
        None => {
            problems.add(place, "has not the inputs and outputs of a vision encoder");
            None
        }
    }
}

fn decoder_facts(
    folder: &Path,
    listing: &Listing,
    decoder: &Decoder,
    recipe: &Recipe,
    problems: &mut Problems,
) -> Result<Option<Facts>> {
    let name = &decoder.name;
    let place = format!("{FOLDER}/{name}");
    let Some(asset) = asset(folder, listing, name, recipe, problems) else {
        return Ok(None);
    };
    for needed in ["tokenizer.json", "tokenizer_config.json"] {
        let file = format!("{place}/tokenizer/{needed}");
        problems.unless(listing.get(&file).is_some(), &file, || {
            "is missing".to_owned()
        });
    }
    let file = format!("{place}/{}", aimodel::METADATA);
    let Some(text) = problems.take(read_text(folder, &file, MAX_BYTES))? else {
        return Ok(None);
    };
    let metadata = match Manifest::parse(text.as_bytes(), &file) {
        Ok(metadata) => metadata,
        Err(error) => {
            problems.add(&file, format!("is not the manifest of a bundle: {error}"));
            return Ok(None);
        }
    };
    // Nobody vouches for anything else that is in it.
    if let Some(problem) = written_otherwise(&metadata, &text) {
        problems.add(&file, problem);
    }
    if let Err(error) = metadata.geometry() {
        problems.add(&file, error.to_string());
    }
    let Some((producer, created)) = origin(&asset, &place, problems) else {
        return Ok(None);
    };
    let summary = Summary::of(&asset.module).ok();
    let shapes = summary.as_ref().and_then(|summary| {
        let main = summary.functions.first()?;
        let [tokens, hidden] = sizes(&main.inputs, contract::IMAGE_EMBEDS)?[..] else {
            return None;
        };
        let [layers, _, heads, _, size] = sizes(&main.states, contract::KEY_CACHE)?[..] else {
            return None;
        };
        let vocabulary = *sizes(&main.outputs, contract::LOGITS)?.last()?;
        Some(([tokens?, hidden?], [layers?, heads?, size?], vocabulary?))
    });
    let Some(([image_tokens, hidden], cache, vocabulary)) = shapes else {
        problems.add(place, "has not the inputs, states and outputs of a decoder");
        return Ok(None);
    };
    let functions = decoder.query.functions();
    let functions: Vec<&str> = functions.iter().map(|(name, _)| *name).collect();
    let scheme = metadata.compression.as_ref();
    let scheme = scheme.map_or("fp16", |compression| compression.scheme.as_str());
    let date = ::bundle::iso_date(created).unwrap_or_default();
    let main = metadata.assets.get("main").map(String::as_str);
    let mapped = metadata.language.function_map.get("main");
    let language = &metadata.language;
    let origin = &metadata.source;
    let facts = [
        (
            "metadata_version",
            metadata.metadata_version.clone(),
            "0.2".to_owned(),
        ),
        ("kind", metadata.kind.clone(), "llm".to_owned()),
        ("name", metadata.name.clone(), name.clone()),
        (
            "assets",
            format!(
                "{} with main {}",
                metadata.assets.len(),
                main.unwrap_or("absent")
            ),
            format!("1 with main {}", asset_name(name)),
        ),
        (
            "language.tokenizer",
            language.tokenizer.clone(),
            recipe.model.clone(),
        ),
        (
            "language.vocab_size",
            language.vocab_size.to_string(),
            vocabulary.to_string(),
        ),
        (
            "language.max_context_length",
            language.max_context_length.to_string(),
            recipe.max_context.to_string(),
        ),
        (
            "language.embedded_tokenizer",
            language.embedded_tokenizer.to_string(),
            "true".to_owned(),
        ),
        (
            "language.function_map",
            format!(
                "{} with main {}",
                language.function_map.len(),
                mapped.map_or_else(String::new, |list| list.join(", "))
            ),
            format!("1 with main {}", functions.join(", ")),
        ),
        (
            "source.model_definition",
            origin.model_definition.clone(),
            "torch".to_owned(),
        ),
        (
            "source.hf_model_id",
            origin.hf_model_id.clone(),
            recipe.model.clone(),
        ),
        ("compression", scheme.to_owned(), decoder.mode.to_string()),
        ("compilation.date", metadata.compilation.date.clone(), date),
        (
            "compilation.targets",
            metadata.compilation.targets.join(", "),
            String::new(),
        ),
        (
            "the input image_embeds' rows",
            image_tokens.to_string(),
            (recipe.grid * recipe.grid).to_string(),
        ),
    ];
    for (what, found, expected) in facts {
        problems.unless(found == expected, &file, || {
            format!("{what}: expected {expected:?}, found {found:?}")
        });
    }
    Ok(Some(Facts {
        producer,
        created,
        revision: origin.hf_revision.clone(),
        image_tokens,
        hidden,
        patch: 0,
        vocabulary,
        cache,
    }))
}

/// The first line of a manifest that an export would write otherwise.
fn written_otherwise(manifest: &Manifest, text: &str) -> Option<String> {
    let expected = String::from_utf8(manifest.to_json().ok()?).ok()?;
    let mut lines = expected.lines().zip(text.lines()).enumerate();
    match lines.find(|(_, (expected, found))| expected != found) {
        Some((at, (expected, found))) => Some(format!(
            "line {}: an export writes {:.80?}, found {:.80?}",
            at + 1,
            expected.trim(),
            found.trim()
        )),
        None if expected != text => Some("has more or fewer lines than an export writes".into()),
        None => None,
    }
}

/// The extents of a value of a function; `None` in it where it is not fixed.
fn sizes(list: &[Parameter], name: &str) -> Option<Vec<Option<u64>>> {
    let found = list.iter().find(|value| value.name == name)?;
    let dims = found.ty.dims.iter();
    Some(dims.map(|dim| dim.known()).collect())
}
