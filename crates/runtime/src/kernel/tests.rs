//! Each kernel at each level against plain sums in f64, and all levels against
//! each other, to the bit.
//!
//! Only levels that the CPU has can run. `every_level_of_this_cpu_runs` asks
//! the kernel of the operating system what the CPU has, and says on the
//! terminal which levels this machine leaves untested.

#![allow(clippy::unwrap_used)]

use aimodel::Blob;
use half::f16;

use super::{
    AttentionShape, Cache, Pairwise, WeightMatrix, attention::attention_at, elementwise,
    fixed::Fixed, lanes::WIDTH, level::Level,
};

/// Numbers that look random, from −1 to 1.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.next()).collect()
    }

    fn f16s(&mut self, count: usize) -> Vec<f16> {
        (0..count).map(|_| f16::from_f32(self.next())).collect()
    }
}

fn bytes(values: &[f16]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// Runs `kernel` at all levels, which must agree, and gives what it computes.
fn at_all_levels<T: PartialEq + std::fmt::Debug>(kernel: impl Fn(Level) -> T) -> T {
    let scalar = kernel(Level::SCALAR);
    let mut ran = Vec::new();
    for level in Level::all() {
        assert!(kernel(level) == scalar, "{level:?} differs");
        ran.push(name(level));
    }
    assert_eq!(ran, expected_levels());
    scalar
}

fn name(level: Level) -> &'static str {
    match level {
        Level::Scalar(_) => "scalar",
        #[cfg(target_arch = "x86_64")]
        Level::Avx2(_) => "avx2",
        #[cfg(target_arch = "x86_64")]
        Level::Avx512(_) => "avx512",
    }
}

/// The levels that this CPU must run, the best first: on Linux by what the
/// system says of the CPU, elsewhere by what the standard library finds.
fn expected_levels() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    let (avx2, avx512) = {
        use std::arch::is_x86_feature_detected as has;
        let found = std::fs::read_to_string("/proc/cpuinfo").ok();
        let flags = found.as_deref().and_then(|info| {
            let line = info.lines().find(|line| line.starts_with("flags"))?;
            Some(line.split_whitespace().collect::<Vec<_>>())
        });
        match flags {
            Some(flags) => {
                let all = |names: &[&str]| names.iter().all(|name| flags.contains(name));
                (
                    all(&["avx2", "fma", "f16c"]),
                    all(&["avx512f", "avx512bw", "avx512dq", "avx512vl"]),
                )
            }
            None => (
                has!("avx2") && has!("fma") && has!("f16c"),
                has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl"),
            ),
        }
    };
    #[cfg(not(target_arch = "x86_64"))]
    let (avx2, avx512) = (false, false);
    let levels = [("avx512", avx2 && avx512), ("avx2", avx2), ("scalar", true)];
    let levels = levels.into_iter().filter(|(_, has)| *has);
    levels.map(|(name, _)| name).collect()
}

#[test]
fn every_level_of_this_cpu_runs() {
    use std::io::Write;

    let levels: Vec<&str> = Level::all().map(name).collect();
    assert_eq!(levels, expected_levels());
    assert_eq!(Level::best(), Level::all().next().unwrap());
    let missing = ["avx512", "avx2"];
    let missing: Vec<&str> = missing
        .into_iter()
        .filter(|name| !levels.contains(name))
        .collect();
    if !missing.is_empty() {
        // Not captured, unlike what the print macros write.
        let _ = writeln!(
            std::io::stderr(),
            "this CPU has no {}: kernels ran as {} only",
            missing.join(" and no "),
            levels.join(" and ")
        );
    }
}

/// Whether numbers are as expected, to `allowed` of the sums of magnitudes.
fn close(found: &[f32], expected: &[(f64, f64)], allowed: f64) {
    assert_eq!(found.len(), expected.len());
    for (i, (found, (sum, size))) in found.iter().zip(expected).enumerate() {
        let off = (f64::from(*found) - sum).abs();
        assert!(
            off <= allowed * size,
            "{i}: expected {sum} of {size}, found {found}"
        );
    }
}

