//! nano's vlm bundles: in Core AI's runtime, called as Apple's engine calls them,
//! against transformers and our engine; and through the gates.

use super::compare::compare_rows;
use super::logits::MIN_COSINE;
use super::{nano, outcome::Outcome};
use crate::repo;
use aimodel_cli::answer;
use aimodel_cli::device::Device;
use aimodel_cli::gate::Job;
use aimodel_cli::python::{self, Recorded, Tensors};
use aimodel_cli::venv::{CORE_AI, CORE_AI_NEWEST, Venv};
use anyhow::{Context, Result, ensure};
use bundle::{Bundle, Layout};
use checkpoint::{Source, TokenizerFiles};
use engine::{Conversation, Model, Prompt, Role, Turn};
use gate::{Stage, Verdict};
use picture::Image;
use serde_json::Value;
use std::path::{Path, PathBuf};
use text::{ChatTemplate, Tokenizer};

/// Recipes, how many tokens a call reads, and the minimum cosine of a position.
const READ: [(&str, usize, f64); 2] = [("fp16", usize::MAX, 0.9999), ("int8hu", 7, MIN_COSINE)];
/// Tokens that Core AI's runtime and our engine must agree on.
const TOKENS: usize = 24;
/// More tokens than any answer about a scene has.
const LONGEST_ANSWER: usize = 48;
/// Room of a new cache in Apple's engine, in tokens.
const ROOM: usize = 256;

/// The bundle of a recipe.
pub fn bundle(recipe: &str) -> Result<PathBuf> {
    let name = bundle::BundleName {
        model: "nano".to_owned(),
        recipe: recipe.to_owned(),
        layout: Layout::Vlm,
    };
    Ok(nano::folder()?.join(recipe).join(name.to_string()))
}

/// Runs the step.
pub fn run() -> Outcome {
    let scratch = repo::scratch()?;
    let folder = repo::root().join("oracles/nano/conversations");
    let talks = conversations(&folder)?;
    let mut found = Vec::new();
    for (recipe, chunk, min_cosine) in READ {
        let path = bundle(recipe)?;
        let model = open(&path)?;
        let mut tensors = Tensors::default();
        for (name, talk) in &talks {
            add(&mut tensors, name, &model, &model.prompt(talk)?, chunk)?;
        }
        let got = read(CORE_AI_NEWEST, &path, &tensors, 0, scratch.path())?;
        let mut worst = 1.0_f64;
        for (name, _) in &talks {
            let recorded = Recorded::read(&folder.join(format!("{name}.safetensors")))?;
            let (shape, expected) = recorded.get("logits")?;
            let (found_shape, actual) = got.get(&format!("{name}.logits"))?;
            ensure!(
                shape == found_shape,
                "{name}: logits of shape {found_shape:?}, expected {shape:?}"
            );
            let vocab = shape.last().copied().unwrap_or_default();
            let likeness = compare_rows(name, 0, vocab, (expected, actual), min_cosine)?;
            worst = worst.min(likeness.cosine);
        }
        let calls = match chunk {
            usize::MAX => "in one call".to_owned(),
            count => format!("{count} tokens a call"),
        };
        found.push(format!("{recipe}, {calls}: cosine ≥ {worst:.6}"));
    }
    let grown = grown_caches(scratch.path())?;
    found.push(format!(
        "{grown} tokens equal to the engine's behind a cache that grew"
    ));

    let right = adapter_scenes(scratch.path())?;
    found.push(format!(
        "{right} scenes described rightly, asked as Apple's adapter asks"
    ));

    let exports = nano::folder()?.join("int8hu");
    let mut job = Job::new(
        Source::nano(),
        &exports,
        "int8hu".parse()?,
        Layout::Vlm,
        None,
    )?;
    job.stages.retain(|stage| *stage != Stage::Device);
    job.quiet = true;
    let transcript = job.run()?;
    for report in &transcript.stages {
        ensure!(
            report.verdict == Verdict::Pass,
            "gate, {}: {:?}: {}",
            report.stage,
            report.verdict,
            report.summary
        );
    }
    found.push(format!("{} stages pass", transcript.stages.len()));
    Ok(format!(
        "{} conversations; {}",
        talks.len(),
        found.join("; ")
    ))
}

fn open(path: &Path) -> Result<Model> {
    answer::open(&Bundle::at(path), Device::Cpu)
}

/// A conversation that nearly fills a new cache: a scene and its caption, the same
/// question again and again, and then perhaps about another scene. nano was not
/// trained with so many turns and answers nonsense, but in these conversations each
/// token of it leads by more than two logits, so that no rounding decides.
struct Long {
    name: &'static str,
    system: Option<&'static str>,
    first: usize,
    then: Option<usize>,
}

