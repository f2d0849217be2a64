//! `metadata.json` of a bundle.

use std::{collections::BTreeMap, path::Path};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::{Error, PictureGeometry, Result};

/// The name of the file.
pub const MANIFEST: &str = "metadata.json";
/// The only version that there is.
pub const VERSION: &str = "0.2";
/// The kind of a decoder's bundle.
pub const LLM: &str = "llm";
/// No manifest is larger, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// What a bundle says of itself. The order of the fields is that of the file.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Manifest {
    /// [`VERSION`].
    pub metadata_version: String,
    /// Which pipeline runs it: [`LLM`].
    pub kind: String,
    /// The bundle's name: that of its folder.
    pub name: String,
    /// Folders of assets in the bundle, by the part that they play.
    pub assets: BTreeMap<String, String>,
    /// The language model.
    pub language: Language,
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
    /// The model's id.
    pub model: &'a str,
    /// The commit on the hub.
    pub revision: Option<&'a str>,
    /// V.
    pub vocab_size: usize,
    /// The longest context, in tokens.
    pub max_context: usize,
    /// The functions of the asset `main`.
    pub functions: Vec<&'a str>,
    /// The weight recipe, unless all weights are f16.
    pub scheme: Option<&'a str>,
    /// Seconds since the start of 1970.
    pub created: u64,
    /// Facts for hosts.
    pub user_data: BTreeMap<String, String>,
}

impl Manifest {
    /// The manifest of a decoder's bundle with one asset.
    ///
    /// # Errors
    /// [`Error::Date`] for a time after the year 9999.
    pub fn new(values: NewManifest<'_>) -> Result<Self> {
        let one = |key: &str, value: String| BTreeMap::from([(key.to_owned(), value)]);
        let functions = values.functions.into_iter().map(str::to_owned).collect();
        Ok(Self {
            metadata_version: VERSION.to_owned(),
            kind: LLM.to_owned(),
            name: values.name.to_owned(),
            assets: one("main", crate::asset_name(values.name)),
            language: Language {
                tokenizer: values.model.to_owned(),
                vocab_size: values.vocab_size,
                max_context_length: values.max_context,
                embedded_tokenizer: true,
                function_map: BTreeMap::from([("main".to_owned(), functions)]),
            },
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
        if kind != LLM {
            return Err(root.wrong("kind", "\"llm\""));
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
        if !folders.contains_key("main") {
            return Err(assets.wrong("main", "the name of an asset in this folder"));
        }
        let language = root.section("language")?;
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
                embedded_tokenizer: match language.map.get("embedded_tokenizer") {
                    None => true,
                    Some(Value::Bool(embedded)) => *embedded,
                    Some(_) => return Err(language.wrong("embedded_tokenizer", "true or false")),
                },
                function_map: language.lists("function_map")?,
            },
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
        self.assets.get("main").map_or("", String::as_str)
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
