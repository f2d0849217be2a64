//! The model card. A template says how it reads; every name and figure in it
//! comes from bundles, recipe and transcripts.

mod markdown;
mod measured;

use std::collections::BTreeSet;

use ::bundle::{CallShape, Layout, TOKENIZER};
use gate::Stage;
use minijinja::{Environment, UndefinedBehavior, syntax::SyntaxConfig, value::Serde};
use quantize::Storage;
use serde::Serialize;

use self::{
    markdown::text,
    measured::{Answered, Checked, Device, Gate, NotRun},
};
use crate::{
    error::{Error, Result},
    evidence::Evidence,
    names,
    recipe::Decoder,
    release::Release,
};

const TEMPLATE: &str = include_str!("card.md.jinja");

/// Bytes of an f16, of which the static inputs of a picture and the cache are made.
const F16_BYTES: u64 = 2;
/// The longest context that is safe on iOS, as the community measured: see
/// docs/vlm.md.
const IOS_CONTEXT: u64 = 1024;

/// What the template is given.
#[derive(Serialize)]
struct Card<'a> {
    front_matter: String,
    title: String,
    model: &'a str,
    on_hub: bool,
    revision: Option<&'a str>,
    license: &'a str,
    mode: String,
    files: Vec<Row>,
    columns: Vec<Column>,
    gates: Vec<Gate>,
    not_run: Vec<NotRun>,
    device: Option<Device>,
    answers: Vec<Answered>,
    checks: Vec<Checked>,
    transcripts: Vec<Transcribed<'a>>,
    set: &'a str,
    required: String,
    producer: &'a str,
    grid: usize,
    pixels: usize,
    merge: usize,
    resampling: &'a str,
    image_tokens: usize,
    hidden: usize,
    added: Option<Added>,
    blocks: Vec<Block>,
    f16_embedding: bool,
    vocabulary: u64,
    max_context: u64,
    static_inputs: String,
    cache_per_token: String,
    one_token: bool,
    vlm: Option<Vlm>,
    pipelined: &'static str,
    tokenizer: &'static str,
    sums: &'static str,
    license_file: &'static str,
    notice_file: &'static str,
    transcripts_folder: &'static str,
    recipe_file: &'static str,
    gates_file: &'static str,
}

/// The bundles for Apple's package.
#[derive(Serialize)]
struct Vlm {
    /// The folder that they are in.
    folder: &'static str,
    /// The folder of the one to use, in the release.
    first: String,
    max_context: u64,
    /// The longest context that is safe on iOS.
    ios_context: u64,
    /// Stages that are required, and cannot run on them.
    without: String,
}

/// What of a picture is added after layers of the decoder, in words.
#[derive(Serialize)]
struct Added {
    /// How much it is beside the embeddings of the picture: `three times as many`.
    amount: String,
    /// After which layers: `the first three layers`.
    layers: String,
}

/// A way in which blocks of weights become integers.
#[derive(Serialize, PartialEq, Eq, PartialOrd, Ord)]
struct Block {
    bits: u8,
    inputs: usize,
}

/// A bundle.
#[derive(Serialize)]
struct Row {
    path: String,
    /// What a bundle with a decoder is; the vision encoder's row is in the template.
    decoder: Option<String>,
    size: String,
}

/// A run of the gates: a decoder on a device.
#[derive(Serialize)]
struct Column {
    mode: String,
    device: String,
}

#[derive(Serialize)]
struct Transcribed<'a> {
    path: &'a str,
    sha256: &'a str,
    tool: String,
    platform: String,
    device: String,
    checkpoint: &'a str,
    oracle: String,
}

/// Renders the card of a release.
///
/// # Errors
/// Front matter that YAML cannot hold.
pub fn render(release: &Release) -> Result<String> {
    let mut environment = Environment::new();
    let mut syntax = SyntaxConfig::builder();
    syntax
        .trim_blocks(true)
        .lstrip_blocks(true)
        .keep_trailing_newline(true);
    let wrong = |error: minijinja::Error| Error::Card(format!("{error:#}"));
    environment.set_syntax(syntax.build().map_err(wrong)?);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let template = environment.template_from_str(TEMPLATE).map_err(wrong)?;
    template.render(Serde(card(release)?)).map_err(wrong)
}

