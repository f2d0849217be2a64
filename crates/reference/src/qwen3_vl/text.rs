//! The text decoder, `model.language_model`, and the head.

use super::load::Loader;
use super::{VisionOutput, computing, rotations};
use crate::Error;
use candle_core::{D, Device, IndexOp, Module, Tensor};
use candle_nn::{Linear, RmsNorm, ops, rotary_emb};
use checkpoint::Checkpoint;
use models::TokenizedPrompt;
use models::qwen3_vl::positions::{GraphRope, in_graph};
use models::qwen3_vl::{Config, TextConfig, names};

/// The text decoder with its head, in f32.
#[derive(Debug)]
pub struct TextModel {
    config: TextConfig,
    device: Device,
    /// [V, h].
    embed_tokens: Tensor,
    layers: Vec<Layer>,
    norm: RmsNorm,
    /// [V, h]; the embedding table itself where they are tied.
    lm_head: Linear,
}

/// Keys and values of the tokens so far, layer by layer.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    /// Keys (after their norm and rotation) and values of each layer,
    /// [KV, tokens, D] f32; empty before the first token.
    pub layers: Vec<[Tensor; 2]>,
}

/// What the decoder makes of S tokens.
#[derive(Clone, Debug)]
pub struct TextOutput {
    /// [S, h] f32 for each layer: the residual stream as the next layer reads
    /// it, DeepStack added.
    pub hidden_states: Vec<Tensor>,
    /// [S, V] f32.
    pub logits: Tensor,
}

impl Cache {
    /// Tokens in it.
    pub fn tokens(&self) -> usize {
        let first = self.layers.first();
        first.map_or(0, |[keys, _]| keys.dims().get(1).copied().unwrap_or(0))
    }
}

impl TextModel {
    /// Reads the decoder's weights onto `device`.
    ///
    /// # Errors
    /// As [`Checkpoint::tensor`] and [`names::head`]; [`Error::Compute`]
    /// if the device has no room.
    pub fn load(
        config: &Config,
        checkpoint: &Checkpoint,
        device: &Device,
    ) -> Result<TextModel, Error> {
        let load = Loader { checkpoint, device };
        let text = config.text_config.clone();
        let table = [text.vocab_size, text.hidden_size];
        let embed_tokens = load.tensor(names::EMBED_TOKENS, &table)?;
        // This also finds a second head beside a tied one.
        names::head(checkpoint, config)?;
        let head = if config.tie_word_embeddings {
            embed_tokens.clone()
        } else {
            load.tensor(names::LM_HEAD, &table)?
        };
        Ok(TextModel {
            device: device.clone(),
            embed_tokens,
            layers: (0..text.num_hidden_layers)
                .map(|layer| Layer::load(&load, &text, layer))
                .collect::<Result<_, _>>()?,
            norm: RmsNorm::new(
                load.tensor(names::FINAL_NORM, &[text.hidden_size])?,
                text.rms_norm_eps,
            ),
            lm_head: Linear::new(head, None),
            config: text,
        })
    }

    /// Runs S tokens that come after those of `cache`, and adds them to it.
    /// `ids` has image tokens as V + slot, `positions` is (t, h, w) of each of
    /// the same tokens, and `vision` is the image that they belong to.
    ///
    /// # Errors
    /// [`Error::Input`] for no tokens, for an id that is neither a token nor a
    /// slot of `vision`, or for a number of positions that is not that of the
    /// tokens;
    /// [`Error::Compute`] if the device fails, or if `cache` is another
    /// model's. The cache is as it was then.
    pub fn forward(
        &self,
        ids: &[i32],
        positions: &[[i32; 3]],
        vision: Option<&VisionOutput>,
        cache: &mut Cache,
    ) -> Result<TextOutput, Error> {
        self.check(ids, positions, vision, cache)?;
        let image = self
            .image_rows(ids, vision)
            .map_err(computing("the image's rows"))?;
        let mut x = self
            .embed(ids, image.as_ref())
            .map_err(computing("the embeddings"))?;
        let turn = self
            .rotary(positions)
            .map_err(computing("the rotary tables"))?;
        let mask = self
            .mask(ids.len(), cache.tokens())
            .map_err(computing("the mask"))?;
        let mut hidden_states = Vec::with_capacity(self.layers.len());
        let mut entries = Vec::with_capacity(self.layers.len());
        for (index, layer) in self.layers.iter().enumerate() {
            let (next, entry) = layer
                .forward(&x, &turn, mask.as_ref(), cache.layers.get(index))
                .map_err(computing(format!("decoder layer {index}")))?;
            entries.push(entry);
            x = match image.as_ref().and_then(|image| image.deepstack.get(index)) {
                Some(rows) => (next + rows).map_err(computing(format!("DeepStack {index}")))?,
                None => next,
            };
            hidden_states.push(x.clone());
        }
        let logits = self
            .norm
            .forward(&x)
            .and_then(|x| self.lm_head.forward(&x))
            .map_err(computing("the head"))?;
        cache.layers = entries;
        Ok(TextOutput {
            hidden_states,
            logits,
        })
    }

