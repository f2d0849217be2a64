//! Products that are summed in halves, as Core AI's own runtime does.

use half::{f16, slice::HalfFloatSliceExt};
use rayon::prelude::*;

/// Products of matrices of halves, `[rows, inner] · [inner, cols]` as many
/// times as there are, summed in halves one after the other.
pub(crate) fn multiply_f16(x: &[f16], y: &[f16], [rows, inner, cols]: [usize; 3]) -> Vec<f16> {
    let mut out = vec![f16::ZERO; x.len() / inner.max(1) * cols];
    let factors = x.par_chunks((rows * inner).max(1));
    let matrices = y.par_chunks((inner * cols).max(1));
    out.par_chunks_mut((rows * cols).max(1))
        .zip(factors.zip(matrices))
        .for_each(|(out, (x, y))| {
            let lines = out.par_chunks_mut(cols).zip(x.par_chunks(inner));
            lines.for_each(|(out, x)| half_line(x, y, out));
        });
    out
}

/// One row of a product of halves.
fn half_line(x: &[f16], y: &[f16], out: &mut [f16]) {
    let cols = out.len();
    let mut sums = vec![0.0_f32; cols];
    let mut products = vec![0.0_f32; cols];
    for (x, y) in x.iter().zip(y.chunks_exact(cols)) {
        let x = x.to_f32();
        // Rounded to halves, of which single precision holds all.
        y.convert_to_f32_slice(&mut products);
        for product in &mut products {
            *product *= x;
        }
        out.convert_from_f32_slice(&products);
        out.convert_to_f32_slice(&mut products);
        for (sum, product) in sums.iter_mut().zip(&products) {
            *sum += product;
        }
        out.convert_from_f32_slice(&sums);
        out.convert_to_f32_slice(&mut sums);
    }
    out.convert_from_f32_slice(&sums);
}
