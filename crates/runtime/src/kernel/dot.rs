//! A vector times the rows of a matrix: each weight is read once, from memory.

use half::f16;

use super::lanes::{Lanes, WIDTH, on_lanes};

/// Elements of a row that share a scale.
pub(super) const BLOCK: usize = 2 * WIDTH;

/// Sums of a row that run side by side, so that none waits for itself.
const SUMS: usize = 4;

/// Blocks whose scales are widened at once.
const SCALES: usize = 64;

/// How far ahead memory is asked for, in bytes.
const AHEAD: usize = 4096;

on_lanes! {
    /// The inner products of `x` with rows of si8, a scale for each block.
    pub(super) fn int8_rows(lines: &[u8], scales: &[u8], x: &[f32], out: &mut [f32]) = any_int8
}

on_lanes! {
    /// The inner products of `x` with rows of halves.
    pub(super) fn half_rows(lines: &[u8], x: &[f32], out: &mut [f32]) = any_half
}

/// Asks for the `length` bytes that are read some time after `at`.
#[inline(always)]
fn look_ahead<V: Lanes>(bytes: &[u8], at: usize, length: usize) {
    let from = bytes.len().min(at + AHEAD);
    V::prefetch(&bytes[from..bytes.len().min(from + length)]);
}

#[inline(always)]
fn any_int8<V: Lanes>(bytes: &[u8], scales: &[u8], x: &[f32], out: &mut [f32]) {
    let (cols, blocks) = (x.len(), x.len() / BLOCK);
    let x = x.as_chunks::<BLOCK>().0;
    let mut wide = [0.0; SCALES];
    for (row, out) in out.iter_mut().enumerate() {
        let line = &bytes[row * cols..(row + 1) * cols];
        let line = line.as_chunks::<BLOCK>().0;
        let scales = &scales[2 * row * blocks..2 * (row + 1) * blocks];
        let (mut sums, mut at) = ([V::splat(0.0); SUMS], row * cols);
        let parts = line.chunks(SCALES).zip(x.chunks(SCALES));
        for ((line, x), scales) in parts.zip(scales.chunks(2 * SCALES)) {
            widen::<V>(scales, &mut wide);
            let (fours, rest) = line.as_chunks::<SUMS>();
            let (x_fours, x_rest) = x.as_chunks::<SUMS>();
            let (wides, wide_rest) = wide[..line.len()].as_chunks::<SUMS>();
            for ((four, x), scales) in fours.iter().zip(x_fours).zip(wides) {
                look_ahead::<V>(bytes, at, SUMS * BLOCK);
                at += SUMS * BLOCK;
                for i in 0..SUMS {
                    sums[i] = add_block(&four[i], &x[i], scales[i], sums[i]);
                }
            }
            for (i, block) in rest.iter().enumerate() {
                sums[i] = add_block(block, &x_rest[i], wide_rest[i], sums[i]);
            }
        }
        *out = total(sums);
    }
}

#[inline(always)]
fn add_block<V: Lanes>(block: &[u8; BLOCK], x: &[f32; BLOCK], scale: f32, sum: V) -> V {
    let ((low, high), (x_low, x_high)) = (halves(block), halves(x));
    let product = V::load_int8(low).mul(V::load(x_low));
    let product = V::load_int8(high).fma(V::load(x_high), product);
    product.fma(V::splat(scale), sum)
}

#[inline(always)]
fn total<V: Lanes>([a, b, c, d]: [V; SUMS]) -> f32 {
    a.add(b).add(c.add(d)).sum()
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
    let width = 2 * x.len();
    let (xs, x_rest) = x.as_chunks::<WIDTH>();
    for (row, out) in out.iter_mut().enumerate() {
        let line = &bytes[row * width..(row + 1) * width];
        let (parts, rest) = line.as_chunks::<{ 2 * WIDTH }>();
        let mut sums = [V::splat(0.0); SUMS];
        let (fours, ends) = parts.as_chunks::<SUMS>();
        let (x_fours, x_ends) = xs.as_chunks::<SUMS>();
        let add = |part: &[u8; 2 * WIDTH], x: &[f32; WIDTH], sum: V| {
            V::load_half(&read_halves(part)).fma(V::load(x), sum)
        };
        for (at, (four, x)) in fours.iter().zip(x_fours).enumerate() {
            let length = SUMS * 2 * WIDTH;
            look_ahead::<V>(bytes, row * width + at * length, length);
            for i in 0..SUMS {
                sums[i] = add(&four[i], &x[i], sums[i]);
            }
        }
        for (i, (part, x)) in ends.iter().zip(x_ends).enumerate() {
            sums[i] = add(part, x, sums[i]);
        }
        let pairs = rest.as_chunks::<2>().0.iter().zip(x_rest);
        *out = pairs.fold(total(sums), |sum, (pair, x)| {
            f16::from_le_bytes(*pair).to_f32().mul_add(*x, sum)
        });
    }
}
