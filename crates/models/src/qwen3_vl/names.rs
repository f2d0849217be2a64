//! The names of a checkpoint's parameters.
//!
//! Canonical names are those that the published Qwen3-VL checkpoints and
//! transformers use: `model.language_model.…`, `model.visual.…` and
//! `lm_head.weight`. Other tools move the `model.` prefix about; [`canonical`]
//! undoes that.

use super::Config;
use crate::{Error, Parameter, Role};
use checkpoint::{Checkpoint, Naming, Tensor};

/// The embedding table, `[vocab, hidden]`.
pub const EMBED_TOKENS: &str = "model.language_model.embed_tokens.weight";
/// The norm before the head, `[hidden]`.
pub const FINAL_NORM: &str = "model.language_model.norm.weight";
/// The head of a checkpoint that does not tie it, `[vocab, hidden]`.
pub const LM_HEAD: &str = "lm_head.weight";

/// How stored names become canonical ones.
pub const NAMING: Naming = Naming {
    canonical,
    accepted,
};

/// Prefixes under which the text decoder is stored, longest first where one
/// begins with another.
const TEXT_PREFIXES: [&str; 5] = [
    "model.language_model.model.",
    "model.language_model.",
    "language_model.model.",
    "language_model.",
    "model.",
];
/// Prefixes under which the vision encoder is stored.
const VISION_PREFIXES: [&str; 2] = ["model.visual.", "visual."];
/// Names under which the head is stored.
const HEADS: [&str; 4] = [
    LM_HEAD,
    "model.lm_head.weight",
    "language_model.lm_head.weight",
    "model.language_model.lm_head.weight",
];

/// A parameter of decoder layer `layer`: `text_layer(0, "mlp.up_proj.weight")`
/// is `model.language_model.layers.0.mlp.up_proj.weight`.
pub fn text_layer(layer: usize, parameter: &str) -> String {
    format!("model.language_model.layers.{layer}.{parameter}")
}

/// A parameter of the vision encoder: `vision("patch_embed.proj.bias")` is
/// `model.visual.patch_embed.proj.bias`.
pub fn vision(parameter: &str) -> String {
    format!("model.visual.{parameter}")
}

/// A parameter of vision block `block`: `vision_block(0, "norm1.weight")` is
/// `model.visual.blocks.0.norm1.weight`.
pub fn vision_block(block: usize, parameter: &str) -> String {
    format!("model.visual.blocks.{block}.{parameter}")
}

/// A parameter of the merger of DeepStack tap `tap` (its place in
/// `deepstack_visual_indexes`): `deepstack_merger(0, "norm.weight")` is
/// `model.visual.deepstack_merger_list.0.norm.weight`.
pub fn deepstack_merger(tap: usize, parameter: &str) -> String {
    format!("model.visual.deepstack_merger_list.{tap}.{parameter}")
}

/// The canonical name of a stored tensor, or `None` if it is not a parameter of
/// a Qwen3-VL.
pub fn canonical(stored: &str) -> Option<String> {
    if HEADS.contains(&stored) {
        return Some(LM_HEAD.into());
    }
    if let Some(rest) = VISION_PREFIXES.iter().find_map(|p| stored.strip_prefix(p)) {
        return Some(vision(rest));
    }
    let rest = TEXT_PREFIXES.iter().find_map(|p| stored.strip_prefix(p))?;
    let known = ["layers.", "embed_tokens.", "norm."];
    known
        .iter()
        .any(|start| rest.starts_with(start))
        .then(|| format!("model.language_model.{rest}"))
}

/// The stored names that [`canonical`] takes to `name`, for messages.
fn accepted(name: &str) -> Vec<String> {
    let all =
        |prefixes: &[&str], rest: &str| prefixes.iter().map(|p| format!("{p}{rest}")).collect();
    if name == LM_HEAD {
        all(&HEADS, "")
    } else if let Some(rest) = name.strip_prefix("model.visual.") {
        all(&VISION_PREFIXES, rest)
    } else if let Some(rest) = name.strip_prefix("model.language_model.") {
        all(&TEXT_PREFIXES, rest)
    } else {
        vec![name.into()]
    }
}

/// Every parameter that `config` calls for, in the order of the computation. A
/// tied head is not among them.
pub fn parameters(config: &Config) -> Vec<Parameter> {
    let mut list = Vec::new();
    vision_parameters(config, &mut list);
    text_parameters(config, &mut list);
    let parameters = list.into_iter().map(|(name, shape)| Parameter {
        role: role(&name, &shape),
        name,
        shape,
    });
    parameters.collect()
}

fn role(name: &str, shape: &[usize]) -> Role {
    let vision = name.starts_with(&vision(""));
    match name {
        EMBED_TOKENS => Role::Embedding,
        LM_HEAD => Role::Head,
        _ if name.ends_with(".bias") => Role::Bias,
        _ if shape.len() == 1 => Role::Norm,
        _ if vision => Role::Vision,
        _ => Role::Body,
    }
}

