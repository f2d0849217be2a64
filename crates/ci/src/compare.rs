//! Logits of two sides, position by position.

use aimodel_cli::python::Recorded;
use anyhow::{Context, Result, bail, ensure};

/// Where the two best logits are closer than this, either may win.
const MARGIN: f64 = 0.1;

/// How alike two sides are.
#[derive(Clone, Copy, Debug)]
pub struct Likeness {
    /// The smallest cosine of any position.
    pub cosine: f64,
    /// How many positions were compared.
    pub positions: usize,
}

impl Likeness {
    /// The worse of two.
    pub fn and(self, other: Likeness) -> Likeness {
        Likeness {
            cosine: self.cosine.min(other.cosine),
            positions: self.positions + other.positions,
        }
    }
}

/// Compares `got`'s logits of a prompt with those recorded, from the position
/// `NAME.first` on.
///
/// # Errors
/// A cosine below `min_cosine`, or another best token where the recorded margin is
/// clear, or fewer positions than were recorded.
pub fn compare(
    recorded: &Recorded,
    got: &Recorded,
    prompt: &str,
    min_cosine: f64,
) -> Result<Likeness> {
    let tensor = format!("{prompt}.logits");
    let (shape, expected) = recorded.get(&tensor)?;
    let (found_shape, found) = got.get(&tensor)?;
    let first = *recorded
        .ints(&format!("{prompt}.first"))?
        .first()
        .context("the recorded file has an empty .first")? as usize;
    let vocab = shape.last().copied().unwrap_or_default();
    ensure!(
        found_shape.len() == 2 && found_shape[1] == vocab && found_shape[0] >= first + shape[0],
        "{prompt}: logits of shape {found_shape:?}, expected [{}, {vocab}]",
        first + shape[0]
    );
    let found = &found[first * vocab..];
    compare_rows(prompt, first, vocab, (expected, found), min_cosine)
}

/// Compares rows of `vocab` logits, the first of which is of position `first`.
///
/// # Errors
/// As [`compare`].
pub fn compare_rows(
    prompt: &str,
    first: usize,
    vocab: usize,
    (expected, found): (&[f64], &[f64]),
    min_cosine: f64,
) -> Result<Likeness> {
    let rows = expected.chunks(vocab).zip(found.chunks(vocab));
    let mut likeness = Likeness {
        cosine: 1.0,
        positions: 0,
    };
    for (offset, (expected, found)) in rows.enumerate() {
        let position = first + offset;
        let cosine = cosine(expected, found);
        // A NaN is below everything.
        ensure!(
            cosine >= min_cosine,
            "{prompt}, position {position}: cosine {cosine:.6}, expected at least {min_cosine}"
        );
        let (best, margin) = best(expected);
        let (chosen, _) = self::best(found);
        if margin >= MARGIN && chosen != best {
            bail!(
                "{prompt}, position {position}: best token {chosen}, expected {best}, which leads by {margin:.3}"
            );
        }
        likeness.cosine = likeness.cosine.min(cosine);
        likeness.positions += 1;
    }
    Ok(likeness)
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// The index of the largest value, and by how much it leads.
fn best(logits: &[f64]) -> (usize, f64) {
    let (mut index, mut first, mut second) = (0, f64::NEG_INFINITY, f64::NEG_INFINITY);
    for (at, value) in logits.iter().enumerate() {
        if *value > first {
            (index, second, first) = (at, first, *value);
        } else if *value > second {
            second = *value;
        }
    }
    (index, first - second)
}

#[cfg(test)]
mod tests {
    use super::{best, cosine};

    #[test]
    fn the_best_leads_by_its_distance_to_the_next() {
        assert_eq!(best(&[1.0, 4.0, 3.5]), (1, 0.5));
        assert_eq!(best(&[4.0, 1.0, 3.5]), (0, 0.5));
    }

    #[test]
    fn the_cosine_with_nan_is_nan() {
        assert!((cosine(&[1.0, 0.0], &[1.0, 1.0]) - 0.5f64.sqrt()).abs() < 1e-12);
        assert!(cosine(&[1.0, 0.0], &[f64::NAN, 1.0]).is_nan());
    }
}
