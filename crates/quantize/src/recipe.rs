//! How the weights of a model are stored: the table of named recipes.
//!
//! Everything that lists recipes (help, model cards, tests, documentation)
//! iterates [`RECIPES`], so that a new way to store weights is a row here and
//! the kernels that it needs.
//!
//! ```
//! use quantize::{RECIPES, Recipe, Storage};
//!
//! for recipe in RECIPES {
//!     println!("{recipe}: {}", recipe.description);
//! }
//! let recipe: &Recipe = "int8lin".parse()?;
//! assert!(matches!(recipe.body, Storage::Block(format) if format.bits == 8));
//! assert_eq!(recipe.head, Storage::F16);
//! # Ok::<(), quantize::Error>(())
//! ```

use std::{fmt, str::FromStr};

use crate::{BlockFormat, Error, Scheme};

/// How one matrix is stored.
///
/// Matches on this are exhaustive on purpose: a new kind of storage makes the
/// compiler point at every place that has to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Storage {
    /// As f16, rounded to nearest, ties to even.
    F16,
    /// As integers with an f16 scale per block along the input axis.
    Block(BlockFormat),
}

impl fmt::Display for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::F16 => f.write_str("f16"),
            Self::Block(format) => format.fmt(f),
        }
    }
}

/// A named choice of [`Storage`] for each role that a matrix has in a decoder.
#[derive(Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Recipe {
    /// The name, as the command line, bundle names and metadata spell it.
    pub name: &'static str,
    /// What is stored how, as one phrase without a full stop.
    pub description: &'static str,
    /// The matrices of the decoder layers.
    pub body: Storage,
    /// The head, which turns hidden states into logits. If it is f16 and the
    /// checkpoint ties it to the embedding table, the table serves as the head.
    pub head: Storage,
    /// The embedding table.
    pub embedding: Storage,
}

const BODY: Storage = Storage::Block(BlockFormat::int8(Scheme::SymmetricWithClipping));
const ABSMAX: Storage = Storage::Block(BlockFormat::int8(Scheme::Symmetric));

/// All recipes.
pub const RECIPES: &[Recipe] = &[
    Recipe {
        name: "fp16",
        description: "all weights f16",
        body: Storage::F16,
        head: Storage::F16,
        embedding: Storage::F16,
    },
    Recipe {
        name: "int8lin",
        description: "layers int8 in blocks of 32, head f16 (the embedding table where the \
                      checkpoint ties them)",
        body: BODY,
        head: Storage::F16,
        embedding: Storage::F16,
    },
    Recipe {
        name: "int8hu",
        description: "layers int8 in blocks of 32, a head of its own, int8 by absmax",
        body: BODY,
        head: ABSMAX,
        embedding: Storage::F16,
    },
];

impl Recipe {
    /// All weights f16: the recipe in which a constant is the weight itself.
    pub const F16: &'static Self = &RECIPES[0];

    /// The recipe of that name.
    ///
    /// # Errors
    /// [`Error::UnknownRecipe`], which lists the names that there are.
    pub fn named(name: &str) -> Result<&'static Self, Error> {
        let found = RECIPES.iter().find(|recipe| recipe.name == name);
        found.ok_or_else(|| Error::UnknownRecipe {
            name: name.to_owned(),
            expected: names(),
        })
    }

    /// Whether every matrix is stored as f16.
    #[must_use]
    pub fn is_f16(&self) -> bool {
        [self.body, self.head, self.embedding] == [Storage::F16; 3]
    }
}

impl fmt::Display for Recipe {
    /// The name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name)
    }
}

impl FromStr for &'static Recipe {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Recipe::named(name)
    }
}

/// The names of all recipes, as a list in a sentence.
pub(crate) fn names() -> String {
    let names: Vec<&str> = RECIPES.iter().map(|recipe| recipe.name).collect();
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => names.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_fit_a_file_name() {
        for (index, recipe) in RECIPES.iter().enumerate() {
            assert!(!recipe.name.is_empty() && !recipe.description.is_empty());
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
            assert!(recipe.name.chars().all(plain), "{recipe}");
            assert!(RECIPES[..index].iter().all(|r| r.name != recipe.name));
            assert_eq!(Recipe::named(recipe.name), Ok(recipe));
            assert_eq!(recipe.name.parse::<&Recipe>(), Ok(recipe));
            assert_eq!(recipe.to_string(), recipe.name);
        }
    }

    #[test]
    fn every_recipe_can_be_made() {
        for recipe in RECIPES {
            for storage in [recipe.body, recipe.head, recipe.embedding] {
                if let Storage::Block(format) = storage {
                    assert_eq!(format.check(), Ok(()), "{recipe}");
                }
            }
        }
    }

    #[test]
    fn an_unknown_name_is_refused_with_those_that_there_are() {
        for name in ["", "int8", "INT8HU", "int4", "fp32", "int8hu "] {
            let error = Recipe::named(name).unwrap_err().to_string();
            assert!(error.contains(&format!("`{name}`")), "{error}");
            assert!(error.contains("fp16, int8lin or int8hu"), "{error}");
        }
    }

    #[test]
    fn only_fp16_is_all_f16() {
        let f16: Vec<&str> = RECIPES
            .iter()
            .filter(|recipe| recipe.is_f16())
            .map(|recipe| recipe.name)
            .collect();
        assert_eq!(f16, ["fp16"]);
        assert_eq!(Recipe::F16.name, "fp16");
    }
}
