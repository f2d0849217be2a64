//! The YAML at the top of a model card, and what the hub accepts there.
//!
//! The lists and rules are the hub's documentation of model cards and licences,
//! and what it answers when a card is pushed.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The task that all these models do.
pub(crate) const TASK: &str = "image-text-to-text";
/// The framework that runs them.
pub(crate) const LIBRARY: &str = "coreai";
/// What every release is tagged with.
pub(crate) const TAGS: [&str; 6] = [
    "coreai",
    "aimodel",
    "apple",
    "on-device",
    "multimodal",
    "qwen3_vl",
];

/// Licences that the hub knows by an id.
const LICENSES: &[&str] = &[
    "afl-3.0",
    "agpl-3.0",
    "apache-2.0",
    "apple-amlr",
    "apple-ascl",
    "artistic-2.0",
    "bigcode-openrail-m",
    "bigscience-bloom-rail-1.0",
    "bigscience-openrail-m",
    "bsd",
    "bsd-2-clause",
    "bsd-3-clause",
    "bsd-3-clause-clear",
    "bsl-1.0",
    "c-uda",
    "cc",
    "cc-by-2.0",
    "cc-by-2.5",
    "cc-by-3.0",
    "cc-by-4.0",
    "cc-by-nc-2.0",
    "cc-by-nc-3.0",
    "cc-by-nc-4.0",
    "cc-by-nc-nd-3.0",
    "cc-by-nc-nd-4.0",
    "cc-by-nc-sa-2.0",
    "cc-by-nc-sa-3.0",
    "cc-by-nc-sa-4.0",
    "cc-by-nd-4.0",
    "cc-by-sa-3.0",
    "cc-by-sa-4.0",
    "cc0-1.0",
    "cdla-permissive-1.0",
    "cdla-permissive-2.0",
    "cdla-sharing-1.0",
    "creativeml-openrail-m",
    "deepfloyd-if-license",
    "ecl-2.0",
    "epl-1.0",
    "epl-2.0",
    "etalab-2.0",
    "eupl-1.1",
    "eupl-1.2",
    "gemma",
    "gfdl",
    "gpl",
    "gpl-2.0",
    "gpl-3.0",
    "isc",
    "lgpl",
    "lgpl-2.1",
    "lgpl-3.0",
    "lgpl-lr",
    "llama2",
    "llama3",
    "llama3.1",
    "llama3.2",
    "llama3.3",
    "llama4",
    "lppl-1.3c",
    "mit",
    "mpl-2.0",
    "ms-pl",
    "ncsa",
    "odbl",
    "odc-by",
    "ofl-1.1",
    "openrail",
    "openrail++",
    "osl-3.0",
    "other",
    "pddl",
    "postgresql",
    "unknown",
    "unlicense",
    "wtfpl",
    "zlib",
];

/// Tasks that the hub knows for what takes pictures or writes text.
const TASKS: &[&str] = &[
    "any-to-any",
    "document-question-answering",
    "feature-extraction",
    "image-classification",
    "image-feature-extraction",
    "image-text-to-text",
    "image-to-text",
    "object-detection",
    "question-answering",
    "text-generation",
    "video-text-to-text",
    "visual-document-retrieval",
    "visual-question-answering",
    "zero-shot-image-classification",
];

/// How a model came from its base.
const RELATIONS: [&str; 4] = ["adapter", "finetune", "merge", "quantized"];

/// What the hub reads of a card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrontMatter {
    /// An id of the hub's list.
    pub license: String,
    /// What `other` is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license_name: Option<String>,
    /// Where its text is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license_link: Option<String>,
    /// The model on the hub that this one was made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_model: Option<String>,
    /// How.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_model_relation: Option<String>,
    /// What it does.
    pub pipeline_tag: String,
    /// What runs it.
    pub library_name: String,
    /// ISO 639 codes.
    pub language: Vec<String>,
    /// Words to find it by.
    pub tags: Vec<String>,
}

impl FrontMatter {
    /// As YAML.
    ///
    /// # Errors
    /// Text that YAML cannot hold.
    pub fn to_yaml(&self) -> Result<String> {
        serde_yaml_ng::to_string(self).map_err(|error| Error::Card(error.to_string()))
    }

    /// Takes it from the top of a card.
    ///
    /// # Errors
    /// There is none, or it is not YAML or has keys that nobody needs.
    pub fn of_card(card: &str) -> Result<FrontMatter, String> {
        let rest = card.strip_prefix("---\n");
        let rest = rest.ok_or("expected front matter: the line `---` at the top")?;
        let end = rest.find("\n---\n");
        let end = end.ok_or("expected the line `---` behind the front matter")?;
        let yaml = rest.get(..end).unwrap_or_default();
        serde_yaml_ng::from_str(yaml).map_err(|error| format!("front matter: {error}"))
    }

