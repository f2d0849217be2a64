//! Our prompt and our fp32 model against what transformers recorded, rung by
//! rung: token ids and patches, positions, the vision tower, every decoder
//! layer, logits, greedy tokens.
//!
//! With this, the model that the asset is judged by elsewhere is known to be
//! the checkpoint's, and where a difference begins is known by the layer.

use bundle::{CallShape, Layout, contract};
use models::TokenizedPrompt;
use reference::{
    Cache, VisionOutput,
    ndarray::ArrayView2,
    oracle::{Entry, Recorded},
    row_cosines, to_rows,
};
use runtime::candle_core::Tensor;

use super::{best_tokens, min};
use crate::transcript::{Axis, Bound, Check, CheckId, Found, shortest};
use crate::{
    Context, Result,
    evidence::{Evidence, tokens},
};

/// Runs the stage.
pub fn run(context: &Context<'_>) -> Result<Evidence> {
    let recordings = match context.recorded()? {
        Ok(recordings) => recordings,
        Err(none) => return Ok(Evidence::skip(&none.why)),
    };
    let mut evidence = Evidence::default();
    for (entry, recorded) in &recordings.prompts {
        climb(
            context,
            entry,
            recorded,
            recordings.oracle.steps,
            &mut evidence,
        )?;
    }
    Ok(evidence)
}

fn climb(
    context: &Context<'_>,
    entry: &Entry,
    recorded: &Recorded,
    steps: usize,
    evidence: &mut Evidence,
) -> Result<()> {
    let (architecture, bar) = (&context.candidate.architecture, context.gates.ladder);
    let (vision_model, text_model) = context.models()?;
    let name = Some(entry.name.as_str());
    let grids: Vec<_> = entry.image.iter().map(|image| image.grid).collect();
    let layout = context.candidate.layout;
    let prompt = architecture.prompt(recorded.input_ids.clone(), &grids, layout)?;

    asked(context, entry, recorded, &prompt, evidence)?;
    let walked = architecture.positions(&recorded.input_ids, &grids)?;
    let positions = architecture.graph_positions(&prompt, layout);
    for (id, found) in [
        (CheckId::ListPositions, &walked),
        (CheckId::GraphPositions, &positions),
    ] {
        let equal = found.iter().zip(&recorded.positions);
        let equal = equal
            .filter(|(actual, expected)| actual == expected)
            .count();
        // More positions than there are tokens are not all equal.
        let total = recorded.positions.len().max(found.len());
        evidence.all(id, name, equal, total);
    }

    let vision: Option<VisionOutput> = match (&recorded.vision, grids.first()) {
        (Some(vision), Some(grid)) => Some(vision_model.forward(vision.patches.view(), *grid)?),
        _ => None,
    };
    if let (Some(actual), Some(expected)) = (&vision, &recorded.vision) {
        let found = rows(&actual.image_embeds, expected.image_embeds.view())?;
        let of = Some(contract::IMAGE_EMBEDS);
        evidence.cosine(CheckId::Vision, of, name, min(&found), bar.cosine);
        let deepstack = Tensor::cat(&actual.deepstack_embeds, 0)?;
        let found = rows(&deepstack, expected.deepstack_embeds.view())?;
        let of = Some(contract::DEEPSTACK_EMBEDS);
        evidence.cosine(CheckId::Vision, of, name, min(&found), bar.cosine);
    }

    let cache = &mut Cache::default();
    let output = text_model.forward(
        &context.reference_ids(&prompt),
        &positions,
        vision.as_ref(),
        cache,
    )?;
    let layers = context.layers();
    let mut by_layer = Vec::new();
    let both = output
        .hidden_states
        .iter()
        .zip(recorded.hidden_states.outer_iter());
    for (actual, expected) in both.take(layers) {
        let actual = actual.narrow(0, 0, entry.prompt_tokens)?;
        by_layer.push(min(&rows(&actual, expected)?));
    }
    let passed = by_layer
        .iter()
        .filter(|cosine| **cosine >= bar.cosine)
        .count();
    let found = Found::Count {
        count: passed,
        of: layers.max(by_layer.len()),
    };
    let check = Check::new(CheckId::Layers, name, found, Bound::All);
    let note = format!(", the min is {:.9}", min(&by_layer));
    evidence.check(check.of(bar.cosine.to_string()).note(note));
    let what = "hidden states, fp32 model against transformers: least cosine";
    evidence.cosines(what, &entry.name, (Axis::Layer, 0), by_layer, bar.cosine);

    let logits = to_rows(&output.logits)?;
    let found = row_cosines(logits.view(), recorded.logits.view());
    evidence.cosine(CheckId::Logits, None, name, min(&found), bar.cosine);
    let what = "logits, fp32 model against transformers: cosine";
    evidence.cosines(what, &entry.name, (Axis::Position, 0), found, bar.cosine);
    let (check, _) = best_tokens(logits.view(), recorded, name, context.gates.margin);
    evidence.check(check);
    if steps > 0 {
        let count = bar.greedy;
        // The fp32 model takes the ids of pipelined decoders.
        let head = recorded.input_ids[..entry.prompt_tokens].to_vec();
        let head = architecture.prompt(head, &grids, Layout::Pipelined(CallShape::Dynamic))?;
        let made = text_model.greedy(&head, vision.as_ref(), count)?;
        let expected = recorded.greedy_ids.get(..count).unwrap_or_default();
        let margins = &recorded.margins[entry.prompt_tokens - 1..][..expected.len()];
        let sides = ["transformers, fp32", "our model, fp32"];
        let what = "greedy tokens";
        let both = [expected, made.as_slice()];
        let rows = tokens(
            what,
            &entry.name,
            sides,
            both,
            margins,
            context.gates.margin,
        );
        evidence.compare(rows, |id| context.text(id));
    }
    Ok(())
}

