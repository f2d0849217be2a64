//! Operations on f16, element by element or along a row. Each is computed in
//! f32 and rounded at its end.

use half::f16;

use super::{
    lanes::{Lanes, Simd, WIDTH},
    level::{Level, on_lanes},
};

/// An operation of two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pairwise {
    Add,
    Sub,
    Mul,
    Div,
}

/// `x op y`; `y` has as many elements as `x`, or one.
pub(crate) fn binary(op: Pairwise, x: &[f16], y: &[f16], out: &mut [f16]) {
    pairwise(Level::best(), op, x, y, out);
}

/// `x ÷ (1 + e⁻ˣ)`.
pub(crate) fn silu(x: &[f16], out: &mut [f16]) {
    sigmoid_linear(Level::best(), x, out);
}

/// `x ÷ √(mean(x²) + ε)`, rounded, times `scale`.
pub(crate) fn norm(x: &[f16], scale: &[f16], eps: f32, out: &mut [f16]) {
    root_mean_square(Level::best(), x, scale, eps, out);
}

/// Rotates the pairs that the first and the second half of a row make, by
/// angles.
pub(crate) fn rotate(x: &[f16], sin: &[f32], cos: &[f32], out: &mut [f16]) {
    rotate_pairs(Level::best(), x, sin, cos, out);
}

/// From f16 to f32.
pub(crate) fn to_f32(x: &[f16]) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    widen(Level::best(), x, &mut out);
    out
}

/// From f32, rounded to f16.
pub(crate) fn to_f16(x: &[f32]) -> Vec<f16> {
    let mut out = vec![f16::ZERO; x.len()];
    narrow(Level::best(), x, &mut out);
    out
}

on_lanes! {
    pub(super) fn pairwise(op: Pairwise, x: &[f16], y: &[f16], out: &mut [f16]) = any_pairwise
}

on_lanes! {
    pub(super) fn sigmoid_linear(x: &[f16], out: &mut [f16]) = any_silu
}

on_lanes! {
    pub(super) fn root_mean_square(x: &[f16], scale: &[f16], eps: f32, out: &mut [f16]) = any_norm
}

on_lanes! {
    pub(super) fn rotate_pairs(x: &[f16], sin: &[f32], cos: &[f32], out: &mut [f16]) = any_rotate
}

on_lanes! {
    /// From f16 to f32.
    pub(super) fn widen(x: &[f16], out: &mut [f32]) = any_widen
}

on_lanes! {
    /// From f32, rounded to f16.
    pub(super) fn narrow(x: &[f32], out: &mut [f16]) = any_narrow
}

/// Elements that do not fill the lanes, with zeros behind them.
#[inline(always)]
fn padded<T: Copy + Default>(rest: &[T]) -> [T; WIDTH] {
    let mut lanes = [T::default(); WIDTH];
    lanes[..rest.len()].copy_from_slice(rest);
    lanes
}

#[inline(always)]
fn any_pairwise<S: Simd>(s: S, op: Pairwise, x: &[f16], y: &[f16], out: &mut [f16]) {
    match op {
        Pairwise::Add => zip(s, x, y, out, S::Lanes::add),
        Pairwise::Sub => zip(s, x, y, out, S::Lanes::sub),
        Pairwise::Mul => zip(s, x, y, out, S::Lanes::mul),
        Pairwise::Div => zip(s, x, y, out, S::Lanes::div),
    }
}

#[inline(always)]
fn zip<S: Simd>(
    s: S,
    x: &[f16],
    y: &[f16],
    out: &mut [f16],
    op: impl Fn(S::Lanes, S::Lanes) -> S::Lanes,
) {
    let (lanes, last) = out.as_chunks_mut::<WIDTH>();
    let (xs, x_rest) = x.as_chunks::<WIDTH>();
    let mut rest = [f16::ZERO; WIDTH];
    match y {
        [one] => {
            let y = s.splat(one.to_f32());
            for (out, x) in lanes.iter_mut().zip(xs) {
                op(s.load_f16(x), y).store_f16(out);
            }
            op(s.load_f16(&padded(x_rest)), y).store_f16(&mut rest);
        }
        _ => {
            let (ys, y_rest) = y.as_chunks::<WIDTH>();
            for ((out, x), y) in lanes.iter_mut().zip(xs).zip(ys) {
                op(s.load_f16(x), s.load_f16(y)).store_f16(out);
            }
            let (x, y) = (padded(x_rest), padded(y_rest));
            op(s.load_f16(&x), s.load_f16(&y)).store_f16(&mut rest);
        }
    }
    last.copy_from_slice(&rest[..last.len()]);
}

#[inline(always)]
fn any_silu<S: Simd>(s: S, x: &[f16], out: &mut [f16]) {
    let (lanes, last) = out.as_chunks_mut::<WIDTH>();
    let (xs, x_rest) = x.as_chunks::<WIDTH>();
    for (out, x) in lanes.iter_mut().zip(xs) {
        one_silu(s, x).store_f16(out);
    }
    let mut rest = [f16::ZERO; WIDTH];
    one_silu(s, &padded(x_rest)).store_f16(&mut rest);
    last.copy_from_slice(&rest[..last.len()]);
}

