//! A byte-level tokenizer without merges, with Qwen's special tokens.

use super::super::Config;
use super::pretty;
use crate::Error;
use serde_json::{Map, json};
use std::collections::BTreeMap;

/// One turn after another, as Qwen's own template writes text and images.
const CHAT_TEMPLATE: &str = "\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' -}}
{%- if message['content'] is string -%}
{{- message['content'] -}}
{%- else -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'image' -%}
{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
{%- elif part['type'] == 'text' -%}
{{- part['text'] -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
";

/// Where the published vocabulary has `<|im_start|>`, `<|im_end|>` and
/// `<|endoftext|>`.
const PUBLISHED: [usize; 3] = [151_644, 151_645, 151_643];

/// Names and content of the tokenizer's files.
///
/// # Errors
/// [`Error::Config`] if the vocabulary has no room for all bytes and special
/// tokens, or if the configuration gives one id to two of these.
pub(super) fn files(config: &Config) -> Result<Vec<(&'static str, Vec<u8>)>, Error> {
    let special = special_tokens(config)?;
    let mut vocabulary = Map::new();
    let mut free = (0..config.text_config.vocab_size).filter(|id| !special.contains_key(id));
    for token in byte_tokens() {
        let id = free.next().ok_or_else(|| too_small(config))?;
        vocabulary.insert(token.to_string(), id.into());
    }
    for (id, token) in &special {
        vocabulary.insert((*token).into(), (*id).into());
    }
    let flags = |content: &str| {
        json!({
            "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true
        })
    };
    let (mut added, mut decoder) = (Vec::new(), Map::new());
    for (id, token) in &special {
        let mut entry = flags(token);
        decoder.insert(id.to_string(), entry.clone());
        entry["id"] = (*id).into();
        added.push(entry);
    }
    let byte_level = json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true
    });
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": byte_level,
        "post_processor": null,
        "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null,
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
            "byte_fallback": false, "ignore_merges": false, "vocab": vocabulary, "merges": []
        }
    });
    let settings = json!({
        "add_prefix_space": false,
        "added_tokens_decoder": decoder,
        "bos_token": null,
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": false,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": config.text_config.max_position_embeddings,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": false,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": null
    });
    let id_of = |name: &str| {
        special
            .iter()
            .find(|(_, token)| **token == name)
            .map(|(id, _)| *id)
    };
    let generation = json!({
        "do_sample": false,
        "eos_token_id": id_of("<|im_end|>"),
        "pad_token_id": id_of("<|endoftext|>")
    });
    Ok(vec![
        ("tokenizer.json", pretty(&tokenizer)),
        ("tokenizer_config.json", pretty(&settings)),
        ("chat_template.jinja", CHAT_TEMPLATE.as_bytes().to_vec()),
        ("generation_config.json", pretty(&generation)),
    ])
}

fn too_small(config: &Config) -> Error {
    Error::Config {
        file: "config.json".into(),
        key: "text_config.vocab_size".into(),
        message: format!(
            "{} has no room for 256 bytes and 7 special tokens",
            config.text_config.vocab_size
        ),
    }
}

/// The special tokens by id.
fn special_tokens(config: &Config) -> Result<BTreeMap<usize, &'static str>, Error> {
    let mut special = BTreeMap::new();
    for (key, id, token) in [
        ("image_token_id", config.image_token_id, "<|image_pad|>"),
        ("video_token_id", config.video_token_id, "<|video_pad|>"),
        (
            "vision_start_token_id",
            config.vision_start_token_id,
            "<|vision_start|>",
        ),
        (
            "vision_end_token_id",
            config.vision_end_token_id,
            "<|vision_end|>",
        ),
    ] {
        if let Some(other) = special.insert(id, token) {
            return Err(Error::Config {
                file: "config.json".into(),
                key: key.into(),
                message: format!("{id} is the id of {other} too"),
            });
        }
    }
    let vocab = config.text_config.vocab_size;
    let is_free = |special: &BTreeMap<_, _>, id: &usize| *id < vocab && !special.contains_key(id);
    let ids: Vec<usize> = if PUBLISHED.iter().all(|id| is_free(&special, id)) {
        PUBLISHED.to_vec()
    } else {
        // After the greatest of the four, else before it where there is room.
        let last = special.keys().next_back().copied().unwrap_or(0);
        let nearest = (last..vocab).chain((0..last).rev());
        nearest.filter(|id| is_free(&special, id)).take(3).collect()
    };
    let names = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"];
    if ids.len() < names.len() {
        return Err(too_small(config));
    }
    special.extend(ids.into_iter().zip(names));
    Ok(special)
}

/// The characters that stand for the 256 bytes in byte-level vocabularies, in
/// GPT-2's order: printable bytes as themselves, then the others moved beyond
/// Latin-1.
fn byte_tokens() -> impl Iterator<Item = char> {
    let printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let others = (0..=255u8).filter(move |byte| !printable(byte)).count() as u32;
    (0..=255u8)
        .filter(printable)
        .map(char::from)
        .chain((0..others).filter_map(|k| char::from_u32(256 + k)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_tokens_stand_where_the_published_ones_do() {
        let of = |name| special_tokens(&Config::preset(name).unwrap()).unwrap();
        let large = of("2b");
        assert_eq!(large[&151_643], "<|endoftext|>");
        assert_eq!(large[&151_645], "<|im_end|>");
        assert_eq!(large[&151_655], "<|image_pad|>");
        let nano = of("nano");
        assert_eq!(nano[&508], "<|im_start|>");
        assert_eq!(nano[&509], "<|im_end|>");
        assert_eq!(nano[&510], "<|endoftext|>");
    }

    #[test]
    fn vocabularies_without_room_are_refused() {
        let mut config = Config::preset("nano").unwrap();
        for (vocab, fits) in [(263, true), (262, false)] {
            config.text_config.vocab_size = vocab;
            config.image_token_id = vocab - 1;
            config.video_token_id = vocab - 2;
            config.vision_start_token_id = vocab - 3;
            config.vision_end_token_id = 0;
            assert_eq!(files(&config).is_ok(), fits, "{vocab}");
        }
        config.vision_end_token_id = config.image_token_id;
        let error = files(&config).unwrap_err();
        assert!(error.to_string().contains("vision_end_token_id"), "{error}");
    }

    #[test]
    fn every_byte_has_its_own_character() {
        let all: std::collections::BTreeSet<char> = byte_tokens().collect();
        assert_eq!(all.len(), 256);
    }
}
