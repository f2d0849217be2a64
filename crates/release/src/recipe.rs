//! What is released: one TOML file of `recipes/` a model.

use std::path::{Path, PathBuf};

use ::bundle::{AssetRole, BundleName, CallShape, Layout, VisionName, asset_name};
use gate::Stage;
use serde::Deserialize;

use crate::{
    error::{Error, Result},
    front_matter::{self, FrontMatter},
    licence::{self, Notice},
    names,
};

/// No recipe is larger.
pub(crate) const MAX_BYTES: u64 = 1 << 16;

/// What a release is made of, and what must be proven of it.
///
/// ```
/// let recipe = release::Recipe::parse(
///     r#"
///     title = "My tune"
///     model = "me/my-tune"
///     modes = ["int8hu"]
///     queries = ["s1"]
///     grid = 14
///     max_context = 4096
///     license = "Apache-2.0"
///     languages = ["en"]
///     gates = "qwen3-vl"
///     require = ["lint", "ladder"]
///     "#,
/// )?;
/// assert_eq!(recipe.decoders().next().unwrap().name, "my_tune_decode_int8hu_s1");
/// # Ok::<(), release::Error>(())
/// ```
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// What people call the model: the card's heading.
    pub title: String,
    /// The checkpoint: an id on the hub, or `nano`.
    pub model: String,
    /// Branch, tag or commit on the hub.
    pub revision: Option<String>,
    /// SHA-256 over the checkpoint's weights, where it is pinned
    /// ([`checkpoint::Checkpoint::digest`]).
    pub checkpoint: Option<String>,
    /// How decoders of pipelined bundles store weights. The first is the one to
    /// use.
    #[serde(deserialize_with = "parsed")]
    pub modes: Vec<&'static quantize::Recipe>,
    /// How decoders of pipelined bundles are called. The first is the one to use.
    #[serde(deserialize_with = "parsed")]
    pub queries: Vec<CallShape>,
    /// Bundles for Apple's own package, if there are to be any.
    pub vlm: Option<Vlm>,
    /// Image tokens along a side of a picture.
    pub grid: u64,
    /// The longest context that the bundles promise.
    pub max_context: u64,
    /// The licence of the weights: an SPDX id that the hub knows, or `other`.
    pub license: String,
    /// What `other` is called.
    pub license_name: Option<String>,
    /// A file with its text, as seen from the recipe. Apache-2.0 needs none.
    pub license_file: Option<PathBuf>,
    /// Languages that the model speaks: ISO 639 codes.
    pub languages: Vec<String>,
    /// Tags on the hub, beside those that every release has.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Which thresholds apply: a set of `gates/`.
    pub gates: String,
    /// Stages that must have passed for each decoder. `weights` and `gpu` must
    /// always.
    pub require: Vec<Stage>,
}

/// The part of a recipe about bundles of the layout `vlm`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vlm {
    /// How their decoders store weights. The first is the one to use.
    #[serde(deserialize_with = "parsed")]
    pub modes: Vec<&'static quantize::Recipe>,
    /// The longest context that they promise, where it is not the recipe's: there
    /// a cache grows up to it, whatever is safe on the device.
    pub max_context: Option<u64>,
}

/// A bundle with a decoder of a recipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoder {
    /// The bundle's name.
    pub name: String,
    /// How it stores weights.
    pub mode: &'static quantize::Recipe,
    /// Which assets it has, and how many tokens a call takes.
    pub layout: Layout,
    /// The longest context that it promises.
    pub max_context: u64,
}

impl Decoder {
    /// Its folder in a release.
    pub fn place(&self) -> String {
        format!("{}/{}", names::bundles(self.layout), self.name)
    }

    /// Its assets, in the order of [`Layout::roles`]: their folders in a release.
    pub fn assets(&self) -> impl Iterator<Item = (AssetRole, String)> {
        let roles = self.layout.roles().iter();
        roles.map(|role| {
            (
                *role,
                format!("{}/{}", self.place(), role.asset(&self.name)),
            )
        })
    }

    /// Whether a stage can run on it. A device answers a fixture, and there is none
    /// for the layout `vlm`.
    pub fn has_stage(&self, stage: Stage) -> bool {
        !(stage == Stage::Device && self.layout == Layout::Vlm)
    }
}