/// The prompt as a host makes it, from the set's words and picture, against
/// transformers' own: everywhere else, stages take the recorded one.
fn asked(
    context: &Context<'_>,
    entry: &Entry,
    recorded: &Recorded,
    prompt: &TokenizedPrompt,
    evidence: &mut Evidence,
) -> Result<()> {
    let mut prompts = context.gates.prompts.iter();
    let Some(asked) = prompts.find(|asked| asked.name == entry.name) else {
        return Ok(());
    };
    let (name, actual) = (Some(entry.name.as_str()), context.ask(asked)?.prompt);
    let expected = prompt.ids.get(..entry.prompt_tokens).unwrap_or_default();
    let equal = actual
        .tokens
        .ids
        .iter()
        .zip(expected)
        .filter(|(a, b)| a == b)
        .count();
    let found = Found::Count {
        count: equal,
        of: expected.len().max(actual.tokens.ids.len()),
    };
    let mut check = Check::new(CheckId::HostTokens, name, found, Bound::All);
    if actual.tokens.inputs != prompt.inputs {
        check.holds = false;
        check = check.note(format!(", and the inputs are {:?}", actual.tokens.inputs));
    }
    evidence.check(check);
    if let (Some(actual), Some(expected)) = (actual.patches.first(), &recorded.vision) {
        let level = |value: f32| ((value + 1.0) * 127.5).round();
        let pairs = actual.values.iter().zip(&expected.patches);
        let apart = pairs.map(|(a, b)| (level(*a) - level(*b)).abs());
        let max = apart.fold(0.0, f32::max);
        let found = Found::Number(shortest(max));
        let mut check = Check::new(CheckId::HostPatches, name, found, Bound::AtMost(1.0));
        let (count, expected) = (actual.values.len(), expected.patches.len());
        if count != expected {
            check.holds = false;
            check = check.note(format!(", and there are {count} values of {expected}"));
        }
        evidence.check(check);
    }
    Ok(())
}

/// The cosine of each row; 0 for all where the shapes differ.
fn rows(actual: &Tensor, expected: ArrayView2<'_, f32>) -> Result<Vec<f64>> {
    Ok(row_cosines(to_rows(actual)?.view(), expected))
}
