//! How the next token is chosen from logits.
//!
//! It is the one with the greatest logit, unless a temperature is given. With a
//! temperature, logits are divided by it, `top_k` and then `top_p` drop unlikely
//! tokens, in this order as in transformers, and one of the rest is drawn at
//! random.
//!
//! The same logits, settings and seed give the same tokens on every machine:
//! probabilities are computed in f64 with an exponential that is part of this
//! program, sums run in a fixed order, and random numbers are those of
//! xoshiro256++.

use std::cmp::Ordering;

use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{Rng, SeedableRng},
};

use crate::{Error, Result};

/// How tokens are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// What logits are divided by. 0 is greedy: the other settings have no effect.
    pub temperature: f64,
    /// How many of the best tokens may be drawn; `None` is all of them.
    pub top_k: Option<usize>,
    /// Only the best tokens that have this probability together may be drawn;
    /// more than 0, and 1 is all of them.
    pub top_p: f64,
    /// The seed of the random numbers.
    pub seed: u64,
}

impl Default for Sampling {
    /// Greedy.
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: None,
            top_p: 1.0,
            seed: 0,
        }
    }
}

/// Picks tokens, one after the other.
///
/// ```
/// use engine::{Sampler, Sampling};
///
/// let logits = [0.5, 2.0, 1.9, -3.0];
/// assert_eq!(Sampler::greedy().pick(&logits), 1);
///
/// let hot = Sampling { temperature: 0.8, top_k: Some(2), ..Sampling::default() };
/// let mut sampler = Sampler::new(hot)?;
/// assert!((0..100).all(|_| [1, 2].contains(&sampler.pick(&logits))));
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Sampler {
    sampling: Sampling,
    random: Xoshiro256PlusPlus,
}

/// A token that may be drawn, and its weight: how likely it is relative to the
/// best one, whose weight is 1.
type Candidate = (u32, f64);

impl Sampler {
    /// A sampler at the beginning of its seed's numbers.
    ///
    /// # Errors
    /// [`Error::Sampling`] for a setting out of range.
    pub fn new(sampling: Sampling) -> Result<Self> {
        let wrong = |what: &str| Err(Error::Sampling(what.to_owned()));
        let Sampling {
            temperature,
            top_k,
            top_p,
            seed,
        } = sampling;
        if !(temperature.is_finite() && temperature >= 0.0) {
            return wrong(&format!(
                "the temperature is {temperature}, expected 0 (greedy) or more"
            ));
        }
        if top_k == Some(0) {
            return wrong("top-k is 0, expected 1 token or more");
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            return wrong(&format!(
                "top-p is {top_p}, expected more than 0 and at most 1"
            ));
        }
        Ok(Self {
            sampling,
            random: Xoshiro256PlusPlus::seed_from_u64(seed),
        })
    }

    /// A sampler that always picks the token with the greatest logit.
    pub fn greedy() -> Self {
        Self {
            sampling: Sampling::default(),
            random: Xoshiro256PlusPlus::seed_from_u64(0),
        }
    }

    /// Whether it always picks the token with the greatest logit.
    pub fn is_greedy(&self) -> bool {
        self.sampling.temperature == 0.0
    }

