//! How pictures become tokens, as a bundle states it.

use std::{collections::BTreeMap, fmt::Display, str::FromStr};

use picture::PatchSpec;

use crate::Layout;

/// How a picture is cut, and what of it the decoder takes: what an app needs to
/// know and could otherwise only guess from shapes.
///
/// A bundle's `metadata.json` has it as strings in `user_data`, which Apple's
/// decoder reads and ignores. Lists are separated by commas.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PictureGeometry {
    /// Merged tokens along a side of the square to which a picture is resized.
    pub grid: usize,
    /// N: tokens of a picture, `grid`².
    pub image_tokens: usize,
    /// h: width of the decoder's residual stream.
    pub hidden_size: usize,
    /// Decoder layers after which further embeddings of a picture are added.
    pub deepstack_layers: Vec<usize>,
    /// V: the id of a picture's first token, where slot k has V + k; `None` in a
    /// layout whose pictures are no ids.
    pub first_image_id: Option<usize>,
    /// How patches are cut.
    pub patches: PatchSpec,
    /// Subtracted from a level between 0 and 1, for red, green and blue.
    pub mean: [f32; 3],
    /// What the difference is divided by.
    pub std: [f32; 3],
    /// How a picture is resized: `bicubic`, antialiased, as Pillow does.
    pub resampling: String,
}

/// Why `user_data` does not state the geometry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("user_data.{key}: expected {expected}, {found}")]
pub struct GeometryError {
    /// The key.
    pub key: &'static str,
    /// What was expected.
    pub expected: &'static str,
    /// What was found.
    pub found: String,
}

impl PictureGeometry {
    /// The geometry of a square of `grid` × `grid` merged tokens, with the levels
    /// from −1 to 1 and the bicubic resampling of the published processors.
    pub fn new(
        grid: usize,
        hidden_size: usize,
        deepstack_layers: Vec<usize>,
        first_image_id: usize,
        patches: PatchSpec,
    ) -> Self {
        Self {
            grid,
            image_tokens: grid * grid,
            hidden_size,
            deepstack_layers,
            first_image_id: Some(first_image_id),
            patches,
            mean: [0.5; 3],
            std: [0.5; 3],
            resampling: "bicubic".to_owned(),
        }
    }

    /// The map that `metadata.json` has.
    #[must_use]
    pub fn to_user_data(&self) -> BTreeMap<String, String> {
        let pairs = [
            (GRID, self.grid.to_string()),
            (IMAGE_TOKENS, self.image_tokens.to_string()),
            (HIDDEN_SIZE, self.hidden_size.to_string()),
            (DEEPSTACK_LAYERS, list(&self.deepstack_layers)),
            (PATCH_SIZE, self.patches.patch_size.to_string()),
            (MERGE_SIZE, self.patches.merge_size.to_string()),
            (
                TEMPORAL_PATCH_SIZE,
                self.patches.temporal_patch_size.to_string(),
            ),
            (IMAGE_MEAN, list(&self.mean)),
            (IMAGE_STD, list(&self.std)),
            (RESAMPLING, self.resampling.clone()),
        ];
        let first = self.first_image_id;
        let first = first.map(|id| (FIRST_IMAGE_ID, id.to_string()));
        let pairs = pairs.into_iter().chain(first);
        pairs.map(|(key, value)| (key.to_owned(), value)).collect()
    }

    /// The geometry as bundles of this layout state it: ids of a picture's tokens
    /// only where there are such ids.
    #[must_use]
    pub fn for_layout(mut self, layout: Layout) -> Self {
        if layout == Layout::Vlm {
            self.first_image_id = None;
        }
        self
    }

    /// Pixels along a side of the square to which a picture is resized.
    #[must_use]
    pub fn pixels(&self) -> usize {
        self.patches.side(self.grid)
    }

