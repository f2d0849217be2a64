//! Constants that follow from the configuration alone, or from the table of
//! position embeddings: computed as the published recipe computes them, so
//! that they come out the same to the bit.

use half::f16;

/// Which of the three position ids turns each element of a head, as f16 0 or 1
/// for t, h and w. Frequency j belongs to h where j mod 3 = 1 and
/// j < 3·section[1], to w where j mod 3 = 2 and j < 3·section[2], else to t;
/// both halves of a head have the same frequencies.
pub fn mrope_masks(section: [usize; 3], head_dim: usize) -> [Vec<f16>; 3] {
    let half = head_dim / 2;
    let owner = |j: usize| match j % 3 {
        1 if j < 3 * section[1] => 1,
        2 if j < 3 * section[2] => 2,
        _ => 0,
    };
    let mask = |axis: usize| {
        (0..head_dim)
            .map(|i| f16::from(u8::from(owner(i % half) == axis)))
            .collect()
    };
    [mask(0), mask(1), mask(2)]
}

/// Row and column of each patch of a `2·grid` square, in the order in which
/// patches come: merge blocks row by row, and within a block row by row.
pub fn patch_positions(grid: usize, merge: usize) -> Vec<(usize, usize)> {
    let blocks = (0..grid).flat_map(move |row| (0..grid).map(move |col| (row, col)));
    blocks
        .flat_map(|(row, col)| {
            let inner = (0..merge).flat_map(move |i| (0..merge).map(move |j| (i, j)));
            inner.map(move |(i, j)| (row * merge + i, col * merge + j))
        })
        .collect()
}

/// Cosines and sines of the vision encoder's rotary embedding, `[patches,
/// head_dim]` of f16 each: first the row's angles, then the column's, twice.
pub fn vision_rotary(grid: usize, merge: usize, head_dim: usize) -> (Vec<f16>, Vec<f16>) {
    let rotated = head_dim / 2;
    let frequencies: Vec<f32> = (0..rotated / 2)
        .map(|j| {
            let exponent = (2 * j) as f32 / rotated as f32;
            1.0 / (10000_f64.powf(exponent.into()) as f32)
        })
        .collect();
    let (mut cos, mut sin) = (Vec::new(), Vec::new());
    for (row, col) in patch_positions(grid, merge) {
        let half: Vec<f32> = [row, col]
            .iter()
            .flat_map(|&position| frequencies.iter().map(move |f| position as f32 * f))
            .collect();
        for angle in half.iter().chain(&half) {
            // Through f32, as the tables are made there.
            cos.push(f16::from_f32(f64::from(*angle).cos() as f32));
            sin.push(f16::from_f32(f64::from(*angle).sin() as f32));
        }
    }
    (cos, sin)
}

/// Position embeddings at each patch, `[patches, hidden]` of f16: the table, a
/// square of `side` × `side` rows, interpolated bilinearly in f32.
pub fn position_embeddings(
    table: &[f32],
    side: usize,
    hidden: usize,
    grid: usize,
    merge: usize,
) -> Vec<f16> {
    let axis = axis_weights(side, grid * merge);
    let mut embeddings = Vec::with_capacity(grid * grid * merge * merge * hidden);
    for (row, col) in patch_positions(grid, merge) {
        let (top, bottom, dh) = axis[row];
        let (left, right, dw) = axis[col];
        let corners = [
            (top * side + left, (1.0 - dh) * (1.0 - dw)),
            (top * side + right, (1.0 - dh) * dw),
            (bottom * side + left, dh * (1.0 - dw)),
            (bottom * side + right, dh * dw),
        ];
        embeddings.extend((0..hidden).map(|i| {
            let sum = corners.iter().fold(0.0, |sum, (at, weight)| {
                sum + table[at * hidden + i] * weight
            });
            f16::from_f32(sum)
        }));
    }
    embeddings
}

/// For each of `count` places spread over `side` entries: the entries below
/// and above, and how far it is from the lower one.
fn axis_weights(side: usize, count: usize) -> Vec<(usize, usize, f32)> {
    let end = (side - 1) as f32;
    let step = end / (count.max(2) - 1) as f32;
    (0..count)
        .map(|i| {
            // PyTorch counts from whichever end is nearer.
            let place = if i < count / 2 || count == 1 {
                step * i as f32
            } else {
                (-step).mul_add((count - 1 - i) as f32, end)
            };
            let low = place as usize;
            (low, (low + 1).min(side - 1), place - low as f32)
        })
        .collect()
}

/// `a + b` of f16 numbers as Core AI's compiler folds it when both are constants.
///
/// The recipe's optimizer adds the patch bias to the position embeddings, and
/// reads subnormal f16 numbers wrongly there: as numbers 2⁻⁷ or so of their value
/// and less. The constant of the published bundles has that in it, and a
/// graph that is the same op for op must have the same constant. The values
/// that are lost are below 2⁻¹⁴.
pub fn folded_sum(a: f16, b: f16) -> f16 {
    f16::from_f32(folder_value(a) + folder_value(b))
}