impl Recipe {
    /// Reads a recipe from TOML.
    ///
    /// # Errors
    /// TOML that is not a recipe, or one that cannot be released.
    pub fn parse(toml: &str) -> Result<Recipe> {
        let wrong = |problem: String| Error::input(names::RECIPE, problem);
        let recipe: Recipe = toml::from_str(toml).map_err(|error| wrong(error.to_string()))?;
        recipe.check().map_err(wrong)?;
        Ok(recipe)
    }

    /// What its bundles' names start with.
    pub fn short(&self) -> String {
        ::bundle::short_name(&self.model)
    }

    /// Its bundles with decoders: the pipelined ones, the one to use first, and
    /// those of the layout `vlm` behind them, likewise.
    pub fn decoders(&self) -> impl Iterator<Item = Decoder> {
        let pipelined = self.modes.iter().flat_map(|mode| {
            let queries = self.queries.iter();
            queries.map(|query| self.decoder(mode, Layout::Pipelined(*query)))
        });
        let vlm = self.vlm.iter().flat_map(|vlm| &vlm.modes);
        pipelined.chain(vlm.map(|mode| self.decoder(mode, Layout::Vlm)))
    }

    /// The bundle of this mode and layout.
    pub fn decoder(&self, mode: &'static quantize::Recipe, layout: Layout) -> Decoder {
        let name = BundleName {
            model: self.short(),
            recipe: mode.to_string(),
            layout,
        };
        let vlm = self.vlm.as_ref().and_then(|vlm| vlm.max_context);
        let vlm = vlm.filter(|_| layout == Layout::Vlm);
        Decoder {
            name: name.to_string(),
            mode,
            layout,
            max_context: vlm.unwrap_or(self.max_context),
        }
    }

    /// The folder of the vision encoder that lies beside pipelined bundles.
    pub fn vision(&self) -> String {
        let model = self.short();
        VisionName { model }.to_string()
    }

    /// The vision encoder's folder in a release.
    pub fn vision_place(&self) -> String {
        format!("{}/{}", names::PIPELINED, self.vision())
    }

    /// All assets of a release, as folders in it.
    pub fn assets(&self) -> Vec<String> {
        let mut assets = vec![self.vision_asset()];
        for decoder in self.decoders() {
            assets.extend(decoder.assets().map(|(_, asset)| asset));
        }
        assets
    }

    /// The vision encoder beside pipelined bundles, as a folder in a release.
    pub(crate) fn vision_asset(&self) -> String {
        format!("{}/{}", self.vision_place(), asset_name(&self.vision()))
    }

    /// Stages that each decoder must have passed, in the chain's order; but see
    /// [`Decoder::has_stage`].
    pub fn required(&self) -> Vec<Stage> {
        let always = [Stage::Weights, Stage::Execute];
        let is = |stage: &Stage| always.contains(stage) || self.require.contains(stage);
        Stage::ALL.into_iter().filter(is).collect()
    }

    /// What the assets state as their licence.
    pub fn stated_license(&self) -> &str {
        self.license_name.as_deref().unwrap_or(&self.license)
    }

    /// The revision, where it is a commit.
    pub fn commit(&self) -> Option<&str> {
        let revision = self.revision.as_deref();
        revision.filter(|text| text.len() == 40 && text.bytes().all(|c| c.is_ascii_hexdigit()))
    }

    /// Whether the model is one on the hub.
    pub fn is_on_hub(&self) -> bool {
        self.model.contains('/')
    }

    /// The front matter of its model card.
    pub fn front_matter(&self) -> FrontMatter {
        let always = front_matter::TAGS.map(str::to_owned);
        let more = self.tags.iter().filter(|tag| !always.contains(tag));
        let base = self.is_on_hub().then(|| self.model.clone());
        FrontMatter {
            // The hub's ids are SPDX's in lower case.
            license: self.license.to_ascii_lowercase(),
            license_name: self.license_name.clone(),
            license_link: self
                .license_name
                .is_some()
                .then(|| names::LICENSE.to_owned()),
            base_model_relation: base.is_some().then(|| "quantized".to_owned()),
            base_model: base,
            pipeline_tag: front_matter::TASK.to_owned(),
            library_name: front_matter::LIBRARY.to_owned(),
            language: self.languages.clone(),
            tags: always.iter().chain(more).cloned().collect(),
        }
    }

