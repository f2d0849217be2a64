//! The text decoder as a graph.
//!
//! `main(input_ids [1,S], position_ids [1,T], image_embeds [N,h],
//! deepstack_embeds [K·N,h], rope_shift_start [1], rope_shift_amount [1];
//! states keyCache, valueCache [L,1,KV,?,D]) → logits [1,S,V]`. An image token
//! is V + its slot among the N of the image. Where several ways lead to the
//! same result, the graph goes the one that the published recipe's optimizer
//! leaves: known extents become reshapes, and one row needs no transposes.

use std::sync::Arc;

use aimodel::{AssetBuilder, Body, Dim, ElementType, Graph, Module, TensorType, Value};
use qwen3_vl::{Checkpoint, Config, TextConfig, names};

use crate::{
    Mode, Query, Result,
    composite::{self, TO_END, add_axis, extent},
    tables,
    weights::{self, Parts, Storage},
};

/// The module of a decoder asset.
///
/// # Errors
/// A parameter that is missing or of another shape, or a width that the mode
/// cannot store.
pub fn build(
    config: &Config,
    checkpoint: &Arc<Checkpoint>,
    mode: Mode,
    query: Query,
    grid: u64,
) -> Result<Module> {
    let mut asset = AssetBuilder::new();
    for (function, rows) in query.functions() {
        let decoder = Decoder {
            config,
            text: &config.text_config,
            checkpoint,
            mode,
            rows,
            grid,
        };
        decoder.function(&mut asset, function)?;
    }
    Ok(asset.finish()?)
}

struct Decoder<'m> {
    config: &'m Config,
    text: &'m TextConfig,
    checkpoint: &'m Arc<Checkpoint>,
    mode: Mode,
    /// The number of tokens of a call, S.
    rows: Dim,
    grid: u64,
}

/// Graphs that the layers call.
struct Composites {
    qk_norm: Graph,
    attention: Graph,
    rope: Graph,
    norm: Graph,
}

/// Values that all layers use.
struct Common {
    /// Shapes `[1, S, n, D]` of all heads and `[S, n·D]` of those that attend,
    /// where S is not known.
    dynamic_shapes: Option<(Value, Value)>,
    /// Where the part of a layer's cache that is in use ends.
    used_end: Value,
    /// Tokens in the cache before this call, and after it, as vectors.
    past: Value,
    total: Value,
    /// Position ids t, h and w.
    positions: [Value; 3],
    /// Which elements of a head turn by t, h and w.
    masks: [Value; 3],
    /// The slot of an image token.
    slot: Value,
    /// 1 at image tokens, else 0: `[1,S,1]`.
    is_image: Value,
}

/// A state as far as it was read and written.
struct Cache {
    handle: Value,
    tensor: Value,
    token: Value,
}

