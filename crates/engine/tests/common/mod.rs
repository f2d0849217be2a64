//! nano, exported for tests, and its scenes.

#![allow(dead_code, clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use bundle::{CallShape, Layout};
use candle_core::{Device, Tensor};
use engine::{Conversation, Model, Options, Role, Turn};
use picture::Image;
use quantize::Recipe;
use serde_json::Value;
use testkit::{nano, repository};

/// nano's bundles: the decoders in the order of `shapes`, then the vision
/// encoder. They are there as long as the folder.
pub fn exported(
    recipe: &'static Recipe,
    shapes: Vec<CallShape>,
) -> (tempfile::TempDir, Vec<export::Exported>) {
    let out = tempfile::tempdir().unwrap();
    let options = export::Options {
        recipe,
        layouts: shapes.into_iter().map(Layout::Pipelined).collect(),
        ..nano::options()
    };
    let bundles = nano::export(out.path(), &options);
    (out, bundles)
}

/// The recipe of this name.
pub fn recipe(name: &str) -> &'static Recipe {
    Recipe::named(name).unwrap()
}

/// The device that the tests were built for.
pub fn device() -> Device {
    if cfg!(feature = "cuda") {
        runtime::cuda(0).unwrap()
    } else {
        Device::metal_if_available(0).unwrap()
    }
}

/// Opens a bundle on the CPU.
pub fn open(folder: &Path) -> engine::Result<Model> {
    Model::open(folder, Options::new(Device::Cpu))
}

/// A picture of the set, with a question about it.
pub struct Scene {
    pub question: Conversation<Image>,
    pub answer: String,
}

pub fn scenes_folder() -> PathBuf {
    repository().join("oracles/nano/scenes")
}

pub fn scenes() -> Vec<Scene> {
    let list = std::fs::read(scenes_folder().join("scenes.json")).unwrap();
    let list: Value = serde_json::from_slice(&list).unwrap();
    let scenes = list["prompts"].as_array().unwrap().iter();
    let scenes = scenes.filter(|scene| scene["image"].is_string());
    let scenes: Vec<Scene> = scenes
        .map(|scene| {
            let text = |key: &str| scene[key].as_str().unwrap().to_owned();
            let image = Image::load(&scenes_folder().join(text("image"))).unwrap();
            Scene {
                question: Conversation::question(text("prompt"), [image]),
                answer: text("answer"),
            }
        })
        .collect();
    assert!(scenes.len() >= 8);
    scenes
}

/// The logits after each token, read in calls of this many tokens.
pub fn read(model: &Model, talk: &Conversation<Image>, chunk: usize) -> Tensor {
    let prompt = model.prompt(talk).unwrap();
    let mut sequence = model.start(&prompt).unwrap();
    let parts = prompt.tokens.ids.chunks(chunk);
    let parts: Vec<Tensor> = parts.map(|ids| sequence.read_all(ids).unwrap()).collect();
    Tensor::cat(&parts, 0).unwrap()
}

/// What transformers recorded of conversations, and the conversations.
pub fn conversations_folder() -> PathBuf {
    repository().join("oracles/nano/conversations")
}

/// The conversations by name.
pub fn conversations() -> BTreeMap<String, Conversation<Image>> {
    let list = std::fs::read(conversations_folder().join("conversations.json")).unwrap();
    let list: Value = serde_json::from_slice(&list).unwrap();
    let list = list.as_array().unwrap().iter();
    let talks = list.map(|talk| {
        let turns = talk["turns"].as_array().unwrap().iter().map(|turn| {
            let role = match turn["role"].as_str().unwrap() {
                "system" => Role::System,
                "user" => Role::User,
                _ => Role::Assistant,
            };
            let pictures = turn["pictures"].as_array().unwrap().iter();
            let picture =
                |name: &Value| Image::load(&scenes_folder().join(name.as_str().unwrap())).unwrap();
            let mut turn = Turn::new(role, turn["text"].as_str().unwrap());
            turn.pictures = pictures.map(picture).collect();
            turn
        });
        let name = talk["name"].as_str().unwrap().to_owned();
        (
            name,
            Conversation {
                turns: turns.collect(),
            },
        )
    });
    talks.collect()
}
