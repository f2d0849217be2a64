//! How weights are stored.

use aimodel::Operation;

use super::{
    graph::Graph,
    rule::{DELEGATES, Rule},
};

/// The block that Apple's GPU has fast code for.
const BLOCK: u64 = 32;

/// A scale is not shared by a whole row.
pub const CHANNEL_SCALES: Rule = Rule {
    id: "channel-scales",
    what: "quantized weights with one scale a channel, or one in all",
    reason: "the GPU computes garbage with them",
    remedy: "quantize in blocks of 32 along the input",
    source: DELEGATES,
};

/// Blocks are of 32.
pub const BLOCK_SIZE: Rule = Rule {
    id: "block-size",
    what: "quantized weights in blocks other than 32 along one dimension",
    reason: "only blocks of 32 are right and fast on the GPU; blocks of 16 are slow",
    remedy: "quantize in blocks of 32 along the input",
    source: DELEGATES,
};

/// No palettes.
pub const PALETTE: Rule = Rule {
    id: "lut-palette",
    what: "weights that are looked up in a palette",
    reason: "the GPU looks them up slowly, at every step",
    remedy: "quantize linearly, in blocks of 32",
    source: DELEGATES,
};

/// The rules for one operation.
pub fn operation(
    graph: &Graph<'_>,
    op: &Operation,
    name: &str,
    found: &mut impl FnMut(&'static Rule, String),
) {
    match name {
        "primitive.lut_to_dense_v1" | "primitive.lut_to_sparse_with_bitmask_v1" => {
            found(&PALETTE, "has a palette".to_owned());
        }
        "primitive.blockwise_shift_scale_v1" | "primitive.blockwise_shift_scale_v2" => {
            blockwise(graph, op, found);
        }
        // These know scales of an axis, and of the whole tensor.
        "dequantize_v1" | "dequantize_v2" => {
            let data = op.operands.first().and_then(|data| graph.maker(*data));
            if data.is_some_and(|(_, name)| name == "primitive.constant_v1") {
                found(&CHANNEL_SCALES, "has no blocks".to_owned());
            }
        }
        _ => {}
    }
}

fn blockwise(graph: &Graph<'_>, op: &Operation, found: &mut impl FnMut(&'static Rule, String)) {
    let [data, scale, ..] = op.operands[..] else {
        return;
    };
    let extents = |value| graph.tensor(value)?.static_dims();
    let (Some(data), Some(scale)) = (extents(data), extents(scale)) else {
        return;
    };
    if data.len() != scale.len() || scale.contains(&0) {
        return;
    }
    let blocks: Vec<u64> = data.iter().zip(&scale).map(|(d, s)| d / s).collect();
    let mut shared: Vec<u64> = blocks.iter().copied().filter(|block| *block > 1).collect();
    shared.sort_unstable();
    if shared == [BLOCK] {
        return;
    }
    let whole = blocks.iter().zip(&data).all(|(b, d)| *b == 1 || b == d);
    if whole && !shared.is_empty() {
        found(&CHANNEL_SCALES, format!("scales {data:?} by {scale:?}"));
    } else {
        found(&BLOCK_SIZE, format!("scales blocks of {blocks:?}"));
    }
}