fn folder_value(value: f16) -> f32 {
    let bits = u32::from(value.to_bits());
    let (sign, exponent, mantissa) = (bits >> 15, (bits >> 10) & 0x1f, bits & 0x3ff);
    if exponent != 0 || mantissa == 0 {
        return value.to_f32();
    }
    let top = mantissa.ilog2();
    f32::from_bits(sign << 31 | ((96 + top) | 1) << 23 | (mantissa << (10 - top)) << 3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::{assert_abs_diff_eq, assert_relative_eq};

    #[test]
    fn masks_choose_one_axis_for_each_element() {
        let masks = mrope_masks([6, 5, 5], 32);
        for i in 0..32 {
            let sum: f32 = masks.iter().map(|mask| mask[i].to_f32()).sum();
            assert_eq!(sum, 1.0);
        }
        // Section [6, 5, 5] leaves frequency 15 of 16 to t: 15 mod 3 = 0.
        assert_eq!(masks[0][15].to_f32(), 1.0);
        assert_eq!(masks[1].iter().map(|m| m.to_f32()).sum::<f32>(), 10.0);
    }

    #[test]
    fn masks_of_the_published_models_are_those_of_transformers() {
        // It starts from t's frequencies and overwrites 1, 4 … 58 with h's and
        // 2, 5 … 59 with w's, for sections [24, 20, 20].
        let masks = mrope_masks([24, 20, 20], 128);
        let mut axis = [0; 64];
        for place in 1..=2 {
            for j in (place..60).step_by(3) {
                axis[j] = place;
            }
        }
        for (i, owner) in axis.iter().chain(&axis).enumerate() {
            let bits: Vec<u16> = masks.iter().map(|mask| mask[i].to_bits()).collect();
            let mut expected = [0; 3];
            expected[*owner] = 0x3c00;
            assert_eq!(bits, expected, "{i}");
        }
        let count = |mask: &[f16]| mask.iter().filter(|m| m.to_bits() != 0).count();
        assert_eq!(masks.map(|mask| count(&mask)), [48, 40, 40]);
    }

    #[test]
    fn frequencies_fall_from_one_by_powers_of_theta() {
        let frequencies = crate::lower::composite::rope_frequencies(5e6, 128);
        assert_eq!((frequencies.len(), frequencies[0]), (64, 1.0));
        for (j, frequency) in frequencies.iter().enumerate() {
            let exact = 5e6_f64.powf(-(j as f64) / 64.0);
            // A power in f32: some units in the last place.
            assert_relative_eq!(f64::from(*frequency), exact, max_relative = 2e-7);
        }
    }

    #[test]
    fn the_published_table_is_spread_over_the_published_grid() {
        // 48 places over 28 patches: the ends are rows of the table, and what
        // lies between moves by 47 / 27.
        let axis = axis_weights(48, 28);
        assert_eq!(axis[0], (0, 1, 0.0));
        assert_eq!(axis[27], (47, 47, 0.0));
        for (i, (low, high, above)) in axis.iter().enumerate() {
            let exact = i as f64 * 47.0 / 27.0;
            // Positions up to 47, in f32.
            assert_abs_diff_eq!(*low as f64 + f64::from(*above), exact, epsilon = 1e-5);
            assert_eq!(*high, (low + 1).min(47));
        }
        // The smallest grid there is.
        assert_eq!(axis_weights(8, 2), [(0, 1, 0.0), (7, 7, 0.0)]);
    }

    #[test]
    fn vision_angles_are_the_row_s_then_the_column_s() {
        let (cos, sin) = vision_rotary(3, 2, 64);
        assert_eq!(cos.len(), 36 * 64);
        for (patch, (row, col)) in patch_positions(3, 2).into_iter().enumerate() {
            for i in 0..64 {
                let position = if i % 32 < 16 { row } else { col };
                let angle = position as f64 * 1e4_f64.powf(-((i % 16) as f64) / 16.0);
                let at = patch * 64 + i;
                // Half a unit of an f16 below 1 is 2^-12.
                assert_abs_diff_eq!(cos[at].to_f64(), angle.cos(), epsilon = 5e-4);
                assert_abs_diff_eq!(sin[at].to_f64(), angle.sin(), epsilon = 5e-4);
            }
        }
    }

    #[test]
    fn patches_come_block_by_block() {
        let order = patch_positions(2, 2);
        assert_eq!(order[..5], [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2)]);
        assert_eq!(order[15], (3, 3));
    }

    #[test]
    fn a_table_of_the_grid_itself_is_not_interpolated() {
        let table: Vec<f32> = (0..16).map(|i| i as f32).collect();
        let embeddings = position_embeddings(&table, 4, 1, 2, 2);
        let order = patch_positions(2, 2);
        for (value, (row, col)) in embeddings.iter().zip(order) {
            assert_eq!(value.to_f32(), (row * 4 + col) as f32);
        }
    }

    #[test]
    fn normal_numbers_fold_to_their_sum() {
        let (a, b) = (f16::from_f32(0.5), f16::from_f32(-0.125));
        assert_eq!(folded_sum(a, b).to_f32(), 0.375);
        // 2^-24 is read as a number too small to count.
        assert_eq!(
            folded_sum(f16::from_bits(1), f16::from_f32(0.0)).to_bits(),
            0
        );
    }
}
