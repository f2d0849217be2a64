//! Exported decoders: what one takes, and how tokens are cut into calls.

use std::sync::Arc;

use aimodel::{Dim, Parameter};
use bundle::contract::{
    IMAGE_EMBEDS, IMAGE_FEATURES, INPUT_IDS, LOGITS, MAIN, POSITION_IDS, PREFILL,
};
use candle_core::Device;
use models::{Placement, TokenizedPrompt};
use runtime::{Function, Program};

use crate::{Error, Result, StaticInputs, inputs::Declared, rows::RowSource};

/// Tokens in a call of a function that takes any number.
const OPEN_CHUNK: usize = 256;

/// A call of `prefill` costs as much as this fraction of its tokens do one by
/// one.
const PREFILL_GAIN: usize = 4;

/// An exported decoder that is ready to run. Clones share the program.
#[derive(Clone, Debug)]
pub struct Decoder {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    program: Program,
    /// Tokens that `main` takes in a call; `None` is any number.
    rows: Option<usize>,
    /// Tokens that `prefill` takes, where there is such a function.
    prefill: Option<usize>,
    vocabulary: usize,
    /// The name of the output of logits.
    logits: String,
    /// Tokens that the cache has room for, where that is fixed.
    capacity: Option<usize>,
    /// Inputs other than the tokens and their positions.
    declared: Vec<Declared>,
    /// What makes rows of tokens, for a decoder that takes rows.
    rows_of: Option<RowSource>,
}

impl Decoder {
    /// Takes a decoder: a program with `main`, and perhaps `prefill` beside it.
    ///
    /// # Errors
    /// [`Error::NotADecoder`] for a program whose functions are not those of a
    /// decoder.
    pub fn new(program: Program) -> Result<Self> {
        let main = program.function(MAIN)?;
        let main_rows = rows(&main)?;
        let mut outputs = main.outputs().iter();
        let logits = outputs.find(|output| output.name == LOGITS);
        let (logits, vocabulary) = vocabulary(logits)?;
        let capacity = capacity(&main);
        let prefill = match program.function(PREFILL) {
            Ok(prefill) => rows(&prefill)?.or(Some(OPEN_CHUNK)),
            Err(_) => None,
        };
        let inputs = main.inputs().iter();
        let inputs = inputs.filter(|input| ![INPUT_IDS, POSITION_IDS].contains(&&*input.name));
        let declared = inputs.map(|input| {
            Declared::new(input).ok_or_else(|| {
                Error::not_a_decoder(&format!("a fixed shape of the input `{}`", input.name))
            })
        });
        let declared = declared.collect::<Result<_>>()?;
        Ok(Self {
            inner: Arc::new(Inner {
                rows: main_rows,
                prefill,
                vocabulary,
                logits,
                capacity,
                declared,
                rows_of: None,
                program,
            }),
        })
    }

    /// Takes a decoder that takes rows: a program whose `main` takes rows of any
    /// number of tokens and their positions, in that order. `embedding` makes the
    /// rows of tokens; those of `image_token` are replaced by rows of pictures.
    ///
    /// # Errors
    /// [`Error::NotADecoder`] for other programs, or if the rows of one are not as
    /// wide as those of the other.
    pub fn with_rows(program: Program, embedding: Program, image_token: i32) -> Result<Self> {
        let main = program.function(MAIN)?;
        let rows_of = RowSource::new(&main, embedding, image_token)?;
        // Hosts bind it by position.
        let (logits, vocabulary) = vocabulary(main.outputs().first())?;
        let capacity = capacity(&main);
        Ok(Self {
            inner: Arc::new(Inner {
                rows: None,
                prefill: None,
                vocabulary,
                logits,
                capacity,
                declared: Vec::new(),
                rows_of: Some(rows_of),
                program,
            }),
        })
    }

    /// What makes rows of tokens, for a decoder that takes rows.
    pub(crate) fn rows_of(&self) -> Option<&RowSource> {
        self.inner.rows_of.as_ref()
    }

    /// V: the width of the logits.
    pub fn vocabulary(&self) -> usize {
        self.inner.vocabulary
    }

    /// The name of the output of logits.
    pub(crate) fn logits(&self) -> &str {
        &self.inner.logits
    }

    /// How many tokens the cache has room for, where its extents are fixed; `None`
    /// for one that grows.
    pub fn capacity(&self) -> Option<usize> {
        self.inner.capacity
    }

