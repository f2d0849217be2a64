//! How far two vectors are apart.

use ndarray::{ArrayView1, ArrayView2};

/// The cosine of the angle between two vectors, in f64; 1 if both are zero, 0 if
/// one is, or if their lengths differ. 0 too if a number is not finite: no
/// threshold lets that pass, while a NaN would be lost in the min of many
/// cosines.
///
/// ```
/// assert_eq!(reference::cosine(&[3.0_f32, 4.0], &[6.0_f32, 8.0]), 1.0);
/// ```
pub fn cosine<'a>(a: impl Into<ArrayView1<'a, f32>>, b: impl Into<ArrayView1<'a, f32>>) -> f64 {
    let (a, b) = (a.into().mapv(f64::from), b.into().mapv(f64::from));
    if a.len() != b.len() {
        return 0.0;
    }
    let (aa, bb) = (a.dot(&a), b.dot(&b));
    match (aa == 0.0, bb == 0.0) {
        (true, true) => 1.0,
        (false, false) => {
            let cosine = a.dot(&b) / (aa.sqrt() * bb.sqrt());
            if cosine.is_finite() { cosine } else { 0.0 }
        }
        _ => 0.0,
    }
}

/// The [`cosine`] of each row of `actual` with that of `expected`; a single 0
/// where the shapes differ.
pub fn row_cosines(actual: ArrayView2<'_, f32>, expected: ArrayView2<'_, f32>) -> Vec<f64> {
    if actual.dim() != expected.dim() {
        return vec![0.0];
    }
    let rows = actual.rows().into_iter().zip(expected.rows());
    rows.map(|(actual, expected)| cosine(actual, expected))
        .collect()
}
