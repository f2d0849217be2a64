//! The vision encoder, `model.visual`.

use super::load::Loader;
use super::{computing, rotations};
use crate::Error;
use candle_core::{Device, IndexOp, Module, Tensor};
use candle_nn::{LayerNorm, Linear, ops, rotary_emb};
use checkpoint::Checkpoint;
use models::Grid;
use models::qwen3_vl::{Config, VisionConfig, names};
use ndarray::ArrayView2;

/// Base of the tower's rotary frequencies.
const ROPE_THETA: f64 = 10_000.0;

/// The vision encoder, in f32.
#[derive(Debug)]
pub struct VisionModel {
    config: VisionConfig,
    device: Device,
    /// [hidden, C · T · P · P] and [hidden]: the convolution covers a patch.
    patch_embed: Linear,
    /// [positions, hidden]: a square of learned positions.
    pos_embed: Tensor,
    blocks: Vec<Block>,
    merger: Merger,
    deepstack_merger_list: Vec<Merger>,
}

/// What the vision encoder makes of an image of N = H · W merged tokens.
#[derive(Clone, Debug)]
pub struct VisionOutput {
    /// H and W.
    pub grid: Grid,
    /// [N, h] f32: what stands in for the embeddings of the image's tokens.
    pub image_embeds: Tensor,
    /// [N, h] f32 each: what is added after decoder layer 0, 1, 2.
    pub deepstack_embeds: Vec<Tensor>,
}

impl VisionModel {
    /// Reads the tower's weights onto `device`.
    ///
    /// # Errors
    /// As [`Checkpoint::tensor`]; [`Error::Compute`] if the device has no room.
    pub fn load(
        config: &Config,
        checkpoint: &Checkpoint,
        device: &Device,
    ) -> Result<VisionModel, Error> {
        let config = config.vision_config.clone();
        let load = Loader { checkpoint, device };
        let hidden = config.hidden_size;
        let shape = [
            hidden,
            config.in_channels,
            config.temporal_patch_size,
            config.patch_size,
            config.patch_size,
        ];
        let name = names::vision("patch_embed.proj.weight");
        let kernel = load
            .tensor(&name, &shape)?
            .reshape((hidden, config.patch_len()))
            .map_err(computing(name))?;
        let bias = load.tensor(&names::vision("patch_embed.proj.bias"), &[hidden])?;
        let table = [config.num_position_embeddings, hidden];
        let (blocks, taps) = (0..config.depth, 0..config.deepstack_visual_indexes.len());
        Ok(VisionModel {
            device: device.clone(),
            patch_embed: Linear::new(kernel, Some(bias)),
            pos_embed: load.tensor(&names::vision("pos_embed.weight"), &table)?,
            blocks: blocks
                .map(|block| Block::load(&load, &config, block))
                .collect::<Result<_, _>>()?,
            merger: Merger::load(
                &load,
                &config,
                &|part| names::vision(&format!("merger.{part}")),
                false,
            )?,
            deepstack_merger_list: taps
                .map(|tap| {
                    Merger::load(
                        &load,
                        &config,
                        &|part| names::deepstack_merger(tap, part),
                        true,
                    )
                })
                .collect::<Result<_, _>>()?,
            config,
        })
    }

    /// Embeds an image of `grid` merged tokens, given as patches: [4 · H · W,
    /// C · T · P · P] numbers of −1 to 1, block by block.
    ///
    /// # Errors
    /// [`Error::Input`] if there are more or fewer numbers;
    /// [`Error::Compute`] if the device fails.
    pub fn forward(&self, patches: ArrayView2<'_, f32>, grid: Grid) -> Result<VisionOutput, Error> {
        let unit = self.config.spatial_merge_size.pow(2);
        let (rows, width) = (unit * grid[0] * grid[1], self.config.patch_len());
        if patches.dim() != (rows, width) || rows == 0 {
            return Err(Error::Input {
                message: format!(
                    "an image of {} × {} tokens is {rows} patches of {width} numbers, found {} of {}",
                    grid[0],
                    grid[1],
                    patches.nrows(),
                    patches.ncols()
                ),
            });
        }
        self.compute(patches, grid)
            .map_err(computing("the vision encoder"))
    }