impl Decoder<'_> {
    fn hidden(&self) -> u64 {
        self.text.hidden_size as u64
    }
    fn heads(&self) -> u64 {
        self.text.num_attention_heads as u64
    }
    fn kv_heads(&self) -> u64 {
        self.text.num_key_value_heads as u64
    }
    fn head_dim(&self) -> u64 {
        self.text.head_dim as u64
    }
    /// Image tokens, N.
    fn slots(&self) -> u64 {
        self.grid * self.grid
    }
    fn taps(&self) -> u64 {
        self.config.vision_config.deepstack_visual_indexes.len() as u64
    }

    fn f16(&self, dims: &[Dim]) -> TensorType {
        TensorType::new(dims, ElementType::F16)
    }

    fn composites(&self, asset: &mut AssetBuilder) -> Result<Composites> {
        let (heads, kv_heads, dim) = (self.heads(), self.kv_heads(), self.head_dim());
        let eps = self.text.rms_norm_eps as f32;
        // The published names end in eight random digits, so that those of two
        // functions differ; here they are the number of rows, 0 if unknown.
        let rows = self.rows.known().unwrap_or(0);
        let name = |part: &str| format!("model.layers.0.{part}_{rows:08x}");
        let normed = heads + kv_heads;
        Ok(Composites {
            qk_norm: composite::rms_norm(
                asset,
                &name("self_attn.qk_norm.rmsnorm_impl"),
                self.f16(&[1.into(), normed.into(), self.rows, dim.into()]),
                TensorType::fixed([normed, 1, dim], ElementType::F16),
                eps,
            )?,
            attention: composite::causal_attention(
                asset,
                &name("self_attn.sdpa"),
                heads,
                kv_heads,
                self.rows,
                dim,
            )?,
            rope: composite::rope(
                asset,
                &name("self_attn.rope"),
                normed,
                self.rows,
                dim,
                self.text.rope_theta,
            )?,
            norm: composite::rms_norm(
                asset,
                &name("input_layernorm.rmsnorm_impl"),
                self.f16(&[1.into(), self.rows, self.hidden().into()]),
                TensorType::fixed([self.hidden()], ElementType::F16),
                eps,
            )?,
        })
    }

    fn function(&self, asset: &mut AssetBuilder, name: &str) -> Result<()> {
        let composites = self.composites(asset)?;
        let mut graph = asset.graph(name);
        let si32 = |dims: &[Dim]| TensorType::new(dims, ElementType::Si32);
        let ids = graph.input("input_ids", si32(&[1.into(), self.rows]))?;
        let positions = graph.input("position_ids", si32(&[1.into(), Dim::Dynamic]))?;
        let rows_of = |count: u64| self.f16(&[count.into(), self.hidden().into()]);
        let image = graph.input("image_embeds", rows_of(self.slots()))?;
        let deepstack = graph.input("deepstack_embeds", rows_of(self.taps() * self.slots()))?;
        let shift_start = graph.input("rope_shift_start", si32(&[1.into()]))?;
        let shift_amount = graph.input("rope_shift_amount", si32(&[1.into()]))?;
        let layers = self.text.num_hidden_layers as u64;
        let cache = [
            layers.into(),
            1.into(),
            self.kv_heads().into(),
            Dim::Dynamic,
            self.head_dim().into(),
        ];
        let keys = graph.state("keyCache", self.f16(&cache))?;
        let values = graph.state("valueCache", self.f16(&cache))?;

        let body: &mut Body<'_> = &mut graph;
        let token = body.create_token()?;
        let mut values = read(body, values, token)?;
        let mut keys = read(body, keys, token)?;
        let (common, mut x) =
            self.embed(body, ids, positions, image, (shift_start, shift_amount))?;
        for layer in 0..self.text.num_hidden_layers {
            x = self.attention(body, &composites, &common, layer, x, &mut keys, &mut values)?;
            x = self.mlp(body, &composites, layer, x)?;
            if (layer as u64) < self.taps() {
                x = self.add_deepstack(body, &common, layer as u64, deepstack, x)?;
            }
        }
        let norm = self.vector(body, names::FINAL_NORM, self.text.hidden_size)?;
        let x = body.invoke(&composites.norm, &[x, norm])?;
        let logits = self.head(body, x)?;
        let results = [
            ("keyCache", keys.token),
            ("valueCache", values.token),
            ("logits", logits),
        ];
        graph.finish(&results)?;
        Ok(())
    }

    /// Everything before the first layer.
    fn embed(
        &self,
        body: &mut Body<'_>,
        ids: Value,
        positions: Value,
        image: Value,
        shift: (Value, Value),
    ) -> Result<(Common, Value)> {
        let row_count = match self.rows {
            Dim::Static(_) => None,
            Dim::Dynamic => Some(columns(body, ids)?),
        };
        let total = columns(body, positions)?;
        let rows = match (row_count, self.rows) {
            (Some(count), _) => count,
            (None, rows) => body.scalar_si32(rows.known().unwrap_or(1) as i64)?,
        };
        let past = body.sub(total, rows)?;
        let position = self.last_positions(body, positions, past, total)?;

        let vocab = self.text.vocab_size as i64;
        let vocab_size = body.scalar_si32(vocab)?;
        let zero = body.scalar_si32(0)?;
        let is_text = body.greater(vocab_size, ids)?;
        let is_image = body.not(is_text)?;
        let slot = body.sub(ids, vocab_size)?;
        let slot = body.maximum(slot, zero)?;
        let last_slot = body.scalar_si32(self.slots() as i64 - 1)?;
        let slot = body.minimum(slot, last_slot)?;
        let flat = match self.rows {
            Dim::Static(_) => None,
            Dim::Dynamic => {
                let shape = body.si32(&[-1])?;
                let ty = TensorType::new([Dim::Dynamic], ElementType::Si32);
                Some(body.reshape_as(slot, shape, ty)?)
            }
        };
        let id = body.maximum(ids, zero)?;
        let last_id = body.scalar_si32(vocab - 1)?;
        let id = body.minimum(id, last_id)?;
        let id = add_axis(body, id, 2)?;
        let table = self.embedding_table(body)?;
        let text_row = body.gather_nd(table, id)?;
        let image_row = self.gather_rows(body, image, slot, flat)?;
        let image_row = match (self.rows, row_count) {
            (Dim::Dynamic, Some(count)) => {
                let (axis, one, rest) = (body.scalar_si32(0)?, body.si32(&[1])?, body.si32(&[-1])?);
                let shape = body.concat(axis, &[one, count, rest])?;
                let ty = self.f16(&[1.into(), Dim::Dynamic, self.hidden().into()]);
                body.reshape_as(image_row, shape, ty)?
            }
            _ => add_axis(body, image_row, 0)?,
        };
        let is_image_row = add_axis(body, is_image, -1)?;
        let x = body.select(is_image_row, image_row, text_row)?;
        let positions = self.positions(body, position, slot, is_image, shift)?;
        let is_image = body.cast(is_image_row, ElementType::F16)?;
        let masks = self.masks(body)?;
        let dynamic_shapes = match row_count {
            Some(count) => Some(self.dynamic_shapes(body, count)?),
            None => None,
        };
        let used_end = used_end(body, total)?;
        let common = Common {
            dynamic_shapes,
            used_end,
            past,
            total,
            positions,
            masks,
            slot,
            is_image,
        };
        Ok((common, x))
    }

    fn dynamic_shapes(&self, body: &mut Body<'_>, rows: Value) -> Result<(Value, Value)> {
        let (heads, dim) = (self.heads(), self.head_dim());
        let all = heads + 2 * self.kv_heads();
        let (axis, one) = (body.scalar_si32(0)?, body.si32(&[1])?);
        let (all, dim_vector) = (body.si32(&[all as i64])?, body.si32(&[dim as i64])?);
        let split = body.concat(axis, &[one, rows, all, dim_vector])?;
        let width = body.si32(&[(heads * dim) as i64])?;
        Ok((split, body.concat(axis, &[rows, width])?))
    }

    /// The last S of the positions.
    fn last_positions(
        &self,
        body: &mut Body<'_>,
        positions: Value,
        past: Value,
        total: Value,
    ) -> Result<Value> {
        let axis = body.scalar_si32(0)?;
        let (first, to_end) = (body.si32(&[0])?, body.si32(&[TO_END])?);
        let begin = body.concat(axis, &[first, past])?;
        let end = body.concat(axis, &[to_end, total])?;
        let stride = body.si32(&[1, 1])?;
        let ty = TensorType::new([1.into(), self.rows], ElementType::Si32);
        Ok(body.slice_as(positions, [begin, end, stride], ty)?)
    }

    /// Positions t, h and w: an image token finds its own from its slot, a text
    /// token's are all the same, shifted behind the image.
    fn positions(
        &self,
        body: &mut Body<'_>,
        position: Value,
        slot: Value,
        is_image: Value,
        (shift_start, shift_amount): (Value, Value),
    ) -> Result<[Value; 3]> {
        let before = body.greater(shift_start, position)?;
        let behind = body.not(before)?;
        let none = match self.rows {
            Dim::Static(rows) => {
                body.splat(TensorType::fixed([1, rows], ElementType::Si32), &[0; 4])?
            }
            Dim::Dynamic => {
                let shape = body.get_shape(position)?;
                let zero = body.scalar_si32(0)?;
                body.broadcast_to(zero, shape)?
            }
        };
        let shift = body.select(behind, shift_amount, none)?;
        let text = body.sub(position, shift)?;
        let start = body.sub(position, slot)?;
        let width = body.scalar_si32(self.grid as i64)?;
        let row = body.floor_divide(slot, width)?;
        let row_start = body.mul(row, width)?;
        let col = body.sub(slot, row_start)?;
        let t = body.select(is_image, start, text)?;
        let h = body.add(start, row)?;
        let h = body.select(is_image, h, text)?;
        let w = body.add(start, col)?;
        let w = body.select(is_image, w, text)?;
        Ok([t, h, w])
    }

    fn masks(&self, body: &mut Body<'_>) -> Result<[Value; 3]> {
        let [t, h, w] = tables::mrope_masks(self.text.mrope_section, self.text.head_dim);
        let dims = [1, 1, 1, self.head_dim()];
        let mut mask = |name: &str, mask: Vec<half::f16>| {
            let bytes = mask.iter().flat_map(|m| m.to_le_bytes()).collect();
            weights::halves(body, name, &dims, bytes)
        };
        Ok([
            mask("mrope_mask.t", t)?,
            mask("mrope_mask.h", h)?,
            mask("mrope_mask.w", w)?,
        ])
    }

    /// Rows of `table` `[n, h]` at `slot` `[1, S]`: `[S, h]`. `flat` is the
    /// slot as a vector, where S is not known.
    fn gather_rows(
        &self,
        body: &mut Body<'_>,
        table: Value,
        slot: Value,
        flat: Option<Value>,
    ) -> Result<Value> {
        let column = match (self.rows, flat) {
            (Dim::Dynamic, Some(flat)) => {
                let shape = body.get_shape(flat)?;
                let (axis, one) = (body.scalar_si32(0)?, body.ui32(&[1])?);
                let shape = body.concat(axis, &[shape, one])?;
                let ty = TensorType::new([Dim::Dynamic; 2], ElementType::Si32);
                body.reshape_as(slot, shape, ty)?
            }
            (Dim::Static(rows @ 2..), _) => {
                let shape = body.ui32(&[rows, 1])?;
                body.reshape(slot, shape)?
            }
            _ => slot,
        };
        let (width, axis) = (body.ui32(&[self.hidden()])?, body.si32(&[1])?);
        let indices = body.broadcast_in_dims(column, width, axis)?;
        let along = body.scalar_si32(0)?;
        Ok(body.gather_along_axis(table, indices, along)?)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "a layer reads and writes both caches"
    )]
    fn attention(
        &self,
        body: &mut Body<'_>,
        composites: &Composites,
        common: &Common,
        layer: usize,
        x: Value,
        keys: &mut Cache,
        values: &mut Cache,
    ) -> Result<Value> {
        let name = |parameter: &str| names::text_layer(layer, parameter);
        let text = self.text;
        let (heads, kv_heads, dim) = (self.heads(), self.kv_heads(), self.head_dim());
        let norm = self.vector(body, &name("input_layernorm.weight"), text.hidden_size)?;
        let normed = body.invoke(&composites.norm, &[x, norm])?;
        let q_rows = (heads * dim) as usize;
        let kv_rows = (kv_heads * dim) as usize;
        let parts = [
            (
                name("self_attn.q_proj.weight"),
                vec![q_rows, text.hidden_size],
            ),
            (
                name("self_attn.k_proj.weight"),
                vec![kv_rows, text.hidden_size],
            ),
            (
                name("self_attn.v_proj.weight"),
                vec![kv_rows, text.hidden_size],
            ),
        ];
        let key = name("self_attn.qkv_proj.weight");
        let weight = self.matrix(body, &key, &parts, self.mode.body())?;
        let qkv = body.batch_matmul(normed, weight)?;
        let qkv = self.split_heads(body, common, qkv, heads + 2 * kv_heads)?;
        let qk = slice_heads(body, qkv, 0, heads + kv_heads)?;
        let v = slice_heads(body, qkv, heads + kv_heads, heads + 2 * kv_heads)?;
        let qk_norm = self.qk_norm(body, layer)?;
        let qk = body.invoke(&composites.qk_norm, &[qk, qk_norm])?;
        let qk = self.turn(body, composites, common, qk)?;
        let q = slice_heads(body, qk, 0, heads)?;
        let k = slice_heads(body, qk, heads, heads + kv_heads)?;

        let bounds = self.cache_bounds(body, common, layer)?;
        append(body, keys, k, bounds)?;
        append(body, values, v, bounds)?;
        let keys = layer_of_cache(body, keys, common.used_end, layer)?;
        let values = layer_of_cache(body, values, common.used_end, layer)?;
        let mixed = body.invoke(&composites.attention, &[q, keys, values])?;

        let parts = [(
            name("self_attn.o_proj.weight"),
            vec![text.hidden_size, q_rows],
        )];
        let weight = self.matrix(
            body,
            &name("self_attn.o_proj.weight"),
            &parts,
            self.mode.body(),
        )?;
        let mixed = self.join_heads(body, common, mixed)?;
        let out = body.batch_matmul(mixed, weight)?;
        Ok(body.add(x, out)?)
    }

    /// `[1, S, n·D]` to `[1, n, S, D]`.
    fn split_heads(
        &self,
        body: &mut Body<'_>,
        common: &Common,
        x: Value,
        heads: u64,
    ) -> Result<Value> {
        let dim = self.head_dim();
        let shape = match (self.rows, common.dynamic_shapes) {
            (Dim::Static(1), _) => {
                let shape = body.ui32(&[1, heads, 1, dim])?;
                return Ok(body.reshape(x, shape)?);
            }
            (_, Some((split, _))) => split,
            (rows, None) => body.ui32(&[1, rows.known().unwrap_or(1), heads, dim])?,
        };
        let x = body.reshape(x, shape)?;
        let swap = body.ui32(&[0, 2, 1, 3])?;
        Ok(body.transpose(x, swap)?)
    }

    /// `[1, n, S, D]` to `[S, n·D]`.
    fn join_heads(&self, body: &mut Body<'_>, common: &Common, x: Value) -> Result<Value> {
        let width = self.heads() * self.head_dim();
        let shape = match (self.rows, common.dynamic_shapes) {
            (Dim::Static(1), _) => {
                let shape = body.ui32(&[1, width])?;
                return Ok(body.reshape(x, shape)?);
            }
            (_, Some((_, joined))) => joined,
            (rows, None) => body.ui32(&[rows.known().unwrap_or(1), width])?,
        };
        let swap = body.ui32(&[0, 2, 1, 3])?;
        let x = body.transpose(x, swap)?;
        Ok(body.reshape(x, shape)?)
    }

    /// The weights of q_norm and k_norm, repeated for each head: `[n, 1, D]`.
    fn qk_norm(&self, body: &mut Body<'_>, layer: usize) -> Result<Value> {
        let read = |norm: &str| {
            let name = names::text_layer(layer, &format!("self_attn.{norm}.weight"));
            weights::read_half(self.checkpoint, &name, &[self.text.head_dim])
        };
        let mut bytes = read("q_norm")?.repeat(self.text.num_attention_heads);
        bytes.extend(read("k_norm")?.repeat(self.text.num_key_value_heads));
        let key = names::text_layer(layer, "self_attn.qk_norm.weight");
        let dims = [self.heads() + self.kv_heads(), 1, self.head_dim()];
        weights::halves(body, &key, &dims, bytes)
    }

    /// Turns heads by t, by h and by w, and takes of each what is its own.
    fn turn(
        &self,
        body: &mut Body<'_>,
        composites: &Composites,
        common: &Common,
        x: Value,
    ) -> Result<Value> {
        let mut turned = common.positions;
        for position in &mut turned {
            *position = body.invoke(&composites.rope, &[x, *position])?;
        }
        let [t, h, w] = turned;
        let t = body.mul(t, common.masks[0])?;
        let h = body.mul(h, common.masks[1])?;
        let th = body.add(t, h)?;
        let w = body.mul(w, common.masks[2])?;
        Ok(body.add(th, w)?)
    }

    /// Where the new rows of a layer lie in a cache. The position must come
    /// from a shape: Apple's GPU backend traps where it is a tensor's value.
    fn cache_bounds(
        &self,
        body: &mut Body<'_>,
        common: &Common,
        layer: usize,
    ) -> Result<[Value; 3]> {
        let axis = body.scalar_si32(0)?;
        let layer = layer as i64;
        let zero = body.si32(&[0])?;
        let begin = [body.si32(&[layer])?, zero, zero, common.past, zero];
        let begin = body.concat(axis, &begin)?;
        let end = [
            body.si32(&[layer + 1])?,
            body.si32(&[1])?,
            body.si32(&[self.kv_heads() as i64])?,
            common.total,
            body.si32(&[self.head_dim() as i64])?,
        ];
        let end = body.concat(axis, &end)?;
        Ok([begin, end, body.si32(&[1; 5])?])
    }

    fn mlp(
        &self,
        body: &mut Body<'_>,
        composites: &Composites,
        layer: usize,
        x: Value,
    ) -> Result<Value> {
        let name = |parameter: &str| names::text_layer(layer, parameter);
        let (hidden, width) = (self.text.hidden_size, self.text.intermediate_size);
        let norm = self.vector(body, &name("post_attention_layernorm.weight"), hidden)?;
        let normed = body.invoke(&composites.norm, &[x, norm])?;
        let up = self.projection(body, &name("mlp.up_proj.weight"), [width, hidden], normed)?;
        let gate = self.projection(body, &name("mlp.gate_proj.weight"), [width, hidden], normed)?;
        let gate = body.silu(gate)?;
        let gated = body.mul(up, gate)?;
        let down = self.projection(body, &name("mlp.down_proj.weight"), [hidden, width], gated)?;
        Ok(body.add(x, down)?)
    }

    /// Adds what the vision tower has for this layer, at image tokens.
    fn add_deepstack(
        &self,
        body: &mut Body<'_>,
        common: &Common,
        tap: u64,
        deepstack: Value,
        x: Value,
    ) -> Result<Value> {
        let offset = body.scalar_si32((tap * self.slots()) as i64)?;
        let row = body.add(common.slot, offset)?;
        let flat = match self.rows {
            Dim::Static(_) => None,
            Dim::Dynamic => {
                let shape = body.get_shape(row)?;
                let count = extent(body, shape, 1)?;
                let ty = TensorType::new([Dim::Dynamic], ElementType::Si32);
                Some(body.reshape_as(row, count, ty)?)
            }
        };
        let rows = self.gather_rows(body, deepstack, row, flat)?;
        let rows = body.mul(rows, common.is_image)?;
        Ok(body.add(x, rows)?)
    }

    fn head(&self, body: &mut Body<'_>, x: Value) -> Result<Value> {
        let shape = vec![self.text.vocab_size, self.text.hidden_size];
        let tied = self.config.tie_word_embeddings;
        let name = if tied {
            names::EMBED_TOKENS
        } else {
            names::LM_HEAD
        };
        // A tied head of f16 is the embedding table itself.
        let key = if tied && self.mode.head() == Storage::Half {
            name
        } else {
            names::LM_HEAD
        };
        let weight = self.matrix(body, key, &[(name.to_owned(), shape)], self.mode.head())?;
        Ok(body.batch_matmul(x, weight)?)
    }

    /// `[V, h]` of f16, in every mode.
    fn embedding_table(&self, body: &mut Body<'_>) -> Result<Value> {
        let shape = vec![self.text.vocab_size, self.text.hidden_size];
        let parts = [(names::EMBED_TOKENS.to_owned(), shape)];
        let parts = Parts::new(self.checkpoint, &parts, self.text.hidden_size)?;
        weights::matrix(body, names::EMBED_TOKENS, parts, Storage::Half)
    }

    fn vector(&self, body: &mut Body<'_>, name: &str, len: usize) -> Result<Value> {
        let bytes = weights::read_half(self.checkpoint, name, &[len])?;
        weights::halves(body, name, &[len as u64], bytes)
    }

    /// `x · weightᵀ`, where the weight is stored `[out, in]`.
    fn projection(
        &self,
        body: &mut Body<'_>,
        name: &str,
        shape: [usize; 2],
        x: Value,
    ) -> Result<Value> {
        let parts = [(name.to_owned(), shape.to_vec())];
        let weight = self.matrix(body, name, &parts, self.mode.body())?;
        Ok(body.batch_matmul(x, weight)?)
    }

    /// The transpose `[in, out]` of stored matrices `[out, in]`, one below the
    /// other.
    fn matrix(
        &self,
        body: &mut Body<'_>,
        key: &str,
        parts: &[(String, Vec<usize>)],
        storage: Storage,
    ) -> Result<Value> {
        let cols = parts
            .first()
            .and_then(|(_, shape)| shape.last())
            .copied()
            .unwrap_or(0);
        let parts = Parts::new(self.checkpoint, parts, cols)?;
        let weight = weights::matrix(body, key, parts, storage)?;
        let swap = body.ui32(&[1, 0])?;
        Ok(body.transpose(weight, swap)?)
    }
}

