//! `config.json`: the architecture's sizes, checked.

use crate::Error;
use checkpoint::{CONFIG, Source};
use section::Section;
use serde_json::Value;

mod presets;
mod section;

/// More than any configuration has.
const MAX_FILE: u64 = 1 << 20;
/// The class that transformers names in `architectures`.
const ARCHITECTURE: &str = "Qwen3VLForConditionalGeneration";

/// A checkpoint's `config.json`, checked: sizes are bounded and not
/// zero, and those that depend on each other agree.
///
/// Field names are the file's own. Values that transformers has a default for
/// may be absent there, with the same default here.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// The decoder.
    pub text_config: TextConfig,
    /// The vision encoder.
    pub vision_config: VisionConfig,
    /// The token that stands for one merged image patch, `<|image_pad|>`.
    pub image_token_id: usize,
    /// The token that stands for one merged video patch.
    pub video_token_id: usize,
    /// The token before an image's tokens.
    pub vision_start_token_id: usize,
    /// The token after an image's tokens.
    pub vision_end_token_id: usize,
    /// Whether the head is the embedding table.
    pub tie_word_embeddings: bool,
}

/// The text decoder's part of the configuration.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TextConfig {
    /// V: rows of the embedding table and of the head.
    pub vocab_size: usize,
    /// h: the residual stream's width.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// L: decoder layers.
    pub num_hidden_layers: usize,
    /// Query heads, a multiple of the key and value heads.
    pub num_attention_heads: usize,
    /// KV: key and value heads.
    pub num_key_value_heads: usize,
    /// D: width of one head, even; not always hidden / heads.
    pub head_dim: usize,
    /// Longest context that the model was made for, in tokens.
    pub max_position_embeddings: usize,
    /// Epsilon of every RMSNorm.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How many frequencies turn with t, h and w; they add up to D / 2.
    pub mrope_section: [usize; 3],
}

/// The vision encoder's part of the configuration.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct VisionConfig {
    /// Transformer blocks.
    pub depth: usize,
    /// Width of a block.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Heads; each is hidden / heads wide, a multiple of 4.
    pub num_heads: usize,
    /// Colours, always 3.
    pub in_channels: usize,
    /// P: a patch is P × P pixels.
    pub patch_size: usize,
    /// Patches along each side of one merged token, always 2.
    pub spatial_merge_size: usize,
    /// T: frames in a patch; a still image is repeated.
    pub temporal_patch_size: usize,
    /// The decoder's hidden size.
    pub out_hidden_size: usize,
    /// Rows of the table of learned positions, a square number.
    pub num_position_embeddings: usize,
    /// The blocks after which DeepStack taps the tower, ascending. Tap k is
    /// added after decoder layer k.
    pub deepstack_visual_indexes: Vec<usize>,
}

impl From<&VisionConfig> for picture::PatchSpec {
    fn from(config: &VisionConfig) -> Self {
        picture::PatchSpec {
            patch_size: config.patch_size,
            merge_size: config.spatial_merge_size,
            temporal_patch_size: config.temporal_patch_size,
        }
    }
}

impl Config {
    /// Reads and checks the `config.json` of a checkpoint.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if it cannot be read, or as
    /// [`Config::parse`].
    pub fn load(source: &Source) -> Result<Config, Error> {
        let json =
            source
                .read(CONFIG, MAX_FILE)?
                .ok_or_else(|| checkpoint::Error::MissingFile {
                    place: source.place(),
                    file: CONFIG.into(),
                })?;
        Config::parse(&json, &source.label(CONFIG))
    }

    /// Checks the content of a `config.json`; `file` names it in errors.
    ///
    /// # Errors
    /// [`Error::Json`], [`Error::Architecture`] if it is for another model,
    /// [`Error::Config`] naming the first key with an unusable value.
    pub fn parse(json: &[u8], file: &str) -> Result<Config, Error> {
        let root: Value = serde_json::from_slice(json).map_err(|error| Error::Json {
            file: file.into(),
            message: error.to_string(),
        })?;
        let root = Section::root(file, &root)?;
        check_architecture(&root, file)?;
        root.absent(
            "quantization_config",
            "the weights are quantized already; export from the unquantized checkpoint",
        )?;
        let text = root.section("text_config")?;
        // transformers 4 obeys the decoder's flag, 5 the model's.
        let tied = match text.flag_opt("tie_word_embeddings")? {
            Some(tied) => tied,
            None => root.flag("tie_word_embeddings", false)?,
        };
        let text_config = TextConfig::parse(&text)?;
        let vision = root.section("vision_config")?;
        let vision_config = VisionConfig::parse(&vision, &text_config)?;
        let token = |key, default| root.size(key, Some(default), 0..=text_config.vocab_size - 1);
        Ok(Config {
            image_token_id: token("image_token_id", 151_655)?,
            video_token_id: token("video_token_id", 151_656)?,
            vision_start_token_id: token("vision_start_token_id", 151_652)?,
            vision_end_token_id: token("vision_end_token_id", 151_653)?,
            tie_word_embeddings: tied,
            text_config,
            vision_config,
        })
    }
}

