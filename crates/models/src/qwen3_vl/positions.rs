//! M-RoPE positions, both ways.
//!
//! Qwen3-VL turns each head by three positions a token: t, h and w. A text
//! token has one number three times. The tokens of an image share t and count
//! rows and columns from there; the text after it goes on from the largest
//! number in use, so it is behind its place in the sequence by
//! N − max(H, W).
//!
//! transformers finds them by walking the token list: [`from_tokens`]. The
//! exported decoder sees one token at a time and has no list; it gets each
//! position from the token's id, its place, and two numbers that the host
//! gives: [`in_graph`]. The two agree on every prompt with at most one image. A
//! decoder that takes rows counts marks instead, for any number of images: see
//! [`Architecture::graph_positions`](crate::Architecture::graph_positions).
//!
//! ```
//! use models::qwen3_vl::positions::{self, GraphRope, from_tokens, in_graph};
//! use bundle::{CallShape, Layout};
//! use checkpoint::Source;
//! use models::qwen3_vl::Config;
//!
//! let layout = Layout::Pipelined(CallShape::One);
//! let config = Config::load(&Source::nano())?;
//! let (open, pad, close) = (506, 504, 507);
//! let tokens = [7, open, pad, pad, pad, pad, close, 8];
//! let prompt = positions::prompt(tokens.to_vec(), &[[2, 2]], &config, layout)?;
//! let rope = GraphRope::of(&prompt, config.text_config.vocab_size);
//! let positions = from_tokens(&tokens, &[[2, 2]], &config)?;
//! assert_eq!(positions[5], [2, 3, 3]);
//! assert_eq!(positions[6], [4, 4, 4]);
//! assert_eq!(in_graph(&prompt.ids, 0, &rope), positions);
//! # Ok::<(), models::Error>(())
//! ```

use super::Config;
use crate::{Error, Grid, Placement, TokenizedPrompt};
use bundle::Layout;
use bundle::contract::{NO_IMAGE, ROPE_SHIFT_AMOUNT, ROPE_SHIFT_START};

/// The ids of a model that say where an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VisionTokens {
    /// V: the number of tokens that the decoder has.
    pub vocab_size: usize,
    /// `<|image_pad|>`, which stands for one merged patch of an image.
    pub image: u32,
    /// `<|video_pad|>`, the same of a video.
    pub video: u32,
    /// `<|vision_start|>`, which stands before an image.
    pub start: u32,
}

impl From<&Config> for VisionTokens {
    fn from(config: &Config) -> Self {
        VisionTokens {
            vocab_size: config.text_config.vocab_size,
            image: config.image_token_id as u32,
            video: config.video_token_id as u32,
            start: config.vision_start_token_id as u32,
        }
    }
}

/// What the decoder graph needs to know of an image, beside each token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GraphRope {
    /// V: ids from here on are image tokens, V + slot.
    pub vocab_size: i32,
    /// H and W of the grid that the graph was made for.
    pub grid: Grid,
    /// The place of the first token after the image, or [`NO_IMAGE`].
    pub shift_start: i32,
    /// How far text from there on is behind its place: N − max(H, W), or 0.
    pub shift_amount: i32,
}

impl GraphRope {
    /// What the graph knows of a prompt that [`prompt`] made.
    pub fn of(prompt: &TokenizedPrompt, vocab_size: usize) -> GraphRope {
        GraphRope {
            vocab_size: vocab_size as i32,
            grid: prompt.placements.first().map_or([1, 1], |image| image.grid),
            shift_start: prompt.input(ROPE_SHIFT_START).unwrap_or(NO_IMAGE),
            shift_amount: prompt.input(ROPE_SHIFT_AMOUNT).unwrap_or(0),
        }
    }
}

/// Rewrites a token list of transformers, in which every token of an image is
/// `<|image_pad|>`. For a pipelined decoder, the token in slot k of an image
/// becomes V + k; for one that takes rows, the list stays as it is. `images` has
/// the grid of each image. `vision` is a [`Config`], or what a bundle's tokenizer
/// has them.
///
/// # Errors
/// As [`from_tokens`], and [`Error::Prompt`] for more than one image where the
/// graph has room for one.
pub fn prompt(
    tokens: Vec<u32>,
    images: &[Grid],
    vision: impl Into<VisionTokens>,
    layout: Layout,
) -> Result<TokenizedPrompt, Error> {
    let vision = vision.into();
    let placements = placements(&tokens, images, vision)?;
    let mut ids: Vec<i32> = tokens.iter().map(|token| *token as i32).collect();
    if layout == Layout::Vlm {
        return Ok(TokenizedPrompt {
            ids,
            hf_ids: tokens,
            inputs: Vec::new(),
            placements,
        });
    }
    let (start, amount) = match placements.as_slice() {
        [] => (NO_IMAGE, 0),
        [image] => {
            let after = image.start + image.tokens();
            for (slot, id) in ids[image.start..after].iter_mut().enumerate() {
                *id = (vision.vocab_size + slot) as i32;
            }
            let side = image.grid[0].max(image.grid[1]);
            (after as i32, (image.tokens() - side) as i32)
        }
        more => {
            return Err(wrong(format!(
                "the prompt has {} images, and the decoder graph takes at most one",
                more.len()
            )));
        }
    };
    Ok(TokenizedPrompt {
        ids,
        hf_ids: tokens,
        inputs: vec![(ROPE_SHIFT_START, start), (ROPE_SHIFT_AMOUNT, amount)],
        placements,
    })
}

