//! Attention over a cache of f16.
//!
//! A single query is multiplied with the keys one by one. Many queries lie side
//! by side in lanes, keys and values are the rows of two matrix products, and
//! between them the softmax runs down the lanes.

use half::f16;

use super::{
    dot::{self, read_f16},
    elementwise,
    lanes::{Lanes, Simd, WIDTH},
    level::{Level, on_lanes},
    tile::{self, PIECE, Panels, Weights},
};
use crate::{
    error::{OpResult, refuse},
    thread_pool,
};

/// The extents of an attention.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttentionShape {
    pub heads: usize,
    pub kv_heads: usize,
    pub rows: usize,
    pub keys: usize,
    pub dim: usize,
    pub causal: bool,
}

impl AttentionShape {
    pub fn new(query: &[usize], key: &[usize], value: &[usize], causal: bool) -> OpResult<Self> {
        match (query, key) {
            (&[1, heads, rows, dim], &[1, kv_heads, keys, key_dim])
                if dim == key_dim
                    && key == value
                    && ![heads, kv_heads, rows, keys, dim].contains(&0)
                    && heads % kv_heads == 0
                    && (!causal || rows <= keys) =>
            {
                Ok(Self {
                    heads,
                    kv_heads,
                    rows,
                    keys,
                    dim,
                    causal,
                })
            }
            _ => refuse(format!("{query:?} does not attend to {key:?}, {value:?}")),
        }
    }

    /// How many keys a query sees.
    pub fn visible(&self, row: usize) -> usize {
        if self.causal {
            self.keys - self.rows + row + 1
        } else {
            self.keys
        }
    }
}

/// Keys or values: for each head, rows of f16.
#[derive(Clone, Copy)]
pub(crate) struct Cache<'c> {
    pub data: &'c [f16],
    /// From one head to the next, and from one row to the next.
    pub strides: [usize; 2],
}

impl Cache<'_> {
    /// The rows of a head, contiguous, as bytes.
    fn head(&self, head: usize, rows: usize, dim: usize) -> std::borrow::Cow<'_, [u8]> {
        let [by_head, by_row] = self.strides;
        let data = &self.data[head * by_head..];
        if by_row == dim {
            return bytemuck::cast_slice(&data[..rows * dim]).into();
        }
        let rows = (0..rows).flat_map(|row| &data[row * by_row..row * by_row + dim]);
        let rows: Vec<f16> = rows.copied().collect();
        bytemuck::cast_slice(&rows).to_vec().into()
    }
}

/// Attention of queries `[heads, rows, dim]`, to `[heads, rows, dim]`.
/// Queries are scaled already.
pub(crate) fn attention(
    shape: AttentionShape,
    query: &[f16],
    key: Cache<'_>,
    value: Cache<'_>,
) -> Vec<f16> {
    attention_at(Level::best(), shape, query, key, value)
}

pub(super) fn attention_at(
    level: Level,
    shape: AttentionShape,
    query: &[f16],
    key: Cache<'_>,
    value: Cache<'_>,
) -> Vec<f16> {
    let AttentionShape {
        rows, keys, dim, ..
    } = shape;
    // The heads that share keys lie side by side.
    let queries = shape.heads / shape.kv_heads * rows;
    let mut out = vec![f16::ZERO; shape.heads * rows * dim];
    thread_pool::split(&mut out, queries * dim, |head, out| {
        let query = &query[head * queries * dim..][..queries * dim];
        let mut wide = vec![0.0; query.len()];
        elementwise::widen(level, query, &mut wide);
        let mut mixed = vec![0.0; query.len()];
        let key = key.head(head, keys, dim);
        let value = value.head(head, keys, dim);
        match rows {
            1 => {
                let mut scores = vec![0.0; keys];
                let each = wide.chunks_exact(dim).zip(mixed.chunks_exact_mut(dim));
                for (query, mixed) in each {
                    dot::f16_rows(level, &key, query, &mut scores);
                    let total = exp_and_sum(level, &mut scores);
                    mix(level, &scores, &value, total, mixed);
                }
            }
            _ => {
                let side = WIDTH * level.tile();
                for first in (0..queries).step_by(side) {
                    let range = first * dim..queries.min(first + side) * dim;
                    let visible: Vec<usize> = (first..queries.min(first + side))
                        .map(|i| shape.visible(i % rows))
                        .collect();
                    let queries = &wide[range.clone()];
                    many_queries(level, queries, &visible, &key, &value, &mut mixed[range]);
                }
            }
        }
        elementwise::narrow(level, &mixed, out);
    });
    out
}

on_lanes! {
    /// Replaces each score by `e` to its distance from the largest, and gives the
    /// sum.
    fn exp_and_sum(scores: &mut [f32]) -> f32 = any_exp_and_sum
}