    /// Whether this map states a geometry at all, be it a whole one or not.
    #[must_use]
    pub fn is_in(data: &BTreeMap<String, String>) -> bool {
        KEYS.iter().any(|key| data.contains_key(*key))
    }

    /// Reads the map that `metadata.json` has.
    ///
    /// # Errors
    /// A key that is missing or has an unusable value, a grid that does not make
    /// the number of tokens, or levels and resampling that this crate's
    /// [`picture`] does not make.
    pub fn from_user_data(data: &BTreeMap<String, String>) -> Result<Self, GeometryError> {
        let size = |key, max| number(data, key, max);
        let grid = size(GRID, picture::MAX_GRID)?;
        let geometry = Self {
            grid,
            image_tokens: size(IMAGE_TOKENS, picture::MAX_GRID * picture::MAX_GRID)?,
            hidden_size: size(HIDDEN_SIZE, 1 << 16)?,
            deepstack_layers: numbers(data, DEEPSTACK_LAYERS, "numbers of layers")?,
            first_image_id: if data.contains_key(FIRST_IMAGE_ID) {
                Some(size(FIRST_IMAGE_ID, 1 << 24)?)
            } else {
                None
            },
            patches: PatchSpec {
                patch_size: size(PATCH_SIZE, 64)?,
                merge_size: size(MERGE_SIZE, 16)?,
                temporal_patch_size: size(TEMPORAL_PATCH_SIZE, 16)?,
            },
            mean: three(data, IMAGE_MEAN)?,
            std: three(data, IMAGE_STD)?,
            resampling: text(data, RESAMPLING, "bicubic")?.to_owned(),
        };
        let wrong = |key, expected, found: String| {
            Err(GeometryError {
                key,
                expected,
                found: format!("found {found}"),
            })
        };
        if let Err(error) = geometry.patches.check(grid) {
            return wrong(
                PATCH_SIZE,
                "what a picture can be cut into",
                error.to_string(),
            );
        }
        if geometry.image_tokens != grid * grid {
            let found = format!("{} at a grid of {grid}", geometry.image_tokens);
            return wrong(IMAGE_TOKENS, "the square of grid", found);
        }
        if geometry.mean != [0.5; 3] {
            return wrong(IMAGE_MEAN, "0.5,0.5,0.5", list(&geometry.mean));
        }
        if geometry.std != [0.5; 3] {
            return wrong(IMAGE_STD, "0.5,0.5,0.5", list(&geometry.std));
        }
        if geometry.resampling != "bicubic" {
            return wrong(RESAMPLING, "bicubic", geometry.resampling);
        }
        Ok(geometry)
    }
}

const GRID: &str = "grid";
const IMAGE_TOKENS: &str = "image_tokens";
const HIDDEN_SIZE: &str = "hidden_size";
const DEEPSTACK_LAYERS: &str = "deepstack_layers";
const FIRST_IMAGE_ID: &str = "first_image_id";
const PATCH_SIZE: &str = "patch_size";
const MERGE_SIZE: &str = "merge_size";
const TEMPORAL_PATCH_SIZE: &str = "temporal_patch_size";
const IMAGE_MEAN: &str = "image_mean";
const IMAGE_STD: &str = "image_std";
const RESAMPLING: &str = "resampling";

const KEYS: [&str; 11] = [
    GRID,
    IMAGE_TOKENS,
    HIDDEN_SIZE,
    DEEPSTACK_LAYERS,
    FIRST_IMAGE_ID,
    PATCH_SIZE,
    MERGE_SIZE,
    TEMPORAL_PATCH_SIZE,
    IMAGE_MEAN,
    IMAGE_STD,
    RESAMPLING,
];

fn list<T: Display>(values: &[T]) -> String {
    let values: Vec<String> = values.iter().map(T::to_string).collect();
    values.join(",")
}

