//! Many vectors times the rows of a matrix.
//!
//! Vectors lie side by side in lanes, so that a weight, widened once, is
//! multiplied by sixteen of them in one instruction, and rows are used as they
//! are stored. Each result is one sum in the order of the columns, whatever the
//! size of the tiles.

use half::f16;

use super::{
    dot::read_f16,
    lanes::{Lanes, Simd, WIDTH},
    level::on_lanes,
};

/// Columns that are worked on at once, so that the innermost loop's operands
/// stay in the first-level cache.
pub(super) const DEPTH: usize = 128;

/// Rows of a tile. They share the lanes of vectors once those are loaded.
const ROWS: usize = 6;

/// Rows of one piece of work.
pub(super) const PIECE: usize = 8 * ROWS;

/// The weights of one piece.
#[derive(Clone, Copy)]
pub(super) enum Weights<'w> {
    /// Little-endian f16.
    F16(&'w [u8]),
    /// si8, and an f16 scale for each run of `block` elements of a row.
    Int8 {
        data: &'w [u8],
        scales: &'w [u8],
        block: usize,
    },
    /// Little-endian f16, transposed: a row is a column, from `first` on, of
    /// rows that have `width` elements.
    Columns {
        data: &'w [u8],
        first: usize,
        width: usize,
    },
}

/// Vectors, transposed for the tiles.
pub(super) struct Panels {
    cols: usize,
    /// Lanes of vectors, the last ones filled with zeros.
    pub lanes: usize,
    /// For each tile's width of lanes, column by column.
    data: Vec<[f32; WIDTH]>,
}

impl Panels {
    /// From vectors in rows of `cols`.
    pub fn new(tile: usize, x: &[f32], cols: usize) -> Self {
        let count = x.len() / cols.max(1);
        let lanes = count.div_ceil(WIDTH);
        let mut data = vec![[0.0; WIDTH]; lanes * cols];
        let panel = (tile * cols).max(1);
        crate::thread_pool::split(&mut data, panel, |index, panel| {
            let (width, first) = (panel.len() / cols, index * tile * WIDTH);
            for depth in (0..cols).step_by(DEPTH) {
                let columns = depth..cols.min(depth + DEPTH);
                for at in 0..(width * WIDTH).min(count - first) {
                    let row = &x[(first + at) * cols..(first + at + 1) * cols];
                    for column in columns.clone() {
                        panel[column * width + at / WIDTH][at % WIDTH] = row[column];
                    }
                }
            }
        });
        Self { cols, lanes, data }
    }

    /// From lanes that are stored column by column, at most as many as a tile
    /// has.
    pub fn from_lanes(data: Vec<[f32; WIDTH]>, lanes: usize) -> Self {
        let cols = data.len() / lanes.max(1);
        Self { cols, lanes, data }
    }
}

