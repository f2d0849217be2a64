//! Sequences: tokens that a decoder has read, and those that come after them.

use std::ops::ControlFlow;

use bundle::contract::{IMAGE_FEATURES, INPUT_IDS, POSITION_IDS};
use candle_core::{DType, Device, Tensor};
use half::{f16, slice::HalfFloatSliceExt};
use runtime::{OutputRows, States};

use crate::{Decoder, Error, Result, Sampler, StaticInputs};

/// Tokens that a decoder has read, in its cache.
///
/// It drives the decoder as a host on a device does: token by token through
/// `main`, or in chunks where the asset has a way to take them; the static
/// inputs stay the same; the cache grows; positions are the whole ramp each
/// time.
#[derive(Debug)]
pub struct Sequence {
    decoder: Decoder,
    /// Inputs that stay the same, in the order of the signature.
    inputs: Vec<(String, Tensor)>,
    states: States,
    len: usize,
    /// Rows of the pictures `[1, M, W]`, for a decoder that takes rows, and how
    /// many of them were read.
    pictures: Option<Tensor>,
    taken: usize,
}

/// What tokens are read for.
#[derive(Clone, Copy)]
struct Reading {
    /// The logits after each of them are wanted, not only after the last.
    is_all: bool,
    /// They are of an answer: the model may have made the token of a picture, and
    /// no picture stands behind it.
    is_answer: bool,
}

/// A step of [`Sequence::generate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// This many tokens of the prompt have been read.
    Read(usize),
    /// The next token of the answer.
    Token(u32),
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FinishReason {
    /// With this token, which ends answers.
    Stop(u32),
    /// It has as many tokens as were asked for.
    Length,
    /// The model's context is full.
    ContextFull,
    /// The caller stopped it.
    Cancelled,
}

/// Tokens that came after a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// The tokens, the one that ended them included.
    pub tokens: Vec<u32>,
    /// Why there are no more.
    pub finish: FinishReason,
}

impl Decoder {
    /// Begins a sequence that has read nothing yet. Inputs that are not given
    /// are zeros.
    ///
    /// # Errors
    /// [`Error::Input`] for a shape that the decoder was not exported for, and
    /// [`Error::UnknownInput`] for a name that it does not have.
    pub fn start(&self, inputs: &StaticInputs) -> Result<Sequence> {
        let declared = self.declared();
        let pictures = self.rows_of().and_then(|_| inputs.get(IMAGE_FEATURES));
        let unknown = |name: &&str| {
            let is_rows = self.rows_of().is_some() && *name == IMAGE_FEATURES;
            !is_rows && !declared.iter().any(|input| input.name == **name)
        };
        if let Some(name) = inputs.names().find(unknown) {
            let known: Vec<&str> = declared.iter().map(|input| &*input.name).collect();
            return Err(Error::UnknownInput {
                name: name.to_owned(),
                known: known.join(", "),
            });
        }
        let device = self.device();
        let tensors = declared.iter().map(|input| {
            let tensor = input.tensor(inputs.get(&input.name), device)?;
            Ok((input.name.clone(), tensor))
        });
        let tensors = tensors.collect::<Result<_>>()?;
        let pictures = match (self.rows_of(), pictures) {
            (Some(rows), Some(pictures)) => Some(rows.check(pictures, device)?),
            _ => None,
        };
        Ok(Sequence::new(self.clone(), tensors, pictures))
    }
}

impl Sequence {
    fn new(decoder: Decoder, inputs: Vec<(String, Tensor)>, pictures: Option<Tensor>) -> Self {
        Self {
            decoder,
            inputs,
            states: States::new(),
            len: 0,
            pictures,
            taken: 0,
        }
    }

    /// How many tokens were read.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was read yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The cache, by the names of its states.
    pub fn states(&self) -> &States {
        &self.states
    }

    /// Another sequence that has read the same and goes on by itself.
    ///
    /// # Errors
    /// No room for a copy of the cache.
    pub fn fork(&self) -> Result<Self> {
        Ok(Self {
            decoder: self.decoder.clone(),
            inputs: self.inputs.clone(),
            states: self.states.copy()?,
            len: self.len,
            pictures: self.pictures.clone(),
            taken: self.taken,
        })
    }