const LONG: [Long; 2] = [
    Long {
        name: "one picture",
        system: Some("count from one to twenty . answer in one word ."),
        first: 7,
        then: None,
    },
    Long {
        name: "two pictures",
        system: None,
        first: 7,
        then: Some(2),
    },
];

impl Long {
    fn prompt(&self, model: &Model) -> Result<Prompt> {
        let scenes = std::fs::read_to_string(repo::scenes().join("scenes.json"))?;
        let scenes: Value = serde_json::from_str(&scenes).context("scenes.json is not JSON")?;
        let scene = |index: usize, key: &str| {
            let text = scenes["prompts"][index][key].as_str();
            text.with_context(|| format!("scenes.json: prompt {index} has no {key}"))
        };
        let question = |picture: Option<usize>| -> Result<Turn<Image>> {
            let mut turn = Turn::new(Role::User, "what is in the image ?");
            if let Some(index) = picture {
                let file = repo::scenes().join(scene(index, "image")?);
                turn.pictures.push(Image::load(&file)?);
            }
            Ok(turn)
        };
        let answer = Turn::new(Role::Assistant, scene(self.first, "answer")?);
        let system = self.system.map(|text| Turn::new(Role::System, text));
        let mut turns: Vec<Turn<Image>> = system.into_iter().collect();
        turns.extend([question(Some(self.first))?, answer.clone()]);
        let whole = |turns: &[Turn<Image>]| -> Result<Prompt> {
            let turns = [turns, &[question(self.then)?]].concat();
            Ok(model.prompt(&Conversation { turns })?)
        };
        let mut prompt = whole(&turns)?;
        loop {
            turns.extend([question(None)?, answer.clone()]);
            let longer = whole(&turns)?;
            if longer.tokens.ids.len() >= ROOM {
                break;
            }
            prompt = longer;
        }
        let tokens = prompt.tokens.ids.len();
        ensure!(
            tokens + TOKENS > ROOM,
            "{}: the prompt has {tokens} tokens, and the cache would not grow",
            self.name
        );
        Ok(prompt)
    }
}

/// Conversations whose cache grows while they are answered: how many tokens are
/// those of the engine, all versions together.
fn grown_caches(scratch: &Path) -> Result<usize> {
    let path = bundle("int8hu")?;
    let model = open(&path)?;
    let (mut tensors, mut answers) = (Tensors::default(), Vec::new());
    for long in &LONG {
        let prompt = long.prompt(&model)?;
        let ids = &prompt.tokens.ids;
        add(&mut tensors, long.name, &model, &prompt, usize::MAX)?;
        answers.push((long.name, model.start(&prompt)?.greedy(ids, TOKENS)?));
    }
    let mut equal = 0;
    for version in CORE_AI {
        let got = read(version, &path, &tensors, TOKENS, scratch)?;
        for (name, expected) in &answers {
            let found = got.ints(&format!("{name}.tokens"))?;
            let found: Vec<u32> = found.into_iter().map(|id| id as u32).collect();
            ensure!(
                found == *expected,
                "{name} under coreai-core {version}: tokens {found:?}, the engine's are {expected:?}"
            );
            let room = got.ints(&format!("{name}.room"))?;
            ensure!(
                room == [2 * ROOM as i32],
                "{name}: the cache has room for {room:?} tokens, expected {}",
                2 * ROOM
            );
            equal += found.len();
        }
    }
    Ok(equal)
}

