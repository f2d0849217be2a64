//! `metadata.json` of a bundle.

use std::{collections::BTreeMap, path::Path};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::{AssetRole, Error, LLM, Layout, PictureGeometry, Result, VLM};

/// The name of the file.
pub const MANIFEST: &str = "metadata.json";
/// The only version that there is.
pub const VERSION: &str = "0.2";
/// No manifest is larger, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// What a bundle says of itself. The order of the fields is that of the file.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Manifest {
    /// [`VERSION`].
    pub metadata_version: String,
    /// Which pipeline runs it: [`LLM`] or [`VLM`].
    pub kind: String,
    /// The bundle's name: that of its folder.
    pub name: String,
    /// Folders of assets in the bundle, by the part that they play.
    pub assets: BTreeMap<String, String>,
    /// The language model.
    pub language: Language,
    /// How a host prepares pictures; only in bundles of the kind [`VLM`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vision: Option<Vision>,
    /// The checkpoint.
    pub source: Origin,
    /// How weights are stored; `None` where all are f16.
    pub compression: Option<Compression>,
    /// When it was made.
    pub compilation: Compilation,
    /// Facts for hosts, as strings: the [`PictureGeometry`].
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub user_data: BTreeMap<String, String>,
}

/// The part of a manifest about the language model.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Language {
    /// The model whose tokenizer it has.
    pub tokenizer: String,
    /// V: the width of the logits.
    pub vocab_size: usize,
    /// The longest context that a host may use, in tokens.
    pub max_context_length: usize,
    /// Whether the tokenizer's files are in the bundle. Apple's default is true.
    pub embedded_tokenizer: bool,
    /// The functions of each asset that are called; absent in bundles of others.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub function_map: BTreeMap<String, Vec<String>>,
}

/// The part of a manifest about pictures, as Apple's package reads it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Vision {
    /// Pixels along a side of the square to which a picture is resized.
    pub image_size: usize,
    /// Pixels along a side of a patch.
    pub patch_size: usize,
    /// N: tokens of a picture.
    pub image_token_count: usize,
    /// The token that stands for a picture, N times.
    pub image_token_id: usize,
    /// Subtracted from a level between 0 and 1, for red, green and blue. Apple's
    /// default is CLIP's.
    pub image_mean: [f32; 3],
    /// What the difference is divided by. Apple's default is CLIP's.
    pub image_std: [f32; 3],
    /// What a level between 0 and 1 is multiplied by.
    pub rescale_factor: f32,
    /// How a picture becomes a square: `stretch`.
    pub image_strategy: String,
    /// Whether the host writes a picture's size into the prompt.
    pub include_image_info: bool,
}

impl Vision {
    /// What Apple's package takes where a manifest does not say it.
    const CLIP: ([f32; 3], [f32; 3]) = (
        [0.481_454_66, 0.457_827_5, 0.408_210_73],
        [0.268_629_54, 0.261_302_6, 0.275_777_1],
    );

    /// The section of a bundle of this layout: `None` where the layout has none, or
    /// the model takes no pictures.
    #[must_use]
    pub fn for_layout(
        layout: Layout,
        geometry: Option<&PictureGeometry>,
        image_token: Option<u32>,
    ) -> Option<Self> {
        match layout {
            Layout::Pipelined(_) => None,
            Layout::Vlm => Some(Self::new(geometry?, image_token? as usize)),
        }
    }

    /// The section for pictures of this geometry, whose token is
    /// `image_token_id`.
    fn new(geometry: &PictureGeometry, image_token_id: usize) -> Self {
        Self {
            image_size: geometry.pixels(),
            patch_size: geometry.patches.patch_size,
            image_token_count: geometry.image_tokens,
            image_token_id,
            image_mean: geometry.mean,
            image_std: geometry.std,
            rescale_factor: 1.0,
            image_strategy: "stretch".to_owned(),
            include_image_info: false,
        }
    }