/// Sums of products, and of their magnitudes.
fn products(weights: &[f64], x: &[f32], cols: usize) -> Vec<(f64, f64)> {
    let mut out = Vec::new();
    for x in x.chunks_exact(cols) {
        for row in weights.chunks_exact(cols) {
            let terms = row.iter().zip(x).map(|(w, x)| w * f64::from(*x));
            let (mut sum, mut size) = (0.0, 0.0);
            for term in terms {
                sum += term;
                size += term.abs();
            }
            out.push((sum, size));
        }
    }
    out
}

#[test]
fn products_with_int8_weights() {
    let mut noise = Noise(1);
    for (rows, cols, block) in [
        (1, 32, 32),
        (7, 96, 32),
        (9, 512, 32),
        (5, 1056, 32),
        (50, 2080, 32),
        (101, 160, 32),
        (49, 160, 5),
        (6, 384, 48),
        (13, 256, 256),
    ] {
        let data: Vec<i8> = (0..rows * cols)
            .map(|_| (noise.next() * 128.0) as i8)
            .collect();
        let scales = noise.f16s(rows * cols / block);
        let weights: Vec<f64> = (0..rows * cols)
            .map(|at| f64::from(data[at]) * f64::from(scales[at / block].to_f32()))
            .collect();
        let data = data.iter().map(|q| *q as u8).collect::<Vec<u8>>();
        let (data, scales) = (Blob::new(data), Blob::new(bytes(&scales)));
        let matrix = WeightMatrix::int8([rows, cols], block, data, scales).unwrap();
        for count in [1, 2, 16, 17, 65, 130] {
            let x = noise.floats(count * cols);
            let found = at_all_levels(|level| matrix.multiply_at(level, &x, count).unwrap());
            close(&found, &products(&weights, &x, cols), 1e-6);
        }
    }
}

/// Numbers whose magnitudes differ by up to two to the power of `spread`.
fn wide_floats(noise: &mut Noise, count: usize, size: i32, spread: i32) -> Vec<f32> {
    let number = |_| {
        let exponent = (size + (noise.next() * spread as f32) as i32).clamp(-149, 127);
        (f64::from(noise.next()) * 2_f64.powi(exponent)) as f32
    };
    (0..count).map(number).collect()
}

#[test]
fn fixed_point_holds_f32() {
    let mut noise = Noise(5);
    for spread in [0, 4, 8, 40, 126] {
        for size in [-149, -120, -95, -60, 0, 60, 127] {
            let mut x = wide_floats(&mut noise, 640, size, spread);
            x[0] = f32::MAX;
            x[40] = -1.0;
            x[41] = 2_f32.powi(-29);
            let fixed = at_all_levels(|level| {
                let fixed = Fixed::new(level, &x).unwrap();
                let parts = fixed.blocks.iter().map(|block| (block.high, block.low));
                (parts.collect::<Vec<_>>(), fixed.units)
            });
            let blocks = x.chunks_exact(32).zip(fixed.0.iter().zip(&fixed.1));
            for (x, ((high, low), unit)) in blocks {
                let largest = x.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
                let (largest, unit) = (f64::from(largest), f64::from(*unit));
                assert!(unit == 2_f64.powi(-119) || unit <= largest * 2_f64.powi(-28));
                for (x, (high, low)) in x.iter().zip(high.iter().zip(low)) {
                    assert!(high.abs() <= 1 << 14 && low.abs() <= 1 << 14);
                    let held = (f64::from(*high) * 2_f64.powi(15) + f64::from(*low)) * unit;
                    let off = (held - f64::from(*x)).abs();
                    let exact = f64::from(x.abs()) >= largest / 32.0 && unit > 2_f64.powi(-119);
                    assert!(off <= if exact { 0.0 } else { unit / 2.0 }, "{x} is {held}");
                }
            }
        }
    }
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut x = noise.floats(96);
        x[77] = bad;
        assert!(Level::all().all(|level| Fixed::new(level, &x).is_none()));
    }
}