    fn compute(
        &self,
        patches: ArrayView2<'_, f32>,
        grid: Grid,
    ) -> candle_core::Result<VisionOutput> {
        let places = self.places(grid);
        let values: Vec<f32> = patches.iter().copied().collect();
        let patches = Tensor::from_vec(values, patches.dim(), &self.device)?;
        let mut x = self.patch_embed.forward(&patches)?;
        x = (x + self.positions(grid, &places)?)?;
        let (cos, sin) = self.rotary(&places)?;
        let mut deepstack_embeds = Vec::new();
        let mut mergers = self.deepstack_merger_list.iter();
        for (index, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x, &cos, &sin)?;
            if self.config.deepstack_visual_indexes.contains(&index)
                && let Some(merger) = mergers.next()
            {
                deepstack_embeds.push(merger.forward(&x)?);
            }
        }
        Ok(VisionOutput {
            grid,
            image_embeds: self.merger.forward(&x)?,
            deepstack_embeds,
        })
    }

    /// Row and column of each patch: 2 × 2 blocks in row order, and the
    /// patches of a block likewise.
    fn places(&self, [height, width]: Grid) -> Vec<[usize; 2]> {
        let merge = self.config.spatial_merge_size;
        let mut places = Vec::with_capacity(merge * merge * height * width);
        for (block_row, block_column) in (0..height).flat_map(|r| (0..width).map(move |c| (r, c))) {
            for (row, column) in (0..merge).flat_map(|r| (0..merge).map(move |c| (r, c))) {
                places.push([block_row * merge + row, block_column * merge + column]);
            }
        }
        places
    }

    /// The learned positions at each patch, [patches, hidden]: the patches are
    /// spread evenly over the table's square, its corners at theirs, and what
    /// lies between four of its entries is interpolated.
    fn positions(
        &self,
        [height, width]: Grid,
        places: &[[usize; 2]],
    ) -> candle_core::Result<Tensor> {
        let (side, merge) = (self.config.position_side(), self.config.spatial_merge_size);
        let axis = |at: usize, count: usize| {
            let place = (at * (side - 1)) as f64 / (count.max(2) - 1) as f64;
            let low = place as usize;
            (low, (low + 1).min(side - 1), (place - low as f64) as f32)
        };
        let mut corners: [(Vec<u32>, Vec<f32>); 4] = Default::default();
        for [row, column] in places {
            let (top, bottom, down) = axis(*row, height * merge);
            let (left, right, across) = axis(*column, width * merge);
            let each = [
                (top, left, (1.0 - down) * (1.0 - across)),
                (top, right, (1.0 - down) * across),
                (bottom, left, down * (1.0 - across)),
                (bottom, right, down * across),
            ];
            for ((indexes, weights), (row, column, weight)) in corners.iter_mut().zip(each) {
                indexes.push((row * side + column) as u32);
                weights.push(weight);
            }
        }
        let mut sum: Option<Tensor> = None;
        for (indexes, weights) in corners {
            let indexes = Tensor::new(indexes, &self.device)?;
            let weights = Tensor::new(weights, &self.device)?.unsqueeze(1)?;
            let part = self
                .pos_embed
                .index_select(&indexes, 0)?
                .broadcast_mul(&weights)?;
            sum = Some(match sum {
                Some(sum) => (sum + part)?,
                None => part,
            });
        }
        sum.ok_or_else(|| candle_core::Error::Msg("no patches".into()))
    }

    /// Cosines and sines, [patches, head_dim / 2] each: the row's angles, then
    /// the column's.
    fn rotary(&self, places: &[[usize; 2]]) -> candle_core::Result<(Tensor, Tensor)> {
        let rotated = self.config.head_dim() / 2;
        let frequencies: Vec<f32> = (0..rotated / 2)
            .map(|j| ROPE_THETA.powf(-((2 * j) as f64) / rotated as f64) as f32)
            .collect();
        let angles: Vec<f32> = places
            .iter()
            .flatten()
            .flat_map(|place| frequencies.iter().map(move |f| *place as f32 * f))
            .collect();
        rotations(&angles, places.len(), &self.device)
    }
}

/// `blocks.{i}`.
#[derive(Debug)]
struct Block {
    norm1: LayerNorm,
    attn: Attention,
    norm2: LayerNorm,
    mlp: Mlp,
}