#[inline(always)]
fn one_silu<S: Simd>(s: S, x: &[f16; WIDTH]) -> S::Lanes {
    let x = s.load_f16(x);
    let power = s.splat(0.0).sub(x).exp();
    x.div(s.splat(1.0).add(power))
}

#[inline(always)]
fn any_norm<S: Simd>(s: S, x: &[f16], scale: &[f16], eps: f32, out: &mut [f16]) {
    let (xs, x_rest) = x.as_chunks::<WIDTH>();
    let last = s.load_f16(&padded(x_rest));
    let mut squares = last.mul(last);
    for x in xs {
        let x = s.load_f16(x);
        squares = x.fma(x, squares);
    }
    let mean = squares.sum() / x.len() as f32;
    let factor = s.splat(1.0 / (mean + eps).sqrt());
    let mut normed = [f16::ZERO; WIDTH];
    let (lanes, rest) = out.as_chunks_mut::<WIDTH>();
    let (scales, scale_rest) = scale.as_chunks::<WIDTH>();
    for ((out, x), scale) in lanes.iter_mut().zip(xs).zip(scales) {
        s.load_f16(x).mul(factor).store_f16(&mut normed);
        let normed = s.load_f16(&normed);
        normed.mul(s.load_f16(scale)).store_f16(out);
    }
    if !rest.is_empty() {
        last.mul(factor).store_f16(&mut normed);
        let scaled = s.load_f16(&normed).mul(s.load_f16(&padded(scale_rest)));
        scaled.store_f16(&mut normed);
        rest.copy_from_slice(&normed[..rest.len()]);
    }
}

#[inline(always)]
fn any_rotate<S: Simd>(s: S, x: &[f16], sin: &[f32], cos: &[f32], out: &mut [f16]) {
    let half = x.len() / 2;
    let ((a, b), (real, imaginary)) = (x.split_at(half), out.split_at_mut(half));
    let (a, a_rest) = a.as_chunks::<WIDTH>();
    let (b, b_rest) = b.as_chunks::<WIDTH>();
    let (sin, sin_rest) = sin.as_chunks::<WIDTH>();
    let (cos, cos_rest) = cos.as_chunks::<WIDTH>();
    let (real, real_rest) = real.as_chunks_mut::<WIDTH>();
    let (imaginary, imaginary_rest) = imaginary.as_chunks_mut::<WIDTH>();
    for i in 0..a.len() {
        rotate_lanes(
            s,
            [&a[i], &b[i]],
            &sin[i],
            &cos[i],
            [&mut real[i], &mut imaginary[i]],
        );
    }
    if !a_rest.is_empty() {
        let mut last = [[f16::ZERO; WIDTH]; 2];
        let (sin, cos) = (padded(sin_rest), padded(cos_rest));
        rotate_lanes(
            s,
            [&padded(a_rest), &padded(b_rest)],
            &sin,
            &cos,
            last.each_mut(),
        );
        real_rest.copy_from_slice(&last[0][..a_rest.len()]);
        imaginary_rest.copy_from_slice(&last[1][..a_rest.len()]);
    }
}

#[inline(always)]
fn rotate_lanes<S: Simd>(
    s: S,
    [a, b]: [&[f16; WIDTH]; 2],
    sin: &[f32; WIDTH],
    cos: &[f32; WIDTH],
    [real, imaginary]: [&mut [f16; WIDTH]; 2],
) {
    let (a, b, sin, cos) = (s.load_f16(a), s.load_f16(b), s.load(sin), s.load(cos));
    a.mul(cos).sub(b.mul(sin)).store_f16(real);
    a.mul(sin).add(b.mul(cos)).store_f16(imaginary);
}

#[inline(always)]
fn any_widen<S: Simd>(s: S, x: &[f16], out: &mut [f32]) {
    let (lanes, last) = out.as_chunks_mut::<WIDTH>();
    let (xs, rest) = x.as_chunks::<WIDTH>();
    for (out, x) in lanes.iter_mut().zip(xs) {
        s.load_f16(x).store(out);
    }
    for (out, x) in last.iter_mut().zip(rest) {
        *out = x.to_f32();
    }
}

#[inline(always)]
fn any_narrow<S: Simd>(s: S, x: &[f32], out: &mut [f16]) {
    let (lanes, last) = out.as_chunks_mut::<WIDTH>();
    let (xs, rest) = x.as_chunks::<WIDTH>();
    for (out, x) in lanes.iter_mut().zip(xs) {
        s.load(x).store_f16(out);
    }
    for (out, x) in last.iter_mut().zip(rest) {
        *out = f16::from_f32(*x);
    }
}