    /// Picks the next token. One whose logit is NaN is never drawn.
    pub fn pick(&mut self, logits: &[f32]) -> u32 {
        let greedy = argmax(logits);
        let top = logits.get(greedy as usize).copied().unwrap_or_default();
        if self.is_greedy() || !top.is_finite() {
            return greedy;
        }
        let candidates = self.candidates(logits, top);
        let total: f64 = candidates.iter().map(|(_, weight)| weight).sum();
        // 53 bits, as many as an f64 holds exactly.
        let at = (self.random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64 * total;
        let mut sum = 0.0;
        for (token, weight) in &candidates {
            sum += weight;
            if at < sum {
                return *token;
            }
        }
        greedy
    }

    /// The tokens that may be drawn; `top` is the greatest logit.
    fn candidates(&self, logits: &[f32], top: f32) -> Vec<Candidate> {
        let Sampling {
            temperature,
            top_k,
            top_p,
            ..
        } = self.sampling;
        let candidate = |(token, logit): (usize, &f32)| {
            let below = (f64::from(*logit) - f64::from(top)) / temperature;
            (token as u32, libm::exp(below))
        };
        let known = logits.iter().enumerate().filter(|(_, l)| !l.is_nan());
        let mut kept: Vec<Candidate> = known.map(candidate).collect();
        if let Some(k) = top_k.filter(|k| *k < kept.len()) {
            kept.select_nth_unstable_by(k, likelier);
            kept.truncate(k);
            // Sums must run in one order, and the selection leaves any order.
            kept.sort_unstable_by(likelier);
        }
        if top_p < 1.0 {
            let total: f64 = kept.iter().map(|(_, weight)| weight).sum();
            // Tokens below this weight together have less than the probability
            // that is to be dropped, so most need not be sorted. Half of it,
            // because sums are rounded.
            let min_weight = (1.0 - top_p) * total / kept.len() as f64 / 2.0;
            kept.retain(|(_, weight)| *weight >= min_weight);
            kept.sort_unstable_by(likelier);
            let mut sum = 0.0;
            let enough = kept.iter().position(|(_, weight)| {
                sum += weight;
                sum >= top_p * total
            });
            kept.truncate(enough.map_or(kept.len(), |last| last + 1));
        }
        kept
    }
}

/// Orders the likelier token first, and of equally likely ones the lower id.
fn likelier(a: &Candidate, b: &Candidate) -> Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// The index of the greatest logit: the first of them if there are several, and
/// 0 if there is none or all are NaN.
pub fn argmax(logits: &[f32]) -> u32 {
    /// Maxima that are found side by side, so that the loop is vectorized.
    const LANES: usize = 16;
    let (chunks, rest) = logits.as_chunks::<LANES>();
    let max = chunks
        .iter()
        .fold([f32::NEG_INFINITY; LANES], |max, chunk| {
            std::array::from_fn(|i| max[i].max(chunk[i]))
        });
    let max = max.iter().chain(rest).copied();
    let max = max.fold(f32::NEG_INFINITY, f32::max);
    let index = logits.iter().position(|logit| *logit == max);
    index.unwrap_or(0) as u32
}

#[cfg(test)]
mod tests {
    use super::{Sampler, Sampling, argmax};

    /// `oracles/sampling.py` recorded which tokens transformers keeps, and their
    /// probabilities.
    #[test]
    fn the_same_tokens_are_kept_as_by_transformers() {
        let cases = include_str!("../tests/fixtures/sampling.json");
        let cases: serde_json::Value = serde_json::from_str(cases).unwrap();
        let cases = cases.as_array().unwrap();
        assert!(cases.len() >= 40);
        for case in cases {
            let numbers = |key: &str| -> Vec<f64> {
                let list = case[key].as_array().unwrap().iter();
                list.map(|number| number.as_f64().unwrap()).collect()
            };
            let sampling = Sampling {
                temperature: case["temperature"].as_f64().unwrap(),
                top_k: case["top_k"].as_u64().map(|k| k as usize),
                top_p: case["top_p"].as_f64().unwrap_or(1.0),
                seed: 0,
            };
            let logits: Vec<f32> = numbers("logits").iter().map(|l| *l as f32).collect();
            let top = logits[argmax(&logits) as usize];
            let mut kept = Sampler::new(sampling).unwrap().candidates(&logits, top);
            kept.sort_by_key(|(token, _)| *token);
            let tokens: Vec<f64> = kept.iter().map(|(token, _)| f64::from(*token)).collect();
            assert_eq!(tokens, numbers("kept"), "{sampling:?}");
            let total: f64 = kept.iter().map(|(_, weight)| weight).sum();
            for ((token, weight), expected) in kept.iter().zip(numbers("probabilities")) {
                let found = weight / total;
                assert!(
                    (found - expected).abs() < 2e-6,
                    "{sampling:?}, token {token}: {found}, expected {expected}"
                );
            }
        }
    }

