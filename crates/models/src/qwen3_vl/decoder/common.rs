//! What all parts of the decoder share: its sizes and weights, the graphs that
//! layers call, and the values that they use.

use aimodel::{Dim, ElementType, Graph, GraphBuilder, TensorType, Value};
use bundle::Layout;
use checkpoint::Checkpoint;
use quantize::{Recipe, Storage};

use crate::{
    lower::{
        Error, Result,
        weights::{self, Parts},
    },
    qwen3_vl::{Config, TextConfig, names},
};

pub(super) struct Decoder<'m> {
    pub(super) config: &'m Config,
    pub(super) text: &'m TextConfig,
    pub(super) checkpoint: &'m Checkpoint,
    pub(super) recipe: &'static Recipe,
    pub(super) layout: Layout,
    /// The number of tokens of a call, S.
    pub(super) rows: Dim,
    pub(super) grid: u64,
}

/// Graphs that the layers call.
pub(super) struct Composites {
    pub(super) qk_norm: Graph,
    pub(super) attention: Graph,
    /// Where heads rotate by whole positions.
    pub(super) rope: Option<Graph>,
    pub(super) norm: Graph,
}

/// Values that all layers use.
pub(super) struct Common {
    /// Shapes `[1, S, n, D]` of all heads and `[S, n·D]` of those that attend,
    /// where S is not known.
    pub(super) dynamic_shapes: Option<(Value, Value)>,
    /// Where the part of a layer's cache that is in use ends.
    pub(super) used_end: Value,
    /// Tokens in the cache before this call, and after it, as vectors.
    pub(super) past: Value,
    pub(super) total: Value,
    pub(super) rotary: Rotary,
    pub(super) pictures: Pictures,
}

/// How heads are rotated.
pub(super) enum Rotary {
    /// By whole positions, once by each of t, h and w; the masks say which
    /// elements take which.
    Positions {
        positions: [Value; 3],
        masks: [Value; 3],
    },
    /// By angles, whose cosines and sines are `[1, 1, S, D / 2]`.
    Angles { cos: Value, sin: Value },
}

/// Where what a picture adds after the first layers comes from.
pub(super) enum Pictures {
    /// From a table, by the token's slot.
    Table {
        deepstack: Value,
        /// The slot of an image token.
        slot: Value,
        /// 1 at image tokens, else 0: `[1,S,1]`.
        is_image: Value,
    },
    /// From the rows themselves, `[1, S, W]`; zeros at text.
    Rows(Value),
}

impl Decoder<'_> {
    pub(super) fn hidden(&self) -> u64 {
        self.text.hidden_size as u64
    }
    pub(super) fn heads(&self) -> u64 {
        self.text.num_attention_heads as u64
    }
    pub(super) fn kv_heads(&self) -> u64 {
        self.text.num_key_value_heads as u64
    }
    pub(super) fn head_dim(&self) -> u64 {
        self.text.head_dim as u64
    }
    /// Image tokens, N.
    pub(super) fn slots(&self) -> u64 {
        self.grid * self.grid
    }
    pub(super) fn taps(&self) -> u64 {
        self.config.vision_config.deepstack_visual_indexes.len() as u64
    }

    pub(super) fn f16(&self, dims: &[Dim]) -> TensorType {
        TensorType::new(dims, ElementType::F16)
    }

    /// `[V, h]` of f16, in every mode.
    pub(super) fn embedding_table(&self, body: &mut GraphBuilder<'_>) -> Result<Value> {
        if self.recipe.embedding != Storage::F16 {
            return Err(Error::Unsupported(format!(
                "the recipe {} stores the embedding table as {}, and this graph gathers f16 rows",
                self.recipe, self.recipe.embedding
            )));
        }
        let shape = vec![self.text.vocab_size, self.text.hidden_size];
        let parts = [(names::EMBED_TOKENS.to_owned(), shape)];
        let parts = Parts::new(self.checkpoint, &parts, self.text.hidden_size)?;
        weights::matrix(body, names::EMBED_TOKENS, parts, Storage::F16)
    }

    pub(super) fn vector(
        &self,
        body: &mut GraphBuilder<'_>,
        name: &str,
        len: usize,
    ) -> Result<Value> {
        weights::vector(body, self.checkpoint, name, len)
    }

    /// `x · weightᵀ`, where the weight is stored `[out, in]`.
    pub(super) fn projection(
        &self,
        body: &mut GraphBuilder<'_>,
        name: &str,
        shape: [usize; 2],
        x: Value,
    ) -> Result<Value> {
        let parts = [(name.to_owned(), shape.to_vec())];
        let weight = self.matrix(body, name, &parts, self.recipe.body)?;
        Ok(body.batch_matmul(x, weight)?)
    }

    /// The transpose `[in, out]` of stored matrices `[out, in]`, one below the
    /// other.
    pub(super) fn matrix(
        &self,
        body: &mut GraphBuilder<'_>,
        key: &str,
        parts: &[(String, Vec<usize>)],
        storage: Storage,
    ) -> Result<Value> {
        weights::transposed(body, self.checkpoint, key, parts, storage)
    }
}