    fn read(keys: &Keys<'_>) -> Result<Self> {
        Ok(Self {
            image_size: keys.number("image_size")?,
            patch_size: keys.number("patch_size")?,
            image_token_count: keys.number("image_token_count")?,
            image_token_id: keys.number("image_token_id")?,
            image_mean: keys.three("image_mean")?.unwrap_or(Self::CLIP.0),
            image_std: keys.three("image_std")?.unwrap_or(Self::CLIP.1),
            rescale_factor: keys.float("rescale_factor")?.unwrap_or(1.0),
            image_strategy: match keys.text_or_empty("image_strategy")? {
                none if none.is_empty() => "stretch".to_owned(),
                strategy => strategy,
            },
            include_image_info: keys.flag("include_image_info")?.unwrap_or(false),
        })
    }
}

/// The part of a manifest about the checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Origin {
    /// What defined the model: `torch`.
    pub model_definition: String,
    /// Its id on the hub, or what stands for it.
    pub hf_model_id: String,
    /// The commit, if it came from the hub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hf_revision: Option<String>,
}

/// The part of a manifest about the weights.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Compression {
    /// The name of the weight recipe.
    pub scheme: String,
}

/// The part of a manifest about the making.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Compilation {
    /// `YYYY-MM-DDTHH:MM:SS+00:00`.
    pub date: String,
    /// Devices that it was compiled for: none.
    pub targets: Vec<String>,
}

/// The values of a new manifest.
#[derive(Clone, Debug)]
pub struct NewManifest<'a> {
    /// The bundle's name.
    pub name: &'a str,
    /// Which assets it has.
    pub layout: Layout,
    /// The model's id.
    pub model: &'a str,
    /// The commit on the hub.
    pub revision: Option<&'a str>,
    /// V.
    pub vocab_size: usize,
    /// The longest context, in tokens.
    pub max_context: usize,
    /// How a host prepares pictures, for a layout in which it says so.
    pub vision: Option<Vision>,
    /// The weight recipe, unless all weights are f16.
    pub scheme: Option<&'a str>,
    /// Seconds since the start of 1970.
    pub created: u64,
    /// Facts for hosts.
    pub user_data: BTreeMap<String, String>,
}

impl Manifest {
    /// The manifest of a bundle.
    ///
    /// # Errors
    /// [`Error::Date`] for a time after the year 9999.
    pub fn new(values: NewManifest<'_>) -> Result<Self> {
        let assets = values.layout.roles().iter();
        let assets = assets.map(|role| (role.key().to_owned(), role.asset(values.name)));
        let functions = values.layout.call_shape().functions();
        let functions = functions.iter().map(|(name, _)| (*name).to_owned());
        Ok(Self {
            metadata_version: VERSION.to_owned(),
            kind: values.layout.kind().to_owned(),
            name: values.name.to_owned(),
            assets: assets.collect(),
            language: Language {
                tokenizer: values.model.to_owned(),
                vocab_size: values.vocab_size,
                max_context_length: values.max_context,
                embedded_tokenizer: true,
                function_map: BTreeMap::from([(
                    AssetRole::Main.key().to_owned(),
                    functions.collect(),
                )]),
            },
            vision: values.vision,
            source: Origin {
                model_definition: "torch".to_owned(),
                hf_model_id: values.model.to_owned(),
                hf_revision: values.revision.map(str::to_owned),
            },
            compression: values.scheme.map(|scheme| Compression {
                scheme: scheme.to_owned(),
            }),
            compilation: Compilation {
                date: crate::iso_date(values.created)?,
                targets: Vec::new(),
            },
            user_data: values.user_data,
        })
    }

