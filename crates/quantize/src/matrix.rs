//! A matrix of several parts, divided into pieces of work.

use crate::element::{Element, Weights};
use crate::{BLOCK, BlockFormat, Error, kernel, scalar};
use rayon::prelude::*;
use std::ops::Range;

/// About how many weights a piece of work has: enough to outweigh the cost of
/// scheduling it, few enough to stay in cache and to be spread over cores.
const PIECE: usize = 1 << 16;

/// A row-major matrix [rows, cols] whose rows may lie in several places.
///
/// Parts stand below each other in the order given, as q, k and v do in a
/// fused projection. Each may have its own element type.
#[derive(Clone, Debug)]
pub struct Matrix<'a> {
    /// Each part with the row just past its last one.
    parts: Vec<(Weights<'a>, usize)>,
    rows: usize,
    cols: usize,
}

/// Rows of one part, and the outputs for them.
struct Piece<'a, 'o> {
    row: usize,
    element: Element,
    weights: &'a [u8],
    first: &'o mut [u8],
    second: &'o mut [u8],
}

impl<'a> Matrix<'a> {
    /// A matrix of `cols` columns made of `parts`; the number of rows follows
    /// from their lengths. A vector is a matrix of one row.
    ///
    /// # Errors
    /// [`Error::PartialRow`] if a part does not hold a whole number of rows.
    pub fn new(parts: &[Weights<'a>], cols: usize) -> Result<Self, Error> {
        let mut rows = 0;
        let mut ends = Vec::with_capacity(parts.len());
        for (part, weights) in parts.iter().enumerate() {
            let bytes = weights.bytes.len();
            let row_bytes = cols.saturating_mul(weights.element.size());
            if row_bytes == 0 || !bytes.is_multiple_of(row_bytes) {
                return Err(Error::PartialRow {
                    part,
                    bytes,
                    row_bytes,
                });
            }
            rows += bytes / row_bytes;
            ends.push((*weights, rows));
        }
        Ok(Matrix {
            parts: ends,
            rows,
            cols,
        })
    }

    /// Rows of all parts together.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns: the input width.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Quantizes the given rows.
    ///
    /// `data` takes [`data_bytes`](BlockFormat::data_bytes) per row, integers in
    /// two's complement, row-major; `scales` takes
    /// [`scale_bytes`](BlockFormat::scale_bytes) per row, f16 values,
    /// little-endian, row-major. Large matrices can be done in several calls, a range of rows
    /// each; the bytes are the same.
    ///
    /// # Errors
    /// [`Error::Format`] if the format is not implemented, [`Error::Width`] if
    /// the columns are not a multiple of the block,
    /// [`Error::Rows`] or [`Error::Buffer`] if range or buffers do not fit,
    /// [`Error::NotFinite`] with the first (by row, then column) weight that
    /// f16 cannot hold. The buffers' content is unspecified after an error.
    pub fn quantize(
        &self,
        format: BlockFormat,
        rows: Range<usize>,
        data: &mut [u8],
        scales: &mut [u8],
    ) -> Result<(), Error> {
        format.check()?;
        if !self.cols.is_multiple_of(format.block) {
            return Err(Error::Width {
                cols: self.cols,
                block: format.block,
            });
        }
        let data = ("data", format.data_bytes(self.cols), data);
        let scales = ("scale", format.scale_bytes(self.cols), scales);
        let pieces = self.pieces(rows, data, scales)?;
        self.run(pieces, |piece| {
            kernel::quantize(
                piece.element,
                piece.weights,
                format.scheme,
                piece.first,
                piece.second,
            )
        })
    }

    /// Rounds the given rows to f16 (to nearest, ties to even).
    ///
    /// `out` takes rows · cols f16 values, little-endian, row-major.
    ///
    /// # Errors
    /// As [`Matrix::quantize`], but any number of columns is fine.
    pub fn to_f16(&self, rows: Range<usize>, out: &mut [u8]) -> Result<(), Error> {
        let pieces = self.pieces(rows, ("f16", self.cols * 2, out), ("unused", 0, &mut []))?;
        self.run(pieces, |piece| {
            kernel::to_f16(piece.element, piece.weights, piece.first)
        })
    }

    /// Cuts the rows into pieces, each within one part. An output is its name
    /// for errors, its bytes per row, and the buffer.
    fn pieces<'o>(
        &self,
        rows: Range<usize>,
        first: (&'static str, usize, &'o mut [u8]),
        second: (&'static str, usize, &'o mut [u8]),
    ) -> Result<Vec<Piece<'a, 'o>>, Error> {
        if rows.start > rows.end || rows.end > self.rows {
            return Err(Error::Rows {
                start: rows.start,
                end: rows.end,
                rows: self.rows,
            });
        }
        for (what, row_bytes, buffer) in [&first, &second] {
            let expected = row_bytes * rows.len();
            if buffer.len() != expected {
                return Err(Error::Buffer {
                    what,
                    expected,
                    found: buffer.len(),
                });
            }
        }
        let ((_, first_bytes, mut first), (_, second_bytes, mut second)) = (first, second);
        let max_rows = (PIECE / self.cols.max(1)).max(1);
        let mut pieces = Vec::new();
        let mut part_start = 0;
        for (weights, part_end) in &self.parts {
            let row_bytes = self.cols * weights.element.size();
            let mut row = rows.start.max(part_start);
            let end = rows.end.min(*part_end);
            while row < end {
                let count = max_rows.min(end - row);
                let from = (row - part_start) * row_bytes;
                let (head, tail) = first.split_at_mut(count * first_bytes);
                let (second_head, second_tail) = second.split_at_mut(count * second_bytes);
                (first, second) = (tail, second_tail);
                pieces.push(Piece {
                    row,
                    element: weights.element,
                    weights: &weights.bytes[from..from + count * row_bytes],
                    first: head,
                    second: second_head,
                });
                row += count;
            }
            part_start = *part_end;
        }
        Ok(pieces)
    }

    /// Runs the pieces in parallel. Reports the first bad weight in row order,
    /// whichever thread finds one first.
    fn run<'o>(
        &self,
        pieces: Vec<Piece<'a, 'o>>,
        work: impl Fn(&mut Piece<'a, 'o>) -> bool + Sync,
    ) -> Result<(), Error> {
        let bad = pieces
            .into_par_iter()
            .filter_map(|mut piece| {
                let finite = work(&mut piece);
                (!finite).then_some((piece.row, piece.element, piece.weights))
            })
            .min_by_key(|(row, _, _)| *row);
        let found = bad.and_then(|(row, element, weights)| {
            let (index, value) = scalar::first_not_finite(element, weights)?;
            Some(Error::NotFinite {
                row: row + index / self.cols,
                col: index % self.cols,
                value,
            })
        });
        found.map_or(Ok(()), Err)
    }
}

impl BlockFormat {
    /// Whether this crate can make the format.
    ///
    /// # Errors
    /// [`Error::Format`] if it cannot.
    pub fn check(self) -> Result<(), Error> {
        if self.bits == 8 && self.block == BLOCK {
            Ok(())
        } else {
            Err(Error::Format(self))
        }
    }
}
