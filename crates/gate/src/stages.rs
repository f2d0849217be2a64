//! The stages, one a file: each gathers evidence, and [`crate::evidence`] turns
//! that into a verdict.

pub mod device;
pub mod engine;
pub mod execute;
pub mod ladder;
pub mod lint;
pub mod oracle;
pub mod weights;

use reference::ndarray::ArrayView1;

/// The least, 0 where there is none.
fn least(cosines: &[f64]) -> f64 {
    cosines.iter().copied().reduce(f64::min).unwrap_or(0.0)
}

/// The place of the greatest number, the first of them.
fn top(row: ArrayView1<'_, f32>) -> u32 {
    ::engine::argmax(&row.to_vec())
}