    /// The bytes of the file.
    ///
    /// # Errors
    /// None in practice: every value is a string, a number or a list.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        let value = serde_json::to_value(self).map_err(|error| Error::Manifest {
            file: MANIFEST.to_owned(),
            key: "the whole".to_owned(),
            expected: "values that JSON has",
            found: error.to_string(),
        })?;
        Ok(format!("{value:#}\n").into_bytes())
    }

    /// Reads the manifest of a bundle's folder.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be read, or as [`Manifest::parse`].
    pub fn load(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST);
        let bytes = fsutil::read(&path, MAX_BYTES)?;
        Self::parse(&bytes, &path.display().to_string())
    }

    /// Reads a manifest as Apple's decoder does: the keys that it needs are
    /// there and have their types, those that it does not know are ignored.
    /// `file` names it in errors.
    ///
    /// # Errors
    /// [`Error::Manifest`], which names the key, what was expected and what was
    /// found.
    pub fn parse(json: &[u8], file: &str) -> Result<Self> {
        let root: Value = serde_json::from_slice(json).map_err(|error| Error::Manifest {
            file: file.to_owned(),
            key: "the file".to_owned(),
            expected: "JSON",
            found: error.to_string(),
        })?;
        let root = Keys::root(file, &root)?;
        let version = root.text("metadata_version")?;
        if version != VERSION {
            return Err(root.wrong("metadata_version", "\"0.2\""));
        }
        let kind = root.text("kind")?;
        if ![LLM, VLM].contains(&&*kind) {
            return Err(root.wrong("kind", "\"llm\" or \"vlm\""));
        }
        let assets = root.section("assets")?;
        let folders = assets.map.iter().map(|(role, value)| {
            // What somebody else wrote may not lead out of the folder.
            let name = value
                .as_str()
                .filter(|name| fsutil::check_name(name).is_ok());
            let name =
                name.ok_or_else(|| assets.wrong(role, "the name of an asset in this folder"))?;
            Ok((role.clone(), name.to_owned()))
        });
        let folders = folders.collect::<Result<BTreeMap<_, _>>>()?;
        let needed: &[AssetRole] = match &*kind {
            VLM => Layout::Vlm.roles(),
            _ => &[AssetRole::Main],
        };
        let missing = needed.iter().find(|role| !folders.contains_key(role.key()));
        if let Some(missing) = missing {
            return Err(assets.wrong(missing.key(), "the name of an asset in this folder"));
        }
        let language = root.section("language")?;
        // Bundles of the kind llm may have a section of that name for a use of their own.
        let vision = match &*kind {
            VLM => Some(Vision::read(&root.section("vision")?)?),
            _ => None,
        };
        let source = root.optional("source")?;
        let compression = root.optional("compression")?;
        let compilation = root.optional("compilation")?;
        Ok(Self {
            metadata_version: version,
            kind,
            name: root.text("name")?,
            assets: folders,
            language: Language {
                tokenizer: language.text("tokenizer")?,
                vocab_size: language.number("vocab_size")?,
                max_context_length: language.number("max_context_length")?,
                embedded_tokenizer: language.flag("embedded_tokenizer")?.unwrap_or(true),
                function_map: language.lists("function_map")?,
            },
            vision,
            source: match source {
                None => Origin::default(),
                Some(source) => Origin {
                    model_definition: source.text_or_empty("model_definition")?,
                    hf_model_id: source.text_or_empty("hf_model_id")?,
                    hf_revision: match source.text_or_empty("hf_revision")? {
                        none if none.is_empty() => None,
                        revision => Some(revision),
                    },
                },
            },
            compression: match compression {
                None => None,
                Some(compression) => Some(Compression {
                    scheme: compression.text("scheme")?,
                }),
            },
            compilation: match compilation {
                None => Compilation::default(),
                Some(compilation) => Compilation {
                    date: compilation.text_or_empty("date")?,
                    targets: compilation.list("targets")?,
                },
            },
            user_data: root.texts("user_data")?,
        })
    }

    /// The folder of the asset that decodes, as a name in the bundle.
    #[must_use]
    pub fn main_asset(&self) -> &str {
        self.asset(AssetRole::Main).unwrap_or_default()
    }

    /// The folder of the asset that plays this part, as a name in the bundle.
    #[must_use]
    pub fn asset(&self, role: AssetRole) -> Option<&str> {
        self.assets.get(role.key()).map(String::as_str)
    }

    /// How pictures are cut for it.
    ///
    /// # Errors
    /// [`Error::Geometry`] if `user_data` does not state it.
    pub fn geometry(&self) -> Result<PictureGeometry> {
        Ok(PictureGeometry::from_user_data(&self.user_data)?)
    }
}

/// An object of the file, read key by key so that every error names the key.
struct Keys<'a> {
    file: &'a str,
    /// What to put before a key: empty, or `language.` and the like.
    prefix: String,
    map: &'a Map<String, Value>,
}

