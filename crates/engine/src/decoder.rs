//! The loop around an exported decoder: prompt in, tokens out.
//!
//! It does what a host on a device does: token by token through `main`, or in
//! chunks where the asset has a way to take them; the inputs of the image stay
//! the same; the cache grows; positions are the whole ramp each time. What the
//! next token is, [`Sampler`] says.

use aimodel::Dim;
use candle_core::{DType, Device, Tensor};
use half::{f16, slice::HalfFloatSliceExt};
use runtime::{Function, OutputRows, Program, States};

use crate::{Error, Result, Sampler};

/// Rows that a call of a decoder takes which takes any number.
const OPEN_CHUNK: usize = 256;

/// Tokens through `prefill` cost what this part of them costs one by one.
const WORTH: usize = 4;

/// An image as the decoder takes it: what the vision tower made of it.
#[derive(Clone, Debug)]
pub struct Image {
    /// `[N, hidden]`: one row for each image token.
    pub embeds: Tensor,
    /// `[3 · N, hidden]`: what is added after the first three layers.
    pub deepstack: Tensor,
}

impl Image {
    /// Runs the vision tower on `patches`, `[4 · N, 1536]`.
    ///
    /// # Errors
    /// A program that is no vision tower, or patches that are not its own.
    pub fn encode(vision: &Program, patches: Tensor) -> Result<Self> {
        let outputs = vision
            .function("main")?
            .run(&[("patches", patches)], &mut States::new())?;
        let take = |name: &str| {
            let found = outputs.iter().find(|(known, _)| known == name);
            found.map(|(_, tensor)| tensor.clone()).ok_or_else(|| {
                Error::Decoder(format!(
                    "the vision asset has no output `{name}`; expected image_embeds and \
                     deepstack_embeds"
                ))
            })
        };
        Ok(Self {
            embeds: take("image_embeds")?,
            deepstack: take("deepstack_embeds")?,
        })
    }
}

/// An exported decoder that is ready to be driven.
#[derive(Clone, Debug)]
pub struct Decoder {
    program: Program,
    /// Rows that `main` takes in a call; `None` is any number.
    rows: Option<usize>,
    /// Rows that `prefill` takes, where there is such a function.
    prefill: Option<usize>,
    vocabulary: usize,
}

impl Decoder {
    /// Takes a decoder, such as `main` with `prefill` beside it.
    ///
    /// # Errors
    /// A program whose functions are not those of a decoder.
    pub fn new(program: Program) -> Result<Self> {
        let main = program.function("main")?;
        let rows = chunk(&main)?;
        let prefill = match program.function("prefill") {
            Ok(prefill) => chunk(&prefill)?.or(Some(OPEN_CHUNK)),
            Err(_) => None,
        };
        let logits = main.outputs().iter().find(|output| output.name == "logits");
        let vocabulary = match logits.and_then(|output| output.ty.dims.last()) {
            Some(Dim::Static(extent)) => *extent as usize,
            _ => return Err(not_a_decoder("the output `logits` [1, S, V]")),
        };
        Ok(Self {
            rows,
            prefill,
            vocabulary,
            program,
        })
    }

    /// N: how many tokens an image has.
    ///
    /// # Errors
    /// A program without inputs for an image.
    pub fn image_tokens(&self) -> Result<usize> {
        let main = self.program.function("main")?;
        let ty = main.input("image_embeds").map(|ty| &ty.dims[..]);
        match ty {
            Some([Dim::Static(tokens), _]) => Ok(*tokens as usize),
            _ => Err(not_a_decoder("the input `image_embeds` [N, hidden]")),
        }
    }

    /// The number of tokens that there are; image tokens come after them.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// Starts a conversation that has read nothing yet. `rope_shift_start` and
    /// `rope_shift_amount` are those of the prompt that will be read.
    ///
    /// # Errors
    /// An image that is not of the size that the decoder was exported for.
    pub fn start(
        &self,
        rope_shift_start: i32,
        rope_shift_amount: i32,
        image: Option<&Image>,
    ) -> Result<Session<'_>> {
        let device = self.program.device();
        let main = self.program.function("main")?;
        let mut fixed = Vec::new();
        for (name, given) in [
            ("image_embeds", image.map(|image| &image.embeds)),
            ("deepstack_embeds", image.map(|image| &image.deepstack)),
        ] {
            let ty = main.input(name).ok_or_else(|| not_a_decoder(name))?;
            let dims = ty.static_dims().ok_or_else(|| not_a_decoder(name))?;
            let dims: Vec<usize> = dims.into_iter().map(|dim| dim as usize).collect();
            let tensor = match given {
                Some(tensor) if tensor.dims() == dims => tensor.to_device(device)?,
                Some(tensor) => {
                    return Err(Error::Decoder(format!(
                        "the image's `{name}` is {:?}, and the decoder was exported for {dims:?}; \
                         use the vision asset of the same export",
                        tensor.dims()
                    )));
                }
                None => Tensor::zeros(dims, DType::F16, device)?,
            };
            fixed.push((name, tensor));
        }
        for (name, value) in [
            ("rope_shift_start", rope_shift_start),
            ("rope_shift_amount", rope_shift_amount),
        ] {
            let value = Tensor::new(&[i64::from(value)], &Device::Cpu)?;
            fixed.push((name, value));
        }
        Ok(Session {
            decoder: self,
            fixed,
            states: States::new(),
            seen: 0,
        })
    }
}

