//! Operations on halves, element by element or along a row. Each is computed
//! in single precision and rounded at its end.

use half::f16;

use super::lanes::{Lanes, Level, WIDTH, on_lanes};

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
    sigmoid_unit(Level::best(), x, out);
}

/// `x ÷ √(mean(x²) + ε)`, rounded, times `scale`.
pub(crate) fn norm(x: &[f16], scale: &[f16], eps: f32, out: &mut [f16]) {
    root_mean_square(Level::best(), x, scale, eps, out);
}

/// Turns the first half of a row with the second, by angles.
pub(crate) fn rotate(x: &[f16], sin: &[f32], cos: &[f32], out: &mut [f16]) {
    turn(Level::best(), x, sin, cos, out);
}

/// Halves in single precision.
pub(crate) fn to_f32(x: &[f16]) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    widen(Level::best(), x, &mut out);
    out
}

/// Single precision, rounded to halves.
pub(crate) fn to_f16(x: &[f32]) -> Vec<f16> {
    let mut out = vec![f16::ZERO; x.len()];
    narrow(Level::best(), x, &mut out);
    out
}

on_lanes! {
    pub(super) fn pairwise(op: Pairwise, x: &[f16], y: &[f16], out: &mut [f16]) = any_pairwise
}

on_lanes! {
    pub(super) fn sigmoid_unit(x: &[f16], out: &mut [f16]) = any_silu
}

on_lanes! {
    pub(super) fn root_mean_square(x: &[f16], scale: &[f16], eps: f32, out: &mut [f16]) = any_norm
}

on_lanes! {
    pub(super) fn turn(x: &[f16], sin: &[f32], cos: &[f32], out: &mut [f16]) = any_turn
}

on_lanes! {
    /// Halves in single precision.
    pub(super) fn widen(x: &[f16], out: &mut [f32]) = any_widen
}

