//! What the manifest and the tokenizer of a bundle with a decoder say, in every
//! layout.

use std::path::Path;

use ::bundle::{AssetRole, Layout, MANIFEST, Manifest, PictureGeometry, TOKENIZER, VERSION};
use aimodel::Summary;
use checkpoint::{Source, TokenizerFiles};
use text::Tokenizer;

use super::facts::{Checked, Facts, asset, origin, without_prefix};
use crate::{
    error::{Problems, Result},
    folder::read_text,
    recipe::Decoder,
};

/// No metadata of a bundle is larger.
const MAX_BYTES: u64 = 1 << 20;

/// A bundle with a decoder, as it was read.
pub(super) struct Opened {
    /// Its `metadata.json`.
    pub manifest: Manifest,
    /// The path of that file in the release.
    pub file: String,
    /// How pictures are cut, if the manifest states it.
    pub geometry: Option<PictureGeometry>,
    /// What its assets are, by the parts that they play.
    pub assets: Vec<(AssetRole, Summary)>,
    stop_tokens: Option<Vec<u32>>,
    producer: String,
    created: u64,
}

/// What the manifest states of something, and what it should be.
pub(super) struct Stated {
    pub what: &'static str,
    pub found: String,
    pub expected: String,
}

impl Stated {
    pub fn new(what: &'static str, found: impl ToString, expected: impl ToString) -> Stated {
        Stated {
            what,
            found: found.to_string(),
            expected: expected.to_string(),
        }
    }
}

/// Opens a bundle: all of its assets, its manifest and its tokenizer.
pub(super) fn open(
    checked: Checked<'_>,
    decoder: &Decoder,
    problems: &mut Problems,
) -> Result<Option<Opened>> {
    let Checked {
        folder, listing, ..
    } = checked;
    let place = decoder.place();
    let mut assets = Vec::new();
    for (role, place) in decoder.assets() {
        let asset = asset(checked, &place, problems);
        assets.extend(asset.map(|asset| (role, place, asset)));
    }
    if assets.len() < decoder.layout.roles().len() {
        return Ok(None);
    }
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
    let manifest = match Manifest::parse(text.as_bytes(), &file) {
        Ok(manifest) => manifest,
        Err(error) => {
            problems.add(&file, format!("is not the manifest of a bundle: {error}"));
            return Ok(None);
        }
    };
    // Nobody vouches for anything else that is in it.
    if let Some(problem) = written_otherwise(&manifest, &text) {
        problems.add(&file, problem);
    }
    let stop_tokens = stop_tokens(&folder.join(&place).join(TOKENIZER));
    if let Err(error) = &stop_tokens {
        let problem = without_prefix(error.to_string(), folder);
        problems.add(format!("{place}/{TOKENIZER}"), problem);
    }
    let geometry = manifest.geometry();
    if let Err(error) = &geometry {
        problems.add(&file, error.to_string());
    }
    let mut made: Option<(String, u64)> = None;
    let mut summaries = Vec::new();
    for (role, place, asset) in &assets {
        let Some(origin) = origin(asset, place, problems) else {
            return Ok(None);
        };
        let first = made.get_or_insert_with(|| origin.clone());
        problems.unless(*first == origin, place, || {
            "was made by another program, or at another time, than the decoder beside it".to_owned()
        });
        match Summary::of(&asset.module) {
            Ok(summary) => summaries.push((*role, summary)),
            Err(error) => problems.add(place, error.to_string()),
        }
    }
    let Some((producer, created)) = made.filter(|_| summaries.len() == assets.len()) else {
        return Ok(None);
    };
    Ok(Some(Opened {
        manifest,
        file,
        geometry: geometry.ok(),
        assets: summaries,
        stop_tokens: stop_tokens.ok(),
        producer,
        created,
    }))
}

impl Opened {
    /// The asset that plays this part.
    pub fn asset(&self, role: AssetRole) -> Option<&Summary> {
        let mut assets = self.assets.iter();
        Some(&assets.find(|(found, _)| *found == role)?.1)
    }

