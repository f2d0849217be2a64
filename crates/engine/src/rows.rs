//! Rows of tokens, for decoders that take rows in place of ids.

use std::fmt;

use aimodel::Dim;
use bundle::contract::{EMBED_TOKENS, IMAGE_FEATURES, MAIN};
use candle_core::{Device, Tensor};
use runtime::{Function, Program, States};

use crate::{Error, Result};

/// What makes rows of tokens.
pub(crate) struct RowSource {
    embedding: Program,
    /// The name of its function, of that one's input, and of the decoder's inputs
    /// of rows and positions. Hosts bind them by position.
    function: &'static str,
    ids: String,
    pub(crate) rows: String,
    pub(crate) positions: String,
    /// W.
    width: usize,
    image_token: i32,
}

impl fmt::Debug for RowSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowSource")
            .field("width", &self.width)
            .field("image_token", &self.image_token)
            .finish_non_exhaustive()
    }
}

impl RowSource {
    /// Rows for a decoder's function `main`.
    pub(crate) fn new(main: &Function<'_>, embedding: Program, image_token: i32) -> Result<Self> {
        let [rows, positions] = main.inputs() else {
            return Err(Error::not_a_decoder("two inputs, rows and positions"));
        };
        let (function, embed) = match embedding.function(EMBED_TOKENS) {
            Ok(embed) => (EMBED_TOKENS, embed),
            Err(_) => (MAIN, embedding.function(MAIN)?),
        };
        let [ids] = embed.inputs() else {
            return Err(Error::not_a_decoder("an embedding asset with one input"));
        };
        let width_of = |dims: &[Dim]| match dims {
            [_, _, Dim::Static(width)] => Some(*width as usize),
            _ => None,
        };
        let width = width_of(&rows.ty.dims);
        let width = width.ok_or_else(|| Error::not_a_decoder("an input of rows [1, S, W]"))?;
        let made = embed.outputs().first();
        let made = made.and_then(|output| width_of(&output.ty.dims));
        if made != Some(width) {
            return Err(Error::Mismatch(format!(
                "the embedding asset makes rows of {made:?} elements, and the decoder takes rows of \
                 {width}; they are not of one export"
            )));
        }
        Ok(Self {
            function,
            ids: ids.name.clone(),
            rows: rows.name.clone(),
            positions: positions.name.clone(),
            width,
            image_token,
            embedding,
        })
    }

    /// Rows of pictures `[1, M, W]`, where the decoder runs.
    pub(crate) fn check(&self, pictures: &Tensor, device: &Device) -> Result<Tensor> {
        match pictures.dims() {
            [1, _, width] if *width == self.width => Ok(pictures.to_device(device)?),
            other => Err(Error::Input {
                name: IMAGE_FEATURES.to_owned(),
                expected: format!("[1, M, {}]", self.width),
                found: other.to_vec(),
            }),
        }
    }

    /// How many of these tokens stand for pictures.
    pub(crate) fn of_pictures(&self, ids: &[i32]) -> usize {
        ids.iter().filter(|id| **id == self.image_token).count()
    }

    /// Rows `[1, S, W]` of tokens that all are text.
    pub(crate) fn of_text(&self, ids: &[i32]) -> Result<Tensor> {
        let wide: Vec<i64> = ids.iter().map(|id| i64::from(*id)).collect();
        let input = Tensor::from_vec(wide, (1, ids.len()), &Device::Cpu)?;
        let embed = self.embedding.function(self.function)?;
        let mut outputs = embed.run(&[(&self.ids, input)], &mut States::new())?;
        // There is one: the width of its rows was compared.
        Ok(outputs.swap_remove(0).1)
    }

    /// Rows `[1, S, W]` of tokens, with those of pictures from row `first` of
    /// `pictures` on.
    ///
    /// # Errors
    /// [`Error::MissingInput`] for more tokens of pictures than there are rows.
    pub(crate) fn of(
        &self,
        ids: &[i32],
        pictures: Option<&Tensor>,
        mut first: usize,
    ) -> Result<Tensor> {
        let rows = self.of_text(ids)?;
        if self.of_pictures(ids) == 0 {
            return Ok(rows);
        }
        let missing = || Error::MissingInput {
            name: IMAGE_FEATURES.to_owned(),
        };
        let pictures = pictures.ok_or_else(missing)?;
        let mut parts = Vec::new();
        let mut at = 0;
        for run in ids.chunk_by(|a, b| (*a == self.image_token) == (*b == self.image_token)) {
            if run[0] == self.image_token {
                if first + run.len() > pictures.dim(1)? {
                    return Err(missing());
                }
                parts.push(pictures.narrow(1, first, run.len())?);
                first += run.len();
            } else {
                parts.push(rows.narrow(1, at, run.len())?);
            }
            at += run.len();
        }
        Ok(Tensor::cat(&parts, 1)?)
    }
}
