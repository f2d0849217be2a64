//! What a family of models has to say.

use std::{any::Any, fmt::Debug, sync::Arc};

use aimodel::Module;
use bundle::{AssetRole, Layout, PictureGeometry};
use checkpoint::{Checkpoint, Naming, TokenizerFiles};
use quantize::Recipe;

use crate::{Contract, Error, Grid, PromptWriter, TokenizedPrompt};

/// What parsing a configuration gives.
pub type ParsedArchitecture = Result<Arc<dyn Architecture>, Error>;
/// What opening the tokenizer's files gives.
pub type NewPromptWriter = Result<Box<dyn PromptWriter>, Error>;

/// A family of models: those with one `model_type`.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// `model_type` of `config.json`.
    pub model_type: &'static str,
    /// Reads and checks a configuration of the family; the text names the file
    /// in errors.
    pub parse: fn(&[u8], &str) -> ParsedArchitecture,
    /// The licence of a published model's weights, by its id, where its publisher
    /// has stated it.
    pub license: fn(&str) -> Option<&'static str>,
    /// Writes prompts for an exported bundle of the family, which has the
    /// tokenizer's files and no configuration; the number is the width of its
    /// decoder's logits.
    pub prompt_writer: fn(&TokenizerFiles, usize) -> NewPromptWriter,
}

/// What a parameter does, which decides how it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The table of token embeddings, `[vocab, hidden]`.
    Embedding,
    /// A matrix of a decoder layer, `[out, in]`.
    Body,
    /// The head, `[vocab, hidden]`.
    Head,
    /// A matrix or table of the vision encoder.
    Vision,
    /// A weight of a norm.
    Norm,
    /// A bias.
    Bias,
}

/// A parameter that a configuration calls for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its canonical name.
    pub name: String,
    /// Its extents, outermost first.
    pub shape: Vec<usize>,
    /// What it does.
    pub role: Role,
}

/// One model of a family, as its configuration describes it.
pub trait Architecture: Debug + Send + Sync {
    /// `model_type` of its family.
    fn model_type(&self) -> &'static str;

    /// How stored names become canonical ones.
    fn naming(&self) -> Naming;

    /// Every parameter, in the order of the computation. A tied head is not
    /// among them.
    fn parameters(&self) -> Vec<Parameter>;

    /// Decoder layers.
    fn layers(&self) -> usize;

    /// V: how many tokens there are.
    fn vocab_size(&self) -> usize;

    /// The longest context that the model was made for, in tokens.
    fn max_context(&self) -> usize;

    /// How pictures of `grid` × `grid` tokens are cut; `None` for a model that
    /// takes none.
    fn geometry(&self, grid: usize) -> Option<PictureGeometry>;

    /// The token that stands for a picture in the tokenizer's ids; `None` for a
    /// model that takes none.
    fn image_token(&self) -> Option<u32>;

    /// The functions of the assets in a bundle's folder: what hosts bind to. In
    /// the order of [`Layout::roles`].
    fn contracts(&self, layout: Layout, grid: usize) -> Vec<(AssetRole, Vec<Contract>)>;

    /// The programs of a bundle's folder, whose functions are those of
    /// [`Architecture::contracts`], and whose weights are read and quantized only
    /// when their constants are written. In the order of [`Layout::roles`].
    ///
    /// # Errors
    /// A parameter that is missing or of another shape, a width that the recipe
    /// cannot store, or a model that has no graph in this layout.
    fn lower(
        &self,
        checkpoint: &Checkpoint,
        recipe: &'static Recipe,
        layout: Layout,
        grid: usize,
    ) -> Result<Vec<(AssetRole, Module)>, Error>;

    /// The function of the vision encoder that lies beside pipelined bundles;
    /// `None` for a model that takes no pictures.
    fn vision_contract(&self, grid: usize) -> Option<Contract>;

    /// The program of the vision encoder that lies beside pipelined bundles,
    /// whose function is that of [`Architecture::vision_contract`]; `None` for a
    /// model that takes no pictures.
    ///
    /// # Errors
    /// As [`Architecture::lower`].
    fn lower_vision(&self, checkpoint: &Checkpoint, grid: usize) -> Result<Option<Module>, Error>;

    /// Positions (t, h, w) of a token list of transformers, in which every token
    /// of a picture is the one that stands for it. `pictures` has the grid of
    /// each, in order.
    ///
    /// # Errors
    /// The list does not hold these pictures.
    fn positions(&self, tokens: &[u32], pictures: &[Grid]) -> Result<Vec<[i32; 3]>, Error>;

    /// Rewrites a token list of transformers, as [`Architecture::positions`] takes
    /// it, to what the exported decoder of this layout takes.
    ///
    /// # Errors
    /// As [`Architecture::positions`], and for more pictures than the decoder
    /// has room for.
    fn prompt(
        &self,
        tokens: Vec<u32>,
        pictures: &[Grid],
        layout: Layout,
    ) -> Result<TokenizedPrompt, Error>;

    /// Positions (t, h, w) as the exported decoder of this layout computes them.
    fn graph_positions(&self, prompt: &TokenizedPrompt, layout: Layout) -> Vec<[i32; 3]>;

    /// What the layer behind the last one of the key cache keeps of each token, as
    /// the first element of its first head; `None` for a layout without such a
    /// layer.
    fn cache_marks(&self, prompt: &TokenizedPrompt, layout: Layout) -> Option<Vec<f32>>;

    /// The tokenizer's files as bundles of this layout have them: the
    /// checkpoint's, but for a chat template that a host needs otherwise.
    ///
    /// # Errors
    /// Files that have no chat template where one is needed, or that cannot be
    /// read.
    fn tokenizer_files(
        &self,
        files: TokenizerFiles,
        layout: Layout,
    ) -> Result<TokenizerFiles, Error>;

    /// Writes conversations with the checkpoint's tokenizer and template.
    ///
    /// # Errors
    /// One of them cannot be used, or does not belong to this model.
    fn prompt_writer(&self, files: &TokenizerFiles) -> Result<Box<dyn PromptWriter>, Error>;

    /// The table of token embeddings.
    fn embedding(&self) -> Parameter {
        let parameters = self.parameters();
        let table = parameters
            .into_iter()
            .find(|parameter| parameter.role == Role::Embedding);
        table.unwrap_or_else(|| Parameter {
            name: String::new(),
            shape: vec![self.vocab_size(), 0],
            role: Role::Embedding,
        })
    }

    /// Checks that every parameter is there, with its shape and a usable type.
    /// Reads no weights.
    ///
    /// # Errors
    /// As [`Checkpoint::tensor`], for the first parameter that is wrong.
    fn check(&self, checkpoint: &Checkpoint) -> Result<(), Error> {
        for parameter in self.parameters() {
            checkpoint.tensor(&parameter.name, &parameter.shape)?;
        }
        Ok(())
    }

    /// The family's own type, for what only it can do: the reference model.
    fn as_any(&self) -> &dyn Any;
}
