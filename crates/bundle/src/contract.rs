//! Names of the inputs, states and outputs of the graphs in a bundle.
//!
//! Hosts on devices bind by these names, so they never change.

/// The function of every asset that is called; the decoder's takes the next
/// tokens.
pub const MAIN: &str = "main";
/// The function of a decoder that takes a fixed number of tokens of the prompt.
pub const PREFILL: &str = "prefill";
/// The function of an embedding asset.
pub const EMBED_TOKENS: &str = "embed_tokens";

/// `[1, S]` si32: token ids. Those of a picture are V + slot.
pub const INPUT_IDS: &str = "input_ids";
/// `[1, T]` si32: the whole ramp 0 … T − 1.
pub const POSITION_IDS: &str = "position_ids";
/// `[N, h]` f16: embeddings of a picture's tokens. An output of the vision
/// encoder, and an input of the decoder.
pub const IMAGE_EMBEDS: &str = "image_embeds";
/// `[K · N, h]` f16: what is added to a picture's tokens after the first K
/// layers. An output of the vision encoder, and an input of the decoder.
pub const DEEPSTACK_EMBEDS: &str = "deepstack_embeds";
/// `[1]` si32: from this position on, text positions are shifted back.
pub const ROPE_SHIFT_START: &str = "rope_shift_start";
/// `[1]` si32: by how much.
pub const ROPE_SHIFT_AMOUNT: &str = "rope_shift_amount";
/// `[L, 1, KV, ?, D]` f16, a state.
pub const KEY_CACHE: &str = "keyCache";
/// `[L, 1, KV, ?, D]` f16, a state.
pub const VALUE_CACHE: &str = "valueCache";
/// `[1, S, V]` f16.
pub const LOGITS: &str = "logits";
/// `[4N, C · T · P · P]` f16, the input of the vision encoder.
pub const PATCHES: &str = "patches";

/// `[1, S, W]` f16, an input of a decoder that takes rows, and the output of an
/// embedding asset: a token's embedding, what a picture's tokens add after the
/// first layers, and marks that say where the token stands in its picture.
pub const INPUTS_EMBEDS: &str = "inputs_embeds";
/// `[1, C, H, W]` f32, normalized: the input of a vision encoder that cuts the
/// picture itself.
pub const PIXEL_VALUES: &str = "pixel_values";
/// `[1, N, W]` f16: the rows of a picture's tokens, the output of such a vision
/// encoder.
pub const IMAGE_FEATURES: &str = "image_features";

/// [`ROPE_SHIFT_START`] of a prompt without a picture: no position reaches it.
pub const NO_IMAGE: i32 = 1 << 30;
