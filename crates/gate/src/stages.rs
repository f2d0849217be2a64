//! The stages, one a file: each gathers evidence, and [`crate::evidence`] turns
//! that into a verdict.

pub mod device;
pub mod engine;
pub mod execute;
pub mod ladder;
pub mod lint;
pub mod oracle;
pub mod weights;

use reference::{
    ndarray::{ArrayView1, ArrayView2},
    oracle::Recorded,
};

use crate::transcript::{Bound, Check, CheckId, Found};

/// The min, 0 where there is none.
fn min(cosines: &[f64]) -> f64 {
    cosines.iter().copied().reduce(f64::min).unwrap_or(0.0)
}

/// The place of the greatest number, the first of them.
fn top(row: ArrayView1<'_, f32>) -> u32 {
    ::engine::argmax(&row.to_vec())
}

/// The check that logits have transformers' best token wherever it leads by
/// `margin`, and the first position where they have not.
fn best_tokens(
    logits: ArrayView2<'_, f32>,
    recorded: &Recorded,
    prompt: Option<&str>,
    margin: f32,
) -> (Check, Option<usize>) {
    let (mut equal, mut all, mut first) = (0, 0, None);
    for (at, row) in logits.rows().into_iter().enumerate() {
        if recorded.margins[at] >= margin {
            let same = top(row) == top(recorded.logits.row(at));
            all += 1;
            equal += usize::from(same);
            if !same {
                first.get_or_insert(at);
            }
        }
    }
    let found = Found::Count {
        count: equal,
        of: all,
    };
    let check = Check::new(CheckId::BestToken, prompt, found, Bound::All);
    (check.of(margin.to_string()), first)
}
