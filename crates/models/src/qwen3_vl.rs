//! Qwen3-VL: configuration, names of the weights, prompts, positions, and
//! checkpoints with seeded weights.

mod config;
mod contract;
mod decoder;
pub mod names;
pub mod positions;
mod prompt;
mod rows;
pub mod synth;
mod tables;
mod template;
mod vision;

pub use config::{Config, TextConfig, VisionConfig};
pub use prompt::Chat;

use std::{any::Any, sync::Arc};

use aimodel::Module;
use bundle::{AssetRole, Layout, PictureGeometry};
use checkpoint::{Checkpoint, Naming, Source, TokenizerFiles};
use quantize::Recipe;

use crate::{
    Architecture, Contract, Error, Family, Grid, Parameter, PromptWriter, TokenizedPrompt,
};

/// The family's line in the registry.
pub const FAMILY: Family = Family {
    model_type: MODEL_TYPE,
    parse: |json, file| Ok(Arc::new(Config::parse(json, file)?)),
    license: |model| model.starts_with("Qwen/Qwen3-VL-").then_some("Apache-2.0"),
    prompt_writer: |files, vocab_size| Ok(Box::new(Chat::of_bundle(files, vocab_size)?)),
};

/// `model_type` of `config.json`.
const MODEL_TYPE: &str = "qwen3_vl";

impl Architecture for Config {
    fn model_type(&self) -> &'static str {
        MODEL_TYPE
    }

    fn naming(&self) -> Naming {
        names::NAMING
    }

    fn parameters(&self) -> Vec<Parameter> {
        names::parameters(self)
    }

    fn layers(&self) -> usize {
        self.text_config.num_hidden_layers
    }

    fn vocab_size(&self) -> usize {
        self.text_config.vocab_size
    }

    fn max_context(&self) -> usize {
        self.text_config.max_position_embeddings
    }

    fn geometry(&self, grid: usize) -> Option<PictureGeometry> {
        // Tap k of the vision encoder is added after decoder layer k.
        let taps = self.vision_config.deepstack_visual_indexes.len();
        Some(PictureGeometry::new(
            grid,
            self.text_config.hidden_size,
            (0..taps).collect(),
            self.text_config.vocab_size,
            (&self.vision_config).into(),
        ))
    }

    fn image_token(&self) -> Option<u32> {
        u32::try_from(self.image_token_id).ok()
    }

    fn contracts(&self, layout: Layout, grid: usize) -> Vec<(AssetRole, Vec<Contract>)> {
        contract::bundle(self, layout, grid as u64)
    }

    fn lower(
        &self,
        checkpoint: &Checkpoint,
        recipe: &'static Recipe,
        layout: Layout,
        grid: usize,
    ) -> Result<Vec<(AssetRole, Module)>, Error> {
        has_deepstack(self)?;
        let grid = grid as u64;
        let main = decoder::build(self, checkpoint, recipe, layout, grid)?;
        Ok(match layout {
            Layout::Pipelined(_) => vec![(AssetRole::Main, main)],
            Layout::Vlm => vec![
                (AssetRole::Main, main),
                (
                    AssetRole::Embedding,
                    decoder::embedding(self, checkpoint, recipe)?,
                ),
                (
                    AssetRole::Vision,
                    vision::build(self, checkpoint, grid, vision::Form::Rows)?,
                ),
            ],
        })
    }

    fn vision_contract(&self, grid: usize) -> Option<Contract> {
        Some(contract::vision(self, grid as u64))
    }

    fn lower_vision(&self, checkpoint: &Checkpoint, grid: usize) -> Result<Option<Module>, Error> {
        has_deepstack(self)?;
        vision::build(self, checkpoint, grid as u64, vision::Form::Patches).map(Some)
    }

    fn positions(&self, tokens: &[u32], pictures: &[Grid]) -> Result<Vec<[i32; 3]>, Error> {
        positions::from_tokens(tokens, pictures, self)
    }

    fn prompt(
        &self,
        tokens: Vec<u32>,
        pictures: &[Grid],
        layout: Layout,
    ) -> Result<TokenizedPrompt, Error> {
        positions::prompt(tokens, pictures, self, layout)
    }

    fn graph_positions(&self, prompt: &TokenizedPrompt, layout: Layout) -> Vec<[i32; 3]> {
        match layout {
            Layout::Pipelined(_) => {
                let rope = positions::GraphRope::of(prompt, self.text_config.vocab_size);
                positions::in_graph(&prompt.ids, 0, &rope)
            }
            Layout::Vlm => {
                let marks = rows::marks(prompt.ids.len(), &prompt.placements);
                rows::positions(&marks)
            }
        }
    }

    fn cache_marks(&self, prompt: &TokenizedPrompt, layout: Layout) -> Option<Vec<f32>> {
        let marks = || rows::marks(prompt.ids.len(), &prompt.placements);
        let advance = |[_, _, advance]: rows::TokenMarks| advance as f32;
        (layout == Layout::Vlm).then(|| marks().into_iter().map(advance).collect())
    }

    fn tokenizer_files(
        &self,
        files: TokenizerFiles,
        layout: Layout,
    ) -> Result<TokenizerFiles, Error> {
        match layout {
            Layout::Pipelined(_) => Ok(files),
            Layout::Vlm => template::for_apples_adapter(files),
        }
    }

    fn prompt_writer(&self, files: &TokenizerFiles) -> Result<Box<dyn PromptWriter>, Error> {
        Ok(Box::new(Chat::load(files, self)?))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn has_deepstack(config: &Config) -> Result<(), Error> {
    if config.vision_config.deepstack_visual_indexes.is_empty() {
        return Err(Error::Unsupported(
            "vision_config.deepstack_visual_indexes is empty: expected the blocks of the vision \
             tower that DeepStack taps, because the decoder graph has an input for them, and \
             Apple's delegates abort on an input without rows"
                .to_owned(),
        ));
    }
    Ok(())
}

/// Opens the weights of a checkpoint by the canonical names of [`names`].
///
/// # Errors
/// As [`Checkpoint::open`].
pub fn open(source: &Source) -> Result<Checkpoint, checkpoint::Error> {
    Checkpoint::open(source, names::NAMING)
}