/// The only roundings are those of the vector to fixed point, of the sums of
/// blocks, and of the scales.
#[test]
fn products_of_one_vector_with_int8_weights_at_the_extremes() {
    // Fewer blocks than are widened at once, and one more.
    for cols in [96, 544] {
        extremes(11, cols);
    }
}

fn extremes(rows: usize, cols: usize) {
    let mut noise = Noise(6);
    for spread in [0, 8, 40, 126] {
        for (size, scale) in [
            (-120, 1.0),
            (-60, 6e4),
            (0, 6e-8),
            (0, 1.0),
            (60, 1.0),
            (120, 6e-8),
        ] {
            // So that no sum overflows.
            let largest = if scale < 1.0 { 127 } else { 110 };
            let x = wide_floats(&mut noise, cols, size, spread.min(largest - size));
            let scale = f16::from_f32(scale);
            let data: Vec<i8> = (0..rows * cols)
                .map(|i| match i / cols {
                    0 => -128,
                    1 => 127,
                    2 => 0,
                    _ => (noise.next() * 128.0) as i8,
                })
                .collect();
            let int8 = |rows: &[i8]| {
                let bytes_of = rows.iter().map(|q| *q as u8).collect::<Vec<u8>>();
                let scales = Blob::new(bytes(&vec![scale; rows.len() / 32]));
                let dims = [rows.len() / cols, cols];
                WeightMatrix::int8(dims, 32, Blob::new(bytes_of), scales).unwrap()
            };
            let matrix = int8(&data);
            let found = at_all_levels(|level| matrix.multiply_at(level, &x, 1).unwrap());
            for (row, found) in data.chunks_exact(cols).zip(&found) {
                // By itself, it is not read beside other rows.
                assert_eq!(int8(row).multiply(&x, 1).unwrap(), [*found]);
                let (mut sum, mut lost) = (0.0, 0.0);
                for (x, row) in x.chunks_exact(32).zip(row.chunks_exact(32)) {
                    let largest = x.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
                    let off = (f64::from(largest) * 2_f64.powi(-29)).max(2_f64.powi(-120));
                    for (x, weight) in x.iter().zip(row) {
                        let weight = f64::from(*weight) * scale.to_f64();
                        sum += f64::from(*x) * weight;
                        // A rounding for each block of a lane after the first.
                        let rounded = f64::from(x.abs()) * weight.abs() * 2_f64.powi(-24);
                        lost += off * weight.abs() + rounded * (cols / 32 - 1) as f64;
                    }
                }
                let off = (f64::from(*found) - sum).abs();
                assert!(
                    off <= lost + 1e-44,
                    "expected {sum}, found {found}: off by more than {lost}"
                );
            }
        }
    }
}

/// NaN stays NaN, and infinities stay what they are.
#[test]
fn products_with_nan_and_infinities() {
    let (mut noise, cols) = (Noise(8), 96);
    let ones = Blob::new(vec![1; 2 * cols]);
    let scales = Blob::new(bytes(&[f16::ONE; 6]));
    let matrix = WeightMatrix::int8([2, cols], 32, ones, scales).unwrap();
    for beyond in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
        let mut x = noise.floats(cols);
        x[40] = beyond;
        for level in Level::all() {
            let found = matrix.multiply_at(level, &x, 1).unwrap();
            let is = |found: &f32| *found == beyond || found.is_nan() && beyond.is_nan();
            assert!(found.iter().all(is), "{found:?}");
        }
    }
}