fn check_architecture(root: &Section, file: &str) -> Result<(), Error> {
    let refuse = |key, found: &Value, expected: &str| Error::Architecture {
        file: file.into(),
        key,
        found: found.to_string(),
        expected: expected.into(),
    };
    let model_type = root.get("model_type").unwrap_or(&Value::Null);
    if model_type != "qwen3_vl" {
        return Err(refuse("model_type", model_type, "\"qwen3_vl\""));
    }
    match root.get("architectures") {
        None => Ok(()),
        Some(Value::Array(list)) if list.iter().any(|name| name == ARCHITECTURE) => Ok(()),
        Some(other) => Err(refuse(
            "architectures",
            other,
            "[\"Qwen3VLForConditionalGeneration\"]",
        )),
    }
}

impl TextConfig {
    fn parse(text: &Section) -> Result<TextConfig, Error> {
        let size = |key, max| text.size(key, None, 1..=max);
        let vocab_size = size("vocab_size", 1 << 24)?;
        let hidden_size = size("hidden_size", 1 << 16)?;
        let intermediate_size = size("intermediate_size", 1 << 20)?;
        let num_hidden_layers = size("num_hidden_layers", 1 << 10)?;
        let num_attention_heads = size("num_attention_heads", 1 << 10)?;
        let num_key_value_heads = match text.get("num_key_value_heads") {
            None => num_attention_heads,
            Some(_) => size("num_key_value_heads", 1 << 10)?,
        };
        if !num_attention_heads.is_multiple_of(num_key_value_heads) {
            return Err(text.wrong(
                "num_key_value_heads",
                format!("{num_key_value_heads} does not divide num_attention_heads, {num_attention_heads}"),
            ));
        }
        // transformers: 128 if the key is absent, hidden / heads if it is null.
        let head_dim = match text.get("head_dim") {
            None => 128,
            Some(Value::Null) if hidden_size.is_multiple_of(num_attention_heads) => {
                hidden_size / num_attention_heads
            }
            Some(_) => size("head_dim", 1 << 12)?,
        };
        if !head_dim.is_multiple_of(2) {
            return Err(text.wrong(
                "head_dim",
                format!("{head_dim} is odd; the rotary halves need an even width"),
            ));
        }
        text.word("hidden_act", "silu", "silu")?;
        if text.flag("attention_bias", false)? {
            return Err(text.wrong(
                "attention_bias",
                "true, and only projections without bias can be exported".into(),
            ));
        }
        let (rope_theta, mrope_section) = parse_rope(text, head_dim)?;
        Ok(TextConfig {
            vocab_size,
            hidden_size,
            intermediate_size,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            max_position_embeddings: text.size(
                "max_position_embeddings",
                Some(128_000),
                1..=1 << 30,
            )?,
            rms_norm_eps: text.number("rms_norm_eps", 1e-6, f64::MIN_POSITIVE..=1.0)?,
            rope_theta,
            mrope_section,
        })
    }
}

