//! Everything before the first layer of a decoder that takes rows, and the
//! asset that makes rows of token ids; [`rows`](crate::qwen3_vl::rows) says what a
//! row is.

use aimodel::{AssetBuilder, ElementType, GraphBuilder, TensorType, Value};
use half::f16;

use super::{
    attention::{self, Cache},
    common::{Common, Decoder, Pictures, Rotary},
    embed::columns,
};
use crate::lower::{
    Result,
    composite::{self, TO_END, add_axis, extent},
};
use crate::qwen3_vl::{contract, rows::RowLayout, tables};

impl Decoder<'_> {
    /// Everything before the first layer.
    pub(super) fn embed_rows(
        &self,
        body: &mut GraphBuilder<'_>,
        rows: Value,
        positions: Value,
        keys: &mut Cache,
    ) -> Result<(Common, Value)> {
        let count = columns(body, rows)?;
        let total = columns(body, positions)?;
        let past = body.sub(total, count)?;
        let x = self.part_of_rows(body, rows, 0)?;
        let [row, col, advance] = self.marks(body, rows)?;
        let position = self.last_positions(body, positions, past, total)?;
        let position = body.cast(position, ElementType::F32)?;
        let used_end = attention::used_end(body, total)?;
        self.keep_marks(body, keys, advance, (past, total))?;
        let before = self.advance_before(body, keys, used_end, advance)?;
        let within = advance_within(body, position, advance)?;
        let u = body.add(position, before)?;
        let u = body.add(u, within)?;
        let (h, w) = (body.add(u, row)?, body.add(u, col)?);
        let rotary = self.angles(body, [u, h, w])?;
        let common = Common {
            dynamic_shapes: Some(self.dynamic_shapes(body, count)?),
            used_end,
            past,
            total,
            rotary,
            pictures: Pictures::Rows(rows),
        };
        Ok((common, x))
    }

    /// The part of rows that begins at `start` and is as wide as the model:
    /// `[1, S, h]`.
    pub(super) fn part_of_rows(
        &self,
        body: &mut GraphBuilder<'_>,
        rows: Value,
        start: u64,
    ) -> Result<Value> {
        columns_of_rows(body, rows, start, self.hidden())
    }

    /// The three marks of each token, `[1, S]` f32.
    fn marks(&self, body: &mut GraphBuilder<'_>, rows: Value) -> Result<[Value; 3]> {
        let first = RowLayout::of(self.config).marks();
        let mut marks = [rows; 3];
        for (at, mark) in marks.iter_mut().enumerate() {
            let column = columns_of_rows(body, rows, first + at as u64, 1)?;
            let axis = body.si32(&[2])?;
            let column = body.shrink_dims(column, axis)?;
            *mark = body.cast(column, ElementType::F32)?;
        }
        Ok(marks)
    }

    /// Writes the advances of this call's tokens into the key cache: layer L,
    /// first head, first element. They are written before anything is read, so
    /// that the first call is no other than the rest.
    fn keep_marks(
        &self,
        body: &mut GraphBuilder<'_>,
        keys: &mut Cache,
        advance: Value,
        (past, total): (Value, Value),
    ) -> Result<()> {
        let (kv_heads, dim) = (self.kv_heads(), self.head_dim());
        let mut place = vec![f16::ZERO; (kv_heads * dim) as usize];
        if let Some(first) = place.first_mut() {
            *first = f16::ONE;
        }
        let bytes: Vec<u8> = place.iter().flat_map(|one| one.to_le_bytes()).collect();
        let ty = TensorType::fixed([1, kv_heads, 1, dim], ElementType::F16);
        let place = body.dense(ty, &bytes)?;
        let advance = body.cast(advance, ElementType::F16)?;
        let advance = add_axis(body, advance, 1)?;
        let advance = add_axis(body, advance, 3)?;
        let kept = body.mul(advance, place)?;
        let bounds = self.cache_bounds(body, (past, total), self.marks_layer())?;
        attention::append(body, keys, kept, bounds)
    }

    /// The layer of the key cache that keeps marks: one behind the last.
    fn marks_layer(&self) -> usize {
        self.text.num_hidden_layers
    }

    /// What all tokens before this call advance by, `[1, 1]` f32: the sum of all
    /// that the cache has, less this call's own.
    fn advance_before(
        &self,
        body: &mut GraphBuilder<'_>,
        keys: &Cache,
        used_end: Value,
        advance: Value,
    ) -> Result<Value> {
        let kept = attention::layer_of_cache(body, keys, used_end, self.marks_layer())?;
        let begin = body.si32(&[0; 4])?;
        let end = body.si32(&[TO_END, 1, TO_END, 1])?;
        let ones = body.si32(&[1; 4])?;
        let kept = body.slice(kept, begin, end, ones)?;
        let axes = body.si32(&[1, 3])?;
        let kept = body.shrink_dims(kept, axes)?;
        let kept = body.cast(kept, ElementType::F32)?;
        let axis = body.si32(&[1])?;
        let all = body.reduce_sum(kept, axis)?;
        let own = body.reduce_sum(advance, axis)?;
        Ok(body.sub(all, own)?)
    }

    /// Cosines and sines of each head's angles, from positions t, h and w of
    /// `[1, S]` f32: frequency j rotates by the one of the three that it belongs
    /// to, and is zero for the others.
    fn angles(&self, body: &mut GraphBuilder<'_>, positions: [Value; 3]) -> Result<Rotary> {
        let dim = self.text.head_dim;
        let frequencies = composite::rope_frequencies(self.text.rope_theta, dim);
        let masks = tables::mrope_masks(self.text.mrope_section, dim);
        let mut angles = None;
        for (position, mask) in positions.into_iter().zip(&masks) {
            let own = frequencies
                .iter()
                .zip(mask)
                .map(|(frequency, mask)| frequency * f32::from(*mask));
            let bytes: Vec<u8> = own.flat_map(f32::to_le_bytes).collect();
            let ty = TensorType::fixed([self.head_dim() / 2], ElementType::F32);
            let own = body.dense(ty, &bytes)?;
            let position = add_axis(body, position, 2)?;
            let angle = body.mul(position, own)?;
            angles = Some(match angles {
                None => angle,
                Some(sum) => body.add(sum, angle)?,
            });
        }
        let Some(angles) = angles else {
            unreachable!("there are three positions");
        };
        let (cos, sin) = (body.cos(angles)?, body.sin(angles)?);
        let mut half = |x| {
            let x = body.cast(x, ElementType::F16)?;
            add_axis(body, x, 1)
        };
        Ok(Rotary::Angles {
            cos: half(cos)?,
            sin: half(sin)?,
        })
    }

    /// `embed_tokens(input_ids [1, S]) → inputs_embeds [1, S, W]`: embeddings,
    /// and zeros, which are made at run time.
    pub(super) fn embedding_function(&self, asset: &mut AssetBuilder) -> Result<()> {
        let contract = contract::embedding(self.config);
        let mut graph = asset.graph(contract.function);
        let [ids] = &contract.inputs[..] else {
            unreachable!("the contract has one input");
        };
        let ids = graph.input(ids.name, ids.ty.clone())?;
        let body = &mut graph;
        let zero = body.scalar_si32(0)?;
        let id = body.maximum(ids, zero)?;
        let last = body.scalar_si32(self.text.vocab_size as i64 - 1)?;
        let id = body.minimum(id, last)?;
        let id = add_axis(body, id, 2)?;
        let table = self.embedding_table(body)?;
        let embedding = body.gather_nd(table, id)?;

        let rest = RowLayout::of(self.config).width() - self.hidden();
        let (axis, one, rest) = (body.scalar_si32(0)?, body.ui32(&[1])?, body.ui32(&[rest])?);
        let shape = body.get_shape(ids)?;
        let count = extent(body, shape, 1)?;
        let shape = body.concat(axis, &[one, count, rest])?;
        let zero = body.scalar_f16(0.0)?;
        let zeros = body.broadcast_to(zero, shape)?;
        let axis = body.scalar_si32(2)?;
        let rows = body.concat(axis, &[embedding, zeros])?;
        let name = contract.outputs.first().map_or("", |output| output.name);
        graph.finish(&[(name, rows)])?;
        Ok(())
    }
}

/// What the tokens of this call that come before each of them advance by, `[1,
/// S]` f32. `position` orders them.
fn advance_within(body: &mut GraphBuilder<'_>, position: Value, advance: Value) -> Result<Value> {
    let (of, before) = (add_axis(body, position, 2)?, add_axis(body, position, 1)?);
    let is_before = body.greater(of, before)?;
    let is_before = body.cast(is_before, ElementType::F32)?;
    let advance = add_axis(body, advance, 1)?;
    let advances = body.mul(is_before, advance)?;
    let axis = body.si32(&[2])?;
    let sums = body.reduce_sum(advances, axis)?;
    Ok(body.shrink_dims(sums, axis)?)
}

/// Columns of rows `[1, S, W]`: `[1, S, width]`.
fn columns_of_rows(
    body: &mut GraphBuilder<'_>,
    rows: Value,
    start: u64,
    width: u64,
) -> Result<Value> {
    let begin = body.si32(&[0, 0, start as i64])?;
    let end = body.si32(&[TO_END, TO_END, (start + width) as i64])?;
    let ones = body.si32(&[1; 3])?;
    Ok(body.slice(rows, begin, end, ones)?)
}