fn card(release: &Release) -> Result<Card<'_>> {
    let (recipe, facts) = (&release.given.recipe, &release.facts);
    let decoders: Vec<_> = recipe.decoders().collect();
    let first = decoders.first();
    let evidence = &release.evidence;
    let label = |one: &Evidence| {
        let decoder = decoders.get(one.decoder);
        decoder.map_or_else(String::new, |decoder| match decoder.layout {
            Layout::Pipelined(_) if recipe.queries.len() == 1 => decoder.mode.to_string(),
            Layout::Pipelined(query) => format!("{} {query}", decoder.mode),
            layout => format!("{layout} {}", decoder.mode),
        })
    };
    // What a transcript says of a stage that its layout does not have is about a
    // flag that was not given, which would have changed nothing.
    let never = |stage: Stage, one: &Evidence| {
        let decoder = decoders.get(one.decoder)?;
        (!decoder.has_stage(stage)).then(|| {
            format!(
                "there is no fixture for bundles of the layout {}, so nothing judged what a Mac or \
                 an iPhone answers with them",
                decoder.layout
            )
        })
    };
    let mut vlm = decoders
        .iter()
        .filter(|decoder| decoder.layout == Layout::Vlm);
    let device = |one: &Evidence| text(&one.transcript.environment.device);
    let geometry = &facts.geometry;
    let tokens = geometry.image_tokens * (1 + geometry.deepstack_layers.len());
    let images = tokens as u64 * geometry.hidden_size as u64 * F16_BYTES;
    let modes = decoders.iter().map(|decoder| decoder.mode);
    let blocks: BTreeSet<Block> = modes.flat_map(blocks).collect();
    let [layers, heads, size] = facts.cache;
    Ok(Card {
        front_matter: recipe.front_matter().to_yaml()?,
        title: text(&recipe.title),
        model: &recipe.model,
        on_hub: recipe.is_on_hub(),
        revision: facts.revision.as_deref(),
        license: recipe.stated_license(),
        mode: first.map_or_else(String::new, |decoder| decoder.mode.to_string()),
        files: files(release),
        columns: evidence
            .iter()
            .map(|one| Column {
                mode: label(one),
                device: device(one),
            })
            .collect(),
        gates: Stage::ALL
            .map(|stage| measured::gate(stage, evidence))
            .into(),
        not_run: Stage::ALL
            .iter()
            .flat_map(|stage| measured::not_run(*stage, evidence, label, |one| never(*stage, one)))
            .collect(),
        device: measured::device_figures(evidence, label),
        answers: measured::answers(evidence, &release.gates, &facts.stop_tokens),
        checks: Stage::ALL
            .iter()
            .flat_map(|stage| measured::checks(*stage, evidence))
            .collect(),
        transcripts: evidence
            .iter()
            .map(|one| Transcribed {
                path: &one.path,
                sha256: &one.sha256,
                tool: text(&one.transcript.environment.tool),
                platform: text(&one.transcript.environment.platform),
                device: device(one),
                checkpoint: &one.transcript.model.checkpoint,
                oracle: measured::transformers(one),
            })
            .collect(),
        set: &release.gates.name,
        required: stages(&recipe.required()),
        producer: &facts.producer,
        grid: geometry.grid,
        pixels: geometry.pixels(),
        merge: geometry.patches.merge_size,
        resampling: &geometry.resampling,
        image_tokens: geometry.image_tokens,
        hidden: geometry.hidden_size,
        added: added(&geometry.deepstack_layers),
        blocks: blocks.into_iter().collect(),
        f16_embedding: recipe
            .modes
            .iter()
            .all(|mode| mode.embedding == Storage::F16),
        vocabulary: facts.vocabulary,
        max_context: recipe.max_context,
        static_inputs: fsutil::size(images),
        cache_per_token: fsutil::size(2 * layers * heads * size * F16_BYTES),
        one_token: recipe.queries.contains(&CallShape::One),
        vlm: vlm.next().map(|decoder| Vlm {
            folder: names::APPLE,
            first: decoder.place(),
            max_context: decoder.max_context,
            ios_context: IOS_CONTEXT,
            without: stages(
                recipe
                    .required()
                    .iter()
                    .filter(|stage| !decoder.has_stage(**stage)),
            ),
        }),
        pipelined: names::PIPELINED,
        tokenizer: TOKENIZER,
        sums: names::SUMS,
        license_file: names::LICENSE,
        notice_file: names::NOTICE,
        transcripts_folder: names::TRANSCRIPTS,
        recipe_file: names::RECIPE,
        gates_file: names::GATES,
    })
}

