//! Weight matrices as they are stored in the file, and products with them.

use aimodel::Blob;

use super::{
    dot,
    fixed::Fixed,
    lanes::{BLOCK, WIDTH},
    level::Level,
    tile::{self, PIECE, Panels, Weights},
};
use crate::{
    error::{OpResult, refuse},
    thread_pool,
};

/// The smallest piece of work when one vector is multiplied, in elements.
const PIECE_ELEMENTS: usize = 1 << 17;
/// Elements of the rows that are read side by side: farther apart, they would
/// need more entries of the table that translates addresses.
const GROUP_ELEMENTS: usize = 1 << 19;

/// A row-major matrix `[rows, cols]`, as it is stored in the file.
#[derive(Clone, Debug)]
pub(crate) struct WeightMatrix {
    rows: usize,
    cols: usize,
    data: Blob,
    /// The scales of si8 data, f16, one for each block of a row; without them
    /// the data are f16.
    scales: Option<(Blob, usize)>,
}

impl WeightMatrix {
    /// A matrix of f16.
    pub fn f16([rows, cols]: [usize; 2], data: Blob) -> OpResult<Self> {
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
                "a matrix of {rows}×{cols} must have {bytes} bytes, not {}",
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
        self.multiply_at(Level::best(), x, count)
    }

    pub(super) fn multiply_at(&self, level: Level, x: &[f32], count: usize) -> OpResult<Vec<f32>> {
        if x.len() != count * self.cols {
            return refuse(format!(
                "{} numbers are not {count} rows of {}",
                x.len(),
                self.cols
            ));
        }
        let in_memory = |blob: &Blob| match blob.as_slice() {
            Some(_) => Ok(()),
            None => refuse("a constant is not in memory"),
        };
        in_memory(&self.data)?;
        if let Some((scales, _)) = &self.scales {
            in_memory(scales)?;
        }
        if self.rows == 0 || self.cols == 0 || count == 0 {
            return Ok(vec![0.0; self.rows * count]);
        }
        let blocks_fit = !matches!(self.scales, Some((_, block)) if block != BLOCK);
        let single = if count == 1 && blocks_fit {
            self.multiply_one(level, x)
        } else {
            None
        };
        Ok(single.unwrap_or_else(|| self.multiply_many(level, x, count)))
    }

    /// The weights of some rows.
    fn weights(&self, first: usize, count: usize) -> Weights<'_> {
        let data = |width| part(&self.data, width, first, count);
        match &self.scales {
            None => Weights::F16(data(2 * self.cols)),
            Some((scales, block)) => Weights::Int8 {
                data: data(self.cols),
                scales: part(scales, 2 * (self.cols / block), first, count),
                block: *block,
            },
        }
    }

    /// The product with one vector; `None` if the weights are si8 and a number
    /// of the vector is not finite.
    fn multiply_one(&self, level: Level, x: &[f32]) -> Option<Vec<f32>> {
        let scaled = match &self.scales {
            Some((scales, _)) => Some((scales, Fixed::new(level, x)?)),
            None => None,
        };
        let rows = |elements: usize| elements.div_ceil(self.cols).next_multiple_of(dot::STREAMS);
        let group = rows(GROUP_ELEMENTS);
        let mut out = vec![0.0; self.rows];
        thread_pool::share(&mut out, rows(PIECE_ELEMENTS), |first, out| {
            for (at, out) in out.chunks_mut(group).enumerate() {
                let (first, count) = (first + at * group, out.len());
                let data = |width| part(&self.data, width, first, count);
                match &scaled {
                    Some((scales, x)) => {
                        let scales = part(scales, 2 * (self.cols / BLOCK), first, count);
                        dot::int8_rows(level, data(self.cols), scales, x, out);
                    }
                    None => dot::f16_rows(level, data(2 * self.cols), x, out),
                }
            }
        });
        Some(out)
    }

    fn multiply_many(&self, level: Level, x: &[f32], count: usize) -> Vec<f32> {
        let x = Panels::new(level.tile(), x, self.cols);
        let mut lanes_out = vec![[0.0; WIDTH]; self.rows * x.lanes];
        thread_pool::split(&mut lanes_out, PIECE * x.lanes, |piece, out| {
            let weights = self.weights(piece * PIECE, out.len() / x.lanes);
            tile::multiply(level, weights, &x, out);
        });
        let mut out = vec![0.0; self.rows * count];
        // Sixteen vectors at a time, of which each row has one line.
        thread_pool::split(&mut out, WIDTH * self.rows, |lane, out| {
            for (row, lanes) in lanes_out.chunks_exact(x.lanes).enumerate() {
                let columns = out.chunks_exact_mut(self.rows).zip(lanes[lane]);
                columns.for_each(|(out, value)| out[row] = value);
            }
        });
        out
    }
}

/// Some rows of a matrix, whose bytes were checked to be in memory.
fn part(blob: &Blob, width: usize, first: usize, count: usize) -> &[u8] {
    let bytes = blob.as_slice().unwrap_or_default();
    &bytes[first * width..(first + count) * width]
}