impl<'a> Keys<'a> {
    fn root(file: &'a str, value: &'a Value) -> Result<Self> {
        match value {
            Value::Object(map) => Ok(Self {
                file,
                prefix: String::new(),
                map,
            }),
            _ => Err(Error::Manifest {
                file: file.to_owned(),
                key: "the file".to_owned(),
                expected: "a JSON object",
                found: "found something else".to_owned(),
            }),
        }
    }

    fn wrong(&self, key: &str, expected: &'static str) -> Error {
        let found = match self.map.get(key) {
            None => "and it is absent".to_owned(),
            Some(value) => format!("found {:.60}", fsutil::one_line(&value.to_string())),
        };
        Error::Manifest {
            file: self.file.to_owned(),
            key: fsutil::one_line(&format!("{}{key}", self.prefix)),
            expected,
            found,
        }
    }

    fn text(&self, key: &str) -> Result<String> {
        let text = self.map.get(key).and_then(Value::as_str);
        text.map(str::to_owned)
            .ok_or_else(|| self.wrong(key, "a text"))
    }

    /// A text that may be absent or null.
    fn text_or_empty(&self, key: &str) -> Result<String> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(String::new()),
            Some(_) => self.text(key),
        }
    }

    /// True or false; may be absent.
    fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.map.get(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.wrong(key, "true or false")),
        }
    }

    /// A number; may be absent.
    fn float(&self, key: &str) -> Result<Option<f32>> {
        let Some(value) = self.map.get(key) else {
            return Ok(None);
        };
        let value = value.as_f64().ok_or_else(|| self.wrong(key, "a number"))?;
        Ok(Some(value as f32))
    }

    /// A list of three numbers; may be absent.
    fn three(&self, key: &str) -> Result<Option<[f32; 3]>> {
        let Some(value) = self.map.get(key) else {
            return Ok(None);
        };
        let list = value.as_array().and_then(|list| {
            let numbers = list.iter().map(|number| number.as_f64().map(|n| n as f32));
            numbers.collect::<Option<Vec<f32>>>()
        });
        let three = list.and_then(|list| <[f32; 3]>::try_from(list).ok());
        three
            .map(Some)
            .ok_or_else(|| self.wrong(key, "a list of three numbers"))
    }

    fn number(&self, key: &str) -> Result<usize> {
        let value = self.map.get(key).and_then(Value::as_u64);
        let value = value.filter(|value| *value > 0);
        let value = value.and_then(|value| usize::try_from(value).ok());
        value.ok_or_else(|| self.wrong(key, "a whole number above 0"))
    }

    fn section(&self, key: &str) -> Result<Keys<'a>> {
        match self.map.get(key) {
            Some(Value::Object(map)) => Ok(Keys {
                file: self.file,
                prefix: format!("{}{key}.", self.prefix),
                map,
            }),
            _ => Err(self.wrong(key, "an object")),
        }
    }

    /// An object that may be absent or null.
    fn optional(&self, key: &str) -> Result<Option<Keys<'a>>> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(_) => self.section(key).map(Some),
        }
    }

    fn list(&self, key: &str) -> Result<Vec<String>> {
        let Some(value) = self.map.get(key) else {
            return Ok(Vec::new());
        };
        let list = value.as_array().and_then(|list| {
            let texts = list.iter().map(|text| text.as_str().map(str::to_owned));
            texts.collect::<Option<Vec<_>>>()
        });
        list.ok_or_else(|| self.wrong(key, "a list of texts"))
    }

    fn lists(&self, key: &str) -> Result<BTreeMap<String, Vec<String>>> {
        let Some(keys) = self.optional(key)? else {
            return Ok(BTreeMap::new());
        };
        let lists = keys
            .map
            .keys()
            .map(|name| Ok((name.clone(), keys.list(name)?)));
        lists.collect()
    }

    fn texts(&self, key: &str) -> Result<BTreeMap<String, String>> {
        let Some(keys) = self.optional(key)? else {
            return Ok(BTreeMap::new());
        };
        let texts = keys
            .map
            .keys()
            .map(|name| Ok((name.clone(), keys.text(name)?)));
        texts.collect()
    }
}