fn text<'d>(
    data: &'d BTreeMap<String, String>,
    key: &'static str,
    expected: &'static str,
) -> Result<&'d str, GeometryError> {
    let found = data.get(key).map(String::as_str);
    found.ok_or_else(|| GeometryError {
        key,
        expected,
        found: "and it is absent".to_owned(),
    })
}

fn number(
    data: &BTreeMap<String, String>,
    key: &'static str,
    max: usize,
) -> Result<usize, GeometryError> {
    let expected = "a whole number above 0";
    let found = text(data, key, expected)?;
    let value = found.parse().ok().filter(|value| (1..=max).contains(value));
    value.ok_or_else(|| GeometryError {
        key,
        expected,
        found: format!("found {found:?}"),
    })
}

fn numbers<T: FromStr>(
    data: &BTreeMap<String, String>,
    key: &'static str,
    expected: &'static str,
) -> Result<Vec<T>, GeometryError> {
    let found = text(data, key, expected)?;
    let parts = found.split(',').filter(|_| !found.is_empty());
    let values: Result<Vec<T>, _> = parts.map(str::parse).collect();
    values.map_err(|_| GeometryError {
        key,
        expected,
        found: format!("found {found:?}"),
    })
}

fn three(data: &BTreeMap<String, String>, key: &'static str) -> Result<[f32; 3], GeometryError> {
    let expected = "three numbers";
    let values: Vec<f32> = numbers(data, key, expected)?;
    values.try_into().map_err(|_| GeometryError {
        key,
        expected,
        found: format!("found {:?}", data.get(key)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry() -> PictureGeometry {
        let patches = PatchSpec {
            patch_size: 16,
            merge_size: 2,
            temporal_patch_size: 8,
        };
        PictureGeometry::new(14, 2048, vec![0, 1, 2], 151_936, patches)
    }

    #[test]
    fn what_is_written_is_read() {
        let written = geometry().to_user_data();
        assert_eq!(written["temporal_patch_size"], "8");
        assert_eq!(written["deepstack_layers"], "0,1,2");
        assert_eq!(written["image_mean"], "0.5,0.5,0.5");
        assert_eq!(PictureGeometry::from_user_data(&written), Ok(geometry()));
        let none = PictureGeometry {
            deepstack_layers: Vec::new(),
            ..geometry().for_layout(Layout::Vlm)
        };
        assert_eq!(none.first_image_id, None);
        assert_eq!(
            PictureGeometry::from_user_data(&none.to_user_data()),
            Ok(none)
        );
    }

    #[test]
    fn each_key_is_needed_and_judged() {
        let good = geometry().to_user_data();
        for (key, value) in &good {
            let alone = BTreeMap::from([(key.clone(), value.clone())]);
            assert!(PictureGeometry::is_in(&alone), "{key}");
        }
        assert!(!PictureGeometry::is_in(&BTreeMap::from([(
            "author".to_owned(),
            "someone".to_owned()
        )])));
        for key in good.keys().filter(|key| *key != FIRST_IMAGE_ID) {
            let mut data = good.clone();
            data.remove(key);
            let error = PictureGeometry::from_user_data(&data).unwrap_err();
            assert_eq!(error.key, key);
            assert!(error.to_string().contains("absent"), "{error}");
        }
        for (key, value) in [
            ("grid", "0"),
            ("grid", "65"),
            ("grid", "x"),
            ("grid", "13"),
            ("image_tokens", "195"),
            ("patch_size", "-1"),
            ("deepstack_layers", "0,,1"),
            ("image_mean", "0.5"),
            ("image_mean", "0.4,0.4,0.4"),
            ("image_std", "NaN,1,1"),
            ("resampling", "nearest"),
            ("temporal_patch_size", "17"),
        ] {
            let mut data = good.clone();
            data.insert(key.to_owned(), value.to_owned());
            let error = PictureGeometry::from_user_data(&data).unwrap_err();
            assert!(
                error.to_string().contains("expected"),
                "{key} {value}: {error}"
            );
        }
    }
}
