//! The loops that the processor spends its time in.
//!
//! Sums run in lanes of a fixed number, so that a result is the same however
//! wide the vectors are and however many threads there are.

use aimodel::Blob;
use candle_core::{CpuStorage, Device, Storage, Tensor};
use half::{f16, slice::HalfFloatSliceExt};
use rayon::prelude::*;

use crate::error::{OpResult, refuse};

const LANES: usize = 16;

/// Defines a function that runs `$any` as compiled for the widest vectors that
/// the processor has.
macro_rules! widest {
    (
        $(#[$doc:meta])*
        fn $name:ident($($arg:ident: $type:ty),*) $(-> $out:ty)? = $any:ident
    ) => {
        $(#[$doc])*
        fn $name($($arg: $type),*) $(-> $out)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $type),*) $(-> $out)? {
                    $any($($arg),*)
                }
                if std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has avx2, as just asked.
                    return unsafe { avx2($($arg),*) };
                }
            }
            $any($($arg),*)
        }
    };
}

/// A matrix in rows, as it lies in the file.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    rows: usize,
    cols: usize,
    data: Blob,
    /// The scales of si8 data, f16, one for each block of a row; without them
    /// the data are f16.
    scales: Option<(Blob, usize)>,
}

impl Rows {
    /// A matrix of halves.
    pub fn half([rows, cols]: [usize; 2], data: Blob) -> OpResult<Self> {
        Self::new(rows, cols, data, 2 * rows * cols, None)
    }

    /// A matrix of si8 with a scale for each `block` elements of a row.
    pub fn int8(
        [rows, cols]: [usize; 2],
        block: usize,
        data: Blob,
        scales: Blob,
    ) -> OpResult<Self> {
        if block == 0 || cols % block != 0 || scales.len() != (2 * rows * (cols / block)) as u64 {
            return refuse("the scales do not fit the matrix");
        }
        Self::new(rows, cols, data, rows * cols, Some((scales, block)))
    }

    fn new(
        rows: usize,
        cols: usize,
        data: Blob,
        bytes: usize,
        scales: Option<(Blob, usize)>,
    ) -> OpResult<Self> {
        if data.len() != bytes as u64 {
            return refuse(format!(
                "a matrix of {rows}×{cols} has {} bytes",
                data.len()
            ));
        }
        Ok(Self {
            rows,
            cols,
            data,
            scales,
        })
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn cols(&self) -> usize {
        self.cols
    }

    /// `x · selfᵀ`: `x` is `[count, cols]`, the result `[count, rows]`.
    pub fn multiply(&self, x: &[f32], count: usize) -> OpResult<Vec<f32>> {
        let (data, scales) = match (self.data.as_slice(), &self.scales) {
            (Some(data), None) => (data, None),
            (Some(data), Some((blob, block))) => match blob.as_slice() {
                Some(scales) => (data, Some((scales, *block))),
                None => return refuse("a constant is not in memory"),
            },
            (None, _) => return refuse("a constant is not in memory"),
        };
        // Row by row of the matrix, which is the larger of the two.
        let mut turned = vec![0.0; self.rows * count];
        let share = self.rows.div_ceil(4 * rayon::current_num_threads()).max(16);
        turned
            .par_chunks_mut((share * count).max(1))
            .enumerate()
            .for_each(|(chunk, out)| {
                let mut scratch = Scratch::default();
                for (i, out) in out.chunks_exact_mut(count).enumerate() {
                    let row = chunk * share + i;
                    match scales {
                        Some((scales, block)) => {
                            let line = &data[row * self.cols..(row + 1) * self.cols];
                            let width = 2 * (self.cols / block);
                            let scales = &scales[row * width..(row + 1) * width];
                            scratch.int8_row(line, scales, block, x, out);
                        }
                        None => {
                            let line = &data[2 * row * self.cols..2 * (row + 1) * self.cols];
                            scratch.half_row(line, x, out);
                        }
                    }
                }
            });
        if count <= 1 {
            return Ok(turned);
        }
        let mut out = vec![0.0; turned.len()];
        for (row, values) in turned.chunks_exact(count).enumerate() {
            for (i, value) in values.iter().enumerate() {
                out[i * self.rows + row] = *value;
            }
        }
        Ok(out)
    }
}

/// What one thread needs besides its results.
#[derive(Default)]
struct Scratch {
    halves: Vec<f16>,
    scales: Vec<f32>,
    row: Vec<f32>,
}

impl Scratch {
    fn int8_row(&mut self, line: &[u8], scales: &[u8], block: usize, x: &[f32], out: &mut [f32]) {
        widen(scales, &mut self.halves, &mut self.scales);
        let cols = line.len();
        if let [out] = out
            && block == 2 * LANES
        {
            *out = dot_int8(line, &self.scales, &x[..cols]);
            return;
        }
        self.row.resize(cols, 0.0);
        scale_row(line, &self.scales, block, &mut self.row);
        for (out, x) in out.iter_mut().zip(x.chunks_exact(cols)) {
            *out = dot(&self.row, x);
        }
    }

