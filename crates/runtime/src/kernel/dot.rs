//! A vector times the rows of a matrix: each weight is read once, from memory.

use std::array::from_fn;

use half::f16;

use super::{
    fixed::{Fixed, HIGH},
    lanes::{BLOCK, Lanes, Simd, WIDTH},
    level::on_lanes,
};

/// Rows that are read side by side, one of each quarter of the rows: a core
/// gets more from memory in four streams than in one, and no sum waits for its
/// own last addition.
pub(super) const STREAMS: usize = 4;

/// Blocks whose scales are widened at once.
const SCALES: usize = WIDTH;

on_lanes! {
    /// The inner products of `x` with rows of si8, a scale for each block.
    pub(super) fn int8_rows(row_data: &[u8], scales: &[u8], x: &Fixed, out: &mut [f32]) = any_int8
}

on_lanes! {
    /// The inner products of `x` with rows of f16.
    pub(super) fn f16_rows(row_data: &[u8], x: &[f32], out: &mut [f32]) = any_f16
}

/// The rows that are read together: one of each quarter.
#[inline(always)]
fn one_of_each_quarter(row: usize, quarter: usize) -> [usize; STREAMS] {
    from_fn(|stream| stream * quarter + row)
}

#[inline(always)]
fn any_int8<S: Simd>(s: S, bytes: &[u8], scales: &[u8], x: &Fixed, out: &mut [f32]) {
    let quarter = out.len() / STREAMS;
    for row in 0..quarter {
        int8_group::<S, STREAMS>(s, bytes, scales, x, one_of_each_quarter(row, quarter), out);
    }
    for row in STREAMS * quarter..out.len() {
        int8_group::<S, 1>(s, bytes, scales, x, [row], out);
    }
}

#[inline(always)]
fn int8_group<S: Simd, const R: usize>(
    s: S,
    bytes: &[u8],
    scales: &[u8],
    x: &Fixed,
    rows: [usize; R],
    out: &mut [f32],
) {
    let blocks = x.blocks.len();
    let bytes = bytes.as_chunks::<BLOCK>().0;
    let row_data: [_; R] = from_fn(|i| bytes[rows[i] * blocks..][..blocks].as_chunks::<SCALES>());
    let scales: [_; R] = from_fn(|i| {
        let scales = &scales[2 * rows[i] * blocks..][..2 * blocks];
        scales.as_chunks::<{ 2 * SCALES }>()
    });
    let (xs, xs_rest) = x.blocks.as_chunks::<SCALES>();
    let (units, units_rest) = x.units.as_chunks::<SCALES>();
    let (mut sums, mut wide) = ([s.splat(0.0); R], [[0.0; SCALES]; R]);
    for (part, (x, units)) in xs.iter().zip(units).enumerate() {
        let units = s.load(units);
        for i in 0..R {
            s.load_f16(&read_f16(&scales[i].0[part]))
                .mul(units)
                .store(&mut wide[i]);
        }
        let here: [_; R] = from_fn(|i| &row_data[i].0[part]);
        for (block, x) in x.iter().enumerate() {
            for i in 0..R {
                let products = s.multiply_fixed(&here[i][block], x);
                sums[i] = products.fma(s.splat(wide[i][block]), sums[i]);
            }
        }
    }
    for (block, (x, unit)) in xs_rest.iter().zip(units_rest).enumerate() {
        for i in 0..R {
            let pair = [scales[i].1[2 * block], scales[i].1[2 * block + 1]];
            let scale = f16::from_le_bytes(pair).to_f32() * unit;
            let products = s.multiply_fixed(&row_data[i].1[block], x);
            sums[i] = products.fma(s.splat(scale), sums[i]);
        }
    }
    let counts = s.load(&from_fn(|lane| if lane < WIDTH / 2 { HIGH } else { 1.0 }));
    for i in 0..R {
        out[rows[i]] = sums[i].mul(counts).sum();
    }
}

/// Sixteen little-endian f16.
#[inline(always)]
pub(super) fn read_f16(bytes: &[u8; 2 * WIDTH]) -> [f16; WIDTH] {
    from_fn(|i| f16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]]))
}

#[inline(always)]
fn any_f16<S: Simd>(s: S, bytes: &[u8], x: &[f32], out: &mut [f32]) {
    let quarter = out.len() / STREAMS;
    for row in 0..quarter {
        f16_group::<S, STREAMS>(s, bytes, x, one_of_each_quarter(row, quarter), out);
    }
    for row in STREAMS * quarter..out.len() {
        f16_group::<S, 1>(s, bytes, x, [row], out);
    }
}

#[inline(always)]
fn f16_group<S: Simd, const R: usize>(
    s: S,
    bytes: &[u8],
    x: &[f32],
    rows: [usize; R],
    out: &mut [f32],
) {
    let width = 2 * x.len();
    let row_data: [_; R] = from_fn(|i| {
        let line = &bytes[rows[i] * width..(rows[i] + 1) * width];
        line.as_chunks::<{ 2 * WIDTH }>()
    });
    let (xs, x_rest) = x.as_chunks::<WIDTH>();
    let mut sums = [s.splat(0.0); R];
    for (at, x) in xs.iter().enumerate() {
        for i in 0..R {
            sums[i] = s
                .load_f16(&read_f16(&row_data[i].0[at]))
                .fma(s.load(x), sums[i]);
        }
    }
    for i in 0..R {
        let pairs = row_data[i].1.as_chunks::<2>().0.iter().zip(x_rest);
        out[rows[i]] = pairs.fold(sums[i].sum(), |sum, (pair, x)| {
            f16::from_le_bytes(*pair).to_f32().mul_add(*x, sum)
        });
    }
}
