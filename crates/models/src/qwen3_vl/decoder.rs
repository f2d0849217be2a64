//! The text decoder as a graph.
//!
//! In pipelined bundles: `main(input_ids [1,S], position_ids [1,T], image_embeds [N,h],
//! deepstack_embeds [K·N,h], rope_shift_start [1], rope_shift_amount [1];
//! states keyCache, valueCache [L,1,KV,?,D]) → logits [1,S,V]`. An image token
//! is V + its slot among the N of the image.
//!
//! In bundles for Apple's package: `main(inputs_embeds [1,S,W], position_ids
//! [1,T]; states keyCache, valueCache [L+1,1,KV,?,D]) → logits [1,S,V]`, where a
//! row is what [`rows`](super::rows) says. Layer L of the key cache keeps the
//! marks of the tokens that were read.
//!
//! Where several ways lead to the
//! same result, the graph goes the one that the published recipe's optimizer
//! leaves: known extents become reshapes, and one row needs no transposes.

mod attention;
mod common;
mod embed;
mod embed_rows;

use aimodel::{AssetBuilder, Dim, ElementType, GraphBuilder, Module, TensorType, Value};
use bundle::{
    Layout,
    contract::{KEY_CACHE, LOGITS, VALUE_CACHE},
};
use checkpoint::Checkpoint;
use quantize::{Recipe, Storage};

use self::{
    attention::Caches,
    common::{Common, Composites, Decoder, Pictures},
};
use super::{Config, contract, names, rows::RowLayout};
use crate::lower::{
    Result,
    composite::{self, extent},
};

/// The program of a decoder asset, whose weights are read and quantized only
/// when its constants are written.
///
/// # Errors
/// A parameter that is missing or of another shape, or a width that the
/// recipe cannot store.
pub fn build(
    config: &Config,
    checkpoint: &Checkpoint,
    recipe: &'static Recipe,
    layout: Layout,
    grid: u64,
) -> Result<Module> {
    let mut asset = AssetBuilder::new();
    for (function, tokens) in layout.call_shape().functions() {
        let decoder = Decoder {
            config,
            text: &config.text_config,
            checkpoint,
            recipe,
            layout,
            rows: tokens.map_or(Dim::Dynamic, Dim::Static),
            grid,
        };
        decoder.function(&mut asset, function)?;
    }
    Ok(asset.finish()?)
}

/// The program of an embedding asset, whose table is read only when its
/// constants are written.
///
/// # Errors
/// As [`build`].
pub fn embedding(
    config: &Config,
    checkpoint: &Checkpoint,
    recipe: &'static Recipe,
) -> Result<Module> {
    let mut asset = AssetBuilder::new();
    let decoder = Decoder {
        config,
        text: &config.text_config,
        checkpoint,
        recipe,
        layout: Layout::Vlm,
        rows: Dim::Dynamic,
        grid: 1,
    };
    decoder.embedding_function(&mut asset)?;
    Ok(asset.finish()?)
}

