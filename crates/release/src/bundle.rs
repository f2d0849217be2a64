//! The bundles of a release: what their metadata says, held to what they are.

use std::path::Path;

use ::bundle::{
    AssetRole, LLM, MANIFEST, Manifest, PictureGeometry, TOKENIZER, VERSION, asset_name, contract,
};
use aimodel::{Asset, Parameter, Summary};
use checkpoint::{Source, TokenizerFiles};
use text::Tokenizer;

use crate::{
    error::{Problems, Result},
    folder::{Listing, read_text},
    names::BUNDLES,
    recipe::{Decoder, Recipe},
};

/// No metadata of a bundle is larger.
const MAX_BYTES: u64 = 1 << 20;

/// What the bundles of a release say of themselves, all of them alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// What made them.
    pub producer: String,
    /// When, in seconds since the start of 1970: not the clock's.
    pub created: u64,
    /// The commit of the checkpoint on the hub.
    pub revision: Option<String>,
    /// How pictures are cut, and what of them the decoders take.
    pub geometry: PictureGeometry,
    /// Tokens that there are.
    pub vocabulary: u64,
    /// Those that end an answer, as the tokenizer's files say.
    pub stop_tokens: Vec<u32>,
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
    for (path, entry) in listing.below(BUNDLES) {
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
        problems.unless(facts == other, format!("{BUNDLES}/{name}"), || {
            format!("says other things of itself than {first} beside it: {other:?}, {facts:?}")
        });
    }
    let geometry = &facts.geometry;
    let [tokens, hidden, patch] = shape;
    let expected = [geometry.image_tokens, geometry.hidden_size].map(|size| size as u64);
    problems.unless(
        [tokens, hidden] == expected,
        format!("{BUNDLES}/{vision}"),
        || {
            let actual = [tokens, hidden];
            format!("gives embeddings of {actual:?}, and the decoders take {expected:?}")
        },
    );
    let expected = geometry.patches.cols() as u64;
    problems.unless(patch == expected, format!("{BUNDLES}/{vision}"), || {
        format!("takes patches of {patch} numbers, and the decoders state {expected}")
    });
    let same = (&facts.producer, facts.created) == (&producer, created);
    problems.unless(same, format!("{BUNDLES}/{vision}"), || {
        "was made by another program, or at another time, than the decoders".to_owned()
    });
    Ok(whole.then(|| facts.clone()))
}