/// The committed scenes, asked about as Apple's adapter does: the picture's token,
/// a newline and the question are one user's text, which goes through the bundle's
/// own template; then the token stands once for each row of the picture, and the
/// answer ends at an end token. How many answers are right, which is all of them.
fn adapter_scenes(scratch: &Path) -> Result<usize> {
    let path = bundle("int8hu")?;
    let model = open(&path)?;
    let files = TokenizerFiles::load(&Source::folder(path.join("tokenizer"))?)?;
    let template = ChatTemplate::find(&files)?;
    let (tokenizer, manifest) = (Tokenizer::load(&files)?, model.manifest());
    let pictures = manifest.vision.as_ref().context("no section `vision`")?;
    let image = pictures.image_token_id as u32;
    let pad = tokenizer.token_of(image).context("no picture token")?;

    let scenes = std::fs::read_to_string(repo::scenes().join("scenes.json"))?;
    let scenes: Value = serde_json::from_str(&scenes).context("scenes.json is not JSON")?;
    let scenes = scenes["prompts"].as_array().into_iter().flatten();
    let scenes: Vec<&Value> = scenes.filter(|scene| scene["image"].is_string()).collect();
    let text = |scene: &Value, key: &str| scene[key].as_str().unwrap_or_default().to_owned();
    let mut tensors = Tensors::default();
    for scene in &scenes {
        let question = text(scene, "prompt");
        let file = repo::scenes().join(text(scene, "image"));
        let ours = Conversation::question(question.as_str(), [Image::load(&file)?]);
        let mut prompt = model.prompt(&ours)?;
        let content = format!("{pad}\n{question}");
        let messages = serde_json::json!([{"role": "user", "content": content}]);
        let ids = tokenizer.encode(&template.render_messages(&messages, true)?)?;
        let ids = ids.into_iter().flat_map(|id| {
            let count = if id == image {
                pictures.image_token_count
            } else {
                1
            };
            std::iter::repeat_n(id as i32, count)
        });
        prompt.tokens.ids = ids.collect();
        add(
            &mut tensors,
            &text(scene, "name"),
            &model,
            &prompt,
            usize::MAX,
        )?;
    }
    let got = read(CORE_AI_NEWEST, &path, &tensors, LONGEST_ANSWER, scratch)?;
    for scene in &scenes {
        let name = text(scene, "name");
        let tokens = got.ints(&format!("{name}.tokens"))?;
        let tokens = tokens.into_iter().map(|id| id as u32);
        let answer = tokens.take_while(|id| !tokenizer.stop_tokens().contains(id));
        let answer = tokenizer.decode(&answer.collect::<Vec<_>>())?;
        let expected = text(scene, "answer");
        ensure!(
            answer.trim() == expected,
            "{name}: the answer is {answer:?}, expected {expected:?}"
        );
    }
    Ok(scenes.len())
}

/// Adds a prompt as `run_vlm.py` takes it.
fn add(
    tensors: &mut Tensors,
    name: &str,
    model: &Model,
    prompt: &Prompt,
    chunk: usize,
) -> Result<()> {
    let ids = &prompt.tokens.ids;
    tensors.i32(format!("{name}.ids"), ids);
    let ends = (1..).map(|call: usize| call.saturating_mul(chunk).min(ids.len()));
    let mut cuts: Vec<i32> = ends
        .take_while(|end| *end < ids.len())
        .map(|end| end as i32)
        .collect();
    cuts.push(ids.len() as i32);
    tensors.i32(format!("{name}.cuts"), &cuts);
    let geometry = model.manifest().geometry()?;
    let pixels = prompt.patches.iter().map(|patches| {
        let pixels = patches.pixels(geometry.grid, geometry.patches);
        pixels.context("a picture is not cut as the bundle says")
    });
    let pixels = pixels.collect::<Result<Vec<_>>>()?;
    if !pixels.is_empty() {
        let shape = vec![pixels.len(), 3, geometry.pixels(), geometry.pixels()];
        tensors.f32(format!("{name}.pixels"), shape, &pixels.concat());
    }
    Ok(())
}

/// What Core AI's runtime makes of prompts.
fn read(
    version: &str,
    bundle: &Path,
    given: &Tensors,
    tokens: usize,
    scratch: &Path,
) -> Result<Recorded> {
    let venv = Venv::core_ai(version)?;
    let (input, output) = (
        scratch.join("in.safetensors"),
        scratch.join("out.safetensors"),
    );
    given.write(&input)?;
    let mut command = repo::script(&venv, "run_vlm.py", [bundle, &input, &output])?;
    command.args(["--tokens", &tokens.to_string()]);
    python::output(&mut command)?;
    Recorded::read(&output)
}

/// The recorded conversations, with their pictures.
fn conversations(folder: &Path) -> Result<Vec<(String, Conversation<Image>)>> {
    let list = std::fs::read_to_string(folder.join("conversations.json"))?;
    let list: Value = serde_json::from_str(&list).context("conversations.json is not JSON")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut talks = Vec::new();
    for talk in list.as_array().into_iter().flatten() {
        let mut turns = Vec::new();
        for turn in talk["turns"].as_array().into_iter().flatten() {
            let role = match turn["role"].as_str() {
                Some("system") => Role::System,
                Some("assistant") => Role::Assistant,
                _ => Role::User,
            };
            let mut turn_read = Turn::new(role, text(&turn["text"]));
            for picture in turn["pictures"].as_array().into_iter().flatten() {
                let picture = Image::load(&repo::scenes().join(text(picture)))?;
                turn_read.pictures.push(picture);
            }
            turns.push(turn_read);
        }
        talks.push((text(&talk["name"]), Conversation { turns }));
    }
    ensure!(!talks.is_empty(), "conversations.json has no conversations");
    Ok(talks)
}