/// Positions (t, h, w) of every token, as `get_rope_index` of transformers
/// finds them. `images` has the grid of each image of the list, in order.
///
/// # Errors
/// [`Error::Prompt`] if the list does not hold these images: each begins after
/// `<|vision_start|>`, and has H · W tokens `<|image_pad|>`, which stand nowhere
/// else; if there is a video; or if an id is none of the model's.
pub fn from_tokens(
    tokens: &[u32],
    images: &[Grid],
    vision: impl Into<VisionTokens>,
) -> Result<Vec<[i32; 3]>, Error> {
    let mut positions: Vec<[i32; 3]> = Vec::with_capacity(tokens.len());
    let mut next = 0;
    for place in placements(tokens, images, vision.into())? {
        next = add_text(&mut positions, next, place.start);
        let [height, width] = place.grid;
        for row in 0..height as i32 {
            positions.extend((0..width as i32).map(|column| [next, next + row, next + column]));
        }
        // Text goes on after the largest number of the three.
        next += height.max(width) as i32;
    }
    add_text(&mut positions, next, tokens.len());
    Ok(positions)
}

/// Adds text up to token `until`, numbered from `next`; returns the number
/// after it.
fn add_text(positions: &mut Vec<[i32; 3]>, next: i32, until: usize) -> i32 {
    let end = next + (until - positions.len()) as i32;
    positions.extend((next..end).map(|number| [number; 3]));
    end
}

/// Positions (t, h, w) as the decoder graph computes them, from ids, their
/// places in the sequence (`first` and on), and `rope`. The arithmetic is the
/// graph's own: it clamps what is out of range and knows no errors.
pub fn in_graph(ids: &[i32], first: i32, rope: &GraphRope) -> Vec<[i32; 3]> {
    let [height, width] = rope.grid.map(|side| side as i32);
    let position = |(place, id): (i32, &i32)| {
        if *id < rope.vocab_size {
            let shifted = place >= rope.shift_start;
            [place - if shifted { rope.shift_amount } else { 0 }; 3]
        } else {
            let slot = (id - rope.vocab_size).clamp(0, height * width - 1);
            let start = place - slot;
            [start, start + slot / width, start + slot % width]
        }
    };
    (first..).zip(ids).map(position).collect()
}

/// The images of a token list.
fn placements(
    tokens: &[u32],
    images: &[Grid],
    vision: VisionTokens,
) -> Result<Vec<Placement>, Error> {
    let VisionTokens {
        vocab_size, image, ..
    } = vision;
    // To the decoder it would be a part of an image.
    let foreign = |token: &u32| *token as usize >= vocab_size;
    if let Some(at) = tokens.iter().position(foreign) {
        return Err(wrong(format!(
            "token {at} of the prompt is {}, and the model has only {vocab_size} tokens; its \
             tokenizer belongs to another model",
            tokens[at]
        )));
    }
    if let Some(at) = tokens.iter().position(|token| *token == vision.video) {
        return Err(wrong(format!(
            "token {at} of the prompt is {}, a video; only images are supported",
            vision.video
        )));
    }
    let mut places = Vec::with_capacity(images.len());
    let mut at = 0;
    while let Some(more) = tokens[at..].iter().position(|token| *token == image) {
        let start = at + more;
        let Some(&grid) = images.get(places.len()) else {
            return Err(wrong(format!(
                "token {start} of the prompt belongs to an image, and the grids of only {} are given",
                images.len()
            )));
        };
        let before = start.checked_sub(1).map(|before| tokens[before]);
        if before != Some(vision.start) {
            return Err(wrong(format!(
                "token {start} of the prompt begins an image; expected {} before it, \
                 vision_start_token_id",
                vision.start
            )));
        }
        let found = tokens[start..].iter().take_while(|t| **t == image).count();
        let [height, width] = grid;
        if height.checked_mul(width) != Some(found) {
            return Err(wrong(format!(
                "the image at token {start} of the prompt has {found} tokens, expected \
                 {height} · {width} for its grid"
            )));
        }
        places.push(Placement { start, grid });
        at = start + found;
    }
    if places.len() < images.len() {
        return Err(wrong(format!(
            "the prompt has {} images, and the grids of {} are given",
            places.len(),
            images.len()
        )));
    }
    Ok(places)
}

fn wrong(message: String) -> Error {
    Error::Prompt { message }
}