impl Block {
    fn load(load: &Loader, config: &VisionConfig, block: usize) -> Result<Block, Error> {
        let (hidden, mlp) = (config.hidden_size, config.intermediate_size);
        let name = |part| names::vision_block(block, part);
        Ok(Block {
            norm1: load.layer_norm(&name("norm1"), hidden)?,
            attn: Attention {
                heads: config.num_heads,
                qkv: load.biased(&name("attn.qkv"), 3 * hidden, hidden)?,
                proj: load.biased(&name("attn.proj"), hidden, hidden)?,
            },
            norm2: load.layer_norm(&name("norm2"), hidden)?,
            mlp: Mlp {
                linear_fc1: load.biased(&name("mlp.linear_fc1"), mlp, hidden)?,
                linear_fc2: load.biased(&name("mlp.linear_fc2"), hidden, mlp)?,
            },
        })
    }

    fn forward(&self, x: &Tensor, cos: &Tensor, sin: &Tensor) -> candle_core::Result<Tensor> {
        let x = (x + self.attn.forward(&self.norm1.forward(x)?, cos, sin)?)?;
        let mlp = self.mlp.forward(&self.norm2.forward(&x)?)?;
        x + mlp
    }
}

/// `attn`: every patch looks at every patch.
#[derive(Debug)]
struct Attention {
    heads: usize,
    qkv: Linear,
    proj: Linear,
}

impl Attention {
    fn forward(&self, x: &Tensor, cos: &Tensor, sin: &Tensor) -> candle_core::Result<Tensor> {
        let (rows, hidden) = x.dims2()?;
        let dim = hidden / self.heads;
        let qkv = self.qkv.forward(x)?;
        // [3, heads, patches, head_dim]
        let qkv = qkv
            .reshape((rows, 3, self.heads, dim))?
            .permute((1, 2, 0, 3))?;
        let turn =
            |x: Tensor| rotary_emb::rope(&x.unsqueeze(0)?.contiguous()?, cos, sin)?.squeeze(0);
        let (q, k) = (turn(qkv.i(0)?)?, turn(qkv.i(1)?)?);
        let v = qkv.i(2)?.contiguous()?;
        let scores = (q.matmul(&k.t()?)? * (dim as f64).powf(-0.5))?;
        let mixed = ops::softmax_last_dim(&scores)?.matmul(&v)?;
        self.proj
            .forward(&mixed.transpose(0, 1)?.reshape((rows, hidden))?)
    }
}

/// `mlp`, with the tanh form of GELU between the two.
#[derive(Debug)]
struct Mlp {
    linear_fc1: Linear,
    linear_fc2: Linear,
}

impl Mlp {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.linear_fc2
            .forward(&self.linear_fc1.forward(x)?.gelu()?)
    }
}

/// `merger` and `deepstack_merger_list.{i}`, with the exact GELU.
#[derive(Debug)]
struct Merger {
    /// Whether the four patches of a token are laid side by side before the
    /// norm, as DeepStack has it, or after it.
    use_postshuffle_norm: bool,
    norm: LayerNorm,
    linear_fc1: Linear,
    linear_fc2: Linear,
}

impl Merger {
    fn load(
        load: &Loader,
        config: &VisionConfig,
        name: &dyn Fn(&str) -> String,
        use_postshuffle_norm: bool,
    ) -> Result<Merger, Error> {
        let merged = config.merged_size();
        let width = if use_postshuffle_norm {
            merged
        } else {
            config.hidden_size
        };
        Ok(Merger {
            use_postshuffle_norm,
            norm: load.layer_norm(&name("norm"), width)?,
            linear_fc1: load.biased(&name("linear_fc1"), merged, merged)?,
            linear_fc2: load.biased(&name("linear_fc2"), config.out_hidden_size, merged)?,
        })
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let merged = self.linear_fc1.weight().dim(1)?;
        let x = if self.use_postshuffle_norm {
            self.norm.forward(&x.reshape(((), merged))?)?
        } else {
            self.norm.forward(x)?.reshape(((), merged))?
        };
        self.linear_fc2
            .forward(&self.linear_fc1.forward(&x)?.gelu_erf()?)
    }
}
