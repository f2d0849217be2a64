//! `LICENSE` and `NOTICE`.

use std::{fmt, path::Path};

use ::bundle::TOKENIZER;
use quantize::BLOCK;

use crate::names::{APPLE, LICENSE};

/// No licence is longer.
pub(crate) const MAX_BYTES: u64 = 1 << 18;

/// The text of a licence, where it is the same for everybody who uses it.
pub fn text(spdx: &str) -> Option<&'static str> {
    match spdx {
        "Apache-2.0" => Some(include_str!("../licenses/apache-2.0.txt")),
        _ => None,
    }
}

/// Whether a file may be one with a licence. It is published, and a recipe may
/// be somebody else's: it must not name just any file of whoever uses it.
pub(crate) fn check_file(path: &Path) -> Result<(), String> {
    const NAMES: [&str; 3] = ["LICENSE", "LICENCE", "COPYING"];
    let shown = path.display();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if !NAMES
        .iter()
        .any(|start| name.to_ascii_uppercase().starts_with(start))
    {
        return Err(format!(
            "expected a file called LICENSE, LICENCE or COPYING, with whatever follows, found {shown}"
        ));
    }
    match path.symlink_metadata() {
        Ok(about) if about.is_symlink() => Err(format!("{shown} is a link; name the file")),
        // What is not there is said when it is read.
        _ => Ok(()),
    }
}

/// What `NOTICE` is made of.
pub(crate) struct Notice<'a> {
    /// What people call the model.
    pub title: &'a str,
    /// The checkpoint: an id on the hub, or `nano`.
    pub model: &'a str,
    /// Whether it is on the hub.
    pub on_hub: bool,
    /// The commit there, where that is known.
    pub revision: Option<&'a str>,
    /// The licence of the weights.
    pub license: &'a str,
    /// What made the bundles.
    pub producer: &'a str,
    /// Whether bundles for Apple's package are there, whose chat template is
    /// another.
    pub other_template: bool,
}

impl fmt::Display for Notice<'_> {
    /// What a release says of the weights' origin. Apache-2.0, section 4, asks
    /// for a statement of changes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Notice {
            title,
            model,
            license,
            producer,
            other_template,
            ..
        } = self;
        let tokenizer = if *other_template {
            format!(
                "are\nthe checkpoint's own, unchanged; but in {APPLE}/ the chat template has a \
                 replacement\naround it, in each file that holds it."
            )
        } else {
            "are\nthe checkpoint's own, unchanged.".to_owned()
        };
        let from = match (self.on_hub, self.revision) {
            (true, Some(revision)) => {
                format!("{model} (https://huggingface.co/{model}, commit {revision})")
            }
            (true, None) => format!("{model} (https://huggingface.co/{model})"),
            (false, _) => format!("{model}, which comes with the program that made these files"),
        };
        write!(
            f,
            "{title} for Core AI\n\
             \n\
             The weights are those of\n\
             {from}.\n\
             They belong to its authors, and are under {license}; see {LICENSE}.\n\
             \n\
             Changed: the model was converted to Apple's Core AI format (.aimodel) by\n\
             {producer}. Weights were rounded to f16, and those of the int8 decoders\n\
             to 8 bits in blocks of {BLOCK}; nothing was trained. The files in {TOKENIZER}/ {tokenizer}\n"
        )
    }
}