impl Decoder<'_> {
    fn composites(&self, asset: &mut AssetBuilder) -> Result<Composites> {
        let (heads, kv_heads, dim) = (self.heads(), self.kv_heads(), self.head_dim());
        let eps = self.text.rms_norm_eps as f32;
        // The published names end in eight random digits, so that those of two
        // functions differ; here they are the number of rows, 0 if unknown.
        let rows = self.rows.known().unwrap_or(0);
        let name = |part: &str| format!("model.layers.0.{part}_{rows:08x}");
        let normed = heads + kv_heads;
        Ok(Composites {
            qk_norm: composite::rms_norm(
                asset,
                &name("self_attn.qk_norm.rmsnorm_impl"),
                self.f16(&[1.into(), normed.into(), self.rows, dim.into()]),
                TensorType::fixed([normed, 1, dim], ElementType::F16),
                eps,
            )?,
            attention: composite::causal_attention(
                asset,
                &name("self_attn.sdpa"),
                heads,
                kv_heads,
                self.rows,
                dim,
            )?,
            rope: match self.layout {
                Layout::Pipelined(_) => Some(composite::rope(
                    asset,
                    &name("self_attn.rope"),
                    normed,
                    self.rows,
                    dim,
                    self.text.rope_theta,
                )?),
                Layout::Vlm => None,
            },
            norm: composite::rms_norm(
                asset,
                &name("input_layernorm.rmsnorm_impl"),
                self.f16(&[1.into(), self.rows, self.hidden().into()]),
                TensorType::fixed([self.hidden()], ElementType::F16),
                eps,
            )?,
        })
    }

    fn function(&self, asset: &mut AssetBuilder, name: &str) -> Result<()> {
        let composites = self.composites(asset)?;
        let mut graph = asset.graph(name);
        let inputs = match self.layout {
            Layout::Pipelined(_) => {
                contract::decoder_inputs(self.config, self.rows, self.grid).to_vec()
            }
            Layout::Vlm => contract::row_inputs(self.config).to_vec(),
        };
        let inputs = inputs
            .into_iter()
            .map(|port| graph.input(port.name, port.ty));
        let inputs = inputs.collect::<Result<Vec<Value>, _>>()?;
        let [keys, values] = contract::decoder_states(self.config, self.layout)
            .map(|port| graph.state(port.name, port.ty));
        let (keys, values) = (keys?, values?);

        let body = &mut graph;
        let token = body.create_token()?;
        let values = attention::read(body, values, token)?;
        let keys = attention::read(body, keys, token)?;
        let mut caches = Caches { keys, values };
        let (common, mut x) = match inputs[..] {
            [ids, positions, image, deepstack, start, amount] => {
                self.embed(body, [ids, positions], [image, deepstack], (start, amount))?
            }
            [rows, positions, ..] => self.embed_rows(body, rows, positions, &mut caches.keys)?,
            _ => unreachable!("the contract has two inputs or six"),
        };
        for layer in 0..self.text.num_hidden_layers {
            x = self.attention(body, &composites, &common, layer, x, &mut caches)?;
            x = self.mlp(body, &composites, layer, x)?;
            if (layer as u64) < self.taps() {
                x = self.add_deepstack(body, &common, layer as u64, x)?;
            }
        }
        let norm = self.vector(body, names::FINAL_NORM, self.text.hidden_size)?;
        let x = body.invoke(&composites.norm, &[x, norm])?;
        let logits = self.head(body, x)?;
        let results = [
            (KEY_CACHE, caches.keys.token),
            (VALUE_CACHE, caches.values.token),
            (LOGITS, logits),
        ];
        graph.finish(&results)?;
        Ok(())
    }

    fn mlp(
        &self,
        body: &mut GraphBuilder<'_>,
        composites: &Composites,
        layer: usize,
        x: Value,
    ) -> Result<Value> {
        let name = |parameter: &str| names::text_layer(layer, parameter);
        let (hidden, width) = (self.text.hidden_size, self.text.intermediate_size);
        let norm = self.vector(body, &name("post_attention_layernorm.weight"), hidden)?;
        let normed = body.invoke(&composites.norm, &[x, norm])?;
        let up = self.projection(body, &name("mlp.up_proj.weight"), [width, hidden], normed)?;
        let gate = self.projection(body, &name("mlp.gate_proj.weight"), [width, hidden], normed)?;
        let gate = body.silu(gate)?;
        let gated = body.mul(up, gate)?;
        let down = self.projection(body, &name("mlp.down_proj.weight"), [hidden, width], gated)?;
        Ok(body.add(x, down)?)
    }

    /// Adds what the vision encoder has for this layer, at image tokens.
    fn add_deepstack(
        &self,
        body: &mut GraphBuilder<'_>,
        common: &Common,
        tap: u64,
        x: Value,
    ) -> Result<Value> {
        let (deepstack, slot, is_image) = match common.pictures {
            Pictures::Rows(rows) => {
                let part = self.part_of_rows(body, rows, RowLayout::of(self.config).part(tap))?;
                return Ok(body.add(x, part)?);
            }
            Pictures::Table {
                deepstack,
                slot,
                is_image,
            } => (deepstack, slot, is_image),
        };
        let offset = body.scalar_si32((tap * self.slots()) as i64)?;
        let row = body.add(slot, offset)?;
        let flat = match self.rows {
            Dim::Static(_) => None,
            Dim::Dynamic => {
                let shape = body.get_shape(row)?;
                let count = extent(body, shape, 1)?;
                let ty = TensorType::new([Dim::Dynamic], ElementType::Si32);
                Some(body.reshape_as(row, count, ty)?)
            }
        };
        let rows = self.gather_rows(body, deepstack, row, flat)?;
        let rows = body.mul(rows, is_image)?;
        Ok(body.add(x, rows)?)
    }

    fn head(&self, body: &mut GraphBuilder<'_>, x: Value) -> Result<Value> {
        let shape = vec![self.text.vocab_size, self.text.hidden_size];
        // Refuses a tied head that is stored as well, and is another.
        names::head(self.checkpoint, self.config)?;
        let tied = self.config.tie_word_embeddings;
        let name = if tied {
            names::EMBED_TOKENS
        } else {
            names::LM_HEAD
        };
        // A tied head of f16 is the embedding table itself.
        let key = if tied && self.recipe.head == Storage::F16 {
            name
        } else {
            names::LM_HEAD
        };
        let weight = self.matrix(body, key, &[(name.to_owned(), shape)], self.recipe.head)?;
        Ok(body.batch_matmul(x, weight)?)
    }
}