on_lanes! {
    /// Single precision, rounded to halves.
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
fn any_pairwise<V: Lanes>(op: Pairwise, x: &[f16], y: &[f16], out: &mut [f16]) {
    match op {
        Pairwise::Add => zip::<V>(x, y, out, V::add),
        Pairwise::Sub => zip::<V>(x, y, out, V::sub),
        Pairwise::Mul => zip::<V>(x, y, out, V::mul),
        Pairwise::Div => zip::<V>(x, y, out, V::div),
    }
}

#[inline(always)]
fn zip<V: Lanes>(x: &[f16], y: &[f16], out: &mut [f16], op: impl Fn(V, V) -> V) {
    let (lanes, last) = out.as_chunks_mut::<WIDTH>();
    let (xs, x_rest) = x.as_chunks::<WIDTH>();
    let mut rest = [f16::ZERO; WIDTH];
    match y {
        [one] => {
            let y = V::splat(one.to_f32());
            for (out, x) in lanes.iter_mut().zip(xs) {
                op(V::load_f16(x), y).store_f16(out);
            }
            op(V::load_f16(&padded(x_rest)), y).store_f16(&mut rest);
        }
        _ => {
            let (ys, y_rest) = y.as_chunks::<WIDTH>();
            for ((out, x), y) in lanes.iter_mut().zip(xs).zip(ys) {
                op(V::load_f16(x), V::load_f16(y)).store_f16(out);
            }
            let (x, y) = (padded(x_rest), padded(y_rest));
            op(V::load_f16(&x), V::load_f16(&y)).store_f16(&mut rest);
        }
    }
    last.copy_from_slice(&rest[..last.len()]);
}

#[inline(always)]
fn any_silu<V: Lanes>(x: &[f16], out: &mut [f16]) {
    let (lanes, last) = out.as_chunks_mut::<WIDTH>();
    let (xs, x_rest) = x.as_chunks::<WIDTH>();
    for (out, x) in lanes.iter_mut().zip(xs) {
        one_silu::<V>(x).store_f16(out);
    }
    let mut rest = [f16::ZERO; WIDTH];
    one_silu::<V>(&padded(x_rest)).store_f16(&mut rest);
    last.copy_from_slice(&rest[..last.len()]);
}

#[inline(always)]
fn one_silu<V: Lanes>(x: &[f16; WIDTH]) -> V {
    let x = V::load_f16(x);
    let power = V::splat(0.0).sub(x).exp();
    x.div(V::splat(1.0).add(power))
}

#[inline(always)]
fn any_norm<V: Lanes>(x: &[f16], scale: &[f16], eps: f32, out: &mut [f16]) {
    let (xs, x_rest) = x.as_chunks::<WIDTH>();
    let last = V::load_f16(&padded(x_rest));
    let mut squares = last.mul(last);
    for x in xs {
        let x = V::load_f16(x);
        squares = x.fma(x, squares);
    }
    let mean = squares.sum() / x.len() as f32;
    let factor = V::splat(1.0 / (mean + eps).sqrt());
    let mut normed = [f16::ZERO; WIDTH];
    let (lanes, rest) = out.as_chunks_mut::<WIDTH>();
    let (scales, scale_rest) = scale.as_chunks::<WIDTH>();
    for ((out, x), scale) in lanes.iter_mut().zip(xs).zip(scales) {
        V::load_f16(x).mul(factor).store_f16(&mut normed);
        let normed = V::load_f16(&normed);
        normed.mul(V::load_f16(scale)).store_f16(out);
    }
    if !rest.is_empty() {
        last.mul(factor).store_f16(&mut normed);
        let scaled = V::load_f16(&normed).mul(V::load_f16(&padded(scale_rest)));
        scaled.store_f16(&mut normed);
        rest.copy_from_slice(&normed[..rest.len()]);
    }
}

#[inline(always)]
fn any_turn<V: Lanes>(x: &[f16], sin: &[f32], cos: &[f32], out: &mut [f16]) {
    let half = x.len() / 2;
    let ((a, b), (real, imaginary)) = (x.split_at(half), out.split_at_mut(half));
    let (a, a_rest) = a.as_chunks::<WIDTH>();
    let (b, b_rest) = b.as_chunks::<WIDTH>();
    let (sin, sin_rest) = sin.as_chunks::<WIDTH>();
    let (cos, cos_rest) = cos.as_chunks::<WIDTH>();
    let (real, real_rest) = real.as_chunks_mut::<WIDTH>();
    let (imaginary, imaginary_rest) = imaginary.as_chunks_mut::<WIDTH>();
    for i in 0..a.len() {
        turn_lanes::<V>(
            [&a[i], &b[i]],
            &sin[i],
            &cos[i],
            [&mut real[i], &mut imaginary[i]],
        );
    }
    if !a_rest.is_empty() {
        let mut last = [[f16::ZERO; WIDTH]; 2];
        let (sin, cos) = (padded(sin_rest), padded(cos_rest));
        turn_lanes::<V>(
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
fn turn_lanes<V: Lanes>(
    [a, b]: [&[f16; WIDTH]; 2],
    sin: &[f32; WIDTH],
    cos: &[f32; WIDTH],
    [real, imaginary]: [&mut [f16; WIDTH]; 2],
) {
    let (a, b, sin, cos) = (V::load_f16(a), V::load_f16(b), V::load(sin), V::load(cos));
    a.mul(cos).sub(b.mul(sin)).store_f16(real);
    a.mul(sin).add(b.mul(cos)).store_f16(imaginary);
}

#[inline(always)]
fn any_widen<V: Lanes>(x: &[f16], out: &mut [f32]) {
    let (lanes, last) = out.as_chunks_mut::<WIDTH>();
    let (xs, rest) = x.as_chunks::<WIDTH>();
    for (out, x) in lanes.iter_mut().zip(xs) {
        V::load_f16(x).store(out);
    }
    for (out, x) in last.iter_mut().zip(rest) {
        *out = x.to_f32();
    }
}

#[inline(always)]
fn any_narrow<V: Lanes>(x: &[f32], out: &mut [f16]) {
    let (lanes, last) = out.as_chunks_mut::<WIDTH>();
    let (xs, rest) = x.as_chunks::<WIDTH>();
    for (out, x) in lanes.iter_mut().zip(xs) {
        V::load(x).store_f16(out);
    }
    for (out, x) in last.iter_mut().zip(rest) {
        *out = f16::from_f32(*x);
    }
}