fn text_parameters(config: &Config, list: &mut Vec<(String, Vec<usize>)>) {
    let text = &config.text_config;
    let (hidden, mlp, dim) = (text.hidden_size, text.intermediate_size, text.head_dim);
    let q = text.num_attention_heads * dim;
    let kv = text.num_key_value_heads * dim;
    list.push((EMBED_TOKENS.into(), vec![text.vocab_size, hidden]));
    for layer in 0..text.num_hidden_layers {
        for (parameter, shape) in [
            ("input_layernorm.weight", vec![hidden]),
            ("self_attn.q_proj.weight", vec![q, hidden]),
            ("self_attn.k_proj.weight", vec![kv, hidden]),
            ("self_attn.v_proj.weight", vec![kv, hidden]),
            ("self_attn.q_norm.weight", vec![dim]),
            ("self_attn.k_norm.weight", vec![dim]),
            ("self_attn.o_proj.weight", vec![hidden, q]),
            ("post_attention_layernorm.weight", vec![hidden]),
            ("mlp.gate_proj.weight", vec![mlp, hidden]),
            ("mlp.up_proj.weight", vec![mlp, hidden]),
            ("mlp.down_proj.weight", vec![hidden, mlp]),
        ] {
            list.push((text_layer(layer, parameter), shape));
        }
    }
    list.push((FINAL_NORM.into(), vec![hidden]));
    if !config.tie_word_embeddings {
        list.push((LM_HEAD.into(), vec![text.vocab_size, hidden]));
    }
}

fn vision_parameters(config: &Config, list: &mut Vec<(String, Vec<usize>)>) {
    let v = &config.vision_config;
    let (hidden, mlp) = (v.hidden_size, v.intermediate_size);
    let merged = v.merged_size();
    let patch = vec![
        hidden,
        v.in_channels,
        v.temporal_patch_size,
        v.patch_size,
        v.patch_size,
    ];
    list.push((vision("patch_embed.proj.weight"), patch));
    list.push((vision("patch_embed.proj.bias"), vec![hidden]));
    let table = vec![v.num_position_embeddings, hidden];
    list.push((vision("pos_embed.weight"), table));
    for block in 0..v.depth {
        for (parameter, shape) in [
            ("norm1.weight", vec![hidden]),
            ("norm1.bias", vec![hidden]),
            ("attn.qkv.weight", vec![3 * hidden, hidden]),
            ("attn.qkv.bias", vec![3 * hidden]),
            ("attn.proj.weight", vec![hidden, hidden]),
            ("attn.proj.bias", vec![hidden]),
            ("norm2.weight", vec![hidden]),
            ("norm2.bias", vec![hidden]),
            ("mlp.linear_fc1.weight", vec![mlp, hidden]),
            ("mlp.linear_fc1.bias", vec![mlp]),
            ("mlp.linear_fc2.weight", vec![hidden, mlp]),
            ("mlp.linear_fc2.bias", vec![hidden]),
        ] {
            list.push((vision_block(block, parameter), shape));
        }
    }
    // The main merger normalizes before the shuffle, the others after.
    let mut merger = |name: &dyn Fn(&str) -> String, norm: usize| {
        for (parameter, shape) in [
            ("norm.weight", vec![norm]),
            ("norm.bias", vec![norm]),
            ("linear_fc1.weight", vec![merged, merged]),
            ("linear_fc1.bias", vec![merged]),
            ("linear_fc2.weight", vec![v.out_hidden_size, merged]),
            ("linear_fc2.bias", vec![v.out_hidden_size]),
        ] {
            list.push((name(parameter), shape));
        }
    };
    for tap in 0..v.deepstack_visual_indexes.len() {
        merger(&|parameter| deepstack_merger(tap, parameter), merged);
    }
    merger(&|parameter| vision(&format!("merger.{parameter}")), hidden);
}

/// The head, [vocab, hidden]: the embedding table where the configuration
/// ties them, else the checkpoint's own.
///
/// # Errors
/// As [`Checkpoint::tensor`], and [`Error::TiedHead`] if the head is tied
/// and another one is stored beside the table.
pub fn head(checkpoint: &Checkpoint, config: &Config) -> Result<Tensor, Error> {
    let shape = [
        config.text_config.vocab_size,
        config.text_config.hidden_size,
    ];
    if !config.tie_word_embeddings {
        return Ok(checkpoint.tensor(LM_HEAD, &shape)?);
    }
    let table = checkpoint.tensor(EMBED_TOKENS, &shape)?;
    if checkpoint.contains(LM_HEAD) {
        let head = checkpoint.tensor(LM_HEAD, &shape)?;
        if head.element() != table.element() || head.bytes() != table.bytes() {
            return Err(Error::TiedHead {
                file: head.file().to_owned(),
            });
        }
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_published_spelling_has_one_canonical_name() {
        for (stored, name) in [
            ("model.language_model.norm.weight", FINAL_NORM),
            ("model.language_model.model.norm.weight", FINAL_NORM),
            ("language_model.model.norm.weight", FINAL_NORM),
            ("language_model.norm.weight", FINAL_NORM),
            ("model.norm.weight", FINAL_NORM),
            ("model.embed_tokens.weight", EMBED_TOKENS),
            ("lm_head.weight", LM_HEAD),
            ("model.lm_head.weight", LM_HEAD),
            ("language_model.lm_head.weight", LM_HEAD),
            ("visual.merger.norm.bias", "model.visual.merger.norm.bias"),
            (
                "model.visual.merger.norm.bias",
                "model.visual.merger.norm.bias",
            ),
            (
                "model.layers.3.mlp.up_proj.weight",
                "model.language_model.layers.3.mlp.up_proj.weight",
            ),
        ] {
            assert_eq!(canonical(stored).as_deref(), Some(name), "{stored}");
            assert!(accepted(name).contains(&stored.to_string()), "{stored}");
        }
        for other in [
            "",
            "model.",
            "optimizer.state",
            "model.mtp.fc.weight",
            "visual",
        ] {
            assert_eq!(canonical(other), None, "{other}");
        }
    }
}