#[test]
fn products_with_f16_weights() {
    let mut noise = Noise(2);
    for (rows, cols) in [(1, 1), (5, 17), (49, 64), (100, 333), (97, 1024)] {
        let data = noise.f16s(rows * cols);
        let weights: Vec<f64> = data.iter().map(|w| f64::from(w.to_f32())).collect();
        let matrix = WeightMatrix::f16([rows, cols], Blob::new(bytes(&data))).unwrap();
        for count in [1, 3, 64, 81] {
            let x = noise.floats(count * cols);
            let found = at_all_levels(|level| matrix.multiply_at(level, &x, count).unwrap());
            close(&found, &products(&weights, &x, cols), 1e-6);
        }
    }
}

#[test]
fn elementwise_operations_on_f16() {
    let mut noise = Noise(3);
    for count in [1, 15, 16, 33, 128] {
        let (x, y) = (noise.f16s(count), noise.f16s(count));
        let plain = |op, a: f32, b: f32| match op {
            Pairwise::Add => a + b,
            Pairwise::Sub => a - b,
            Pairwise::Mul => a * b,
            Pairwise::Div => a / b,
        };
        let run = |kernel: &dyn Fn(Level, &mut [f16])| {
            at_all_levels(|level| {
                let mut out = vec![f16::NAN; count];
                kernel(level, &mut out);
                out
            })
        };
        for op in [Pairwise::Add, Pairwise::Sub, Pairwise::Mul, Pairwise::Div] {
            for y in [&y[..], &y[..1]] {
                let found = run(&|level, out| elementwise::pairwise(level, op, &x, y, out));
                let pairs = x.iter().zip(y.iter().cycle());
                let expected = pairs.map(|(a, b)| f16::from_f32(plain(op, a.to_f32(), b.to_f32())));
                assert_eq!(found, expected.collect::<Vec<_>>(), "{op:?}");
            }
        }
        let wide = |x: &[f16]| {
            x.iter()
                .map(|x| f64::from(x.to_f32()))
                .collect::<Vec<f64>>()
        };
        let single = |x: &[f16]| x.iter().map(|x| x.to_f32()).collect::<Vec<f32>>();
        // A rounding to f16, of numbers up to 8.
        let near = |found: &[f16], expected: &[f64]| {
            let expected: Vec<_> = expected.iter().map(|v| (*v, v.abs() + 1e-3)).collect();
            close(&single(found), &expected, 1e-3);
        };

        let large: Vec<f16> = x.iter().map(|x| f16::from_f32(x.to_f32() * 20.0)).collect();
        let found = run(&|level, out| elementwise::sigmoid_linear(level, &large, out));
        let expected: Vec<f64> = wide(&large)
            .iter()
            .map(|x| x / (1.0 + (-x).exp()))
            .collect();
        near(&found, &expected);

        let found = run(&|level, out| elementwise::root_mean_square(level, &large, &y, 1e-6, out));
        let squares = wide(&large).iter().map(|x| x * x).sum::<f64>();
        let factor = 1.0 / (squares / count as f64 + 1e-6).sqrt();
        let pairs = wide(&large).into_iter().zip(wide(&y));
        near(
            &found,
            &pairs.map(|(x, y)| x * factor * y).collect::<Vec<_>>(),
        );

        if count % 2 == 0 {
            let half = count / 2;
            let angles = noise.floats(half);
            let sin: Vec<f32> = angles.iter().map(|a| a.sin()).collect();
            let cos: Vec<f32> = angles.iter().map(|a| a.cos()).collect();
            let found = run(&|level, out| elementwise::rotate_pairs(level, &x, &sin, &cos, out));
            let (a, b) = (&wide(&x)[..half], &wide(&x)[half..]);
            let rotated = |i: usize| {
                let (sin, cos) = (f64::from(sin[i % half]), f64::from(cos[i % half]));
                if i < half {
                    a[i] * cos - b[i] * sin
                } else {
                    a[i - half] * sin + b[i - half] * cos
                }
            };
            near(&found, &(0..count).map(rotated).collect::<Vec<_>>());
        }
    }
}