    /// N: how many tokens a picture has, if the decoder takes pictures.
    pub fn picture_tokens(&self) -> Option<usize> {
        let mut declared = self.inner.declared.iter();
        let embeds = declared.find(|input| input.name == IMAGE_EMBEDS)?;
        embeds.dims().first().copied()
    }

    /// The static inputs of a prompt whose pictures were encoded: what the
    /// prompt says itself, as far as the decoder declares it, and `pictures`.
    ///
    /// # Errors
    /// [`Error::MissingInput`] if the prompt has a picture and an input is not
    /// given: zeros would be a wrong picture.
    pub fn inputs(&self, prompt: &TokenizedPrompt, pictures: StaticInputs) -> Result<StaticInputs> {
        let mut inputs = pictures;
        for (name, number) in &prompt.inputs {
            if self.inner.declared.iter().any(|input| input.name == *name) {
                inputs.insert_number(*name, *number)?;
            }
        }
        if !prompt.placements.is_empty() {
            if let Some(rows) = self.rows_of() {
                if inputs.get(IMAGE_FEATURES).is_none() {
                    return Err(Error::MissingInput {
                        name: IMAGE_FEATURES.to_owned(),
                    });
                }
                let needed: usize = prompt.placements.iter().map(Placement::tokens).sum();
                let found = rows.of_pictures(&prompt.ids);
                if found != needed {
                    return Err(Error::Mismatch(format!(
                        "the prompt's pictures have {needed} tokens, and the bundle's \
                         `vision.image_token_id` stands {found} times in it; the manifest or the \
                         tokenizer is of another model"
                    )));
                }
            }
            let mut declared = self.inner.declared.iter();
            if let Some(input) = declared.find(|input| inputs.get(&input.name).is_none()) {
                return Err(Error::MissingInput {
                    name: input.name.clone(),
                });
            }
        }
        Ok(inputs)
    }

    /// Inputs other than the tokens and their positions.
    pub(crate) fn declared(&self) -> &[Declared] {
        &self.inner.declared
    }

    /// Where it runs.
    pub(crate) fn device(&self) -> &Device {
        self.inner.program.device()
    }

    /// The function that reads the next of `left` tokens behind `len`, and how many
    /// rows its call has: more than there are tokens where it takes a fixed number,
    /// unless a fixed cache has no room for them.
    ///
    /// # Errors
    /// [`Error::Chunk`] if no function takes as few.
    pub(crate) fn next_call(&self, len: usize, left: usize) -> Result<(Function<'_>, usize)> {
        let room = self.inner.capacity.unwrap_or(usize::MAX);
        let prefill = self
            .inner
            .prefill
            .filter(|rows| len.saturating_add(*rows) <= room);
        let (name, rows) = match (prefill, self.inner.rows) {
            (Some(rows), _) if left >= rows.div_ceil(PREFILL_GAIN) => (PREFILL, rows),
            (_, None) => (MAIN, left.min(OPEN_CHUNK)),
            (_, Some(rows)) if left >= rows => (MAIN, rows),
            (_, Some(takes)) => return Err(Error::Chunk { takes, left }),
        };
        Ok((self.inner.program.function(name)?, rows))
    }
}

/// The name of the output of logits and V, their width.
fn vocabulary(logits: Option<&Parameter>) -> Result<(String, usize)> {
    match logits.map(|output| (&output.name, &output.ty.dims[..])) {
        Some((name, [.., Dim::Static(extent)])) => Ok((name.clone(), *extent as usize)),
        _ => Err(Error::not_a_decoder("the output `logits` [1, S, V]")),
    }
}

/// Tokens that the states `[L, 1, KV, T, D]` have room for, where T is fixed.
fn capacity(main: &Function<'_>) -> Option<usize> {
    let rooms = main
        .states()
        .iter()
        .filter_map(|state| match state.ty.dims[..] {
            [_, _, _, Dim::Static(tokens), _] => Some(tokens as usize),
            _ => None,
        });
    rooms.min()
}

/// Tokens that a function takes in a call; `None` is any number.
fn rows(function: &Function<'_>) -> Result<Option<usize>> {
    match function.input(INPUT_IDS).map(|ty| &ty.dims[..]) {
        Some([_, Dim::Static(rows @ 1..)]) => Ok(Some(*rows as usize)),
        Some([_, Dim::Dynamic]) => Ok(None),
        _ => Err(Error::not_a_decoder("the input `input_ids` [1, S]")),
    }
}
