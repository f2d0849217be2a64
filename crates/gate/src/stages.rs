//! The stages, one a file: each gathers evidence, and [`crate::evidence`] turns
//! that into a verdict.

pub mod device;
pub mod engine;
pub mod execute;
pub mod ladder;
pub mod lint;
pub mod oracle;
pub mod weights;

use reference::oracle::Array;

use reference::cosine;

/// The cosines of rows with those of an oracle.
fn cosines<'a>(ours: impl IntoIterator<Item = &'a [f32]>, theirs: &Array) -> Vec<f64> {
    let rows = ours.into_iter().enumerate();
    rows.map(|(at, row)| cosine(row, theirs.row(at))).collect()
}

/// The least, 0 where there is none.
fn least(cosines: &[f64]) -> f64 {
    cosines.iter().copied().reduce(f64::min).unwrap_or(0.0)
}

/// The place of the greatest number, the first of them.
fn top(row: &[f32]) -> u32 {
    ::engine::argmax(row)
}