/// Whether a bundle may hold a file.
fn belongs(bundle: &str, file: &str, vision: bool) -> bool {
    let asset = file.strip_prefix(&asset_name(bundle));
    let asset = asset.and_then(|rest| rest.strip_prefix('/'));
    match (
        asset,
        file.strip_prefix(TOKENIZER)
            .and_then(|rest| rest.strip_prefix('/')),
    ) {
        (Some(part), _) => [aimodel::PROGRAM, aimodel::HASH, aimodel::METADATA].contains(&part),
        (None, Some(name)) => !vision && TokenizerFiles::NAMES.contains(&name),
        (None, None) => !vision && file == MANIFEST,
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
    let place = format!("{BUNDLES}/{bundle}/{}", asset_name(bundle));
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
            problems.add(&place, without_prefix(error.to_string(), folder));
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
    let expected = recipe.stated_license();
    if license != Some(expected) {
        let message = format!(
            "states the licence {license:?}, and the recipe {expected:?}; export it with that \
             `license`"
        );
        problems.add_of_option("license", &place, message);
    }
    Some(asset)
}

/// A message about the place in the release, wherever the folder lies.
fn without_prefix(message: String, folder: &Path) -> String {
    message.replace(&folder.join("").display().to_string(), "")
}

/// The tokens that end an answer, by a bundle's tokenizer.
fn stop_tokens(folder: &Path) -> Result<Vec<u32>> {
    let files = TokenizerFiles::load(&Source::folder(folder)?)?;
    Ok(Tokenizer::load(&files)?.stop_tokens().to_vec())
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
    let place = format!("{BUNDLES}/{}", recipe.vision());
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
            problems.add(
                place,
                "does not have the inputs and outputs of a vision encoder",
            );
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
    let place = format!("{BUNDLES}/{name}");
    let Some(asset) = asset(folder, listing, name, recipe, problems) else {
        return Ok(None);
    };
    for needed in ["tokenizer.json", "tokenizer_config.json"] {
        let file = format!("{place}/{TOKENIZER}/{needed}");
        problems.unless(listing.get(&file).is_some(), &file, || {
            "is missing".to_owned()
        });
    }
    let file = format!("{place}/{MANIFEST}");
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
    let stop_tokens = stop_tokens(&folder.join(&place).join(TOKENIZER));
    if let Err(error) = &stop_tokens {
        let problem = without_prefix(error.to_string(), folder);
        problems.add(format!("{place}/{TOKENIZER}"), problem);
    }
    let geometry = metadata.geometry();
    if let Err(error) = &geometry {
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
        // A model that adds nothing after its layers need not have the input.
        let added = sizes(&main.inputs, contract::DEEPSTACK_EMBEDS);
        let added = added.map_or(Some(0), |sizes| *sizes.first()?);
        let vocabulary = *sizes(&main.outputs, contract::LOGITS)?.last()?;
        let embeds = [tokens?, hidden?, added?];
        Some((embeds, [layers?, heads?, size?], vocabulary?))
    });
    let Some((embeds, cache, vocabulary)) = shapes else {
        problems.add(
            place,
            "does not have the inputs, states and outputs of a decoder",
        );
        return Ok(None);
    };
    let functions = decoder.query.functions();
    let functions: Vec<&str> = functions.iter().map(|(name, _)| *name).collect();
    let scheme = metadata.compression.as_ref();
    let scheme = scheme.map_or(quantize::Recipe::F16.name, |compression| {
        compression.scheme.as_str()
    });
    let date = ::bundle::iso_date(created).unwrap_or_default();
    let main_key = AssetRole::Main.key();
    let main = metadata.asset(AssetRole::Main);
    let mapped = metadata.language.function_map.get(main_key);
    let language = &metadata.language;
    let origin = &metadata.source;
    let facts = [
        (
            "metadata_version",
            metadata.metadata_version.clone(),
            VERSION.to_owned(),
        ),
        ("kind", metadata.kind.clone(), LLM.to_owned()),
        ("name", metadata.name.clone(), name.clone()),
        (
            "assets",
            format!(
                "{} with {main_key} {}",
                metadata.assets.len(),
                main.unwrap_or("absent")
            ),
            format!("1 with {main_key} {}", asset_name(name)),
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
                "{} with {main_key} {}",
                language.function_map.len(),
                mapped.map_or_else(String::new, |list| list.join(", "))
            ),
            format!("1 with {main_key} {}", functions.join(", ")),
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
    ];
    let pictures = geometry.iter().flat_map(|geometry| {
        let tokens = geometry.image_tokens;
        let first = geometry.first_image_id;
        [
            (
                "user_data.grid",
                geometry.grid.to_string(),
                recipe.grid.to_string(),
            ),
            (
                "user_data.first_image_id",
                first.map_or_else(String::new, |id| id.to_string()),
                vocabulary.to_string(),
            ),
            (
                "the input image_embeds",
                format!("{} × {}", embeds[0], embeds[1]),
                format!("{tokens} × {}", geometry.hidden_size),
            ),
            (
                "the input deepstack_embeds' rows",
                embeds[2].to_string(),
                (geometry.deepstack_layers.len() * tokens).to_string(),
            ),
        ]
    });
    for (what, found, expected) in facts.into_iter().chain(pictures) {
        problems.unless(found == expected, &file, || {
            format!("{what}: expected {expected:?}, found {found:?}")
        });
    }
    let (Ok(geometry), Ok(stop_tokens)) = (geometry, stop_tokens) else {
        return Ok(None);
    };
    Ok(Some(Facts {
        producer,
        created,
        revision: origin.hf_revision.clone(),
        geometry,
        vocabulary,
        stop_tokens,
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
