//! Attention over the key and value caches.

use crate::qwen3_vl::names;
use aimodel::{Dim, GraphBuilder, Value};

use super::common::{Common, Composites, Decoder, Rotary};
use crate::lower::{
    Result,
    composite::{self, TO_END, add_axis},
    weights,
};

/// A state as far as it was read and written.
pub(super) struct Cache {
    pub handle: Value,
    pub tensor: Value,
    pub token: Value,
}

/// The states of the decoder.
pub(super) struct Caches {
    pub keys: Cache,
    pub values: Cache,
}

impl Decoder<'_> {
    /// Adds the attention of a layer to `x` `[1, S, h]`.
    pub(super) fn attention(
        &self,
        body: &mut GraphBuilder<'_>,
        composites: &Composites,
        common: &Common,
        layer: usize,
        x: Value,
        caches: &mut Caches,
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
        let weight = self.matrix(body, &key, &parts, self.recipe.body)?;
        let qkv = body.batch_matmul(normed, weight)?;
        let qkv = self.split_heads(body, common, qkv, heads + 2 * kv_heads)?;
        let qk = slice_heads(body, qkv, 0, heads + kv_heads)?;
        let v = slice_heads(body, qkv, heads + kv_heads, heads + 2 * kv_heads)?;
        let qk_norm = self.qk_norm(body, layer)?;
        let qk = body.invoke(&composites.qk_norm, &[qk, qk_norm])?;
        let qk = self.rotate(body, composites, common, qk)?;
        let q = slice_heads(body, qk, 0, heads)?;
        let k = slice_heads(body, qk, heads, heads + kv_heads)?;

        let bounds = self.cache_bounds(body, (common.past, common.total), layer)?;
        append(body, &mut caches.keys, k, bounds)?;
        append(body, &mut caches.values, v, bounds)?;
        let keys = layer_of_cache(body, &caches.keys, common.used_end, layer)?;
        let values = layer_of_cache(body, &caches.values, common.used_end, layer)?;
        let mixed = body.invoke(&composites.attention, &[q, keys, values])?;

        let parts = [(
            name("self_attn.o_proj.weight"),
            vec![text.hidden_size, q_rows],
        )];
        let weight = self.matrix(
            body,
            &name("self_attn.o_proj.weight"),
            &parts,
            self.recipe.body,
        )?;
        let mixed = self.join_heads(body, common, mixed)?;
        let out = body.batch_matmul(mixed, weight)?;
        Ok(body.add(x, out)?)
    }

    /// `[1, S, n·D]` to `[1, n, S, D]`.
    fn split_heads(
        &self,
        body: &mut GraphBuilder<'_>,
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
    fn join_heads(&self, body: &mut GraphBuilder<'_>, common: &Common, x: Value) -> Result<Value> {
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
    fn qk_norm(&self, body: &mut GraphBuilder<'_>, layer: usize) -> Result<Value> {
        let read = |norm: &str| {
            let name = names::text_layer(layer, &format!("self_attn.{norm}.weight"));
            weights::read_f16(self.checkpoint, &name, &[self.text.head_dim])
        };
        let mut bytes = read("q_norm")?.repeat(self.text.num_attention_heads);
        bytes.extend(read("k_norm")?.repeat(self.text.num_key_value_heads));
        let key = names::text_layer(layer, "self_attn.qk_norm.weight");
        let dims = [self.heads() + self.kv_heads(), 1, self.head_dim()];
        weights::f16_constant(body, &key, &dims, bytes)
    }

    /// Rotates heads: by t, by h and by w, of each what is its own, or by angles
    /// that are mixed already.
    fn rotate(
        &self,
        body: &mut GraphBuilder<'_>,
        composites: &Composites,
        common: &Common,
        x: Value,
    ) -> Result<Value> {
        let (positions, masks) = match (&common.rotary, &composites.rope) {
            (Rotary::Positions { positions, masks }, Some(rope)) => {
                let mut rotated = *positions;
                for position in &mut rotated {
                    *position = body.invoke(rope, &[x, *position])?;
                }
                (rotated, masks)
            }
            (Rotary::Angles { cos, sin }, _) => {
                return composite::rotate_halves(body, x, (*cos, *sin), self.head_dim());
            }
            (Rotary::Positions { .. }, None) => {
                unreachable!("decoders that rotate by positions have the graph for it")
            }
        };
        let [t, h, w] = positions;
        let t = body.mul(t, masks[0])?;
        let h = body.mul(h, masks[1])?;
        let th = body.add(t, h)?;
        let w = body.mul(w, masks[2])?;
        Ok(body.add(th, w)?)
    }

    /// Where the new rows of a layer lie in a cache. The position must come
    /// from a shape: Apple's GPU backend traps where it is a tensor's value.
    pub(super) fn cache_bounds(
        &self,
        body: &mut GraphBuilder<'_>,
        (past, total): (Value, Value),
        layer: usize,
    ) -> Result<[Value; 3]> {
        let axis = body.scalar_si32(0)?;
        let layer = layer as i64;
        let zero = body.si32(&[0])?;
        let begin = [body.si32(&[layer])?, zero, zero, past, zero];
        let begin = body.concat(axis, &begin)?;
        let end = [
            body.si32(&[layer + 1])?,
            body.si32(&[1])?,
            body.si32(&[self.kv_heads() as i64])?,
            total,
            body.si32(&[self.head_dim() as i64])?,
        ];
        let end = body.concat(axis, &end)?;
        Ok([begin, end, body.si32(&[1; 5])?])
    }
}

pub(super) fn read(body: &mut GraphBuilder<'_>, handle: Value, token: Value) -> Result<Cache> {
    let (tensor, token) = body.read_handle(handle, token)?;
    Ok(Cache {
        handle,
        tensor,
        token,
    })
}

/// Writes `[1, KV, S, D]` into a cache, and reads the cache again.
pub(super) fn append(
    body: &mut GraphBuilder<'_>,
    cache: &mut Cache,
    rows: Value,
    bounds: [Value; 3],
) -> Result<()> {
    let rows = add_axis(body, rows, 0)?;
    let updated = body.slice_update(cache.tensor, rows, bounds)?;
    let token = body.write_handle(cache.handle, updated, cache.token)?;
    *cache = read(body, cache.handle, token)?;
    Ok(())
}

/// The bound that leaves T tokens of `[1, 1, KV, ?, D]`.
pub(super) fn used_end(body: &mut GraphBuilder<'_>, total: Value) -> Result<Value> {
    let (axis, to_end) = (body.scalar_si32(0)?, body.si32(&[TO_END])?);
    let outer = body.si32(&[TO_END; 3])?;
    Ok(body.concat(axis, &[outer, total, to_end])?)
}

/// What a cache holds for a layer: `[1, KV, T, D]`.
pub(super) fn layer_of_cache(
    body: &mut GraphBuilder<'_>,
    cache: &Cache,
    end: Value,
    layer: usize,
) -> Result<Value> {
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
fn slice_heads(body: &mut GraphBuilder<'_>, x: Value, from: u64, to: u64) -> Result<Value> {
    let begin = body.si32(&[0, from as i64, 0, 0])?;
    let end = body.si32(&[TO_END, to as i64, TO_END, TO_END])?;
    let ones = body.si32(&[1; 4])?;
    Ok(body.slice(x, begin, end, ones)?)
}
