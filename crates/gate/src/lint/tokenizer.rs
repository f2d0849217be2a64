//! A bundle's tokenizer: what hosts read with swift-transformers.

use std::{fmt, fs, path::Path};

use text::ChatTemplate;

use checkpoint::Source;

use checkpoint::TokenizerFiles;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Value, json};

use super::{
    files::linked,
    metadata::{CONTEXT, Language},
    rule::{APPLE, Findings, Rule, SWIFT, named, without},
};
use crate::{Error, Result};

/// The folder in a bundle.
pub const FOLDER: &str = "tokenizer";

/// The files are there.
pub const FILES: Rule = Rule {
    id: "tokenizer-files",
    what: "a `tokenizer/` without `tokenizer.json` or `tokenizer_config.json`, with one of them \
           malformed, or with a file that is none of a tokenizer's",
    reason: "the metadata promises an embedded tokenizer, and hosts look for it there",
    remedy: "copy the checkpoint's tokenizer files, and nothing else",
    source: "the bundle contract",
};

/// The class is known there.
pub const CLASS: Rule = Rule {
    id: "tokenizer-class",
    what: "a `tokenizer_class` that swift-transformers does not register, or registers with \
           another algorithm than `tokenizer.json` has",
    reason: "loading throws, or falls back to BPE, which splits any other model's text wrongly \
             and says nothing",
    remedy: "name a registered class of the right algorithm, such as Qwen2Tokenizer for BPE",
    source: SWIFT,
};

/// Tokens fit the vocabulary.
pub const IDS: Rule = Rule {
    id: "token-ids",
    what: "a token whose id is not below the logits' width",
    reason: "the decoder takes such an id for a slot of the picture, and can never answer it",
    remedy: "take the tokenizer that belongs to the checkpoint",
    source: "the graph contract",
};

/// The prompt of Apple's adapter is the model's own.
pub const ADAPTER: Rule = Rule {
    id: "adapter-prompt",
    what: "a bundle of kind vlm whose chat template makes another prompt of the picture's token, a \
           newline and a text than of a picture and that text",
    reason: "Apple's adapter writes pictures into the text in that way, and the model was trained \
             with the other",
    remedy: "export it again: the bundle's template replaces the one by the other",
    source: APPLE,
};

/// The chat template works.
pub const TEMPLATE: Rule = Rule {
    id: "chat-template",
    what: "a tokenizer without a chat template, with one that fails, or with one that does not \
           write one `<|image_pad|>` for a picture though the decoder takes pictures",
    reason: "hosts fall back to raw text without a word, and the model never sees who speaks, or \
             the picture",
    remedy: "copy the checkpoint's chat_template.jinja",
    source: SWIFT,
};

/// The end of a turn ends the answer.
pub const END_TOKEN: Rule = Rule {
    id: "end-token",
    what: "an `eos_token` that is missing, unknown to `tokenizer.json`, or not what the chat \
           template writes behind an answer",
    reason: "hosts stop at that token alone, so that answers run on to the limit",
    remedy: "declare the token that ends a turn (`<|im_end|>` for Qwen)",
    source: SWIFT,
};

/// The classes that swift-transformers registers, by algorithm. It drops a
/// `Fast` from a name before it looks.
const CLASSES: [(&str, &[&str]); 3] = [
    (
        "BPE",
        &[
            "CodeGenTokenizer",
            "CodeLlamaTokenizer",
            "CohereTokenizer",
            "FalconTokenizer",
            "GPT2Tokenizer",
            "GemmaTokenizer",
            "LlamaTokenizer",
            "PreTrainedTokenizer",
            "Qwen2Tokenizer",
            "RobertaTokenizer",
            "TokenizersBackend",
            "WhisperTokenizer",
        ],
    ),
    (
        "WordPiece",
        &[
            "BertTokenizer",
            "DistilBertTokenizer",
            "DistilbertTokenizer",
        ],
    ),
    (
        "Unigram",
        &["T5Tokenizer", "XLMRobertaTokenizer", "Xlm-RobertaTokenizer"],
    ),
];

/// What stands for a picture.
const IMAGE: &str = "<|image_pad|>";

/// The rules for a bundle's tokenizer.
pub fn folder(bundle: &Path, language: &Language, findings: &mut Findings) -> Result<()> {
    let dir = bundle.join(FOLDER);
    let place = format!("{}/{FOLDER}", named(bundle));
    linked(&dir, &place, findings);
    let files = match Source::folder(&dir).and_then(|source| TokenizerFiles::load(&source)) {
        Ok(files) => files,
        Err(error) => {
            findings.add(&FILES, &place, without(&dir, &error));
            return Ok(());
        }
    };
    listed(&dir, &place, findings)?;
    let settings = files.settings();
    let tokenizer = files.get("tokenizer.json").unwrap_or_default();
    let tokenizer: Tokenizer = match serde_json::from_slice(tokenizer) {
        Ok(tokenizer) => tokenizer,
        Err(error) => {
            findings.add(&FILES, &place, format!("tokenizer.json: {error}"));
            return Ok(());
        }
    };
    if let Some(problem) = class(&settings, &tokenizer) {
        findings.add(&CLASS, &place, problem);
    }
    let added = tokenizer.added_tokens.iter().map(|token| token.id).max();
    let highest = added.max(tokenizer.model.vocab.0);
    if let (Some(highest), Some(width)) = (highest, language.vocab_size)
        && highest >= width
    {
        let found = format!("the highest id is {highest}, and logits are {width} wide");
        findings.add(&IDS, &place, found);
    }
    let trained = settings["model_max_length"].as_u64();
    if let (Some(trained), Some(context)) = (trained, language.context)
        && context > trained
    {
        let found = format!("it is {context}, and the tokenizer's `model_max_length` {trained}");
        findings.add(&CONTEXT, &place, found);
    }
    chat(&files, &tokenizer, language, &place, findings);
    Ok(())
}