/// θ and the M-RoPE sections. transformers 4 writes `rope_scaling` with
/// `rope_theta` beside it, 5 writes `rope_parameters` with `rope_theta` in it.
fn parse_rope(text: &Section, head_dim: usize) -> Result<(f64, [usize; 3]), Error> {
    let key = ["rope_parameters", "rope_scaling"]
        .into_iter()
        .find(|key| text.get(key).is_some_and(|value| !value.is_null()));
    let Some(key) = key else {
        return Err(text.wrong(
            "rope_scaling",
            "absent, and so is rope_parameters; one of them must give mrope_section".into(),
        ));
    };
    let rope = text.section(key)?;
    // `type` is what old versions called it.
    for kind in ["rope_type", "type"] {
        rope.word(kind, "default", "default")?;
    }
    if !rope.flag("mrope_interleaved", true)? {
        return Err(rope.wrong(
            "mrope_interleaved",
            "false, and Qwen3-VL interleaves its frequencies".into(),
        ));
    }
    for section in [&rope, text] {
        if section.number("partial_rotary_factor", 1.0, 0.0..=1.0)? != 1.0 {
            return Err(section.wrong(
                "partial_rotary_factor",
                "not 1, and Qwen3-VL rotates whole heads".into(),
            ));
        }
    }
    let holder = match rope.get("rope_theta") {
        Some(_) => &rope,
        None => text,
    };
    let theta = holder.number("rope_theta", 5e6, 1.0..=1e12)?;
    let list = rope.sizes("mrope_section", 0..=head_dim)?;
    let Ok(sections) = <[usize; 3]>::try_from(list.as_slice()) else {
        return Err(rope.wrong(
            "mrope_section",
            format!("{list:?} has {} entries, expected 3: t, h, w", list.len()),
        ));
    };
    let sum: usize = sections.iter().sum();
    if sum != head_dim / 2 {
        return Err(rope.wrong(
            "mrope_section",
            format!(
                "{list:?} adds up to {sum}, expected head_dim / 2 = {}",
                head_dim / 2
            ),
        ));
    }
    Ok((theta, sections))
}

impl VisionConfig {
    fn parse(vision: &Section, text: &TextConfig) -> Result<VisionConfig, Error> {
        let size = |key, max| vision.size(key, None, 1..=max);
        let constant = |key, only| vision.size(key, Some(only), only..=only);
        let depth = size("depth", 1 << 10)?;
        let hidden_size = size("hidden_size", 1 << 16)?;
        let num_heads = size("num_heads", 1 << 10)?;
        // Half of a head turns with the row, half with the column, each in
        // pairs.
        if !hidden_size.is_multiple_of(4 * num_heads) {
            return Err(vision.wrong(
                "num_heads",
                format!("hidden_size {hidden_size} is not a multiple of 4 · {num_heads}"),
            ));
        }
        vision.word("hidden_act", "gelu_pytorch_tanh", "gelu_pytorch_tanh")?;
        let out_hidden_size = size("out_hidden_size", 1 << 16)?;
        if out_hidden_size != text.hidden_size {
            return Err(vision.wrong(
                "out_hidden_size",
                format!(
                    "{out_hidden_size}, expected text_config.hidden_size = {}",
                    text.hidden_size
                ),
            ));
        }
        let num_position_embeddings = size("num_position_embeddings", 1 << 24)?;
        if num_position_embeddings.isqrt().pow(2) != num_position_embeddings {
            return Err(vision.wrong(
                "num_position_embeddings",
                format!("{num_position_embeddings} is not a square number"),
            ));
        }
        let taps = vision.sizes("deepstack_visual_indexes", 0..=depth - 1)?;
        if !taps.is_sorted_by(|a, b| a < b) {
            return Err(vision.wrong(
                "deepstack_visual_indexes",
                format!("{taps:?} is not strictly ascending"),
            ));
        }
        if taps.is_empty() || taps.len() > text.num_hidden_layers {
            return Err(vision.wrong(
                "deepstack_visual_indexes",
                format!(
                    "{} taps, expected 1 to {}: tap k is added after decoder layer k",
                    taps.len(),
                    text.num_hidden_layers
                ),
            ));
        }
        Ok(VisionConfig {
            depth,
            hidden_size,
            intermediate_size: size("intermediate_size", 1 << 20)?,
            num_heads,
            in_channels: constant("in_channels", 3)?,
            patch_size: vision.size("patch_size", Some(16), 1..=256)?,
            spatial_merge_size: constant("spatial_merge_size", 2)?,
            temporal_patch_size: vision.size("temporal_patch_size", Some(2), 1..=16)?,
            out_hidden_size,
            num_position_embeddings,
            deepstack_visual_indexes: taps,
        })
    }

    /// Width of one head.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_heads
    }

    /// Numbers in one patch: C · T · P · P.
    pub fn patch_len(&self) -> usize {
        self.in_channels * self.temporal_patch_size * self.patch_size * self.patch_size
    }

    /// Width of the patches of one merged token laid side by side.
    pub fn merged_size(&self) -> usize {
        self.hidden_size * self.spatial_merge_size * self.spatial_merge_size
    }

    /// Pixels along each side of one merged token: an image at grid g is
    /// g · this wide and high.
    pub fn token_pixels(&self) -> usize {
        self.patch_size * self.spatial_merge_size
    }

    /// Rows and columns of the table of learned positions.
    pub fn position_side(&self) -> usize {
        self.num_position_embeddings.isqrt()
    }
}
