//! Rows of embeddings: what assets for Apple's package hand to each other.
//!
//! The package looks a token's row up in one asset, replaces those of a picture's
//! tokens by rows of another, and gives all of them to the decoder. It looks at
//! neither the width nor the content of a row, so that a row carries everything
//! that the decoder needs to know of a token:
//!
//! `[embedding, h | DeepStack part, h | … | row, column, advance | zeros]`
//!
//! The last three numbers are the token's marks, all 0 for text. A picture's
//! token has its row and column, and −1 in place of what its position would
//! advance the next one by; the picture's last token has max(rows, columns) − 1.
//! With u(p) = p + the sum of the marks before p, a token's position is
//! (t, h, w) = (u, u + row, u + column). No token has to know how large the
//! picture is, or where it began.

use super::Config;
use crate::Placement;

/// Widths are multiples of this many elements: Apple's engine copies rows as if
/// nothing lay between them, and devices put something between rows of other
/// widths.
const ALIGNMENT: u64 = 32;

/// Marks of a token.
pub const MARKS: u64 = 3;

/// Where things lie in a row, in elements.
#[derive(Clone, Copy, Debug)]
pub struct RowLayout {
    hidden: u64,
    taps: u64,
}

impl RowLayout {
    /// The rows of a model.
    pub fn of(config: &Config) -> Self {
        Self {
            hidden: config.text_config.hidden_size as u64,
            taps: config.vision_config.deepstack_visual_indexes.len() as u64,
        }
    }

    /// W: all of a row.
    pub fn width(self) -> u64 {
        (self.marks() + MARKS).next_multiple_of(ALIGNMENT)
    }

    /// Where the part begins that is added after decoder layer `tap`.
    pub fn part(self, tap: u64) -> u64 {
        self.hidden * (1 + tap)
    }

    /// Where the marks begin.
    pub fn marks(self) -> u64 {
        self.part(self.taps)
    }
}

/// Row, column and advance of a token.
pub type TokenMarks = [i32; MARKS as usize];

/// The marks of the tokens of a picture of `rows` × `cols` tokens, in order.
pub fn picture_marks(rows: usize, cols: usize) -> Vec<TokenMarks> {
    let (rows, cols) = (rows as i32, cols as i32);
    let last = rows * cols - 1;
    let mark = |slot: i32| {
        let advance = if slot == last { rows.max(cols) - 1 } else { -1 };
        [slot / cols, slot % cols, advance]
    };
    (0..rows * cols).map(mark).collect()
}

/// The marks of a prompt of `tokens` tokens with pictures at these places.
pub fn marks(tokens: usize, pictures: &[Placement]) -> Vec<TokenMarks> {
    let mut marks = vec![[0; MARKS as usize]; tokens];
    for picture in pictures {
        let [rows, cols] = picture.grid;
        let own = picture_marks(rows, cols);
        if let Some(place) = marks.get_mut(picture.start..picture.start + own.len()) {
            place.copy_from_slice(&own);
        }
    }
    marks
}

/// Positions (t, h, w) as the decoder computes them from the marks of all tokens
/// that it has read.
pub fn positions(marks: &[TokenMarks]) -> Vec<[i32; 3]> {
    let mut advance = 0;
    let position = |(place, [row, col, own]): (i32, &TokenMarks)| {
        let u = place + advance;
        advance += own;
        [u, u + row, u + col]
    };
    (0..).zip(marks).map(position).collect()
}