/// The logits of one position, f32.
fn on_host(logits: &Tensor) -> Result<Vec<f32>> {
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
    Ok(sampler.pick(&on_host(logits)?))
}

/// Rows that a function takes in a call; `None` is any number.
fn chunk(function: &Function<'_>) -> Result<Option<usize>> {
    match function.input("input_ids").map(|ty| &ty.dims[..]) {
        Some([_, Dim::Static(rows @ 1..)]) => Ok(Some(*rows as usize)),
        Some([_, Dim::Dynamic]) => Ok(None),
        _ => Err(not_a_decoder("the input `input_ids` [1, S]")),
    }
}

fn not_a_decoder(missing: &str) -> Error {
    Error::Decoder(format!(
        "the asset is no decoder of this project's exports: it lacks {missing}"
    ))
}

/// What [`Session::answer`] tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// So many tokens of the prompt were read.
    Read(usize),
    /// The next token of the answer.
    Token(u32),
}

/// A conversation: what was read, in the cache.
#[derive(Debug)]
pub struct Session<'e> {
    decoder: &'e Decoder,
    /// Inputs that stay the same.
    fixed: Vec<(&'static str, Tensor)>,
    states: States,
    seen: usize,
}

impl Session<'_> {
    /// How many tokens were read.
    pub fn seen(&self) -> usize {
        self.seen
    }

    /// The cache, by the names of its states.
    pub fn states(&self) -> &States {
        &self.states
    }

    /// Another conversation that has read the same.
    ///
    /// # Errors
    /// No room for a copy of the cache.
    pub fn fork(&self) -> Result<Self> {
        Ok(Self {
            decoder: self.decoder,
            fixed: self.fixed.clone(),
            states: self.states.copy()?,
            seen: self.seen,
        })
    }

    /// Takes a cache that was made elsewhere, which holds `seen` tokens.
    pub fn restore(&mut self, states: States, seen: usize) {
        self.states = states;
        self.seen = seen;
    }

    /// Reads tokens and gives the logits after the last of them, f32.
    ///
    /// # Errors
    /// No tokens, or a call that fails.
    pub fn read(&mut self, ids: &[i32]) -> Result<Vec<f32>> {
        let last = self.read_while(ids, |_| true)?;
        match last {
            Some(logits) => on_host(&logits),
            None => Err(Error::Decoder("there are no tokens to read".to_owned())),
        }
    }

    /// As [`Session::read`], as long as `each` says to go on; it hears how many
    /// of `ids` were read. Gives none where it said to stop.
    fn read_while(
        &mut self,
        ids: &[i32],
        mut each: impl FnMut(usize) -> bool,
    ) -> Result<Option<Tensor>> {
        let before = self.seen;
        let mut last = None;
        let all = self.feed(ids, false, |seen, logits| {
            last = Some(logits);
            Ok(each(seen - before))
        })?;
        match last {
            Some(logits) if all => Ok(Some(logits.get(0)?)),
            _ => Ok(None),
        }
    }

    /// Reads tokens and gives the logits after each of them, `[T, V]` of f32
    /// on the host.
    ///
    /// # Errors
    /// No tokens, or a call that fails.
    pub fn read_all(&mut self, ids: &[i32]) -> Result<Tensor> {
        let mut parts = Vec::new();
        self.feed(ids, true, |_, logits| {
            parts.push(logits.to_device(&Device::Cpu)?.to_dtype(DType::F32)?);
            Ok(true)
        })?;
        Ok(Tensor::cat(&parts, 0)?)
    }

    /// Continues greedily after `ids`, up to `most` tokens or the first of
    /// `end_tokens`, which is given too. `each` hears each token as soon as it
    /// is known and says whether to go on.
    ///
    /// # Errors
    /// No tokens, or a call that fails.
    pub fn generate(
        &mut self,
        ids: &[i32],
        most: usize,
        end_tokens: &[u32],
        mut each: impl FnMut(u32) -> bool,
    ) -> Result<Vec<u32>> {
        let mut greedy = Sampler::greedy();
        self.answer(ids, &mut greedy, most, end_tokens, |step| match step {
            Step::Read(_) => true,
            Step::Token(token) => each(token),
        })
    }

    /// As [`Session::generate`], with tokens that `sampler` picks. `each` hears
    /// of every step, those of reading `ids` too, and says whether to go on.
    ///
    /// # Errors
    /// No tokens, or a call that fails.
    pub fn answer(
        &mut self,
        ids: &[i32],
        sampler: &mut Sampler,
        most: usize,
        end_tokens: &[u32],
        mut each: impl FnMut(Step) -> bool,
    ) -> Result<Vec<u32>> {
        if ids.is_empty() {
            return Err(Error::Decoder("there are no tokens to read".to_owned()));
        }
        let mut tokens = Vec::new();
        let mut next = self.read_while(ids, |read| each(Step::Read(read)))?;
        while let Some(logits) = next.filter(|_| tokens.len() < most) {
            let token = pick(sampler, &logits)?;
            tokens.push(token);
            if !each(Step::Token(token)) || end_tokens.contains(&token) || tokens.len() == most {
                break;
            }
            next = self.read_while(&[token as i32], |_| true)?;
        }
        Ok(tokens)
    }

    /// Reads tokens in chunks as large as the functions take. `each` gets how
    /// many were seen in all and the logits of a chunk, and says whether to go
    /// on; gives what it said last. The logits are those after all tokens of
    /// the chunk, `[S, V]`, or after the last of them, `[1, V]`.
    fn feed(
        &mut self,
        ids: &[i32],
        all: bool,
        mut each: impl FnMut(usize, Tensor) -> Result<bool>,
    ) -> Result<bool> {
        let mut rest = ids;
        while !rest.is_empty() {
            let (name, rows) = match (self.decoder.prefill, self.decoder.rows) {
                // A chunk that is not full takes the time of a full one.
                (Some(rows), _) if rest.len() >= rows.div_ceil(WORTH) => ("prefill", rows),
                (_, None) => ("main", rest.len().min(OPEN_CHUNK)),
                (_, Some(rows)) if rest.len() >= rows => ("main", rows),
                (_, Some(rows)) => {
                    return Err(Error::Decoder(format!(
                        "`main` takes {rows} tokens at a time, and {} are left",
                        rest.len()
                    )));
                }
            };
            let (chunk, after) = rest.split_at(rows.min(rest.len()));
            let logits = self.call(name, chunk, rows, all)?;
            if !each(self.seen, logits)? {
                return Ok(false);
            }
            rest = after;
        }
        Ok(true)
    }

    /// Reads one chunk with a function that takes `rows` tokens. Where there
    /// are fewer, others follow them: no token sees those after it, and what
    /// they leave in the cache is overwritten before a later one sees it.
    fn call(&mut self, name: &str, ids: &[i32], rows: usize, all: bool) -> Result<Tensor> {
        let function = self.decoder.program.function(name)?;
        let count = ids.len();
        let mut ids: Vec<i64> = ids.iter().map(|id| i64::from(*id)).collect();
        ids.resize(rows, 0);
        let end = (self.seen + rows) as i64;
        let mut inputs = self.fixed.clone();
        inputs.push(("input_ids", Tensor::from_vec(ids, (1, rows), &Device::Cpu)?));
        let positions = Tensor::arange(0, end, &Device::Cpu)?.unsqueeze(0)?;
        inputs.push(("position_ids", positions));
        let wanted = match all {
            true => OutputRows::All,
            false => OutputRows::One(count - 1),
        };
        let outputs = function.run_rows(&inputs, &mut self.states, wanted)?;
        self.seen += count;
        let logits = outputs.into_iter().find(|(name, _)| name == "logits");
        let Some((_, logits)) = logits else {
            return Err(not_a_decoder("the output `logits`"));
        };
        let logits = logits.squeeze(0)?;
        Ok(match (all, logits.dim(0)?) {
            (true, _) => logits.narrow(0, 0, count)?,
            (false, 1) => logits,
            (false, _) => logits.narrow(0, count - 1, 1)?,
        })
    }
}
