//! Nano, exported once, its oracle, and copies of both to spoil.

// Every test program uses a part of it.
#![allow(dead_code)]
// Helpers outside test functions, which clippy.toml does not exempt.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use aimodel::{Module, open_asset, write_asset};
use bundle::{AssetRole, CallShape, Layout};
use checkpoint::Source;
use gate::{Candidate, Gates, Result, Settings, Stage, Transcript};
use quantize::Recipe;
use runtime::candle_core::Device;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use testkit::{copy_folder, nano, read_json, repository};
pub use testkit::{edit_json, gate::NoTools, tensors::Tensors};

/// The stages that need neither Python nor a device.
pub fn stages() -> Vec<Stage> {
    let elsewhere = [Stage::Engine, Stage::Device];
    let all = Stage::ALL.into_iter();
    all.filter(|stage| !elsewhere.contains(stage)).collect()
}

/// The folder of the bundles' names.
const DECODER: &str = "nano_decode_int8hu_s1";
const VISION: &str = "nano_vision";
const VLM: &str = "nano_vlm_int8hu";

/// gates/nano.toml with some of its prompts.
pub fn gates(prompts: &[&str]) -> Gates {
    let mut gates = Gates::load(&repository().join("gates/nano.toml")).unwrap();
    gates
        .prompts
        .retain(|one| prompts.contains(&one.name.as_str()));
    assert_eq!(gates.prompts.len(), prompts.len());
    gates
}

/// What is good: copies are made of it.
pub struct Bench {
    folder: TempDir,
    pub gates: Gates,
    layout: Layout,
}

impl Bench {
    /// Exports nano, and takes of its oracle what some prompts need.
    pub fn new(prompts: &[&str]) -> Self {
        Self::of(Layout::Pipelined(CallShape::One), prompts)
    }

    /// The same of a vlm bundle.
    pub fn vlm(prompts: &[&str]) -> Self {
        Self::of(Layout::Vlm, prompts)
    }

    fn of(layout: Layout, prompts: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = export::Options {
            layouts: vec![layout],
            ..nano::options()
        };
        nano::export(&folder.path().join("exports"), &options);
        copy_folder(
            &repository().join("oracles/nano/checkpoint"),
            &folder.path().join("nano"),
        );
        let (from, to) = (
            repository().join("oracles/nano/recorded"),
            folder.path().join("oracle"),
        );
        fs::create_dir(&to).unwrap();
        let mut index: Value = read_json(&from.join("index.json"));
        let entries = index["prompts"].as_array_mut().unwrap();
        entries.retain(|entry| prompts.contains(&entry["name"].as_str().unwrap()));
        for entry in entries {
            let file = entry["file"].as_str().unwrap();
            fs::copy(from.join(file), to.join(file)).unwrap();
        }
        fs::write(to.join("index.json"), index.to_string()).unwrap();
        Self {
            folder,
            gates: gates(prompts),
            layout,
        }
    }

    /// A copy of everything.
    pub fn case(&self) -> Case {
        let folder = tempfile::tempdir().unwrap();
        copy_folder(self.folder.path(), folder.path());
        Case {
            gates: self.gates.clone(),
            layout: self.layout,
            folder,
        }
    }
}

/// A checkpoint `nano/`, its bundles `exports/`, and its oracle `oracle/`, in a
/// folder of their own.
pub struct Case {
    pub folder: TempDir,
    pub gates: Gates,
    layout: Layout,
}

impl Case {
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn source(&self) -> Source {
        Source::folder(self.path("nano")).unwrap()
    }

    /// Opens what is to be judged.
    pub fn candidate(&self) -> Result<Candidate> {
        let exports = self.path("exports");
        Candidate::open(
            self.source(),
            &exports,
            "nano",
            Recipe::named("int8hu").unwrap(),
            self.layout,
        )
    }

    pub fn settings(&self) -> Settings {
        Settings {
            device: Device::Cpu,
            options: runtime::Options::default(),
            layers: None,
            oracle: self.path("oracle"),
            core_ai: gate::CoreAi::Now,
            root: repository().to_owned(),
            fixture: None,
            transcript: None,
            iphone: None,
        }
    }

    /// Runs some stages on it.
    pub fn run(&self, stages: &[Stage]) -> Result<Transcript> {
        let (candidate, settings) = (self.candidate()?, self.settings());
        gate::run(&candidate, &self.gates, &settings, stages, &NoTools, |_| {})
    }

    /// Replaces the bundles by an export of another checkpoint: a copy of this
    /// one that is spoiled first.
    pub fn export_of(&mut self, spoil: impl FnOnce(&Path)) {
        let other = tempfile::tempdir().unwrap();
        let copy = other.path().join("nano");
        copy_folder(&self.path("nano"), &copy);
        spoil(&copy);
        self.export(&Source::folder(copy).unwrap());
    }

    /// Replaces the bundles by an export of `source`.
    pub fn export(&mut self, source: &Source) {
        fs::remove_dir_all(self.path("exports")).unwrap();
        nano::export_from(source, &self.path("exports"), &nano::options());
    }

    /// Changes the decoder's program, and writes the asset again with its hash.
    pub fn decoder(&mut self, change: impl FnOnce(&mut Module)) {
        self.program(DECODER, change);
    }

    /// The same for the vision encoder.
    pub fn vision(&mut self, change: impl FnOnce(&mut Module)) {
        self.program(VISION, change);
    }

    /// The same for an asset of a vlm bundle.
    pub fn vlm_program(&mut self, role: AssetRole, change: impl FnOnce(&mut Module)) {
        self.asset(&self.vlm_file(&role.asset(VLM)), change);
    }

    /// A file of a vlm bundle.
    pub fn vlm_file(&self, name: &str) -> PathBuf {
        self.path("exports").join(VLM).join(name)
    }

    fn program(&mut self, bundle: &str, change: impl FnOnce(&mut Module)) {
        let dir = self.path("exports").join(bundle);
        self.asset(&dir.join(format!("{bundle}.aimodel")), change);
    }

    fn asset(&mut self, dir: &Path, change: impl FnOnce(&mut Module)) {
        let mut asset = open_asset(dir).unwrap();
        change(&mut asset.module);
        let beside = dir.with_extension("new");
        write_asset(&beside, &asset.module, &asset.metadata).unwrap();
        drop(asset.module);
        fs::remove_dir_all(dir).unwrap();
        fs::rename(&beside, dir).unwrap();
    }

    /// A file of the decoder's bundle.
    pub fn bundle_file(&self, name: &str) -> PathBuf {
        self.path("exports").join(DECODER).join(name)
    }

    /// Changes what was recorded of a prompt; the index has the new hash.
    pub fn recorded(&mut self, prompt: &str, change: impl FnOnce(&mut Tensors)) {
        let folder = self.path("oracle");
        let file = format!("{prompt}.safetensors");
        Tensors::edit(&folder.join(&file), change);
        let hash = Sha256::digest(fs::read(folder.join(&file)).unwrap());
        self.index(|index| {
            let entries = index["prompts"].as_array_mut().unwrap();
            let entry = entries.iter_mut().find(|entry| entry["name"] == prompt);
            entry.unwrap()["sha256"] = hex::encode(hash).into();
        });
    }

    /// Changes the oracle's index.
    pub fn index(&mut self, change: impl FnOnce(&mut Value)) {
        edit_json(&self.path("oracle/index.json"), change);
    }
}