    /// The `steps` tokens that follow a prompt, each the likeliest (of equals,
    /// the one with the lowest id). The end token is one as any other.
    ///
    /// # Errors
    /// As [`TextModel::forward`].
    pub fn greedy(
        &self,
        prompt: &TokenizedPrompt,
        vision: Option<&VisionOutput>,
        steps: usize,
    ) -> Result<Vec<u32>, Error> {
        let mut cache = Cache::default();
        let mut made = Vec::with_capacity(steps);
        let mut ids = prompt.ids.clone();
        let rope = GraphRope::of(prompt, self.config.vocab_size);
        while made.len() < steps {
            let positions = in_graph(&ids, cache.tokens() as i32, &rope);
            let output = self.forward(&ids, &positions, vision, &mut cache)?;
            let token = output
                .logits
                .i(ids.len() - 1)
                .and_then(|row| row.to_vec1::<f32>())
                .map(|row| likeliest(&row))
                .map_err(computing("the choice of a token"))?;
            made.push(token as u32);
            ids = vec![token as i32];
        }
        Ok(made)
    }

    fn check(
        &self,
        ids: &[i32],
        positions: &[[i32; 3]],
        vision: Option<&VisionOutput>,
        cache: &Cache,
    ) -> Result<(), Error> {
        let wrong = |message| Err(Error::Input { message });
        if ids.is_empty() || ids.len() != positions.len() {
            return wrong(format!(
                "found {} tokens and {} positions, expected equal numbers of both, and at least one",
                ids.len(),
                positions.len()
            ));
        }
        let slots = vision.map_or(0, |vision| vision.grid[0] * vision.grid[1]);
        let end = self.config.vocab_size + slots;
        if let Some(id) = ids.iter().find(|id| **id < 0 || **id as usize >= end) {
            return wrong(format!(
                "the id {id} is not below {end}: {} tokens and {slots} slots of an image",
                self.config.vocab_size
            ));
        }
        let layers = cache.layers.len();
        if layers != 0 && layers != self.layers.len() {
            return wrong(format!(
                "the cache has {layers} layers, and the decoder {}",
                self.layers.len()
            ));
        }
        Ok(())
    }

    /// The rows of an image, laid out over the S tokens.
    fn image_rows(
        &self,
        ids: &[i32],
        vision: Option<&VisionOutput>,
    ) -> candle_core::Result<Option<ImageRows>> {
        let vocab = self.config.vocab_size as i32;
        let Some(vision) = vision.filter(|_| ids.iter().any(|id| *id >= vocab)) else {
            return Ok(None);
        };
        let slots: Vec<u32> = ids.iter().map(|id| (id - vocab).max(0) as u32).collect();
        let slots = Tensor::new(slots, &self.device)?;
        let is_image: Vec<u8> = ids.iter().map(|id| u8::from(*id >= vocab)).collect();
        let is_image = Tensor::new(is_image, &self.device)?
            .unsqueeze(1)?
            .broadcast_as((ids.len(), self.config.hidden_size))?;
        let lay = |rows: &Tensor| {
            let rows = rows.index_select(&slots, 0)?;
            is_image.where_cond(&rows, &rows.zeros_like()?)
        };
        Ok(Some(ImageRows {
            embeds: lay(&vision.image_embeds)?,
            deepstack: vision
                .deepstack_embeds
                .iter()
                .map(lay)
                .collect::<candle_core::Result<_>>()?,
            is_image,
        }))
    }

