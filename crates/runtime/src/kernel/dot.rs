//! A vector times the rows of a matrix: each weight is read once, from memory.

use half::f16;

use super::lanes::{Lanes, WIDTH, on_lanes};

/// Elements of a row that share a scale.
pub(super) const BLOCK: usize = 2 * WIDTH;

/// Rows that are read side by side, far from each other: a core gets more from
/// memory in four streams than in one, and none of the sums waits for itself.
const STREAMS: usize = 4;

/// Blocks whose scales are widened at once.
const SCALES: usize = WIDTH;

on_lanes! {
    /// The inner products of `x` with rows of si8, a scale for each block.
    pub(super) fn int8_rows(lines: &[u8], scales: &[u8], x: &[f32], out: &mut [f32]) = any_int8
}

on_lanes! {
    /// The inner products of `x` with rows of halves.
    pub(super) fn half_rows(lines: &[u8], x: &[f32], out: &mut [f32]) = any_half
}

/// The rows that are read together: one of each quarter.
#[inline(always)]
fn apart(row: usize, quarter: usize) -> [usize; STREAMS] {
    std::array::from_fn(|stream| stream * quarter + row)
}

#[inline(always)]
fn any_int8<V: Lanes>(bytes: &[u8], scales: &[u8], x: &[f32], out: &mut [f32]) {
    let x = x.as_chunks::<BLOCK>().0;
    let quarter = out.len() / STREAMS;
    for row in 0..quarter {
        int8_some::<V, STREAMS>(bytes, scales, x, apart(row, quarter), out);
    }
    for row in STREAMS * quarter..out.len() {
        int8_some::<V, 1>(bytes, scales, x, [row], out);
    }
}

#[inline(always)]
fn int8_some<V: Lanes, const R: usize>(
    bytes: &[u8],
    scales: &[u8],
    x: &[[f32; BLOCK]],
    rows: [usize; R],
    out: &mut [f32],
) {
    let blocks = x.len();
    let bytes = bytes.as_chunks::<BLOCK>().0;
    let lines = rows.map(|row| bytes[row * blocks..(row + 1) * blocks].as_chunks::<SCALES>());
    let scales = rows.map(|row| &scales[2 * row * blocks..2 * (row + 1) * blocks]);
    let (x, x_rest) = x.as_chunks::<SCALES>();
    let (mut sums, mut wide) = ([V::splat(0.0); R], [[0.0; SCALES]; R]);
    for (part, x) in x.iter().enumerate() {
        let here = lines.map(|(line, _)| &line[part]);
        for i in 0..R {
            let scales = &scales[i][2 * SCALES * part..2 * SCALES * (part + 1)];
            widen::<V>(scales, &mut wide[i]);
        }
        for (block, x) in x.iter().enumerate() {
            for i in 0..R {
                sums[i] = add_block(&here[i][block], x, wide[i][block], sums[i]);
            }
        }
    }
    for i in 0..R {
        widen::<V>(&scales[i][2 * SCALES * x.len()..], &mut wide[i]);
        for ((block, x), scale) in lines[i].1.iter().zip(x_rest).zip(wide[i]) {
            sums[i] = add_block(block, x, scale, sums[i]);
        }
        out[rows[i]] = sums[i].sum();
    }
}

#[inline(always)]
fn add_block<V: Lanes>(block: &[u8; BLOCK], x: &[f32; BLOCK], scale: f32, sum: V) -> V {
    let ((low, high), (x_low, x_high)) = (halves(block), halves(x));
    let product = V::load_int8(low).mul(V::load(x_low));
    let product = V::load_int8(high).fma(V::load(x_high), product);
    product.fma(V::splat(scale), sum)
}

/// The two halves of a block.
#[inline(always)]
fn halves<T>(block: &[T; BLOCK]) -> (&[T; WIDTH], &[T; WIDTH]) {
    match block.as_chunks::<WIDTH>().0 {
        [low, high] => (low, high),
        // A block is two times as wide.
        _ => unreachable!(),
    }
}

/// Sixteen little-endian halves.
#[inline(always)]
pub(super) fn read_halves(bytes: &[u8; 2 * WIDTH]) -> [f16; WIDTH] {
    std::array::from_fn(|i| f16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]]))
}

/// Little-endian halves in single precision; `out` may have room for more.
#[inline(always)]
pub(super) fn widen<V: Lanes>(bytes: &[u8], out: &mut [f32]) {
    let (parts, rest) = bytes.as_chunks::<{ 2 * WIDTH }>();
    let (out, last) = out.split_at_mut(parts.len() * WIDTH);
    for (out, part) in out.as_chunks_mut::<WIDTH>().0.iter_mut().zip(parts) {
        V::load_half(&read_halves(part)).store(out);
    }
    for (out, pair) in last.iter_mut().zip(rest.as_chunks::<2>().0) {
        *out = f16::from_le_bytes(*pair).to_f32();
    }
}

#[inline(always)]
fn any_half<V: Lanes>(bytes: &[u8], x: &[f32], out: &mut [f32]) {
    let quarter = out.len() / STREAMS;
    for row in 0..quarter {
        half_some::<V, STREAMS>(bytes, x, apart(row, quarter), out);
    }
    for row in STREAMS * quarter..out.len() {
        half_some::<V, 1>(bytes, x, [row], out);
    }
}

#[inline(always)]
fn half_some<V: Lanes, const R: usize>(bytes: &[u8], x: &[f32], rows: [usize; R], out: &mut [f32]) {
    let width = 2 * x.len();
    let lines = rows.map(|row| bytes[row * width..(row + 1) * width].as_chunks::<{ 2 * WIDTH }>());
    let (xs, x_rest) = x.as_chunks::<WIDTH>();
    let mut sums = [V::splat(0.0); R];
    for (at, x) in xs.iter().enumerate() {
        for i in 0..R {
            sums[i] = V::load_half(&read_halves(&lines[i].0[at])).fma(V::load(x), sums[i]);
        }
    }
    for i in 0..R {
        let pairs = lines[i].1.as_chunks::<2>().0.iter().zip(x_rest);
        out[rows[i]] = pairs.fold(sums[i].sum(), |sum, (pair, x)| {
            f16::from_le_bytes(*pair).to_f32().mul_add(*x, sum)
        });
    }
}
