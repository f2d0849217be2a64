//! Everything before the first layer: the rows that tokens stand for, and
//! their positions.

use aimodel::{Dim, ElementType, GraphBuilder, TensorType, Value};

use super::{
    attention,
    common::{Common, Decoder, Pictures, Rotary},
};
use crate::lower::{
    Result,
    composite::{TO_END, add_axis, extent},
    weights,
};
use crate::qwen3_vl::tables;

impl Decoder<'_> {
    /// Everything before the first layer.
    pub(super) fn embed(
        &self,
        body: &mut GraphBuilder<'_>,
        [ids, positions]: [Value; 2],
        [image, deepstack]: [Value; 2],
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
        let used_end = attention::used_end(body, total)?;
        let common = Common {
            dynamic_shapes,
            used_end,
            past,
            total,
            rotary: Rotary::Positions { positions, masks },
            pictures: Pictures::Table {
                deepstack,
                slot,
                is_image,
            },
        };
        Ok((common, x))
    }

    pub(super) fn dynamic_shapes(
        &self,
        body: &mut GraphBuilder<'_>,
        rows: Value,
    ) -> Result<(Value, Value)> {
        let (heads, dim) = (self.heads(), self.head_dim());
        let all = heads + 2 * self.kv_heads();
        let (axis, one) = (body.scalar_si32(0)?, body.si32(&[1])?);
        let (all, dim_vector) = (body.si32(&[all as i64])?, body.si32(&[dim as i64])?);
        let split = body.concat(axis, &[one, rows, all, dim_vector])?;
        let width = body.si32(&[(heads * dim) as i64])?;
        Ok((split, body.concat(axis, &[rows, width])?))
    }

    /// The last S of the positions.
    pub(super) fn last_positions(
        &self,
        body: &mut GraphBuilder<'_>,
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
        body: &mut GraphBuilder<'_>,
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

    fn masks(&self, body: &mut GraphBuilder<'_>) -> Result<[Value; 3]> {
        let [t, h, w] = tables::mrope_masks(self.text.mrope_section, self.text.head_dim);
        let dims = [1, 1, 1, self.head_dim()];
        let mut mask = |name: &str, mask: Vec<half::f16>| {
            let bytes = mask.iter().flat_map(|m| m.to_le_bytes()).collect();
            weights::f16_constant(body, name, &dims, bytes)
        };
        Ok([
            mask("mrope_mask.t", t)?,
            mask("mrope_mask.h", h)?,
            mask("mrope_mask.w", w)?,
        ])
    }

    /// Rows of `table` `[n, h]` at `slot` `[1, S]`: `[S, h]`. `flat` is the
    /// slot as a vector, where S is not known.
    pub(super) fn gather_rows(
        &self,
        body: &mut GraphBuilder<'_>,
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
}

/// The extent of the second dimension, as a vector of si32.
pub(super) fn columns(body: &mut GraphBuilder<'_>, x: Value) -> Result<Value> {
    let shape = body.get_shape(x)?;
    let shape = body.cast(shape, ElementType::Si32)?;
    extent(body, shape, 1)
}
