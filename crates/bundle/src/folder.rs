//! Bundles on the disk: opening one, and finding those of a folder.

use std::path::{Path, PathBuf};

use crate::{BundleName, Error, Layout, MANIFEST, Manifest, Result, asset_name, short_name};

/// The folder of the tokenizer in a bundle.
pub const TOKENIZER: &str = "tokenizer";

/// A decoder's bundle in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// The folder.
    pub path: PathBuf,
    /// The folder's name.
    pub name: String,
    /// What the name says, if it is one that an export gives.
    pub parsed: Option<BundleName>,
}

impl Bundle {
    /// The bundle in this folder. Nothing is read.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.into_owned();
        Self {
            parsed: name.parse().ok(),
            path,
            name,
        }
    }

    /// The name of the model: of one that nobody can read, all of it.
    #[must_use]
    pub fn model(&self) -> &str {
        self.parsed.as_ref().map_or(&self.name, |name| &name.model)
    }

    /// The name of the weight recipe, or nothing.
    #[must_use]
    pub fn recipe(&self) -> &str {
        self.parsed.as_ref().map_or("", |name| &name.recipe)
    }

    /// How many tokens a call takes, as text, or nothing; only pipelined bundles
    /// differ in that.
    #[must_use]
    pub fn shape(&self) -> String {
        match self.layout() {
            Some(Layout::Pipelined(shape)) => shape.to_string(),
            Some(Layout::Vlm) | None => String::new(),
        }
    }

    /// Which assets it has, as its name says.
    #[must_use]
    pub fn layout(&self) -> Option<Layout> {
        self.parsed.as_ref().map(|name| name.layout)
    }

    /// The name of the layout, or nothing.
    #[must_use]
    pub fn layout_name(&self) -> &'static str {
        self.layout().map_or("", Layout::name)
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// As [`Manifest::load`].
    pub fn manifest(&self) -> Result<Manifest> {
        Manifest::load(&self.path)
    }

    /// The folder of the tokenizer's files.
    #[must_use]
    pub fn tokenizer(&self) -> PathBuf {
        self.path.join(TOKENIZER)
    }

    /// The asset of the vision encoder that belongs to it, in a folder beside.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is none.
    pub fn vision(&self) -> Result<PathBuf> {
        let name = crate::VisionName {
            model: self.model().to_owned(),
        };
        let name = name.to_string();
        let asset = self.path.with_file_name(&name).join(asset_name(&name));
        if asset.is_dir() {
            return Ok(asset);
        }
        Err(Error::Missing {
            path: asset,
            problem: "a picture needs the vision encoder, which is not there; export it too"
                .to_owned(),
        })
    }
}

/// The decoders' bundles in a folder, by name.
///
/// # Errors
/// [`Error::File`] if the folder cannot be read.
pub fn bundles_in(folder: &Path) -> Result<Vec<Bundle>> {
    let wrong = |source| {
        Error::File(fsutil::Error::File {
            path: folder.to_owned(),
            source,
        })
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(wrong)? {
        let path = entry.map_err(wrong)?.path();
        // A hidden folder is an export that was killed, and an asset has a
        // metadata.json of its own.
        let is_bundle = path.join(MANIFEST).is_file() && !path.join(aimodel::PROGRAM).exists();
        let bundle = Bundle::at(path);
        if is_bundle && !bundle.name.starts_with('.') {
            found.push(bundle);
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Which bundle of a folder is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// A model's id, what the bundle's name starts with, or all of the name.
    pub model: Option<String>,
    /// The name of the weight recipe.
    pub recipe: Option<String>,
    /// How many tokens a call takes: `s1`, `dynamic` or `pfN`.
    pub shape: Option<String>,
    /// The name of the layout: `pipelined` or `vlm`.
    pub layout: Option<String>,
}

impl Selector {
    /// Those that could be meant. A bundle whose whole name is given is the only
    /// one.
    #[must_use]
    pub fn select<'b>(&self, bundles: &'b [Bundle]) -> Vec<&'b Bundle> {
        let fit: Vec<&Bundle> = bundles.iter().filter(|bundle| self.fits(bundle)).collect();
        match fit.iter().find(|bundle| self.is_name_of(bundle)) {
            Some(named) => vec![named],
            None => fit,
        }
    }

    fn fits(&self, bundle: &Bundle) -> bool {
        let fits = |asked: &Option<String>, is: &str| asked.as_ref().is_none_or(|a| a == is);
        let model = |model: &String| bundle.model() == model || bundle.model() == short_name(model);
        (self.is_name_of(bundle) || self.model.as_ref().is_none_or(model))
            && fits(&self.recipe, bundle.recipe())
            && fits(&self.shape, &bundle.shape())
            && fits(&self.layout, bundle.layout_name())
    }

    fn is_name_of(&self, bundle: &Bundle) -> bool {
        self.model.as_ref() == Some(&bundle.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with bundles of these names, which hold no more than a manifest.
    fn exports(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let bundle = folder.path().join(name);
            std::fs::create_dir(&bundle).unwrap();
            std::fs::write(bundle.join(MANIFEST), "{}").unwrap();
        }
        // Neither is a decoder's bundle.
        std::fs::create_dir(folder.path().join("nano_vision")).unwrap();
        std::fs::write(folder.path().join("notes.txt"), "").unwrap();
        folder
    }

    #[test]
    fn a_selector_means_one_or_several() {
        let names = [
            "my_tune_decode_fp16_s1",
            "nano_decode_fp16_s1",
            "nano_decode_int8hu",
            "nano_decode_int8hu_pf64",
            "nano_decode_int8hu_s1",
            "renamed",
        ];
        let folder = exports(&names);
        std::fs::create_dir(folder.path().join(".nano_decode_fp16_s1.Xy12")).unwrap();
        std::fs::write(
            folder
                .path()
                .join(".nano_decode_fp16_s1.Xy12")
                .join(MANIFEST),
            "{}",
        )
        .unwrap();
        let all = bundles_in(folder.path()).unwrap();
        assert_eq!(all.iter().map(|b| &b.name).collect::<Vec<_>>(), names);
        let select = |[model, recipe, shape]: [&str; 3]| {
            let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            let selector = Selector {
                model: given(model),
                recipe: given(recipe),
                shape: given(shape),
                layout: None,
            };
            let found = selector.select(&all);
            found.iter().map(|b| b.name.clone()).collect::<Vec<_>>()
        };
        for (flags, index) in [
            (["my/My-Tune", "", ""], 0),
            (["nano", "fp16", ""], 1),
            (["", "int8hu", "dynamic"], 2),
            (["", "", "pf64"], 3),
            (["nano", "int8hu", "s1"], 4),
            (["nano_decode_int8hu", "", ""], 2),
            (["renamed", "", ""], 5),
        ] {
            assert_eq!(select(flags), [names[index]], "{flags:?}");
        }
        assert_eq!(select(["nano", "int8hu", ""]).len(), 3);
        assert!(select(["nano", "int8lin", ""]).is_empty());
    }
}