fn files(release: &Release) -> Vec<Row> {
    let recipe = &release.given.recipe;
    let row = |path: String, decoder: Option<String>| {
        let bytes = release.listing.below(&path).map(|(_, file)| file.bytes);
        Row {
            // A number stays with its unit.
            size: fsutil::size(bytes.sum()).replace(' ', "\u{a0}"),
            path: format!("{path}/"),
            decoder,
        }
    };
    let is_vlm = |decoder: &Decoder| decoder.layout == Layout::Vlm;
    let (vlm, pipelined): (Vec<Decoder>, Vec<Decoder>) = recipe.decoders().partition(is_vlm);
    let rows = |decoders: Vec<Decoder>| {
        let rows = decoders.into_iter().enumerate();
        let rows = rows.map(|(index, decoder)| row(decoder.place(), Some(what(index, &decoder))));
        rows.collect::<Vec<_>>()
    };
    let mut all = rows(pipelined);
    // Behind the decoder that needs it first.
    all.insert(all.len().min(1), row(recipe.vision_place(), None));
    all.extend(rows(vlm));
    all
}

/// Names of stages.
fn stages<'a>(stages: impl IntoIterator<Item = &'a Stage>) -> String {
    let names = stages.into_iter().map(|stage| stage.name());
    names.collect::<Vec<_>>().join(", ")
}

/// What a bundle with a decoder is, of which others of its layout come before.
fn what(before: usize, decoder: &Decoder) -> String {
    let role = if before == 0 {
        "**the one to use**"
    } else {
        "alternative"
    };
    let weights = decoder.mode.description;
    let call = match decoder.layout {
        Layout::Pipelined(CallShape::One) => "one token a call".to_owned(),
        Layout::Pipelined(CallShape::Dynamic) => "any number of tokens a call".to_owned(),
        Layout::Pipelined(CallShape::Prefill(rows)) => {
            format!("one token a call, {rows} in `prefill`")
        }
        Layout::Vlm => {
            return format!(
                "for Apple's package, {role}: decoder, embedding table and vision encoder; the \
                 decoder: {weights}; up to {} tokens; with tokenizer and metadata",
                decoder.max_context
            );
        }
    };
    format!("text decoder, {role}: {weights}; {call}; with tokenizer and metadata")
}

/// How a weight recipe makes integers of blocks of weights.
fn blocks(recipe: &quantize::Recipe) -> impl Iterator<Item = Block> {
    let stored = [recipe.body, recipe.head, recipe.embedding];
    stored.into_iter().filter_map(|storage| match storage {
        Storage::F16 => None,
        Storage::Block(format) => Some(Block {
            bits: format.bits,
            inputs: format.block,
        }),
    })
}

/// What is added after these layers, which are counted from 0, if there are any.
fn added(layers: &[usize]) -> Option<Added> {
    let (last, others) = layers.split_last()?;
    let number = word(layers.len());
    let first = layers.iter().copied().eq(0..layers.len());
    let others: Vec<String> = others.iter().map(usize::to_string).collect();
    Some(Added {
        amount: match layers.len() {
            1 => "as many".to_owned(),
            2 => "twice as many".to_owned(),
            _ => format!("{number} times as many"),
        },
        layers: match (first, &others[..]) {
            (true, []) => "the first layer".to_owned(),
            (true, _) => format!("the first {number} layers"),
            (false, []) => format!("layer {last}"),
            (false, others) => format!("layers {} and {last}", others.join(", ")),
        },
    })
}

/// A small number as a word.
fn word(number: usize) -> String {
    let words = ["no", "one", "two", "three", "four", "five", "six", "seven"];
    let word = words.get(number);
    word.map_or_else(|| number.to_string(), |word| (*word).to_owned())
}

#[cfg(test)]
mod tests {
    use super::added;

    #[test]
    fn what_is_added_is_said_of_the_layers_that_there_are() {
        let said = |layers: &[usize]| added(layers).map(|added| (added.amount, added.layers));
        for (layers, amount, after) in [
            (&[0][..], "as many", "the first layer"),
            (&[0, 1], "twice as many", "the first two layers"),
            (&[0, 1, 2], "three times as many", "the first three layers"),
            (&[7], "as many", "layer 7"),
            (&[5, 11, 17], "three times as many", "layers 5, 11 and 17"),
        ] {
            let expected = (amount.to_owned(), after.to_owned());
            assert_eq!(said(layers), Some(expected));
        }
        assert_eq!(said(&[]), None);
    }

    #[test]
    fn sizes_read_well() {
        assert_eq!(fsutil::size(999), "999 bytes");
        assert_eq!(fsutil::size(2_448_000_000), "2.45 GB");
    }
}