    /// Says what the hub would not accept.
    ///
    /// # Errors
    /// Everything of that kind.
    pub fn check(&self) -> Result<(), Vec<String>> {
        let mut wrong = Vec::new();
        if !LICENSES.contains(&self.license.as_str()) {
            wrong.push(format!(
                "license: {:?} is not one of the hub's; say `other`, with a name",
                self.license
            ));
        }
        if self.license == "other" {
            let slug = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._".contains(c);
            let name = self.license_name.as_deref().unwrap_or_default();
            if name.is_empty() || !name.chars().all(slug) {
                wrong.push(format!(
                    "license_name: expected an id such as my-license-1.0, found {name:?}"
                ));
            }
            if self.license_link.as_deref().is_none_or(str::is_empty) {
                wrong.push("license_link: `other` needs a link to the text".to_owned());
            }
        }
        match (&self.base_model, &self.base_model_relation) {
            (Some(id), relation) => {
                if let Err(why) = model_id(id) {
                    wrong.push(format!("base_model: {why}"));
                }
                let relation = relation.as_deref().unwrap_or_default();
                if !RELATIONS.contains(&relation) {
                    wrong.push(format!(
                        "base_model_relation: expected one of {}, found {relation:?}",
                        RELATIONS.join(", ")
                    ));
                }
            }
            (None, Some(_)) => {
                wrong.push("base_model_relation: there is no base_model".to_owned());
            }
            (None, None) => {}
        }
        if !TASKS.contains(&self.pipeline_tag.as_str()) {
            wrong.push(format!(
                "pipeline_tag: the hub has no task {:?}",
                self.pipeline_tag
            ));
        }
        let word = |c: char| c.is_ascii_alphanumeric() || "-_.:+".contains(c);
        let plain = |text: &str| !text.is_empty() && text.len() <= 64 && text.chars().all(word);
        if !plain(&self.library_name) {
            wrong.push(format!(
                "library_name: {:?} is not a word",
                self.library_name
            ));
        }
        if self.language.is_empty() {
            wrong.push("language: expected at least one".to_owned());
        }
        for language in &self.language {
            let code =
                matches!(language.len(), 2 | 3) && language.chars().all(|c| c.is_ascii_lowercase());
            if !code && language != "multilingual" && language != "code" {
                wrong.push(format!(
                    "language: {language:?} is not an ISO 639 code: two or three small letters"
                ));
            }
        }
        for (list, what) in [(&self.tags, "tags"), (&self.language, "language")] {
            for (index, item) in list.iter().enumerate() {
                if !plain(item) {
                    wrong.push(format!("{what}: {item:?} is not a word"));
                }
                if list[..index].contains(item) {
                    wrong.push(format!("{what}: {item:?} is there twice"));
                }
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}

/// Says why a text is not the id of a model on the hub.
pub(crate) fn model_id(id: &str) -> Result<(), String> {
    let part = |part: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !part.is_empty()
            && part.len() <= 96
            && part.chars().all(plain)
            && !part.starts_with(['-', '.'])
            && !part.ends_with(['-', '.'])
            && !part.contains("--")
            && !part.contains("..")
    };
    let known = id.split_once('/');
    if known.is_some_and(|(organization, name)| part(organization) && part(name)) {
        Ok(())
    } else {
        Err(format!(
            "expected the id of a model on the hub, such as Qwen/Qwen3-VL-2B-Instruct, found {id:?}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::FrontMatter;

    const GOOD: &str = "---\nlicense: apache-2.0\nbase_model: Qwen/Qwen3-VL-2B-Instruct\n\
        base_model_relation: quantized\npipeline_tag: image-text-to-text\nlibrary_name: coreai\n\
        language:\n- en\ntags:\n- coreai\n---\n# A card\n";

    #[test]
    fn the_hubs_rules_hold() {
        let good = FrontMatter::of_card(GOOD).unwrap();
        assert_eq!(good.check(), Ok(()));
        let written = good.to_yaml().unwrap();
        let again = FrontMatter::of_card(&format!("---\n{written}---\n")).unwrap();
        assert_eq!(again, good);
        for (from, to, part) in [
            ("apache-2.0", "Apache-2.0", "license: \"Apache-2.0\""),
            ("apache-2.0", "other", "license_name"),
            ("apache-2.0", "other", "license_link"),
            (
                "Qwen/Qwen3",
                "https://huggingface.co/Qwen/Qwen3",
                "base_model",
            ),
            ("Qwen/", "", "base_model"),
            ("quantized", "converted", "base_model_relation"),
            ("image-text", "picture-text", "pipeline_tag"),
            ("- en", "- english", "ISO 639"),
            ("- en", "- EN", "ISO 639"),
            ("- en", "- en\n- en", "twice"),
            ("- coreai", "- core ai", "tags"),
        ] {
            let card = GOOD.replacen(from, to, 1);
            let wrong = FrontMatter::of_card(&card).unwrap().check().unwrap_err();
            assert!(
                wrong.iter().any(|why| why.contains(part)),
                "{to}: {wrong:?}"
            );
        }
    }

    #[test]
    fn what_is_not_front_matter_is_refused() {
        for (card, part) in [
            ("# A card\n", "at the top"),
            ("---\nlicense: mit\n", "behind"),
            ("---\nlicense: [\n---\n", "front matter"),
            (&GOOD.replace("tags:", "license: mit\ntags:"), "duplicate"),
            (&GOOD.replace("tags:", "labels:"), "labels"),
            (&GOOD.replace("- en", "- 1.5:\n  x"), "front matter"),
        ] {
            let error = FrontMatter::of_card(card).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
