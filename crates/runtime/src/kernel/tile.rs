//! Many vectors times the rows of a matrix.
//!
//! Vectors lie side by side in lanes, so that a weight, widened once, meets
//! sixteen of them in one instruction and rows are used as they lie. Each
//! result is one sum in the order of the columns, whatever the tiles are.

use half::f16;

use super::{
    dot::read_f16,
    lanes::{Lanes, WIDTH, on_lanes},
};

/// Columns that are worked on at once: what meets in the innermost loop stays
/// in the nearest cache.
pub(super) const DEPTH: usize = 128;

/// Rows of a tile, which share the lanes of vectors that were loaded.
const ROWS: usize = 6;

/// Rows that one piece of work has.
pub(super) const PIECE: usize = 8 * ROWS;

/// The weights of one piece.
#[derive(Clone, Copy)]
pub(super) enum Weights<'w> {
    /// Little-endian halves.
    Half(&'w [u8]),
    /// si8, and a half for each run of `block` elements of a row.
    Int8 {
        data: &'w [u8],
        scales: &'w [u8],
        block: usize,
    },
    /// Little-endian halves, turned: a row is a column, from `first` on, of
    /// rows that have `width` elements.
    Columns {
        data: &'w [u8],
        first: usize,
        width: usize,
    },
}

/// Vectors, turned for the tiles.
pub(super) struct Turned {
    cols: usize,
    /// Lanes of vectors, the last ones filled with zeros.
    pub lanes: usize,
    /// For each tile's width of lanes, column by column.
    data: Vec<[f32; WIDTH]>,
}

impl Turned {
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

    /// From as many lanes as a tile has at most, column by column.
    pub fn from_lanes(data: Vec<[f32; WIDTH]>, lanes: usize) -> Self {
        let cols = data.len() / lanes.max(1);
        Self { cols, lanes, data }
    }
}

/// How many lanes a tile has side by side at a level.
pub(super) fn width(level: super::lanes::Level) -> usize {
    fn any<V: Lanes>(width: &mut usize) {
        *width = V::TILE;
    }
    on_lanes! { fn ask(width: &mut usize) = any }
    let mut width = 1;
    ask(level, &mut width);
    width
}

on_lanes! {
    /// Up to [`PIECE`] rows times all vectors, to `out`: for each row, the
    /// lanes of vectors. `out` is zero before.
    pub(super) fn multiply(weights: Weights<'_>, x: &Turned, out: &mut [[f32; WIDTH]]) = any
}

#[inline(always)]
fn any<V: Lanes>(weights: Weights<'_>, x: &Turned, out: &mut [[f32; WIDTH]]) {
    let rows = out.len() / x.lanes.max(1);
    let mut wide = [[0.0; DEPTH]; PIECE];
    for depth in (0..x.cols).step_by(DEPTH) {
        let columns = depth..x.cols.min(depth + DEPTH);
        weights.widen::<V>(x.cols, columns.clone(), &mut wide[..rows]);
        for first in (0..x.lanes).step_by(V::TILE) {
            let width = V::TILE.min(x.lanes - first);
            let panel = &x.data[first * x.cols..(first + width) * x.cols];
            let panel = &panel[columns.start * width..columns.end * width];
            for row in (0..rows).step_by(ROWS) {
                let Some((wide, _)) = wide[row..].split_first_chunk::<ROWS>() else {
                    continue;
                };
                let out = &mut out[row * x.lanes + first..];
                match width {
                    1 => tile::<V, 1>(wide, panel, out, x.lanes, rows - row),
                    2 => tile::<V, 2>(wide, panel, out, x.lanes, rows - row),
                    3 => tile::<V, 3>(wide, panel, out, x.lanes, rows - row),
                    _ => tile::<V, 4>(wide, panel, out, x.lanes, rows - row),
                }
            }
        }
    }
}

/// Adds the products of a tile: `T` lanes of vectors, and six rows, of which
/// the first `real` are meant. From one row of `out` to the next are `stride`.
#[inline(always)]
fn tile<V: Lanes, const T: usize>(
    wide: &[[f32; DEPTH]; ROWS],
    panel: &[[f32; WIDTH]],
    out: &mut [[f32; WIDTH]],
    stride: usize,
    real: usize,
) {
    let panel = panel.as_chunks::<T>().0;
    let panel = &panel[..panel.len().min(DEPTH)];
    let mut sums = [[V::splat(0.0); T]; ROWS];
    for row in 0..ROWS.min(real) {
        let out = &out[row * stride..row * stride + T];
        for i in 0..T {
            sums[row][i] = V::load(&out[i]);
        }
    }
    for (column, x) in panel.iter().enumerate() {
        let mut lanes = [V::splat(0.0); T];
        for i in 0..T {
            lanes[i] = V::load(&x[i]);
        }
        for row in 0..ROWS {
            let weight = V::splat(wide[row][column]);
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
    /// Some columns in single precision, which holds each si8 times a half
    /// exactly.
    #[inline(always)]
    fn widen<V: Lanes>(
        &self,
        cols: usize,
        columns: std::ops::Range<usize>,
        wide: &mut [[f32; DEPTH]],
    ) {
        // While this is worked on, what comes next arrives.
        let ahead = cols.min(columns.end + DEPTH) - columns.end;
        match *self {
            Self::Half(data) => {
                for (row, wide) in wide.iter_mut().enumerate() {
                    let (from, to) = (row * cols + columns.start, row * cols + columns.end);
                    V::prefetch(&data[2 * to..2 * (to + ahead)]);
                    widen::<V>(&data[2 * from..2 * to], wide);
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
                    V::prefetch(&line[columns.end..columns.end + ahead]);
                    // Runs that share a scale.
                    let mut at = columns.start;
                    while at < columns.end {
                        let run = (block - at % block).min(columns.end - at);
                        let scale = &scales[2 * (at / block)..];
                        let scale = f16::from_le_bytes([scale[0], scale[1]]).to_f32();
                        let start = at - columns.start;
                        scale_run::<V>(&line[at..at + run], scale, &mut wide[start..start + run]);
                        at += run;
                    }
                }
            }
            Self::Columns { data, first, width } => {
                let mut line = [0.0; PIECE];
                for (i, column) in columns.enumerate() {
                    let at = 2 * (column * width + first);
                    widen::<V>(&data[at..at + 2 * wide.len()], &mut line);
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
fn scale_run<V: Lanes>(data: &[u8], scale: f32, out: &mut [f32]) {
    let (parts, rest) = data.as_chunks::<WIDTH>();
    let (out, last) = out.as_chunks_mut::<WIDTH>();
    for (out, q) in out.iter_mut().zip(parts) {
        V::load_i8(q).mul(V::splat(scale)).store(out);
    }
    for (out, q) in last.iter_mut().zip(rest) {
        *out = f32::from(*q as i8) * scale;
    }
}

/// Little-endian halves in single precision; `out` may have room for more.
#[inline(always)]
fn widen<V: Lanes>(bytes: &[u8], out: &mut [f32]) {
    let (parts, rest) = bytes.as_chunks::<{ 2 * WIDTH }>();
    let (out, last) = out.split_at_mut(parts.len() * WIDTH);
    for (out, part) in out.as_chunks_mut::<WIDTH>().0.iter_mut().zip(parts) {
        V::load_f16(&read_f16(part)).store(out);
    }
    for (out, pair) in last.iter_mut().zip(rest.as_chunks::<2>().0) {
        *out = f16::from_le_bytes(*pair).to_f32();
    }
}