    fn embed(&self, ids: &[i32], image: Option<&ImageRows>) -> candle_core::Result<Tensor> {
        let vocab = self.config.vocab_size as i32;
        let words: Vec<u32> = ids
            .iter()
            .map(|id| if *id < vocab { *id as u32 } else { 0 })
            .collect();
        let words = Tensor::new(words, &self.device)?;
        let rows = self.embed_tokens.index_select(&words, 0)?;
        match image {
            Some(image) => image.is_image.where_cond(&image.embeds, &rows),
            None => Ok(rows),
        }
    }

    /// Cosines and sines, [S, D / 2] each. Frequency j turns by h where j is 1
    /// beyond a multiple of 3 and below 3 · section[1], by w where it is 2
    /// beyond and below 3 · section[2], else by t.
    fn rotary(&self, positions: &[[i32; 3]]) -> candle_core::Result<(Tensor, Tensor)> {
        let (half, section) = (self.config.head_dim / 2, self.config.mrope_section);
        let frequencies: Vec<(usize, f32)> = (0..half)
            .map(|j| {
                let axis = j % 3;
                let axis = if j < 3 * section[axis] { axis } else { 0 };
                let exponent = -(j as f64) / half as f64;
                (axis, self.config.rope_theta.powf(exponent) as f32)
            })
            .collect();
        let angles: Vec<f32> = positions
            .iter()
            .flat_map(|position| {
                let angle = |(axis, frequency): &(usize, f32)| position[*axis] as f32 * frequency;
                frequencies.iter().map(angle)
            })
            .collect();
        rotations(&angles, positions.len(), &self.device)
    }

    /// What is added to the scores of S tokens after `past` others, [S,
    /// past + S]: −∞ for tokens that are yet to come. None is needed for one.
    fn mask(&self, rows: usize, past: usize) -> candle_core::Result<Option<Tensor>> {
        if rows == 1 {
            return Ok(None);
        }
        let values: Vec<f32> = (0..rows)
            .flat_map(|row| {
                let open = move |at| {
                    if at <= past + row {
                        0.0
                    } else {
                        f32::NEG_INFINITY
                    }
                };
                (0..past + rows).map(open)
            })
            .collect();
        Tensor::from_vec(values, (rows, past + rows), &self.device).map(Some)
    }
}

/// An image over the tokens of a call: its rows at its tokens, else 0.
struct ImageRows {
    /// [S, h] u8.
    is_image: Tensor,
    /// [S, h].
    embeds: Tensor,
    /// [S, h] each.
    deepstack: Vec<Tensor>,
}

/// The index of the largest number, the first of equals.
fn likeliest(row: &[f32]) -> usize {
    let better = |best: usize, at: usize| if row[at] > row[best] { at } else { best };
    (0..row.len()).reduce(better).unwrap_or(0)
}

/// `layers.{i}`.
#[derive(Debug)]
struct Layer {
    input_layernorm: RmsNorm,
    self_attn: Attention,
    post_attention_layernorm: RmsNorm,
    mlp: Mlp,
}