    fn half_row(&mut self, line: &[u8], x: &[f32], out: &mut [f32]) {
        widen(line, &mut self.halves, &mut self.row);
        for (out, x) in out.iter_mut().zip(x.chunks_exact(self.row.len())) {
            *out = dot(&self.row, x);
        }
    }
}

/// Little-endian halves to single precision.
fn widen(bytes: &[u8], halves: &mut Vec<f16>, out: &mut Vec<f32>) {
    halves.clear();
    let pairs = bytes.chunks_exact(2);
    halves.extend(pairs.map(|b| f16::from_le_bytes([b[0], b[1]])));
    out.resize(halves.len(), 0.0);
    halves.convert_to_f32_slice(out);
}

fn sum(lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    let mut lanes = lanes;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

widest! {
    /// The inner product.
    fn dot(a: &[f32], b: &[f32]) -> f32 = dot_any
}

#[inline(always)]
fn dot_any(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = a.remainder().iter().zip(b.remainder());
    let rest: f32 = rest.map(|(a, b)| a * b).sum();
    for (a, b) in a.zip(b) {
        for i in 0..LANES {
            lanes[i] += a[i] * b[i];
        }
    }
    sum(lanes) + rest
}

widest! {
    /// The inner product with a row of si8 in blocks of 32.
    fn dot_int8(line: &[u8], scales: &[f32], x: &[f32]) -> f32 = dot_int8_any
}

#[inline(always)]
fn dot_int8_any(line: &[u8], scales: &[f32], x: &[f32]) -> f32 {
    let mut total = [0.0; LANES];
    let blocks = line
        .chunks_exact(2 * LANES)
        .zip(x.chunks_exact(2 * LANES))
        .zip(scales);
    for ((q, x), scale) in blocks {
        for i in 0..LANES {
            let low = f32::from(q[i] as i8) * x[i];
            let high = f32::from(q[i + LANES] as i8) * x[i + LANES];
            total[i] += (low + high) * scale;
        }
    }
    sum(total)
}

widest! {
    /// A row of si8 with its scales, in single precision.
    fn scale_row(line: &[u8], scales: &[f32], block: usize, out: &mut [f32]) = scale_row_any
}

#[inline(always)]
fn scale_row_any(line: &[u8], scales: &[f32], block: usize, out: &mut [f32]) {
    let blocks = line.chunks_exact(block).zip(out.chunks_exact_mut(block));
    for ((q, out), scale) in blocks.zip(scales) {
        for (out, q) in out.iter_mut().zip(q) {
            *out = f32::from(*q as i8) * scale;
        }
    }
}

widest! {
    /// `sum += factor · x`.
    fn accumulate(sum: &mut [f32], factor: f32, x: &[f32]) = accumulate_any
}

#[inline(always)]
fn accumulate_any(sum: &mut [f32], factor: f32, x: &[f32]) {
    for (sum, x) in sum.iter_mut().zip(x) {
        *sum += factor * x;
    }
}

/// Products of matrices of halves, `[rows, inner] · [inner, cols]` as many
/// times as there are, summed in halves one after the other.
pub(crate) fn multiply_halves(x: &[f16], y: &[f16], [rows, inner, cols]: [usize; 3]) -> Vec<f16> {
    let mut out = vec![f16::ZERO; x.len() / inner.max(1) * cols];
    let factors = x.par_chunks((rows * inner).max(1));
    let matrices = y.par_chunks((inner * cols).max(1));
    out.par_chunks_mut((rows * cols).max(1))
        .zip(factors.zip(matrices))
        .for_each(|(out, (x, y))| {
            let lines = out.par_chunks_mut(cols).zip(x.par_chunks(inner));
            lines.for_each(|(out, x)| half_line(x, y, out));
        });
    out
}

/// One row of a product of halves.
fn half_line(x: &[f16], y: &[f16], out: &mut [f16]) {
    let cols = out.len();
    let mut sums = vec![0.0_f32; cols];
    let mut products = vec![0.0_f32; cols];
    for (x, y) in x.iter().zip(y.chunks_exact(cols)) {
        let x = x.to_f32();
        // Rounded to halves, of which single precision holds all.
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

/// The extents of an attention.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttentionShape {
    pub heads: usize,
    pub kv_heads: usize,
    pub rows: usize,
    pub keys: usize,
    pub dim: usize,
    pub causal: bool,
}

impl AttentionShape {
    pub fn new(query: &[usize], key: &[usize], value: &[usize], causal: bool) -> OpResult<Self> {
        match (query, key) {
            (&[1, heads, rows, dim], &[1, kv_heads, keys, key_dim])
                if dim == key_dim
                    && key == value
                    && ![heads, kv_heads, rows, keys, dim].contains(&0)
                    && heads % kv_heads == 0
                    && (!causal || rows <= keys) =>
            {
                Ok(Self {
                    heads,
                    kv_heads,
                    rows,
                    keys,
                    dim,
                    causal,
                })
            }
            _ => refuse(format!("{query:?} does not attend to {key:?}, {value:?}")),
        }
    }

    /// How many keys a query sees.
    pub fn visible(&self, row: usize) -> usize {
        match self.causal {
            true => self.keys - self.rows + row + 1,
            false => self.keys,
        }
    }
}

/// Attention over keys and values of halves that may be views of a cache.
/// `query`, in single precision, is scaled already. `None` where the operands
/// do not lie so.
pub(crate) fn attention(
    shape: AttentionShape,
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
) -> OpResult<Option<Tensor>> {
    let query = query.flatten_all()?.to_vec1::<f32>()?;
    let (keys, key_layout) = key.storage_and_layout();
    let (values, value_layout) = value.storage_and_layout();
    let (Storage::Cpu(CpuStorage::F16(keys)), Storage::Cpu(CpuStorage::F16(values))) =
        (&*keys, &*values)
    else {
        return Ok(None);
    };
    let (ks, vs) = (key_layout.stride(), value_layout.stride());
    if ks[3] != 1 || vs[3] != 1 {
        return Ok(None);
    }
    let (k0, v0) = (key_layout.start_offset(), value_layout.start_offset());
    let AttentionShape { rows, dim, .. } = shape;
    let queries = shape.heads / shape.kv_heads * rows;
    let mut out = vec![0.0; shape.heads * rows * dim];
    // The heads that share keys lie side by side.
    let share = (queries * dim).max(1);
    out.par_chunks_mut(share)
        .zip(query.par_chunks(share))
        .enumerate()
        .for_each(|(head, (out, query))| {
            let mut wide = vec![0.0; dim];
            let mut scores = vec![0.0; queries * shape.keys];
            for at in 0..shape.keys {
                let from = k0 + head * ks[1] + at * ks[2];
                keys[from..from + dim].convert_to_f32_slice(&mut wide);
                for (i, query) in query.chunks_exact(dim).enumerate() {
                    if at < shape.visible(i % rows) {
                        scores[i * shape.keys + at] = dot(query, &wide);
                    }
                }
            }
            for (i, scores) in scores.chunks_exact_mut(shape.keys).enumerate() {
                let (seen, hidden) = scores.split_at_mut(shape.visible(i % rows));
                normalize(seen);
                hidden.fill(0.0);
            }
            for at in 0..shape.keys {
                let from = v0 + head * vs[1] + at * vs[2];
                values[from..from + dim].convert_to_f32_slice(&mut wide);
                for (i, out) in out.chunks_exact_mut(dim).enumerate() {
                    if at < shape.visible(i % rows) {
                        accumulate(out, scores[i * shape.keys + at], &wide);
                    }
                }
            }
        });
    let dims = (1, shape.heads, rows, dim);
    Ok(Some(Tensor::from_vec(out, dims, &Device::Cpu)?))
}

/// Softmax in place.
fn normalize(scores: &mut [f32]) {
    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut total = 0.0;
    for score in scores.iter_mut() {
        *score = (*score - most).exp();
        total += *score;
    }
    for score in scores.iter_mut() {
        *score /= total;
    }
}
