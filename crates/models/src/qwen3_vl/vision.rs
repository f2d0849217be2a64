//! The vision encoder as a graph.
//!
//! Beside pipelined bundles: `main(patches [4N, C·T·P·P]) → image_embeds [N, h],
//! deepstack_embeds [K·N, h]`, all f16. In bundles for Apple's package:
//! `main(pixel_values [1, C, H, W] f32) → image_features [1, N, W] f16`, whose
//! rows are what [`rows`](super::rows) says. Both for a square of `grid` × `grid`
//! image tokens: with the grid fixed, everything positional is a constant.
//!
//! Weights are stored as f16 in both. The first computes in f16, as the published
//! recipe does; the second in f32, as Apple's own exporter has it, so that what a
//! runtime sums in f16 does not add up over the blocks.

use aimodel::{Approximate, AssetBuilder, ElementType, Graph, GraphBuilder, Module, Value};
use bundle::contract::{DEEPSTACK_EMBEDS, IMAGE_EMBEDS, IMAGE_FEATURES, MAIN};
use checkpoint::Checkpoint;
use half::f16;
use quantize::Storage;

use super::{
    Config, VisionConfig, contract, names,
    rows::{self, RowLayout},
    tables,
};
use crate::lower::{
    Error, Result,
    composite::{self, TO_END},
    weights,
};

/// ε of every LayerNorm; the checkpoint's configuration does not state it.
const EPS: f32 = 1e-6;

/// What a vision encoder takes and gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Patches; embeddings and DeepStack's parts.
    Patches,
    /// Pixels; rows.
    Rows,
}

/// The program of a vision asset, for pictures of grid × grid image tokens.
///
/// # Errors
/// A parameter that is missing or of another shape.
pub fn build(config: &Config, checkpoint: &Checkpoint, grid: u64, form: Form) -> Result<Module> {
    let vision = &config.vision_config;
    let mut asset = AssetBuilder::new();
    let merged = grid * grid;
    let merge = vision.spatial_merge_size;
    let encoder = Encoder {
        config,
        vision,
        checkpoint,
        patches: merged * (merge * merge) as u64,
        merged,
        grid: grid as usize,
        element: match form {
            Form::Patches => ElementType::F16,
            Form::Rows => ElementType::F32,
        },
    };
    encoder.function(&mut asset, form)?;
    Ok(asset.finish()?)
}

struct Encoder<'m> {
    config: &'m Config,
    vision: &'m VisionConfig,
    checkpoint: &'m Checkpoint,
    /// Patches, 4N.
    patches: u64,
    /// Image tokens, N.
    merged: u64,
    grid: usize,
    /// What is computed in.
    element: ElementType,
}

/// Graphs that the blocks call.
struct Composites {
    norm: Graph,
    merged_norm: Option<Graph>,
    attention: Graph,
}

/// Values that all blocks use.
struct Common {
    cos: Value,
    sin: Value,
}