    #[test]
    fn tokens_are_drawn_as_often_as_they_are_likely() {
        let logits = [1.0_f32, f32::NAN, 0.0, 2.0, f32::NEG_INFINITY, -1.0];
        let sampling = Sampling {
            temperature: 1.5,
            ..Sampling::default()
        };
        let mut sampler = Sampler::new(sampling).unwrap();
        const DRAWS: usize = 60_000;
        let mut counts = [0_usize; 6];
        for _ in 0..DRAWS {
            counts[sampler.pick(&logits) as usize] += 1;
        }
        let weights = logits.map(|logit| {
            if logit.is_nan() {
                0.0
            } else {
                (f64::from(logit) / 1.5).exp()
            }
        });
        let total: f64 = weights.iter().sum();
        // Chi-squared with three degrees of freedom: above 16.3 once in 1,000,
        // and the seed is fixed.
        let mut chi = 0.0;
        for (count, weight) in counts.iter().zip(weights) {
            if weight == 0.0 {
                assert_eq!(*count, 0);
                continue;
            }
            let expected = weight / total * DRAWS as f64;
            chi += (*count as f64 - expected).powi(2) / expected;
        }
        assert!(chi < 16.3, "{counts:?}: {chi}");
    }

    /// The expected tokens were computed by a few lines of Python.
    #[test]
    fn a_seed_gives_the_same_tokens_everywhere() {
        let logits: Vec<f32> = (0..512_u32)
            .map(|i| (i * 7_919 % 1000) as f32 / 90.0)
            .collect();
        let draw = |seed, top_k, top_p| {
            let sampling = Sampling {
                temperature: 1.3,
                top_k,
                top_p,
                seed,
            };
            let mut sampler = Sampler::new(sampling).unwrap();
            [(); 8].map(|()| sampler.pick(&logits))
        };
        assert_eq!(draw(0, None, 1.0), [173, 199, 187, 2, 251, 13, 441, 433]);
        assert_eq!(draw(1, None, 1.0), [420, 383, 52, 383, 99, 298, 507, 272]);
        assert_eq!(
            draw(0, Some(40), 0.9),
            [420, 383, 62, 321, 309, 321, 297, 297]
        );
        assert_eq!(
            draw(u64::MAX, None, 0.5),
            [383, 75, 433, 420, 50, 346, 433, 198]
        );
    }

    #[test]
    fn settings_at_their_limits_are_greedy() {
        let hot = |temperature, top_k, top_p| {
            let sampling = Sampling {
                temperature,
                top_k,
                top_p,
                seed: 3,
            };
            Sampler::new(sampling).unwrap()
        };
        let logits = [f32::NAN, 1.0, 3.0, 3.0, 2.0];
        for mut sampler in [
            Sampler::greedy(),
            hot(0.0, Some(3), 0.5),
            hot(2.0, Some(1), 1.0),
            hot(2.0, None, 1e-9),
            hot(f64::MIN_POSITIVE, Some(1), 1.0),
        ] {
            assert_eq!([(); 9].map(|()| sampler.pick(&logits)), [2; 9]);
        }
        // Of equal logits the first, in whichever lanes they are; NaN is skipped.
        for (first, second) in [(0, 1), (3, 19), (15, 31), (16, 15 + 16), (20, 34), (33, 34)] {
            let mut logits = [f32::NAN; 35];
            (logits[first], logits[second]) = (7.0, 7.0);
            assert_eq!(argmax(&logits), first as u32);
        }
        for logits in [&[][..], &[f32::NAN], &[f32::NAN; 35], &[f32::INFINITY, 1.0]] {
            assert_eq!(hot(1.0, None, 0.9).pick(logits), 0);
        }
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let good = Sampling {
            temperature: 1.0,
            ..Sampling::default()
        };
        for (sampling, part) in [
            (
                Sampling {
                    temperature: -1.0,
                    ..good
                },
                "temperature is -1",
            ),
            (
                Sampling {
                    temperature: f64::NAN,
                    ..good
                },
                "temperature is NaN",
            ),
            (
                Sampling {
                    top_k: Some(0),
                    ..good
                },
                "top-k is 0",
            ),
            (Sampling { top_p: 0.0, ..good }, "top-p is 0"),
            (Sampling { top_p: 1.5, ..good }, "top-p is 1.5"),
            (
                Sampling {
                    top_p: f64::NAN,
                    ..good
                },
                "top-p is NaN",
            ),
        ] {
            let problem = Sampler::new(sampling).unwrap_err().to_string();
            assert!(problem.contains(part), "{problem}");
        }
    }
}