/// The extent of the second dimension, as a vector of si32.
fn columns(body: &mut Body<'_>, x: Value) -> Result<Value> {
    let shape = body.get_shape(x)?;
    let shape = body.cast(shape, ElementType::Si32)?;
    extent(body, shape, 1)
}

fn read(body: &mut Body<'_>, handle: Value, token: Value) -> Result<Cache> {
    let (tensor, token) = body.read_handle(handle, token)?;
    Ok(Cache {
        handle,
        tensor,
        token,
    })
}

/// Writes `[1, KV, S, D]` into a cache, and reads the cache again.
fn append(body: &mut Body<'_>, cache: &mut Cache, rows: Value, bounds: [Value; 3]) -> Result<()> {
    let rows = add_axis(body, rows, 0)?;
    let updated = body.slice_update(cache.tensor, rows, bounds)?;
    let token = body.write_handle(cache.handle, updated, cache.token)?;
    *cache = read(body, cache.handle, token)?;
    Ok(())
}

/// The bound that leaves T tokens of `[1, 1, KV, ?, D]`.
fn used_end(body: &mut Body<'_>, total: Value) -> Result<Value> {
    let (axis, to_end) = (body.scalar_si32(0)?, body.si32(&[TO_END])?);
    let outer = body.si32(&[TO_END; 3])?;
    Ok(body.concat(axis, &[outer, total, to_end])?)
}

/// What a cache holds for a layer: `[1, KV, T, D]`.
fn layer_of_cache(body: &mut Body<'_>, cache: &Cache, end: Value, layer: usize) -> Result<Value> {
    let layer = layer as i64;
    let ones = body.si32(&[1; 5])?;
    let first = body.si32(&[layer, 0, 0, 0, 0])?;
    let last = body.si32(&[layer + 1, TO_END, TO_END, TO_END, TO_END])?;
    let all = body.slice(cache.tensor, first, last, ones)?;
    let begin = body.si32(&[0; 5])?;
    let used = body.slice(all, begin, end, ones)?;
    let axis = body.si32(&[0])?;
    Ok(body.shrink_dims(used, axis)?)
}

/// Heads `from..to` of `[1, n, S, D]`.
fn slice_heads(body: &mut Body<'_>, x: Value, from: u64, to: u64) -> Result<Value> {
    let begin = body.si32(&[0, from as i64, 0, 0])?;
    let end = body.si32(&[TO_END, to as i64, TO_END, TO_END])?;
    let ones = body.si32(&[1; 4])?;
    Ok(body.slice(x, begin, end, ones)?)
}