    /// Forgets all but the first `len` tokens, and takes the rows of the pictures
    /// of what is read from now on: those that were read before among them, of
    /// which `taken` rows are in use.
    pub(crate) fn rewind(&mut self, len: usize, pictures: Option<Tensor>, taken: usize) {
        // What lies behind in the cache is overwritten before it is seen.
        self.len = self.len.min(len);
        self.pictures = pictures;
        self.taken = taken;
    }

    /// Rows of the pictures, `[1, M, W]`.
    pub(crate) fn pictures(&self) -> Option<&Tensor> {
        self.pictures.as_ref()
    }

    /// Takes a cache that was made elsewhere and holds `len` tokens.
    pub fn restore(&mut self, states: States, len: usize) {
        self.states = states;
        self.len = len;
    }

    /// Reads tokens; returns the logits after the last of them, `[V]`.
    ///
    /// # Errors
    /// [`Error::NoTokens`], or a call that fails.
    pub fn read(&mut self, ids: &[i32]) -> Result<Vec<f32>> {
        let last = self.read_while(ids, |_| ControlFlow::Continue(()))?;
        last.map_or(Err(Error::NoTokens), |logits| to_host(&logits))
    }

    /// Reads tokens; returns the logits after each of them, `[T, V]` f32 on the
    /// host.
    ///
    /// # Errors
    /// [`Error::NoTokens`], or a call that fails.
    pub fn read_all(&mut self, ids: &[i32]) -> Result<Tensor> {
        if ids.is_empty() {
            return Err(Error::NoTokens);
        }
        let mut parts = Vec::new();
        let _ = self.feed(ids, true, |_, logits| {
            parts.push(logits.to_device(&Device::Cpu)?.to_dtype(DType::F32)?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(Tensor::cat(&parts, 0)?)
    }

    /// Reads `ids` and continues after them with tokens that `sampler` picks:
    /// at most `max_tokens`, up to the first of `stop_tokens`. `each` is called
    /// for every step, those of reading `ids` included, and may stop it. The
    /// last token is not read.
    ///
    /// # Errors
    /// [`Error::NoTokens`], or a call that fails.
    pub fn generate(
        &mut self,
        ids: &[i32],
        sampler: &mut Sampler,
        max_tokens: usize,
        stop_tokens: &[u32],
        mut each: impl FnMut(Step) -> ControlFlow<()>,
    ) -> Result<Generated> {
        if ids.is_empty() {
            return Err(Error::NoTokens);
        }
        let mut tokens = Vec::new();
        let mut next = self.read_while(ids, |read| each(Step::Read(read)))?;
        let finish = loop {
            let Some(logits) = next else {
                break FinishReason::Cancelled;
            };
            if tokens.len() >= max_tokens {
                break FinishReason::Length;
            }
            let token = pick(sampler, &logits)?;
            tokens.push(token);
            let flow = each(Step::Token(token));
            if stop_tokens.contains(&token) {
                break FinishReason::Stop(token);
            }
            if flow.is_break() {
                break FinishReason::Cancelled;
            }
            if tokens.len() >= max_tokens {
                break FinishReason::Length;
            }
            next = Some(self.read_answer(token)?);
        };
        Ok(Generated { tokens, finish })
    }

    /// The `count` best tokens after `ids`, one after the other; tokens that
    /// end answers are tokens like any other.
    ///
    /// # Errors
    /// As [`Sequence::generate`].
    pub fn greedy(&mut self, ids: &[i32], count: usize) -> Result<Vec<u32>> {
        let go_on = |_| ControlFlow::Continue(());
        let generated = self.generate(ids, &mut Sampler::greedy(), count, &[], go_on)?;
        Ok(generated.tokens)
    }

    /// Reads tokens as long as `each` wants it, which is told how many of them
    /// were read. Returns the logits after the last one, `[V]`, or `None` where
    /// it was stopped.
    fn read_while(
        &mut self,
        ids: &[i32],
        mut each: impl FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Option<Tensor>> {
        let before = self.len;
        let mut last = None;
        let flow = self.feed(ids, false, |len, logits| {
            last = Some(logits);
            Ok(each(len - before))
        })?;
        match last {
            Some(logits) if flow.is_continue() => Ok(Some(logits.get(0)?)),
            _ => Ok(None),
        }
    }

    /// Reads a token of the answer; returns the logits after it, `[V]`.
    fn read_answer(&mut self, token: u32) -> Result<Tensor> {
        let decoder = self.decoder.clone();
        let (function, rows) = decoder.next_call(self.len, 1)?;
        let how = Reading {
            is_all: false,
            is_answer: true,
        };
        Ok(self.call(&function, &[token as i32], rows, how)?.get(0)?)
    }

    /// Reads tokens in chunks as large as the functions take. `each` is given
    /// how many were read in all and the logits of a chunk: those after all
    /// tokens of the chunk, `[S, V]`, or after the last of them, `[1, V]`.
    fn feed(
        &mut self,
        ids: &[i32],
        all: bool,
        mut each: impl FnMut(usize, Tensor) -> Result<ControlFlow<()>>,
    ) -> Result<ControlFlow<()>> {
        let decoder = self.decoder.clone();
        let mut rest = ids;
        while !rest.is_empty() {
            let (function, rows) = decoder.next_call(self.len, rest.len())?;
            let (chunk, after) = rest.split_at(rows.min(rest.len()));
            let how = Reading {
                is_all: all,
                is_answer: false,
            };
            let logits = self.call(&function, chunk, rows, how)?;
            if each(self.len, logits)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            rest = after;
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Reads one chunk with a function that takes `rows` tokens. Where there
    /// are fewer, others follow them: no token sees those after it, and what
    /// they leave in the cache is overwritten before a later one sees it.
    fn call(
        &mut self,
        function: &runtime::Function<'_>,
        ids: &[i32],
        rows: usize,
        how: Reading,
    ) -> Result<Tensor> {
        let count = ids.len();
        let end = (self.len + rows) as i64;
        let positions = Tensor::arange(0, end, &Device::Cpu)?.unsqueeze(0)?;
        let decoder = self.decoder.clone();
        let mut inputs: Vec<(&str, Tensor)> = Vec::new();
        if let Some(source) = decoder.rows_of() {
            let tokens = if how.is_answer {
                source.of_text(ids)?
            } else {
                let tokens = source.of(ids, self.pictures.as_ref(), self.taken)?;
                self.taken += source.of_pictures(ids);
                tokens
            };
            inputs.extend([
                (source.rows.as_str(), tokens),
                (source.positions.as_str(), positions),
            ]);
        } else {
            let fixed = self.inputs.iter();
            inputs.extend(fixed.map(|(name, tensor)| (name.as_str(), tensor.clone())));
            let mut ids: Vec<i64> = ids.iter().map(|id| i64::from(*id)).collect();
            ids.resize(rows, 0);
            let ids = Tensor::from_vec(ids, (1, rows), &Device::Cpu)?;
            inputs.extend([(INPUT_IDS, ids), (POSITION_IDS, positions)]);
        }
        let wanted = if how.is_all {
            OutputRows::All
        } else {
            OutputRows::One(count - 1)
        };
        let outputs = function.run_rows(&inputs, &mut self.states, wanted)?;
        self.len += count;
        let mut outputs = outputs.into_iter();
        let logits = outputs.find(|(name, _)| name == decoder.logits());
        let (_, logits) = logits.ok_or_else(|| Error::not_a_decoder("the output `logits`"))?;
        let logits = logits.squeeze(0)?;
        Ok(match (how.is_all, logits.dim(0)?) {
            (true, _) => logits.narrow(0, 0, count)?,
            (false, 1) => logits,
            (false, _) => logits.narrow(0, count - 1, 1)?,
        })
    }
}

/// The logits of one position, f32.
fn to_host(logits: &Tensor) -> Result<Vec<f32>> {
    let here = logits.to_device(&Device::Cpu)?;
    match here.dtype() {
        DType::F16 => {
            let halves: Vec<f16> = here.to_vec1()?;
            let mut logits = vec![0.0; halves.len()];
            halves.convert_to_f32_slice(&mut logits);
            Ok(logits)
        }
        _ => Ok(here.to_dtype(DType::F32)?.to_vec1()?),
    }
}

/// The next token. A GPU finds the best one itself.
fn pick(sampler: &mut Sampler, logits: &Tensor) -> Result<u32> {
    if sampler.is_greedy()
        && let Some(best) = runtime::argmax(logits)?
    {
        return Ok(best);
    }
    Ok(sampler.pick(&to_host(logits)?))
}
