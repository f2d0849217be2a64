//! The checkpoint that comes with the program: small, trained, and described
//! in `oracles/nano`.

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$((
            $name,
            include_bytes!(concat!("../../../../oracles/nano/checkpoint/", $name)),
        )),*]
    };
}

/// Its files by name.
pub(super) const FILES: &[(&str, &[u8])] = files![
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "merges.txt",
    "model.safetensors",
    "preprocessor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
];