    /// Holds the manifest to the recipe, to the graph, and to `more`, which only
    /// this layout has. Gives what the bundle says, if all of it could be read.
    pub fn facts(
        self,
        checked: Checked<'_>,
        decoder: &Decoder,
        vocabulary: u64,
        cache: [u64; 3],
        more: Vec<Stated>,
        problems: &mut Problems,
    ) -> Option<Facts> {
        let common = self.common(checked, decoder, vocabulary);
        for Stated {
            what,
            found,
            expected,
        } in common.into_iter().chain(more)
        {
            problems.unless(found == expected, &self.file, || {
                format!("{what}: expected {expected:?}, found {found:?}")
            });
        }
        Some(Facts {
            producer: self.producer,
            created: self.created,
            revision: self.manifest.source.hf_revision,
            geometry: self.geometry?,
            vocabulary,
            stop_tokens: self.stop_tokens?,
            cache,
        })
    }

    /// What manifests of every layout state.
    fn common(&self, checked: Checked<'_>, decoder: &Decoder, vocabulary: u64) -> Vec<Stated> {
        let recipe = checked.recipe;
        let Manifest {
            language,
            source,
            compilation,
            ..
        } = &self.manifest;
        let layout = decoder.layout;
        let scheme = self.manifest.compression.as_ref();
        let scheme = scheme.map_or(quantize::Recipe::F16.name, |compression| {
            compression.scheme.as_str()
        });
        let assets = self.manifest.assets.iter();
        let assets = assets.map(|(role, name)| format!("{role} {name}"));
        let mut roles: Vec<AssetRole> = layout.roles().to_vec();
        roles.sort_by_key(|role| role.key());
        let roles = roles.iter();
        let roles = roles.map(|role| format!("{role} {}", role.asset(&decoder.name)));
        let mapped = language.function_map.iter();
        let mapped = mapped.map(|(role, functions)| format!("{role} {}", functions.join(", ")));
        let functions = layout.call_shape().functions();
        let functions: Vec<&str> = functions.iter().map(|(name, _)| *name).collect();
        let date = ::bundle::iso_date(self.created).unwrap_or_default();
        let mut all = vec![
            Stated::new("metadata_version", &self.manifest.metadata_version, VERSION),
            Stated::new("kind", &self.manifest.kind, layout.kind()),
            Stated::new("name", &self.manifest.name, &decoder.name),
            Stated::new("assets", joined(assets), joined(roles)),
            Stated::new("language.tokenizer", &language.tokenizer, &recipe.model),
            Stated::new("language.vocab_size", language.vocab_size, vocabulary),
            Stated::new(
                "language.max_context_length",
                language.max_context_length,
                decoder.max_context,
            ),
            Stated::new(
                "language.embedded_tokenizer",
                language.embedded_tokenizer,
                true,
            ),
            Stated::new(
                "language.function_map",
                joined(mapped),
                format!("{} {}", AssetRole::Main, functions.join(", ")),
            ),
            Stated::new("source.model_definition", &source.model_definition, "torch"),
            Stated::new("source.hf_model_id", &source.hf_model_id, &recipe.model),
            Stated::new("compression", scheme, decoder.mode),
            Stated::new("compilation.date", &compilation.date, date),
            Stated::new("compilation.targets", compilation.targets.join(", "), ""),
        ];
        if let Some(geometry) = &self.geometry {
            // In a pipelined bundle the ids of a picture are behind the vocabulary.
            let first = match layout {
                Layout::Pipelined(_) => Some(vocabulary),
                Layout::Vlm => None,
            };
            let found = geometry.first_image_id.map(|id| id as u64);
            let text = |id: Option<u64>| id.map_or_else(String::new, |id| id.to_string());
            all.extend([
                Stated::new("user_data.grid", geometry.grid, recipe.grid),
                Stated::new("user_data.first_image_id", text(found), text(first)),
            ]);
        }
        all
    }
}

/// A list as text.
fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join("; ")
}

/// The tokens that end an answer, by a bundle's tokenizer.
fn stop_tokens(folder: &Path) -> Result<Vec<u32>> {
    let files = TokenizerFiles::load(&Source::folder(folder)?)?;
    Ok(Tokenizer::load(&files)?.stop_tokens().to_vec())
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
