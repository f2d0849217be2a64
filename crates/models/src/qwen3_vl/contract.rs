//! What the family's programs take, keep and give.

use aimodel::{Dim, ElementType, TensorType};
use bundle::{CallShape, contract::*};

use super::Config;
use crate::{Contract, Port};

/// Inputs of a decoder's function, in order.
pub fn decoder_inputs(config: &Config, rows: Dim, grid: u64) -> [Port; 6] {
    let (slots, taps) = (grid * grid, taps(config));
    let si32 = |dims: &[Dim]| TensorType::new(dims, ElementType::Si32);
    [
        Port::new(INPUT_IDS, si32(&[1.into(), rows])),
        Port::new(POSITION_IDS, si32(&[1.into(), Dim::Dynamic])),
        Port::new(IMAGE_EMBEDS, embeddings(config, slots)),
        Port::new(DEEPSTACK_EMBEDS, embeddings(config, taps * slots)),
        Port::new(ROPE_SHIFT_START, si32(&[1.into()])),
        Port::new(ROPE_SHIFT_AMOUNT, si32(&[1.into()])),
    ]
}

/// The caches of keys and values.
pub fn decoder_states(config: &Config) -> [Port; 2] {
    let text = &config.text_config;
    let cache = TensorType::new(
        [
            (text.num_hidden_layers as u64).into(),
            1.into(),
            (text.num_key_value_heads as u64).into(),
            Dim::Dynamic,
            (text.head_dim as u64).into(),
        ],
        ElementType::F16,
    );
    [KEY_CACHE, VALUE_CACHE].map(|name| Port::new(name, cache.clone()))
}

/// The decoder's functions.
pub fn decoder(config: &Config, shape: CallShape, grid: u64) -> Vec<Contract> {
    let function = |(function, tokens): (&'static str, Option<u64>)| {
        let rows = tokens.map_or(Dim::Dynamic, Dim::Static);
        let vocab = config.text_config.vocab_size as u64;
        let logits = TensorType::new([1.into(), rows, vocab.into()], ElementType::F16);
        Contract {
            function,
            inputs: decoder_inputs(config, rows, grid).into(),
            states: decoder_states(config).into(),
            outputs: vec![Port::new(LOGITS, logits)],
        }
    };
    shape.functions().into_iter().map(function).collect()
}

/// The input of the vision encoder.
pub fn patches(config: &Config, grid: u64) -> Port {
    let vision = &config.vision_config;
    let rows = grid * grid * (vision.spatial_merge_size as u64).pow(2);
    let dims = [rows, vision.patch_len() as u64];
    Port::new(PATCHES, TensorType::fixed(dims, ElementType::F16))
}

/// The vision encoder's function.
pub fn vision(config: &Config, grid: u64) -> Contract {
    let (slots, taps) = (grid * grid, taps(config));
    Contract {
        function: MAIN,
        inputs: vec![patches(config, grid)],
        states: Vec::new(),
        outputs: vec![
            Port::new(IMAGE_EMBEDS, embeddings(config, slots)),
            Port::new(DEEPSTACK_EMBEDS, embeddings(config, taps * slots)),
        ],
    }
}

fn taps(config: &Config) -> u64 {
    config.vision_config.deepstack_visual_indexes.len() as u64
}

fn embeddings(config: &Config, rows: u64) -> TensorType {
    TensorType::fixed(
        [rows, config.text_config.hidden_size as u64],
        ElementType::F16,
    )
}