#[inline(always)]
fn any_exp_and_sum<S: Simd>(s: S, scores: &mut [f32]) -> f32 {
    let (lanes, rest) = scores.as_chunks_mut::<WIDTH>();
    let mut max = s.splat(f32::NEG_INFINITY);
    for lane in &*lanes {
        max = max.max(s.load(lane));
    }
    let max = rest.iter().copied().fold(max.reduce_max(), f32::max);
    let mut total = s.splat(0.0);
    for lane in lanes {
        let power = s.load(lane).sub(s.splat(max)).exp();
        power.store(lane);
        total = total.add(power);
    }
    let mut total = total.sum();
    if !rest.is_empty() {
        let mut last = [0.0; WIDTH];
        last[..rest.len()].copy_from_slice(rest);
        s.load(&last).sub(s.splat(max)).exp().store(&mut last);
        rest.copy_from_slice(&last[..rest.len()]);
        total += rest.iter().sum::<f32>();
    }
    total
}

on_lanes! {
    /// The mean of rows of f16, weighted by `weights`, whose sum is `total`.
    fn mix(weights: &[f32], rows: &[u8], total: f32, out: &mut [f32]) = any_mix
}

#[inline(always)]
fn any_mix<S: Simd>(s: S, weights: &[f32], rows: &[u8], total: f32, out: &mut [f32]) {
    /// Lanes of a row that are summed at once.
    const SIDE: usize = 8;
    let dim = out.len();
    let (lanes, rest) = out.as_chunks_mut::<WIDTH>();
    let whole = lanes.len();
    for (part, lanes) in lanes.chunks_mut(SIDE).enumerate() {
        let mut sums = [s.splat(0.0); SIDE];
        for (weight, row) in weights.iter().zip(rows.chunks_exact(2 * dim)) {
            let weight = s.splat(*weight);
            let row = row.as_chunks::<{ 2 * WIDTH }>().0;
            let row = &row[part * SIDE..part * SIDE + lanes.len()];
            for (sum, row) in sums.iter_mut().zip(row) {
                *sum = weight.fma(s.load_f16(&read_f16(row)), *sum);
            }
        }
        for (sum, lane) in sums.into_iter().zip(lanes) {
            sum.div(s.splat(total)).store(lane);
        }
    }
    for (i, out) in rest.iter_mut().enumerate() {
        let at = 2 * (whole * WIDTH + i);
        let rows = rows.chunks_exact(2 * dim);
        let sum = weights.iter().zip(rows).fold(0.0, |sum, (weight, row)| {
            let value = f16::from_le_bytes([row[at], row[at + 1]]);
            weight.mul_add(value.to_f32(), sum)
        });
        *out = sum / total;
    }
}

/// Attention of many queries, each of which sees the first `visible` keys.
fn many_queries(
    level: Level,
    queries: &[f32],
    visible: &[usize],
    keys: &[u8],
    values: &[u8],
    out: &mut [f32],
) {
    let dim = queries.len() / visible.len().max(1);
    let seen = visible.iter().copied().max().unwrap_or(0);
    let panels = Panels::new(level.tile(), queries, dim);
    let lanes = panels.lanes;
    let mut scores = vec![[0.0; WIDTH]; seen * lanes];
    for (piece, scores) in scores.chunks_mut(PIECE * lanes).enumerate() {
        let from = piece * PIECE * 2 * dim;
        let keys = &keys[from..from + scores.len() / lanes * 2 * dim];
        tile::multiply(level, Weights::F16(keys), &panels, scores);
    }
    for (i, visible) in visible.iter().enumerate() {
        for key in *visible..seen {
            scores[key * lanes + i / WIDTH][i % WIDTH] = f32::NEG_INFINITY;
        }
    }
    let mut totals = [[0.0; WIDTH]; 4];
    exp_and_sum_lanes(level, &mut scores, &mut totals[..lanes]);
    let scores = Panels::from_lanes(scores, lanes);
    let mut mixed = vec![[0.0; WIDTH]; dim * lanes];
    for (piece, mixed) in mixed.chunks_mut(PIECE * lanes).enumerate() {
        let columns = Weights::Columns {
            data: &values[..2 * seen * dim],
            first: piece * PIECE,
            width: dim,
        };
        tile::multiply(level, columns, &scores, mixed);
    }
    for (i, out) in out.chunks_exact_mut(dim).enumerate() {
        let total = totals[i / WIDTH][i % WIDTH];
        for (out, mixed) in out.iter_mut().zip(mixed.chunks_exact(lanes)) {
            *out = mixed[i / WIDTH][i % WIDTH] / total;
        }
    }
}

on_lanes! {
    /// As [`exp_and_sum`], for each lane by itself.
    fn exp_and_sum_lanes(scores: &mut [[f32; WIDTH]], totals: &mut [[f32; WIDTH]]) = any_exp_and_sum_lanes
}

#[inline(always)]
fn any_exp_and_sum_lanes<S: Simd>(s: S, scores: &mut [[f32; WIDTH]], totals: &mut [[f32; WIDTH]]) {
    let lanes = totals.len();
    for (lane, total) in totals.iter_mut().enumerate() {
        let mut max = s.splat(f32::NEG_INFINITY);
        for scores in scores.chunks_exact(lanes) {
            max = max.max(s.load(&scores[lane]));
        }
        let mut sum = s.splat(0.0);
        for scores in scores.chunks_exact_mut(lanes) {
            let power = s.load(&scores[lane]).sub(max).exp();
            power.store(&mut scores[lane]);
            sum = sum.add(power);
        }
        sum.store(total);
    }
}