    /// The text of `NOTICE` for bundles that `producer` made of this commit.
    pub(crate) fn notice(&self, revision: Option<&str>, producer: &str) -> String {
        let notice = Notice {
            title: &self.title,
            model: &self.model,
            on_hub: self.is_on_hub(),
            revision,
            license: self.stated_license(),
            producer,
            other_template: self.vlm.is_some(),
        };
        notice.to_string()
    }

    fn check(&self) -> Result<(), String> {
        let plain = |text: &str, max: usize| {
            !text.trim().is_empty() && text.len() <= max && !text.chars().any(fsutil::is_unseen)
        };
        if !plain(&self.title, 100) {
            return Err(format!(
                "title: expected a short line, found {:?}",
                self.title
            ));
        }
        if self.is_on_hub() {
            front_matter::model_id(&self.model).map_err(|why| format!("model: {why}"))?;
        } else if self.model != "nano" {
            return Err(format!(
                "model: expected organization/name, as on the hub, or nano, found {:?}",
                self.model
            ));
        }
        let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        if let Some(digest) = &self.checkpoint
            && (digest.len() != 64 || !digest.chars().all(hex))
        {
            return Err(format!(
                "checkpoint: {digest:?} is not a SHA-256 in hexadecimal"
            ));
        }
        if self.modes.is_empty() || self.queries.is_empty() {
            return Err("modes and queries: expected at least one of each".to_owned());
        }
        if self.vlm.as_ref().is_some_and(|vlm| vlm.modes.is_empty()) {
            return Err("vlm.modes: expected at least one".to_owned());
        }
        let mut names: Vec<String> = self.decoders().map(|decoder| decoder.name).collect();
        names.sort();
        let mut pairs = names.iter().zip(names.iter().skip(1));
        if let Some((name, _)) = pairs.find(|(name, next)| name == next) {
            return Err(format!("modes and queries: {name} is there twice"));
        }
        let plain_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if self.gates.is_empty() || !self.gates.chars().all(plain_name) {
            return Err(format!(
                "gates: expected the name of a set in gates/, found {:?}",
                self.gates
            ));
        }
        if self.license == "other" && self.license_name.is_none() {
            return Err("license_name: `license = \"other\"` needs a name".to_owned());
        }
        if self.license != "other" && self.license_name.is_some() {
            return Err("license_name: belongs to `license = \"other\"` alone".to_owned());
        }
        if self.license_file.is_none() && licence::text(&self.license).is_none() {
            return Err(format!(
                "license_file: the text of {} is not known here; name a file that has it",
                self.stated_license()
            ));
        }
        self.front_matter()
            .check()
            .map_err(|problems| problems.join("; "))
    }
}

/// A recipe with the texts that travel with it.
#[derive(Clone, Debug)]
pub struct Given {
    /// The recipe.
    pub recipe: Recipe,
    /// The file that it was read from.
    pub text: String,
    /// The licence of the weights.
    pub license: String,
}

impl Given {
    /// Reads a recipe's file, and the licence that it names.
    ///
    /// # Errors
    /// A file that cannot be read, or as [`Recipe::parse`].
    pub fn load(path: &Path) -> Result<Given> {
        // As git stores it, whatever a checkout made of its ends of lines.
        let read = |path: &Path| {
            let text = fsutil::read_text(path, MAX_BYTES)?;
            Ok::<_, Error>(text.replace("\r\n", "\n"))
        };
        let text = read(path)?;
        let recipe = Recipe::parse(&text).map_err(|error| match error {
            Error::Input { problem, .. } => Error::input(path.display(), problem),
            other => other,
        })?;
        let license = match &recipe.license_file {
            Some(file) => {
                let file = path.parent().unwrap_or(Path::new("")).join(file);
                licence::check_file(&file).map_err(|problem| {
                    Error::input(path.display(), format!("license_file: {problem}"))
                })?;
                read(&file)?
            }
            None => licence::text(&recipe.license)
                .unwrap_or_default()
                .to_owned(),
        };
        Ok(Given {
            recipe,
            text,
            license,
        })
    }
}

/// Values of a list that are written as the command line has them.
fn parsed<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let texts = Vec::<String>::deserialize(deserializer)?;
    let values = texts.iter().map(|text| text.parse());
    values
        .collect::<Result<_, _>>()
        .map_err(serde::de::Error::custom)
}
