//! Bundles of the layout `vlm`: three assets that belong together.

use ::bundle::{AssetRole, Layout, PictureGeometry, Vision, contract};
use aimodel::{Function, Parameter};

use super::{
    decoder::{self, Opened, Stated},
    facts::{Checked, Facts, sizes},
};
use crate::{
    error::{Problems, Result},
    recipe::Decoder,
};

/// What the assets take and give.
struct Shapes {
    /// Names of the decoder's inputs and states, which hosts bind by position.
    inputs: String,
    states: String,
    /// The width of a row: what the decoder takes, and what the embedding table
    /// and the vision encoder give.
    width: u64,
    embedding: u64,
    vision: u64,
    /// Rows of a picture.
    tokens: u64,
    /// Height and width of a picture, in pixels.
    pixels: [u64; 2],
    cache: [u64; 3],
    vocabulary: u64,
}

/// What a bundle of the layout `vlm` says of itself.
pub(super) fn facts(
    checked: Checked<'_>,
    decoder: &Decoder,
    problems: &mut Problems,
) -> Result<Option<Facts>> {
    let Some(opened) = decoder::open(checked, decoder, problems)? else {
        return Ok(None);
    };
    let Some(shapes) = shapes(&opened) else {
        problems.add(
            decoder.place(),
            "its assets do not have the inputs, states and outputs that Apple's package calls",
        );
        return Ok(None);
    };
    let token = opened.manifest.vision.as_ref();
    let token = token.map_or(0, |vision| vision.image_token_id as u64);
    problems.unless(token < shapes.vocabulary, &opened.file, || {
        format!(
            "vision.image_token_id: {token} is not one of {} tokens",
            shapes.vocabulary
        )
    });
    let mut more = vec![
        Stated::new(
            "the inputs of main",
            &shapes.inputs,
            names([contract::INPUTS_EMBEDS, contract::POSITION_IDS]),
        ),
        Stated::new(
            "the states of main",
            &shapes.states,
            names([contract::KEY_CACHE, contract::VALUE_CACHE]),
        ),
        Stated::new(
            "the width of embedding's rows",
            shapes.embedding,
            shapes.width,
        ),
        Stated::new("the width of vision's rows", shapes.vision, shapes.width),
    ];
    if let Some(geometry) = &opened.geometry {
        let [height, width] = shapes.pixels;
        let pixels = geometry.pixels();
        more.extend([
            Stated::new("vision's rows", shapes.tokens, geometry.image_tokens),
            Stated::new(
                "the input pixel_values",
                format!("{height} × {width}"),
                format!("{pixels} × {pixels}"),
            ),
        ]);
        more.extend(pictures(&opened, geometry));
    }
    let Shapes {
        vocabulary, cache, ..
    } = shapes;
    Ok(opened.facts(checked, decoder, vocabulary, cache, more, problems))
}

/// The section `vision` of the manifest, held to the geometry.
fn pictures(opened: &Opened, geometry: &PictureGeometry) -> Vec<Stated> {
    let Some(found) = &opened.manifest.vision else {
        return vec![Stated::new("vision", "absent", "how pictures are prepared")];
    };
    let token = u32::try_from(found.image_token_id).ok();
    let Some(expected) = Vision::for_layout(Layout::Vlm, Some(geometry), token) else {
        let id = found.image_token_id;
        return vec![Stated::new("vision.image_token_id", id, "a token's id")];
    };
    let list = |levels: [f32; 3]| format!("{levels:?}");
    vec![
        Stated::new("vision.image_size", found.image_size, expected.image_size),
        Stated::new("vision.patch_size", found.patch_size, expected.patch_size),
        Stated::new(
            "vision.image_token_count",
            found.image_token_count,
            expected.image_token_count,
        ),
        Stated::new(
            "vision.image_mean",
            list(found.image_mean),
            list(expected.image_mean),
        ),
        Stated::new(
            "vision.image_std",
            list(found.image_std),
            list(expected.image_std),
        ),
        Stated::new(
            "vision.rescale_factor",
            found.rescale_factor,
            expected.rescale_factor,
        ),
        Stated::new(
            "vision.image_strategy",
            &found.image_strategy,
            &expected.image_strategy,
        ),
        Stated::new(
            "vision.include_image_info",
            found.include_image_info,
            expected.include_image_info,
        ),
    ]
}

/// What the assets take and give, if it is what this layout has.
fn shapes(opened: &Opened) -> Option<Shapes> {
    let function = |role, name: &str| -> Option<&Function> {
        let mut functions = opened.asset(role)?.functions.iter();
        functions.find(|function| function.name == name)
    };
    let main = function(AssetRole::Main, contract::MAIN)?;
    let embedding = function(AssetRole::Embedding, contract::EMBED_TOKENS)?;
    let vision = function(AssetRole::Vision, contract::MAIN)?;
    let [layers, _, heads, _, size] = sizes(&main.states, contract::KEY_CACHE)?[..] else {
        return None;
    };
    let [_, _, height, width] = sizes(&vision.inputs, contract::PIXEL_VALUES)?[..] else {
        return None;
    };
    let [_, tokens, row] = sizes(&vision.outputs, contract::IMAGE_FEATURES)?[..] else {
        return None;
    };
    let last = |list: &[Parameter], name| *sizes(list, name)?.last()?;
    let of = |list: &[Parameter]| names(list.iter().map(|value| value.name.as_str()));
    Some(Shapes {
        inputs: of(&main.inputs),
        states: of(&main.states),
        width: last(&main.inputs, contract::INPUTS_EMBEDS)?,
        embedding: last(&embedding.outputs, contract::INPUTS_EMBEDS)?,
        vision: row?,
        tokens: tokens?,
        pixels: [height?, width?],
        cache: [layers?, heads?, size?],
        vocabulary: last(&main.outputs, contract::LOGITS)?,
    })
}

/// Names, in their order.
fn names<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().collect::<Vec<_>>().join(", ")
}
