//! The asset itself, executed by our runtime on a device, against what
//! transformers recorded.
//!
//! A: all of a prompt and its answer, each token given, whatever came out
//! before it. B: the answer, each token from the one before. D: one step from
//! the oracle's own cache, which shows a fault of the cache by itself.

use ::engine::{Sequence, StaticInputs, argmax};
use bundle::{PictureGeometry, contract};
use models::TokenizedPrompt;
use picture::Patches;
use reference::{
    Cache, cosine,
    ndarray::ArrayView2,
    oracle::{Entry, Recorded},
    row_cosines, to_rows,
};
use runtime::{
    States,
    candle_core::{DType, Device, Tensor},
};

use super::{best_tokens, min};
use crate::{
    Context, Result,
    context::device_name,
    evidence::{Evidence, tokens},
    transcript::{Axis, CheckId},
};

/// Runs the stage.
pub fn run(context: &Context<'_>) -> Result<Evidence> {
    let recordings = match context.recorded()? {
        Ok(recordings) => recordings,
        Err(none) => return Ok(Evidence::skip(&none.why)),
    };
    let mut evidence = Evidence::default();
    evidence.fact("device", device_name(&context.settings.device));
    let fused = if context.settings.options.fuse {
        "yes"
    } else {
        "no"
    };
    evidence.fact("fused", fused);
    for (entry, recorded) in &recordings.prompts {
        judge(
            context,
            entry,
            recorded,
            recordings.oracle.steps,
            &mut evidence,
        )?;
    }
    Ok(evidence)
}

fn judge(
    context: &Context<'_>,
    entry: &Entry,
    recorded: &Recorded,
    steps: usize,
    evidence: &mut Evidence,
) -> Result<()> {
    let (architecture, bar, margin) = (
        &context.candidate.architecture,
        context.gates.execute,
        context.gates.margin,
    );
    let (vision, decoder) = context.programs()?;
    let name = Some(entry.name.as_str());
    let grids: Vec<_> = entry.image.iter().map(|image| image.grid).collect();
    let layout = context.candidate.layout;
    let prompt = architecture.prompt(recorded.input_ids.clone(), &grids, layout)?;
    let mut pictures = StaticInputs::new();
    if let Some(expected) = &recorded.vision {
        let values = expected.patches.iter();
        let patches = Patches {
            rows: expected.patches.nrows(),
            cols: expected.patches.ncols(),
            values: values.copied().collect(),
        };
        pictures = vision.encode(&patches)?;
        let geometry = &context.candidate.geometry;
        let parts = picture_parts(&pictures, geometry)?;
        for ((output, found), expected) in parts
            .iter()
            .zip([&expected.image_embeds, &expected.deepstack_embeds])
        {
            let found = found.as_ref();
            let found = found.map_or(Ok(vec![0.0]), |found| rows_of(found, expected.view()))?;
            evidence.cosine(CheckId::Vision, Some(output), name, min(&found), bar.cosine);
        }
    }
    let inputs = decoder.inputs(&prompt, pictures)?;
    let start = || decoder.start(&inputs);

    // A
    let (head, after) = prompt.ids.split_at(entry.prompt_tokens);
    let mut session = start()?;
    let asked = session.read_all(head)?;
    let answering = session.fork()?;
    let logits = match after {
        [] => asked.clone(),
        _ => Tensor::cat(&[&asked, &session.read_all(after)?], 0)?,
    };
    let found = rows_of(&logits, recorded.logits.view())?;
    evidence.cosine(CheckId::Logits, None, name, min(&found), bar.cosine);
    let (check, first) = best_tokens(to_rows(&logits)?.view(), recorded, name, margin);
    let which = first.map_or_else(String::new, |at| {
        format!(", the first other one at position {at}")
    });
    let check = check.note(which);
    if steps == 0 {
        // Random weights have no token that deserves to lead.
        evidence.fact(&format!("{}: {}", entry.name, check.what()), check.found());
    } else {
        evidence.check(check);
    }
    let what = "A: logits, asset against transformers: cosine";
    evidence.cosines(what, &entry.name, (Axis::Position, 0), found, bar.cosine);

    // B
    let last = asked.narrow(0, head.len() - 1, 1)?;
    let made = greedy(answering.fork()?, &last, bar.greedy)?;
    if steps > 0 {
        let expected = recorded.greedy_ids.get(..bar.greedy).unwrap_or_default();
        let margins = &recorded.margins[head.len() - 1..][..expected.len()];
        let sides = ["transformers, fp32", "the asset"];
        let both = [expected, made.as_slice()];
        let rows = tokens(
            "B: greedy tokens",
            &entry.name,
            sides,
            both,
            margins,
            margin,
        );
        evidence.compare(rows, |id| context.text(id));
    } else {
        let asset = (answering, last, made.as_slice());
        forced(context, entry, recorded, &prompt, asset, evidence)?;
    }

    // D
    let (cached, next) = match after.first() {
        Some(next) => (head.len(), *next),
        // Without an answer, the prompt's last token is the step.
        None => (head.len() - 1, head[head.len() - 1]),
    };
    let mut session = start()?;
    let mut states = States::new();
    let marks = marks_layer(context, &prompt, recorded)?;
    for (state, array) in [
        (contract::KEY_CACHE, &recorded.keys),
        (contract::VALUE_CACHE, &recorded.values),
    ] {
        let values: Vec<f32> = array.iter().copied().collect();
        let mut cache = Tensor::from_vec(values, array.shape(), &Device::Cpu)?;
        if let Some(marks) = &marks {
            let marks = if state == contract::KEY_CACHE {
                marks.clone()
            } else {
                marks.zeros_like()?
            };
            let tokens = cache.dim(3)?.min(marks.dim(3)?);
            let both = [cache.narrow(3, 0, tokens)?, marks.narrow(3, 0, tokens)?];
            cache = Tensor::cat(&both, 0)?;
        }
        let cache = cache.narrow(3, 0, cached)?.to_dtype(DType::F16)?;
        states.set(state, &cache.contiguous()?)?;
    }
    session.restore(states, cached);
    let row = session.read(&[next])?;
    let found = cosine(&row, recorded.logits.row(cached));
    evidence.cosine(CheckId::CachedStep, None, name, found, bar.cosine);
    Ok(())
}

