//! Pipelined bundles, and the vision encoder beside them.

use ::bundle::{AssetRole, contract};
use aimodel::Summary;

use super::{
    decoder::{self, Stated},
    facts::{Checked, Facts, asset, origin, sizes},
};
use crate::{
    error::{Problems, Result},
    recipe::Decoder,
};

/// What a vision encoder beside pipelined bundles is.
pub(super) struct Encoder {
    producer: String,
    created: u64,
    tokens: u64,
    hidden: u64,
    /// Numbers in a patch.
    patch: u64,
}

/// Opens the vision encoder beside pipelined bundles.
pub(super) fn vision(checked: Checked<'_>, problems: &mut Problems) -> Option<Encoder> {
    let asset = asset(checked, &checked.recipe.vision_asset(), problems)?;
    let place = checked.recipe.vision_place();
    let (producer, created) = origin(&asset, &place, problems)?;
    let summary = Summary::of(&asset.module).ok();
    let shape = summary.and_then(|summary| {
        let main = summary.functions.first()?;
        let [tokens, hidden] = sizes(&main.outputs, contract::IMAGE_EMBEDS)?[..] else {
            return None;
        };
        let [_, patch] = sizes(&main.inputs, contract::PATCHES)?[..] else {
            return None;
        };
        Some((tokens?, hidden?, patch?))
    });
    let Some((tokens, hidden, patch)) = shape else {
        problems.add(
            place,
            "does not have the inputs and outputs of a vision encoder",
        );
        return None;
    };
    Some(Encoder {
        producer,
        created,
        tokens,
        hidden,
        patch,
    })
}

impl Encoder {
    /// Holds the vision encoder to what the decoders say.
    pub fn fits(&self, facts: &Facts, place: &str, problems: &mut Problems) {
        let geometry = &facts.geometry;
        let expected = [geometry.image_tokens, geometry.hidden_size].map(|size| size as u64);
        let found = [self.tokens, self.hidden];
        problems.unless(found == expected, place, || {
            format!("gives embeddings of {found:?}, and the decoders take {expected:?}")
        });
        let expected = geometry.patches.cols() as u64;
        problems.unless(self.patch == expected, place, || {
            format!(
                "takes patches of {} numbers, and the decoders state {expected}",
                self.patch
            )
        });
        let same = (&facts.producer, facts.created) == (&self.producer, self.created);
        problems.unless(same, place, || {
            "was made by another program, or at another time, than the decoders".to_owned()
        });
    }
}

/// What a pipelined bundle says of itself.
pub(super) fn facts(
    checked: Checked<'_>,
    decoder: &Decoder,
    problems: &mut Problems,
) -> Result<Option<Facts>> {
    let Some(opened) = decoder::open(checked, decoder, problems)? else {
        return Ok(None);
    };
    let shapes = opened.asset(AssetRole::Main).and_then(|summary| {
        let main = summary.functions.first()?;
        let [tokens, hidden] = sizes(&main.inputs, contract::IMAGE_EMBEDS)?[..] else {
            return None;
        };
        let [layers, _, heads, _, size] = sizes(&main.states, contract::KEY_CACHE)?[..] else {
            return None;
        };
        // A model that adds nothing after its layers need not have the input.
        let added = sizes(&main.inputs, contract::DEEPSTACK_EMBEDS);
        let added = added.map_or(Some(0), |sizes| *sizes.first()?);
        let vocabulary = *sizes(&main.outputs, contract::LOGITS)?.last()?;
        let embeds = [tokens?, hidden?, added?];
        Some((embeds, [layers?, heads?, size?], vocabulary?))
    });
    let Some(([tokens, hidden, added], cache, vocabulary)) = shapes else {
        problems.add(
            decoder.place(),
            "does not have the inputs, states and outputs of a decoder",
        );
        return Ok(None);
    };
    let pictures = opened.geometry.iter().flat_map(|geometry| {
        let slots = geometry.image_tokens;
        [
            Stated::new(
                "the input image_embeds",
                format!("{tokens} × {hidden}"),
                format!("{slots} × {}", geometry.hidden_size),
            ),
            Stated::new(
                "the input deepstack_embeds' rows",
                added,
                geometry.deepstack_layers.len() * slots,
            ),
        ]
    });
    let pictures = pictures.collect();
    Ok(opened.facts(checked, decoder, vocabulary, cache, pictures, problems))
}
