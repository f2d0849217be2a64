//! Names of bundles.
//!
//! A pipelined bundle is called `<model>_decode_<recipe>`, with `_s1` or `_pfN`
//! behind it unless a call takes any number of tokens. The vision encoder of all
//! of a model's is in `<model>_vision`. A bundle for Apple's package is called
//! `<model>_vlm_<recipe>`.

use std::{fmt, str::FromStr};

use crate::{AssetRole, CallShape, Layout};

/// Between the model's name and the recipe's.
const DECODE: &str = "_decode_";
/// The same in a bundle for Apple's package.
const VLM: &str = "_vlm_";
/// Behind the model's name.
const VISION: &str = "_vision";
/// Behind the name of every asset.
const ASSET: &str = ".aimodel";

/// The longest name of a model, in bytes; what is appended to it fits a file
/// system's 255.
pub const MAX_MODEL_NAME: usize = 128;

/// The last part of a model id, lower case, with `_` for what is neither a
/// Latin letter nor a digit.
///
/// ```
/// assert_eq!(bundle::short_name("Org/My-Model-2B.v1"), "my_model_2b_v1");
/// ```
#[must_use]
pub fn short_name(model: &str) -> String {
    let last = model
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or_default();
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '_'
        }
    };
    last.chars().map(plain).collect()
}

/// The name of an asset in the bundle of this name.
#[must_use]
pub fn asset_name(bundle: &str) -> String {
    format!("{bundle}{ASSET}")
}

impl AssetRole {
    /// The name of the asset's folder in the bundle of this name.
    #[must_use]
    pub fn asset(self, bundle: &str) -> String {
        match self {
            Self::Main => asset_name(bundle),
            other => asset_name(other.key()),
        }
    }
}

/// The name of a bundle with a decoder.
///
/// ```
/// use bundle::{BundleName, CallShape, Layout};
///
/// let name: BundleName = "nano_decode_int8hu_s1".parse()?;
/// assert_eq!((name.model.as_str(), name.recipe.as_str()), ("nano", "int8hu"));
/// assert_eq!(name.layout, Layout::Pipelined(CallShape::One));
/// assert_eq!(name.to_string(), "nano_decode_int8hu_s1");
/// assert_eq!(name.vision().to_string(), "nano_vision");
/// # Ok::<(), bundle::NotABundleName>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleName {
    /// What stands for the model: its [`short_name`], or a name that was chosen.
    pub model: String,
    /// How weights are stored. Usually a row of `quantize::RECIPES`; others may
    /// have made the bundle.
    pub recipe: String,
    /// Which assets it has, and how many tokens a call takes.
    pub layout: Layout,
}

impl BundleName {
    /// The name of the vision encoder's folder beside a pipelined bundle.
    #[must_use]
    pub fn vision(&self) -> VisionName {
        VisionName {
            model: self.model.clone(),
        }
    }
}

impl fmt::Display for BundleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (model, recipe) = (&self.model, &self.recipe);
        match self.layout {
            Layout::Pipelined(shape) => write!(f, "{model}{DECODE}{recipe}{}", shape.suffix()),
            Layout::Vlm => write!(f, "{model}{VLM}{recipe}"),
        }
    }
}

impl FromStr for BundleName {
    type Err = NotABundleName;

    fn from_str(name: &str) -> Result<Self, NotABundleName> {
        let found = pipelined(name).or_else(|| vlm(name));
        let found = found.filter(|found| !found.model.is_empty() && !found.recipe.is_empty());
        found
            .filter(|found| found.to_string() == name)
            .ok_or_else(|| NotABundleName(name.to_owned()))
    }
}

fn pipelined(name: &str) -> Option<BundleName> {
    let (model, rest) = name.rsplit_once(DECODE)?;
    let (recipe, shape) = match rest.split_once('_') {
        Some((recipe, shape)) => (recipe, shape.parse().ok()?),
        None => (rest, CallShape::Dynamic),
    };
    Some(BundleName {
        model: model.to_owned(),
        recipe: recipe.to_owned(),
        layout: Layout::Pipelined(shape),
    })
}

fn vlm(name: &str) -> Option<BundleName> {
    let (model, recipe) = name.rsplit_once(VLM)?;
    (!recipe.contains('_')).then(|| BundleName {
        model: model.to_owned(),
        recipe: recipe.to_owned(),
        layout: Layout::Vlm,
    })
}

/// The name of a vision encoder's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VisionName {
    /// As [`BundleName::model`].
    pub model: String,
}

impl fmt::Display for VisionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{VISION}", self.model)
    }
}

impl FromStr for VisionName {
    type Err = NotABundleName;

    fn from_str(name: &str) -> Result<Self, NotABundleName> {
        match name.strip_suffix(VISION) {
            Some(model) if !model.is_empty() => Ok(Self {
                model: model.to_owned(),
            }),
            _ => Err(NotABundleName(name.to_owned())),
        }
    }
}

/// A name that no export gives.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not `<model>_decode_<recipe>`, with `_s1` or `_pfN` behind it, `<model>_vlm_<recipe>` \
     or `<model>_vision`"
)]
pub struct NotABundleName(pub String);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_name_is_read_as_it_was_written(
            model in "[a-z0-9_.-]{1,40}",
            recipe in "[a-z0-9]{1,12}",
            layout in prop_oneof![
                Just(Layout::Pipelined(CallShape::One)),
                Just(Layout::Pipelined(CallShape::Dynamic)),
                (2..=4096u64).prop_map(|rows| Layout::Pipelined(CallShape::Prefill(rows))),
                Just(Layout::Vlm),
            ],
        ) {
            let name = BundleName { model, recipe, layout };
            prop_assert_eq!(name.to_string().parse::<BundleName>(), Ok(name.clone()));
            let vision = name.vision();
            prop_assert_eq!(vision.to_string().parse::<VisionName>(), Ok(vision));
        }

        #[test]
        fn any_text_is_refused_or_read_as_it_is(text in "\\PC{0,40}") {
            if let Ok(name) = text.parse::<BundleName>() {
                prop_assert_eq!(name.to_string(), text);
            }
        }
    }

    #[test]
    fn other_names_are_refused() {
        for name in [
            "",
            "nano",
            "_decode_int8hu",
            "nano_decode_",
            "nano_decode_int8hu_s2",
            "nano_decode_int8hu_dynamic",
            "nano_decode_int8hu_",
            "nano_decode_int8hu_pf1",
            "nano_vlm_",
            "_vlm_int8hu",
            "nano_vlm_int8hu_s1",
        ] {
            assert!(name.parse::<BundleName>().is_err(), "{name}");
        }
        assert!("_vision".parse::<VisionName>().is_err());
        assert_eq!(short_name("a/Ünder"), "_nder");
    }
}
