//! Products that are summed in f16, as Core AI's own runtime does.

use half::{f16, slice::HalfFloatSliceExt};

use crate::thread_pool;

/// `[batch, rows, inner] · [batch, inner, cols]` of f16, to
/// `[batch, rows, cols]`. Sums run along `inner` and are rounded to f16 after
/// each term, as is each product.
pub(crate) fn multiply_f16(x: &[f16], y: &[f16], [rows, inner, cols]: [usize; 3]) -> Vec<f16> {
    let mut out = vec![f16::ZERO; x.len() / inner.max(1) * cols];
    thread_pool::split(&mut out, cols, |row, out| {
        let matrix = row / rows;
        let x = &x[row * inner..(row + 1) * inner];
        let y = &y[matrix * inner * cols..(matrix + 1) * inner * cols];
        multiply_row(x, y, out);
    });
    out
}

/// One row of a product of f16.
fn multiply_row(x: &[f16], y: &[f16], out: &mut [f16]) {
    let cols = out.len();
    let mut sums = vec![0.0_f32; cols];
    let mut products = vec![0.0_f32; cols];
    for (x, y) in x.iter().zip(y.chunks_exact(cols)) {
        let x = x.to_f32();
        // Rounded to f16; f32 holds all of those.
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
