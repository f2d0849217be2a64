//! What can be wrong with the weights or the buffers.

use crate::BlockFormat;

/// Why a matrix was refused.
///
/// The messages do not name the tensor: this crate sees bytes only, and the
/// caller, who knows the name, puts it in front.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A weight is NaN or infinite, or becomes infinite when rounded to f16.
    #[error(
        "the weight at row {row}, column {col} is {value}, which f16 cannot hold \
         (finite values up to 65504 can be exported); repair the checkpoint"
    )]
    NotFinite {
        /// Row, counted over all parts.
        row: usize,
        /// Column.
        col: usize,
        /// The weight as the checkpoint has it, in f32.
        value: f32,
    },
    /// The input width cannot be cut into blocks.
    #[error(
        "the input width {cols} is not a multiple of the block of {block}; \
         int8 cannot hold this matrix, export it as fp16"
    )]
    Width {
        /// Columns of the matrix.
        cols: usize,
        /// The block size.
        block: usize,
    },
    /// The format is not one that this crate can make.
    #[error("{0} cannot be made: expected int8 in blocks of {block}", block = crate::BLOCK)]
    Format(BlockFormat),
    /// There is no recipe of that name.
    #[error("there is no recipe `{name}`: expected {expected}")]
    UnknownRecipe {
        /// The name.
        name: String,
        /// The names that there are.
        expected: String,
    },
    /// A part does not hold a whole number of rows.
    #[error("part {part} has {bytes} bytes, which is not a whole number of rows of {row_bytes}")]
    PartialRow {
        /// Which of the parts, from 0.
        part: usize,
        /// The part's length in bytes.
        bytes: usize,
        /// Length of one row in bytes; 0 if the matrix has no columns.
        row_bytes: usize,
    },
    /// The rows that were asked for lie outside the matrix.
    #[error("rows {start} to {end} were asked for, and the matrix has {rows}")]
    Rows {
        /// First row asked for.
        start: usize,
        /// One past the last row asked for.
        end: usize,
        /// Rows of the matrix.
        rows: usize,
    },
    /// An output buffer has the wrong length.
    #[error("the {what} buffer has {found} bytes, and {expected} are needed")]
    Buffer {
        /// Which buffer.
        what: &'static str,
        /// Bytes needed.
        expected: usize,
        /// Bytes it has.
        found: usize,
    },
}