#[test]
fn silu_of_the_extremes() {
    let x = [-6e4, -100.0, -20.0, -0.0, 0.0, 20.0, 100.0, 6e4].map(f16::from_f32);
    let found = at_all_levels(|level| {
        let mut out = [f16::NAN; 8];
        elementwise::sigmoid_linear(level, &x, &mut out);
        out
    });
    assert_eq!(found[..2], [f16::ZERO; 2]);
    assert_eq!(found[5..], x[5..]);
    let mut out = [f16::ZERO; WIDTH];
    for level in Level::all() {
        elementwise::sigmoid_linear(level, &[f16::NAN; WIDTH], &mut out);
        assert!(out.iter().all(|out| out.is_nan()));
    }
}

#[test]
fn attention_over_a_cache() {
    let mut noise = Noise(4);
    // Heads, heads of keys, rows, keys, elements; room beyond the keys.
    for (heads, kv_heads, rows, keys, dim, room) in [
        (1, 1, 1, 1, 8, 0),
        (4, 2, 1, 37, 32, 5),
        (4, 2, 1, 211, 128, 45),
        (6, 2, 9, 30, 20, 3),
        (4, 4, 70, 70, 64, 0),
        (2, 1, 130, 200, 144, 1),
    ] {
        for causal in [true, false] {
            let capacity = keys + room;
            let query = noise.f16s(heads * rows * dim);
            let key = noise.f16s(kv_heads * capacity * dim);
            let value = noise.f16s(kv_heads * capacity * dim);
            let dims = |heads, rows| [1, heads, rows, dim];
            let (q, k) = (dims(heads, rows), dims(kv_heads, keys));
            let shape = AttentionShape::new(&q, &k, &k, causal).unwrap();
            let cache = |data| Cache {
                data,
                strides: [capacity * dim, dim],
            };
            let found = at_all_levels(|level| {
                attention_at(level, shape, &query, cache(&key), cache(&value))
            });
            for head in 0..heads {
                for row in 0..rows {
                    let at = |cache: &[f16], key: usize, i: usize| {
                        let head = head / (heads / kv_heads);
                        f64::from(cache[(head * capacity + key) * dim + i].to_f32())
                    };
                    let seen = if causal { keys - rows + row + 1 } else { keys };
                    let query = &query[(head * rows + row) * dim..][..dim];
                    let powers: Vec<f64> = (0..seen)
                        .map(|key_at| {
                            let terms = query.iter().enumerate();
                            let terms =
                                terms.map(|(i, q)| f64::from(q.to_f32()) * at(&key, key_at, i));
                            terms.sum::<f64>().exp()
                        })
                        .collect();
                    let total: f64 = powers.iter().sum();
                    for i in 0..dim {
                        let mixed = powers.iter().enumerate();
                        let mixed: f64 = mixed.map(|(key, p)| p * at(&value, key, i)).sum();
                        let found = found[(head * rows + row) * dim + i].to_f32();
                        let off = (f64::from(found) - mixed / total).abs();
                        assert!(off < 1e-3, "{shape:?}, {head}, {row}, {i}: off by {off}");
                    }
                }
            }
            // Rows that are not contiguous.
            let by_key = |cache: &[f16]| -> Vec<f16> {
                let places = (0..capacity).flat_map(|key| (0..kv_heads).map(move |h| (h, key)));
                let rows = places.flat_map(|(h, key)| &cache[(h * capacity + key) * dim..][..dim]);
                rows.copied().collect()
            };
            let (key, value) = (by_key(&key), by_key(&value));
            let cache = |data| Cache {
                data,
                strides: [dim, kv_heads * dim],
            };
            let again = attention_at(Level::best(), shape, &query, cache(&key), cache(&value));
            assert_eq!(again, found);
        }
    }
}
