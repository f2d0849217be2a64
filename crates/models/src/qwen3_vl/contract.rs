//! What the family's programs take, keep and give.

use aimodel::{Dim, ElementType, TensorType};
use bundle::{AssetRole, CallShape, Layout, contract::*};

use super::{Config, rows::RowLayout};
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

/// Inputs of a decoder that takes rows, in order.
pub fn row_inputs(config: &Config) -> [Port; 2] {
    let positions = [1.into(), Dim::Dynamic];
    [
        Port::new(INPUTS_EMBEDS, rows(config, Dim::Dynamic)),
        Port::new(POSITION_IDS, TensorType::new(positions, ElementType::Si32)),
    ]
}

/// The caches of keys and values. A decoder that takes rows keeps their marks in
/// a layer more; hosts are on the safe side where both have the same shape.
pub fn decoder_states(config: &Config, layout: Layout) -> [Port; 2] {
    let text = &config.text_config;
    let marks = u64::from(layout == Layout::Vlm);
    let cache = TensorType::new(
        [
            (text.num_hidden_layers as u64 + marks).into(),
            1.into(),
            (text.num_key_value_heads as u64).into(),
            Dim::Dynamic,
            (text.head_dim as u64).into(),
        ],
        ElementType::F16,
    );
    [KEY_CACHE, VALUE_CACHE].map(|name| Port::new(name, cache.clone()))
}

/// The functions of a bundle's assets.
pub fn bundle(config: &Config, layout: Layout, grid: u64) -> Vec<(AssetRole, Vec<Contract>)> {
    match layout {
        Layout::Pipelined(shape) => vec![(AssetRole::Main, decoder(config, shape, grid))],
        Layout::Vlm => vec![
            (AssetRole::Main, vec![row_decoder(config)]),
            (AssetRole::Embedding, vec![embedding(config)]),
            (AssetRole::Vision, vec![row_vision(config, grid)]),
        ],
    }
}

/// The functions of a pipelined decoder.
fn decoder(config: &Config, shape: CallShape, grid: u64) -> Vec<Contract> {
    let function = |(function, tokens): (&'static str, Option<u64>)| {
        let rows = tokens.map_or(Dim::Dynamic, Dim::Static);
        Contract {
            function,
            inputs: decoder_inputs(config, rows, grid).into(),
            states: decoder_states(config, Layout::Pipelined(shape)).into(),
            outputs: vec![logits(config, rows)],
        }
    };
    shape.functions().into_iter().map(function).collect()
}

/// The function of a decoder that takes rows.
fn row_decoder(config: &Config) -> Contract {
    Contract {
        function: MAIN,
        inputs: row_inputs(config).into(),
        states: decoder_states(config, Layout::Vlm).into(),
        outputs: vec![logits(config, Dim::Dynamic)],
    }
}

/// The function that makes rows of token ids.
pub fn embedding(config: &Config) -> Contract {
    let ids = TensorType::new([1.into(), Dim::Dynamic], ElementType::Si32);
    Contract {
        function: EMBED_TOKENS,
        inputs: vec![Port::new(INPUT_IDS, ids)],
        states: Vec::new(),
        outputs: vec![Port::new(INPUTS_EMBEDS, rows(config, Dim::Dynamic))],
    }
}

/// The function of a vision encoder that takes pixels and gives rows.
pub fn row_vision(config: &Config, grid: u64) -> Contract {
    let vision = &config.vision_config;
    let side = grid * (vision.spatial_merge_size * vision.patch_size) as u64;
    let pixels = [1, vision.in_channels as u64, side, side];
    Contract {
        function: MAIN,
        inputs: vec![Port::new(
            PIXEL_VALUES,
            TensorType::fixed(pixels, ElementType::F32),
        )],
        states: Vec::new(),
        outputs: vec![Port::new(
            IMAGE_FEATURES,
            rows(config, Dim::Static(grid * grid)),
        )],
    }
}

fn logits(config: &Config, rows: Dim) -> Port {
    let vocab = config.text_config.vocab_size as u64;
    let dims = [1.into(), rows, vocab.into()];
    Port::new(LOGITS, TensorType::new(dims, ElementType::F16))
}

fn rows(config: &Config, count: Dim) -> TensorType {
    let width = RowLayout::of(config).width();
    TensorType::new([1.into(), count, width.into()], ElementType::F16)
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