impl Encoder<'_> {
    fn hidden(&self) -> u64 {
        self.vision.hidden_size as u64
    }
    fn heads(&self) -> u64 {
        self.vision.num_heads as u64
    }
    fn head_dim(&self) -> u64 {
        self.vision.head_dim() as u64
    }
    /// The width of the patches of one image token, side by side.
    fn merged_width(&self) -> u64 {
        self.vision.merged_size() as u64
    }

    fn function(&self, asset: &mut AssetBuilder, form: Form) -> Result<()> {
        let taps = &self.vision.deepstack_visual_indexes;
        let (hidden, wide) = (self.hidden(), self.merged_width());
        let merged_norm = if taps.is_empty() {
            None
        } else {
            let name = "layer_norm_merged";
            Some(composite::layer_norm(
                asset,
                name,
                [self.merged, wide],
                self.element,
                EPS,
            )?)
        };
        let composites = Composites {
            norm: composite::layer_norm(
                asset,
                "layer_norm_patches",
                [self.patches, hidden],
                self.element,
                EPS,
            )?,
            merged_norm,
            attention: composite::attention(
                asset,
                "blocks.0.attn.sdpa_00000000",
                [self.heads(), self.patches, self.head_dim()],
                self.element,
            )?,
        };
        let mut graph = asset.graph(MAIN);
        let patches = match form {
            Form::Patches => {
                let patches = contract::patches(self.config, self.grid as u64);
                graph.input(patches.name, patches.ty)?
            }
            Form::Rows => {
                let contract = contract::row_vision(self.config, self.grid as u64);
                let [pixels] = &contract.inputs[..] else {
                    unreachable!("the contract has one input");
                };
                let pixels = graph.input(pixels.name, pixels.ty.clone())?;
                self.cut(&mut graph, pixels)?
            }
        };
        let body = &mut graph;

        let weight = self.matrix(
            body,
            &names::vision("patch_embed.proj.weight"),
            self.patch_shape(),
        )?;
        let embedded = body.batch_matmul(patches, weight)?;
        let positions = self.positions(body)?;
        let mut x = body.add(embedded, positions)?;
        let common = self.rotary(body)?;
        let mut tapped = vec![None; taps.len()];
        for block in 0..self.vision.depth {
            x = self.block(body, &composites, &common, block, x)?;
            for (tap, _) in taps.iter().enumerate().filter(|(_, at)| **at == block) {
                tapped[tap] = Some(self.deepstack_merger(body, &composites, tap, x)?);
            }
        }
        let embeds = self.merger(body, &composites, x)?;
        let tapped: Vec<Value> = tapped.into_iter().flatten().collect();
        let outputs = match form {
            Form::Patches => {
                let axis = body.scalar_si32(0)?;
                let deepstack = match tapped.as_slice() {
                    [only] => *only,
                    all => body.concat(axis, all)?,
                };
                vec![(IMAGE_EMBEDS, embeds), (DEEPSTACK_EMBEDS, deepstack)]
            }
            Form::Rows => vec![(IMAGE_FEATURES, self.rows(body, embeds, &tapped)?)],
        };
        graph.finish(&outputs)?;
        Ok(())
    }

    /// Cuts a picture `[1, C, H, W]` into patches `[4N, C·T·P·P]`: those of an
    /// image token one after the other, and the picture in place of each frame.
    fn cut(&self, body: &mut GraphBuilder<'_>, pixels: Value) -> Result<Value> {
        let v = self.vision;
        let (grid, merge) = (self.grid as u64, v.spatial_merge_size as u64);
        let (channels, side) = (v.in_channels as u64, v.patch_size as u64);
        let shape = body.ui32(&[channels, grid, merge, side, grid, merge, side])?;
        let pixels = body.reshape(pixels, shape)?;
        let order = body.ui32(&[1, 4, 2, 5, 0, 3, 6])?;
        let patches = body.transpose(pixels, order)?;
        let shape = body.ui32(&[self.patches, channels, 1, side * side])?;
        let frame = body.reshape(patches, shape)?;
        let axis = body.scalar_si32(2)?;
        let frames = match v.temporal_patch_size {
            1 => frame,
            count => body.concat(axis, &vec![frame; count])?,
        };
        let shape = body.ui32(&[self.patches, v.patch_len() as u64])?;
        Ok(body.reshape(frames, shape)?)
    }

    /// Rows `[1, N, W]` of embeddings, DeepStack's parts and marks.
    fn rows(&self, body: &mut GraphBuilder<'_>, embeds: Value, parts: &[Value]) -> Result<Value> {
        let layout = RowLayout::of(self.config);
        let (width, first) = (layout.width(), layout.marks());
        let pad = (width - first) as usize;
        let marks = rows::picture_marks(self.grid, self.grid);
        let values = marks.iter().flat_map(|marks| {
            let marks = marks.iter().copied().chain(std::iter::repeat(0));
            marks.take(pad).map(|mark| f16::from_f32(mark as f32))
        });
        let bytes: Vec<u8> = values.flat_map(f16::to_le_bytes).collect();
        let marks = weights::f16_constant(body, "marks", &[self.merged, pad as u64], bytes)?;
        let marks = self.widened(body, marks)?;
        let all: Vec<Value> = [embeds]
            .iter()
            .chain(parts)
            .chain([&marks])
            .copied()
            .collect();
        let axis = body.scalar_si32(1)?;
        let rows = body.concat(axis, &all)?;
        let rows = body.cast(rows, ElementType::F16)?;
        let shape = body.ui32(&[1, self.merged, width])?;
        Ok(body.reshape(rows, shape)?)
    }

    fn patch_shape(&self) -> Vec<usize> {
        let v = self.vision;
        vec![
            v.hidden_size,
            v.in_channels,
            v.temporal_patch_size,
            v.patch_size,
            v.patch_size,
        ]
    }

    /// The bias of the patch embedding and the position embeddings, added.
    fn positions(&self, body: &mut GraphBuilder<'_>) -> Result<Value> {
        let v = self.vision;
        let table_shape = [v.num_position_embeddings, v.hidden_size];
        let table = weights::read_f32(
            self.checkpoint,
            &names::vision("pos_embed.weight"),
            &table_shape,
        )?;
        let embeddings = tables::position_embeddings(
            &table,
            v.position_side(),
            v.hidden_size,
            self.grid,
            v.spatial_merge_size,
        );
        let bias = names::vision("patch_embed.proj.bias");
        let bias = weights::read_f16(self.checkpoint, &bias, &[v.hidden_size])?;
        let bias = bias
            .chunks(2)
            .map(|bytes| f16::from_le_bytes([bytes[0], bytes[1]]));
        let sums: Vec<f16> = embeddings
            .iter()
            .zip(bias.cycle())
            .map(|(e, b)| tables::folded_sum(b, *e))
            .collect();
        if let Some(at) = sums.iter().position(|sum| !sum.is_finite()) {
            return Err(Error::Unsupported(format!(
                "{} + {}: their sum at patch {}, column {} is more than f16 holds, 65504",
                names::vision("patch_embed.proj.bias"),
                names::vision("pos_embed.weight"),
                at / v.hidden_size,
                at % v.hidden_size,
            )));
        }
        let bytes = sums.into_iter().flat_map(f16::to_le_bytes).collect();
        let dims = [self.patches, self.hidden()];
        let sums = weights::f16_constant(body, "patch_embed.bias_and_positions", &dims, bytes)?;
        self.widened(body, sums)
    }

    fn rotary(&self, body: &mut GraphBuilder<'_>) -> Result<Common> {
        let v = self.vision;
        let (cos, sin) = tables::vision_rotary(self.grid, v.spatial_merge_size, v.head_dim());
        let dims = [1, 1, self.patches, self.head_dim()];
        let bytes = |table: Vec<f16>| table.into_iter().flat_map(f16::to_le_bytes).collect();
        let cos = weights::f16_constant(body, "rotary.cos", &dims, bytes(cos))?;
        let sin = weights::f16_constant(body, "rotary.sin", &dims, bytes(sin))?;
        Ok(Common {
            cos: self.widened(body, cos)?,
            sin: self.widened(body, sin)?,
        })
    }

    fn block(
        &self,
        body: &mut GraphBuilder<'_>,
        composites: &Composites,
        common: &Common,
        block: usize,
        x: Value,
    ) -> Result<Value> {
        let name = |parameter: &str| names::vision_block(block, parameter);
        let hidden = self.vision.hidden_size;
        let normed = self.norm(body, &composites.norm, &name("norm1"), hidden, x)?;
        let qkv = self.linear(body, &name("attn.qkv"), [3 * hidden, hidden], normed)?;
        let mixed = self.attention(body, composites, common, qkv)?;
        let out = self.linear(body, &name("attn.proj"), [hidden, hidden], mixed)?;
        let x = body.add(x, out)?;
        let normed = self.norm(body, &composites.norm, &name("norm2"), hidden, x)?;
        let width = self.vision.intermediate_size;
        let wide = self.linear(body, &name("mlp.linear_fc1"), [width, hidden], normed)?;
        let wide = body.gelu(wide, Approximate::Tanh)?;
        let out = self.linear(body, &name("mlp.linear_fc2"), [hidden, width], wide)?;
        Ok(body.add(x, out)?)
    }

    /// Attention among all patches: `[4N, 3·hidden]` to `[4N, hidden]`.
    fn attention(
        &self,
        body: &mut GraphBuilder<'_>,
        composites: &Composites,
        common: &Common,
        qkv: Value,
    ) -> Result<Value> {
        let (rows, heads, dim) = (self.patches, self.heads(), self.head_dim());
        let shape = body.ui32(&[rows, 3, heads, dim])?;
        let qkv = body.reshape(qkv, shape)?;
        let order = body.ui32(&[1, 2, 0, 3])?;
        let qkv = body.transpose(qkv, order)?;
        let shape = body.ui32(&[3, 1, heads, rows, dim])?;
        let qkv = body.reshape(qkv, shape)?;
        let mut parts = [(qkv, qkv); 3];
        for (index, part) in parts.iter_mut().enumerate() {
            let index = index as i64;
            let begin = body.si32(&[index, 0, 0, 0, 0])?;
            let end = body.si32(&[index + 1, TO_END, TO_END, TO_END, TO_END])?;
            let ones = body.si32(&[1; 5])?;
            let sliced = body.slice(qkv, begin, end, ones)?;
            let shape = body.ui32(&[1, heads, rows, dim])?;
            *part = (sliced, body.reshape(sliced, shape)?);
        }
        let [q, k, (_, v)] = parts;
        let q = self.turn(body, common, q)?;
        let k = self.turn(body, common, k)?;
        let mixed = body.invoke(&composites.attention, &[q, k, v])?;
        let order = body.ui32(&[0, 2, 1, 3])?;
        let mixed = body.transpose(mixed, order)?;
        let shape = body.ui32(&[rows, heads * dim])?;
        Ok(body.reshape(mixed, shape)?)
    }

    /// Turns queries or keys by their patches' positions. They come as `[1, 1,
    /// heads, 4N, D]` and as `[1, heads, 4N, D]`.
    fn turn(
        &self,
        body: &mut GraphBuilder<'_>,
        common: &Common,
        (sliced, x): (Value, Value),
    ) -> Result<Value> {
        let half = (self.head_dim() / 2) as i64;
        let straight = body.mul(sliced, common.cos)?;
        let ones = body.si32(&[1; 4])?;
        let begin = body.si32(&[0; 4])?;
        let end = body.si32(&[TO_END, TO_END, TO_END, half])?;
        let first = body.slice(x, begin, end, ones)?;
        let begin = body.si32(&[0, 0, 0, half])?;
        let end = body.si32(&[TO_END; 4])?;
        let second = body.slice(x, begin, end, ones)?;
        let minus = body.scalar_f16(-1.0)?;
        let minus = self.widened(body, minus)?;
        let second = body.mul(second, minus)?;
        let axis = body.scalar_si32(3)?;
        let crossed = body.concat(axis, &[second, first])?;
        let crossed = body.mul(crossed, common.sin)?;
        let turned = body.add(straight, crossed)?;
        let shape = body.ui32(&[1, self.heads(), self.patches, self.head_dim()])?;
        Ok(body.reshape(turned, shape)?)
    }

    /// Puts the patches of an image token side by side: `[N, 4·hidden]`.
    fn shuffle(&self, body: &mut GraphBuilder<'_>, x: Value) -> Result<Value> {
        let shape = body.ui32(&[self.merged, self.merged_width()])?;
        Ok(body.reshape(x, shape)?)
    }

    /// The main merger normalizes each patch before they are put together.
    fn merger(
        &self,
        body: &mut GraphBuilder<'_>,
        composites: &Composites,
        x: Value,
    ) -> Result<Value> {
        let name = |part: &str| names::vision(&format!("merger.{part}"));
        let hidden = self.vision.hidden_size;
        let x = self.norm(body, &composites.norm, &name("norm"), hidden, x)?;
        let x = self.shuffle(body, x)?;
        self.project(body, name, x)
    }

    /// A DeepStack merger normalizes the patches of an image token together.
    fn deepstack_merger(
        &self,
        body: &mut GraphBuilder<'_>,
        composites: &Composites,
        tap: usize,
        x: Value,
    ) -> Result<Value> {
        let name = |part: &str| names::deepstack_merger(tap, part);
        let x = self.shuffle(body, x)?;
        let norm = composites.merged_norm.as_ref().unwrap_or(&composites.norm);
        let width = self.vision.merged_size();
        let x = self.norm(body, norm, &name("norm"), width, x)?;
        self.project(body, name, x)
    }

    fn project(
        &self,
        body: &mut GraphBuilder<'_>,
        name: impl Fn(&str) -> String,
        x: Value,
    ) -> Result<Value> {
        let (wide, out) = (self.vision.merged_size(), self.vision.out_hidden_size);
        let x = self.linear(body, &name("linear_fc1"), [wide, wide], x)?;
        let x = body.gelu(x, Approximate::None)?;
        self.linear(body, &name("linear_fc2"), [out, wide], x)
    }

    fn norm(
        &self,
        body: &mut GraphBuilder<'_>,
        graph: &Graph,
        name: &str,
        width: usize,
        x: Value,
    ) -> Result<Value> {
        let gamma = self.vector(body, &format!("{name}.weight"), width)?;
        let beta = self.vector(body, &format!("{name}.bias"), width)?;
        Ok(body.invoke(graph, &[x, gamma, beta])?)
    }

    /// `x · weightᵀ + bias`, where the weight is stored `[out, in]`.
    fn linear(
        &self,
        body: &mut GraphBuilder<'_>,
        name: &str,
        [rows, cols]: [usize; 2],
        x: Value,
    ) -> Result<Value> {
        let weight = self.matrix(body, &format!("{name}.weight"), vec![rows, cols])?;
        let product = body.batch_matmul(x, weight)?;
        let bias = self.vector(body, &format!("{name}.bias"), rows)?;
        Ok(body.add(product, bias)?)
    }

    /// The transpose `[in, out]` of a stored matrix `[out, in…]`.
    fn matrix(&self, body: &mut GraphBuilder<'_>, name: &str, shape: Vec<usize>) -> Result<Value> {
        let parts = [(name.to_owned(), shape)];
        let matrix = weights::transposed(body, self.checkpoint, name, &parts, Storage::F16)?;
        self.widened(body, matrix)
    }

    fn vector(&self, body: &mut GraphBuilder<'_>, name: &str, len: usize) -> Result<Value> {
        let vector = weights::vector(body, self.checkpoint, name, len)?;
        self.widened(body, vector)
    }

    /// A constant of f16 as what is computed in.
    fn widened(&self, body: &mut GraphBuilder<'_>, x: Value) -> Result<Value> {
        match self.element {
            ElementType::F16 => Ok(x),
            wide => Ok(body.cast(x, wide)?),
        }
    }
}