on_lanes! {
    /// Up to [`PIECE`] rows times all vectors, to `out`: for each row, the
    /// lanes of vectors. `out` is zero before.
    pub(super) fn multiply(weights: Weights<'_>, x: &Panels, out: &mut [[f32; WIDTH]]) = any_multiply
}

#[inline(always)]
fn any_multiply<S: Simd>(s: S, weights: Weights<'_>, x: &Panels, out: &mut [[f32; WIDTH]]) {
    let rows = out.len() / x.lanes.max(1);
    let mut wide = [[0.0; DEPTH]; PIECE];
    for depth in (0..x.cols).step_by(DEPTH) {
        let columns = depth..x.cols.min(depth + DEPTH);
        weights.widen(s, x.cols, columns.clone(), &mut wide[..rows]);
        for first in (0..x.lanes).step_by(S::TILE) {
            let width = S::TILE.min(x.lanes - first);
            let panel = &x.data[first * x.cols..(first + width) * x.cols];
            let panel = &panel[columns.start * width..columns.end * width];
            for row in (0..rows).step_by(ROWS) {
                let Some((wide, _)) = wide[row..].split_first_chunk::<ROWS>() else {
                    continue;
                };
                let out = &mut out[row * x.lanes + first..];
                match width {
                    1 => tile::<S, 1>(s, wide, panel, out, x.lanes, rows - row),
                    2 => tile::<S, 2>(s, wide, panel, out, x.lanes, rows - row),
                    3 => tile::<S, 3>(s, wide, panel, out, x.lanes, rows - row),
                    _ => tile::<S, 4>(s, wide, panel, out, x.lanes, rows - row),
                }
            }
        }
    }
}

/// Adds the products of a tile: `T` lanes of vectors, and six rows, of which
/// the first `real` exist. `stride` is the distance between rows of `out`.
#[inline(always)]
fn tile<S: Simd, const T: usize>(
    s: S,
    wide: &[[f32; DEPTH]; ROWS],
    panel: &[[f32; WIDTH]],
    out: &mut [[f32; WIDTH]],
    stride: usize,
    real: usize,
) {
    let panel = panel.as_chunks::<T>().0;
    let panel = &panel[..panel.len().min(DEPTH)];
    let mut sums = [[s.splat(0.0); T]; ROWS];
    for row in 0..ROWS.min(real) {
        let out = &out[row * stride..row * stride + T];
        for i in 0..T {
            sums[row][i] = s.load(&out[i]);
        }
    }
    for (column, x) in panel.iter().enumerate() {
        let mut lanes = [s.splat(0.0); T];
        for i in 0..T {
            lanes[i] = s.load(&x[i]);
        }
        for row in 0..ROWS {
            let weight = s.splat(wide[row][column]);
            for i in 0..T {
                sums[row][i] = weight.fma(lanes[i], sums[row][i]);
            }
        }
    }
    for row in 0..ROWS.min(real) {
        let out = &mut out[row * stride..row * stride + T];
        for i in 0..T {
            sums[row][i].store(&mut out[i]);
        }
    }
}

impl Weights<'_> {
    /// Some columns as f32, which holds each si8 times an f16 exactly.
    #[inline(always)]
    fn widen<S: Simd>(
        &self,
        s: S,
        cols: usize,
        columns: std::ops::Range<usize>,
        wide: &mut [[f32; DEPTH]],
    ) {
        // The next columns arrive while these are worked on.
        let ahead = cols.min(columns.end + DEPTH) - columns.end;
        match *self {
            Self::F16(data) => {
                for (row, wide) in wide.iter_mut().enumerate() {
                    let (from, to) = (row * cols + columns.start, row * cols + columns.end);
                    s.prefetch(&data[2 * to..2 * (to + ahead)]);
                    widen(s, &data[2 * from..2 * to], wide);
                }
            }
            Self::Int8 {
                data,
                scales,
                block,
            } => {
                let lines = data.chunks_exact(cols);
                let scales = scales.chunks_exact(2 * (cols / block));
                for ((line, scales), wide) in lines.zip(scales).zip(wide) {
                    s.prefetch(&line[columns.end..columns.end + ahead]);
                    // Runs that share a scale.
                    let mut at = columns.start;
                    while at < columns.end {
                        let run = (block - at % block).min(columns.end - at);
                        let scale = &scales[2 * (at / block)..];
                        let scale = f16::from_le_bytes([scale[0], scale[1]]).to_f32();
                        let start = at - columns.start;
                        scale_run(s, &line[at..at + run], scale, &mut wide[start..start + run]);
                        at += run;
                    }
                }
            }
            Self::Columns { data, first, width } => {
                let mut line = [0.0; PIECE];
                for (i, column) in columns.enumerate() {
                    let at = 2 * (column * width + first);
                    widen(s, &data[at..at + 2 * wide.len()], &mut line);
                    for (wide, value) in wide.iter_mut().zip(&line) {
                        wide[i] = *value;
                    }
                }
            }
        }
    }
}

/// si8 times their scale.
#[inline(always)]
fn scale_run<S: Simd>(s: S, data: &[u8], scale: f32, out: &mut [f32]) {
    let (parts, rest) = data.as_chunks::<WIDTH>();
    let (out, last) = out.as_chunks_mut::<WIDTH>();
    for (out, q) in out.iter_mut().zip(parts) {
        s.load_i8(q).mul(s.splat(scale)).store(out);
    }
    for (out, q) in last.iter_mut().zip(rest) {
        *out = f32::from(*q as i8) * scale;
    }
}

/// Little-endian f16 as f32; `out` may have room for more.
#[inline(always)]
fn widen<S: Simd>(s: S, bytes: &[u8], out: &mut [f32]) {
    let (parts, rest) = bytes.as_chunks::<{ 2 * WIDTH }>();
    let (out, last) = out.split_at_mut(parts.len() * WIDTH);
    for (out, part) in out.as_chunks_mut::<WIDTH>().0.iter_mut().zip(parts) {
        s.load_f16(&read_f16(part)).store(out);
    }
    for (out, pair) in last.iter_mut().zip(rest.as_chunks::<2>().0) {
        *out = f16::from_le_bytes(*pair).to_f32();
    }
}