/// What a picture became: its embeddings, and what is added to its tokens after
/// the first layers, by the names that the outputs of pipelined encoders have.
fn picture_parts(
    pictures: &StaticInputs,
    geometry: &PictureGeometry,
) -> Result<[(&'static str, Option<Tensor>); 2]> {
    let (embeds, deepstack) = (contract::IMAGE_EMBEDS, contract::DEEPSTACK_EMBEDS);
    let Some(rows) = pictures.get(contract::IMAGE_FEATURES) else {
        return Ok([embeds, deepstack].map(|name| (name, pictures.get(name).cloned())));
    };
    // A row is the embedding, the parts one after the other, and marks.
    let (rows, width) = (rows.squeeze(0)?, geometry.hidden_size);
    let part = |at: usize| rows.narrow(1, at * width, width);
    let taps = 1..=geometry.deepstack_layers.len();
    let parts = taps.map(part).collect::<Result<Vec<_>, _>>()?;
    Ok([
        (embeds, Some(part(0)?)),
        (deepstack, Some(Tensor::cat(&parts, 0)?)),
    ])
}

/// The layer `[1, 1, KV, T, D]` of the key cache that keeps marks, in a layout
/// that has one.
fn marks_layer(
    context: &Context<'_>,
    prompt: &TokenizedPrompt,
    recorded: &Recorded,
) -> Result<Option<Tensor>> {
    let candidate = context.candidate;
    let marks = candidate.architecture.cache_marks(prompt, candidate.layout);
    let &[_, _, heads, _, width] = recorded.keys.shape() else {
        return Ok(None);
    };
    let layer = marks.map(|marks| {
        let tokens = marks.len();
        let mut layer = vec![0.0_f32; heads * tokens * width];
        for (token, mark) in marks.into_iter().enumerate() {
            layer[token * width] = mark;
        }
        Tensor::from_vec(layer, (1, 1, heads, tokens, width), &Device::Cpu)
    });
    Ok(layer.transpose()?)
}

/// Tokens after a prompt that was read, whose last logits are `[1, V]`.
fn greedy(mut session: Sequence, last: &Tensor, max_tokens: usize) -> Result<Vec<u32>> {
    if max_tokens == 0 {
        return Ok(Vec::new());
    }
    let first = argmax(&last.flatten_all()?.to_vec1()?);
    let rest = session.greedy(&[first as i32], max_tokens - 1)?;
    Ok([vec![first], rest].concat())
}

/// B where weights are random: the asset's own tokens, given to the fp32 model.
/// The session has read the prompt, and gave its last logits.
fn forced(
    context: &Context<'_>,
    entry: &Entry,
    recorded: &Recorded,
    prompt: &TokenizedPrompt,
    (mut session, last, made): (Sequence, Tensor, &[u32]),
    evidence: &mut Evidence,
) -> Result<()> {
    let bar = context.gates.execute;
    let (vision_model, text_model) = context.models()?;
    let grid = entry.image.as_ref().map(|image| image.grid);
    let vision = match (&recorded.vision, grid) {
        (Some(vision), Some(grid)) => Some(vision_model.forward(vision.patches.view(), grid)?),
        _ => None,
    };
    let mut ids = prompt.ids[..entry.prompt_tokens].to_vec();
    ids.extend(made.iter().map(|id| *id as i32));
    let prompt = TokenizedPrompt {
        ids,
        ..prompt.clone()
    };
    let positions = {
        let layout = context.candidate.layout;
        context
            .candidate
            .architecture
            .graph_positions(&prompt, layout)
    };
    let output = text_model.forward(
        &context.reference_ids(&prompt),
        &positions,
        vision.as_ref(),
        &mut Cache::default(),
    )?;
    let rows = to_rows(&output.logits)?;
    let actual = match &prompt.ids[entry.prompt_tokens..] {
        [] => last,
        made => Tensor::cat(&[&last, &session.read_all(made)?], 0)?,
    };
    let actual = to_rows(&actual)?;
    let first = entry.prompt_tokens - 1;
    let expected = rows.rows().into_iter().skip(first);
    let pairs = actual.rows().into_iter().zip(expected);
    let found: Vec<f64> = pairs.map(|(a, b)| cosine(a, b)).collect();
    let name = Some(entry.name.as_str());
    evidence.cosine(CheckId::OwnTokens, None, name, min(&found), bar.cosine);
    let what = "B: logits along the asset's own tokens, against the fp32 model: cosine";
    evidence.cosines(
        what,
        &entry.name,
        (Axis::Position, first),
        found,
        bar.cosine,
    );
    evidence.all(CheckId::TokensMade, name, made.len(), bar.greedy);
    Ok(())
}

/// The cosine of each row; 0 where the shapes differ.
fn rows_of(actual: &Tensor, expected: ArrayView2<'_, f32>) -> Result<Vec<f64>> {
    let actual = actual.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
    Ok(row_cosines(to_rows(&actual)?.view(), expected))
}
