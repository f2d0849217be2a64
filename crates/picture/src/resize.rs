//! Pillow's bicubic resampling, in its own arithmetic.

use crate::image::Image;

impl Image {
    /// The picture stretched to `width` by `height` pixels, both at least 1,
    /// bicubic with antialiasing, in Pillow's own arithmetic: 22 bits for a
    /// weight, and 8 for what the first direction gives the second.
    pub fn resize(&self, width: usize, height: usize) -> Image {
        let wide = Image {
            width,
            height: self.height,
            rgb: resample(&self.rgb, self.width, width, 3),
        };
        Image {
            width,
            height,
            rgb: resample(&wide.rgb, wide.height, height, 3 * width),
        }
    }
}

/// The cubic convolution kernel with a = −0.5.
fn cubic(x: f64) -> f64 {
    let x = x.abs();
    if x < 1.0 {
        (1.5 * x - 2.5) * x * x + 1.0
    } else if x < 2.0 {
        ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    } else {
        0.0
    }
}

/// Bits after the point of a weight, as in Pillow: sums of 8-bit levels fit.
const WEIGHT_BITS: u32 = 22;

/// Resamples the one axis of `from` entries to `to`. Before it, `levels` may
/// have any number of entries; after it, `inner`.
fn resample(levels: &[u8], from: usize, to: usize, inner: usize) -> Vec<u8> {
    let scale = from as f64 / to as f64;
    // Shrinking widens the kernel, which is the antialiasing.
    let stretch = scale.max(1.0);
    let taps: Vec<(usize, Vec<i64>)> = (0..to)
        .map(|target| {
            let centre = (target as f64 + 0.5) * scale;
            let first = (centre - 2.0 * stretch).floor().max(0.0) as usize;
            let last = ((centre + 2.0 * stretch).ceil() as usize).min(from);
            let weights: Vec<f64> = (first..last)
                .map(|source| cubic((source as f64 + 0.5 - centre) / stretch))
                .collect();
            let unit = f64::from(1 << WEIGHT_BITS) / weights.iter().sum::<f64>();
            let fixed = |weight: f64| (weight * unit).round() as i64;
            (first, weights.into_iter().map(fixed).collect())
        })
        .collect();
    let mut out = Vec::with_capacity(levels.len() / from * to);
    let mut sums = vec![0; inner];
    for plane in levels.chunks_exact(from * inner) {
        for (first, weights) in &taps {
            // A half, for rounding.
            sums.fill(1 << (WEIGHT_BITS - 1));
            let lines = plane[first * inner..].chunks_exact(inner);
            for (line, weight) in lines.zip(weights) {
                for (sum, level) in sums.iter_mut().zip(line) {
                    *sum += weight * i64::from(*level);
                }
            }
            let level = |sum: &i64| (sum >> WEIGHT_BITS).clamp(0, 255) as u8;
            out.extend(sums.iter().map(level));
        }
    }
    out
}
