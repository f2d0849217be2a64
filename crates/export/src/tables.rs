//! Constants that follow from the configuration alone, or from the table of
//! position embeddings: computed as the published recipe computes them, so
//! that they come out the same to the bit.

use half::f16;

/// Inverse frequencies of the decoder's rotary embedding: `1 / θ^(i / half)`
/// for each of the `half` frequencies.
///
/// The power is rounded once, from f64. PyTorch's vectorized power is off by
/// one unit in the last place at a few indexes on some processors.
pub fn rope_frequencies(theta: f64, head_dim: usize) -> Vec<f32> {
    let half = head_dim / 2;
    let exponent = |i: usize| i as f32 / half as f32;
    (0..half)
        .map(|i| 1.0 / (theta.powf(exponent(i).into()) as f32))
        .collect()
}

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

/// Cosines and sines of the vision tower's rotary embedding, `[patches,
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

/// `a + b` of halves as Core AI's compiler folds it when both are constants.
///
/// The recipe's optimizer adds the patch bias to the position embeddings, and
/// reads subnormal halves wrongly there: as numbers 2⁻⁷ or so of their value
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
    fn normal_halves_fold_to_their_sum() {
        let (a, b) = (f16::from_f32(0.5), f16::from_f32(-0.125));
        assert_eq!(folded_sum(a, b).to_f32(), 0.375);
        // 2^-24 is read as a number too small to count.
        assert_eq!(
            folded_sum(f16::from_bits(1), f16::from_f32(0.0)).to_bits(),
            0
        );
    }
}