/// Refuses files that are links, or none of a tokenizer's.
fn listed(dir: &Path, place: &str, findings: &mut Findings) -> Result<()> {
    let wrong = |source| Error::File {
        path: dir.to_owned(),
        source,
    };
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(wrong)? {
        let entry = entry.map_err(wrong)?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    for name in names {
        linked(&dir.join(&name), place, findings);
        if !TokenizerFiles::NAMES.contains(&name.as_str()) {
            findings.add(&FILES, place, format!("there is {name:?}"));
        }
    }
    Ok(())
}

fn class(settings: &Value, tokenizer: &Tokenizer) -> Option<String> {
    let Some(class) = settings["tokenizer_class"].as_str() else {
        return Some("tokenizer_config.json has no `tokenizer_class`".to_owned());
    };
    let name = class.replace("Fast", "");
    let kind = &tokenizer.model.kind;
    let found = CLASSES
        .iter()
        .find(|(_, names)| names.contains(&name.as_str()));
    match found {
        Some((algorithm, _)) if algorithm == kind => None,
        Some((algorithm, _)) => Some(format!(
            "`tokenizer_class` is {class:?}, of {algorithm}, and tokenizer.json is of {kind}"
        )),
        None => Some(format!("`tokenizer_class` is {class:?}")),
    }
}

fn chat(
    files: &TokenizerFiles,
    tokenizer: &Tokenizer,
    language: &Language,
    place: &str,
    findings: &mut Findings,
) {
    let end = files.end_token();
    let known = |token: &String| tokenizer.added_tokens.iter().any(|t| t.content == *token);
    match &end {
        None => findings.add(
            &END_TOKEN,
            place,
            "tokenizer_config.json has no `eos_token`",
        ),
        Some(end) if !known(end) => {
            let found = format!("{end:?} is none of the added tokens of tokenizer.json");
            findings.add(&END_TOKEN, place, found);
        }
        Some(_) => {}
    }
    let template = match ChatTemplate::find(files) {
        Ok(template) => template,
        Err(error) => return findings.add(&TEMPLATE, place, error.to_string()),
    };
    let text = |text: &str| json!([{"type": "text", "text": text}]);
    // A text that nothing else in a template looks like.
    let answer = "a blue square";
    let turn = json!([
        {"role": "user", "content": text("What is it?")},
        {"role": "assistant", "content": text(answer)},
    ]);
    match (template.render_messages(&turn, false), end) {
        (Ok(rendered), Some(end)) => {
            let behind = rendered
                .rsplit_once(answer)
                .map(|(_, behind)| behind.trim_start());
            if !behind.is_some_and(|behind| behind.starts_with(&end)) {
                let found = format!(
                    "`eos_token` is {end:?}, and the template writes {:?} behind an answer",
                    behind.unwrap_or_default()
                );
                findings.add(&END_TOKEN, place, found);
            }
        }
        (Ok(_), None) => {}
        (Err(error), _) => return findings.add(&TEMPLATE, place, error.to_string()),
    }
    if !language.pictures {
        return;
    }
    let content = json!([{"type": "image"}, {"type": "text", "text": "What is it?"}]);
    let render = |content: Value| {
        template.render_messages(&json!([{"role": "user", "content": content}]), true)
    };
    let expected = match render(content) {
        Ok(rendered) => rendered,
        Err(error) => return findings.add(&TEMPLATE, place, error.to_string()),
    };
    let count = expected.matches(IMAGE).count();
    if count != 1 {
        let found = format!("the template writes {count} {IMAGE} for a picture");
        findings.add(&TEMPLATE, place, found);
    }
    let Some(id) = language.adapter_token else {
        return;
    };
    let mut added = tokenizer.added_tokens.iter();
    let Some(token) = added.find(|token| token.id == id) else {
        let found = format!("`image_token_id` is {id}, and tokenizer.json has no such added token");
        return findings.add(&ADAPTER, place, found);
    };
    let message = format!("{}\nWhat is it?", token.content);
    match render(Value::String(message)) {
        Ok(found) if found == expected => {}
        Ok(found) => {
            let found = format!("the template writes {found:?}, expected {expected:?}");
            findings.add(&ADAPTER, place, found);
        }
        Err(error) => findings.add(&ADAPTER, place, error.to_string()),
    }
}

/// The part of `tokenizer.json` that rules look at.
#[derive(Deserialize)]
struct Tokenizer {
    #[serde(default)]
    added_tokens: Vec<Added>,
    model: Model,
}

#[derive(Deserialize)]
struct Added {
    id: u64,
    content: String,
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "type")]
    kind: String,
    vocab: Highest,
}

/// The highest id of a vocabulary: of a map to ids, or of a list in their
/// order. Only counted: the tokens would take many times the file's memory.
struct Highest(Option<u64>);

impl<'de> Deserialize<'de> for Highest {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Ids;
        impl<'de> Visitor<'de> for Ids {
            type Value = Highest;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a vocabulary")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Highest, A::Error> {
                let mut highest = None;
                while let Some((_, id)) = map.next_entry::<IgnoredAny, u64>()? {
                    highest = highest.max(Some(id));
                }
                Ok(Highest(highest))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Highest, A::Error> {
                let mut count = 0_u64;
                while list.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Highest(count.checked_sub(1)))
            }
        }
        input.deserialize_any(Ids)
    }
}