impl Layer {
    fn load(load: &Loader, text: &TextConfig, layer: usize) -> Result<Layer, Error> {
        let (hidden, mlp, dim) = (text.hidden_size, text.intermediate_size, text.head_dim);
        let (q, kv) = (
            text.num_attention_heads * dim,
            text.num_key_value_heads * dim,
        );
        let linear = |part: &str, out, input| {
            load.linear(
                &names::text_layer(layer, &format!("{part}.weight")),
                out,
                input,
            )
        };
        let norm = |part: &str, width| {
            load.tensor(
                &names::text_layer(layer, &format!("{part}.weight")),
                &[width],
            )
            .map(|weight| RmsNorm::new(weight, text.rms_norm_eps))
        };
        Ok(Layer {
            input_layernorm: norm("input_layernorm", hidden)?,
            self_attn: Attention {
                kv_heads: text.num_key_value_heads,
                dim,
                q_proj: linear("self_attn.q_proj", q, hidden)?,
                k_proj: linear("self_attn.k_proj", kv, hidden)?,
                v_proj: linear("self_attn.v_proj", kv, hidden)?,
                q_norm: norm("self_attn.q_norm", dim)?,
                k_norm: norm("self_attn.k_norm", dim)?,
                o_proj: linear("self_attn.o_proj", hidden, q)?,
            },
            post_attention_layernorm: norm("post_attention_layernorm", hidden)?,
            mlp: Mlp {
                gate_proj: linear("mlp.gate_proj", mlp, hidden)?,
                up_proj: linear("mlp.up_proj", mlp, hidden)?,
                down_proj: linear("mlp.down_proj", hidden, mlp)?,
            },
        })
    }

    /// The next residual stream, and the layer's keys and values so far.
    fn forward(
        &self,
        x: &Tensor,
        turn: &(Tensor, Tensor),
        mask: Option<&Tensor>,
        past: Option<&[Tensor; 2]>,
    ) -> candle_core::Result<(Tensor, [Tensor; 2])> {
        let normed = self.input_layernorm.forward(x)?;
        let (attended, entry) = self.self_attn.forward(&normed, turn, mask, past)?;
        let x = (x + attended)?;
        let mlp = self
            .mlp
            .forward(&self.post_attention_layernorm.forward(&x)?)?;
        Ok(((x + mlp)?, entry))
    }
}

/// `self_attn`: causal, with groups of query heads to a key and value head.
#[derive(Debug)]
struct Attention {
    kv_heads: usize,
    dim: usize,
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    q_norm: RmsNorm,
    k_norm: RmsNorm,
    o_proj: Linear,
}

impl Attention {
    fn forward(
        &self,
        x: &Tensor,
        (cos, sin): &(Tensor, Tensor),
        mask: Option<&Tensor>,
        past: Option<&[Tensor; 2]>,
    ) -> candle_core::Result<(Tensor, [Tensor; 2])> {
        let rows = x.dim(0)?;
        // [heads, S, D]
        let split = |x: Tensor| {
            x.reshape((rows, (), self.dim))?
                .transpose(0, 1)?
                .contiguous()
        };
        let turn = |x: Tensor| rotary_emb::rope(&x.unsqueeze(0)?, cos, sin)?.squeeze(0);
        let q = turn(self.q_norm.forward(&split(self.q_proj.forward(x)?)?)?)?;
        let mut k = turn(self.k_norm.forward(&split(self.k_proj.forward(x)?)?)?)?;
        let mut v = split(self.v_proj.forward(x)?)?;
        if let Some([keys, values]) = past {
            k = Tensor::cat(&[keys, &k], 1)?;
            v = Tensor::cat(&[values, &v], 1)?;
        }
        // The query heads of a group stand one after the other, so a group is
        // a taller matrix: [KV, group · S, D].
        let heads = q.dim(0)?;
        let q = q.reshape((self.kv_heads, (), self.dim))?;
        let mut scores = (q.matmul(&k.t()?)? * (self.dim as f64).powf(-0.5))?;
        if let Some(mask) = mask {
            let total = k.dim(1)?;
            scores = scores
                .reshape((heads, rows, total))?
                .broadcast_add(mask)?
                .reshape((self.kv_heads, (), total))?;
        }
        let mixed = ops::softmax(&scores, D::Minus1)?.matmul(&v)?;
        let mixed = mixed.reshape((heads, rows, self.dim))?.transpose(0, 1)?;
        let out = self
            .o_proj
            .forward(&mixed.reshape((rows, heads * self.dim))?)?;
        Ok((out, [k, v]))
    }
}

/// `mlp`: gated by SiLU.
#[derive(Debug)]
struct Mlp {
    gate_proj: Linear,
    up_proj: Linear,
    down_proj: Linear,
}

impl Mlp {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let gate = self.gate_proj.forward(x)?.silu()?;
        self.down_proj.forward(&(gate * self.up_proj.forward(x)?)?)
    }
}
