//! Nano, exported once, its oracle, and copies of both to spoil.

// Every test program uses a part of it.
#![allow(dead_code)]
// Helpers outside test functions, which clippy.toml does not exempt.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use aimodel::{Module, open_asset, write_asset};
use bundle::CallShape;
use checkpoint::Source;
use gate::{
    Answer, Candidate, ExternalTools, Gates, NamedPrompt, Outcome, Recording, Result, Settings,
    Stage, Transcript,
};
use quantize::Recipe;
use runtime::candle_core::Device;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// The stages that need neither Python nor a device.
pub const STAGES: [Stage; 5] = [
    Stage::Lint,
    Stage::Oracle,
    Stage::Ladder,
    Stage::Weights,
    Stage::Execute,
];

/// The folder of the bundles' names.
const DECODER: &str = "nano_decode_int8hu_s1";
const VISION: &str = "nano_vision";

/// The top of the repository.
pub fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Nobody is there: no Python, no runtime of Core AI.
pub struct Alone;

impl ExternalTools for Alone {
    fn record(&self, _: &Recording<'_>, _: &Path) -> Result<Outcome> {
        Ok(Outcome::Unavailable("no Python in this test".to_owned()))
    }

    fn core_ai(
        &self,
        _: &Candidate,
        _: &[NamedPrompt],
        _: usize,
    ) -> Result<Result<(Vec<Answer>, String), String>> {
        Ok(Err("no runtime of Core AI in this test".to_owned()))
    }
}

/// gates/nano.toml with some of its prompts.
pub fn gates(prompts: &[&str]) -> Gates {
    let mut gates = Gates::load(&root().join("gates/nano.toml")).unwrap();
    gates
        .prompts
        .retain(|one| prompts.contains(&one.name.as_str()));
    assert_eq!(gates.prompts.len(), prompts.len());
    gates
}

/// Exports a checkpoint as int8hu with S = 1, and its vision encoder.
pub fn export_to(source: &Source, out: &Path) {
    let options = export::Options {
        recipe: Recipe::named("int8hu").unwrap(),
        shapes: vec![CallShape::One],
        grid: 4,
        max_context: 4096,
        decoder: true,
        vision: true,
        name: Some("nano".to_owned()),
        license: None,
        created: 0,
    };
    let quiet = Arc::new(|_, _| std::ops::ControlFlow::Continue(()));
    export::export(source, out, &options, quiet).unwrap();
}

/// What is good: copies are made of it.
pub struct Bench {
    folder: TempDir,
    pub gates: Gates,
}

impl Bench {
    /// Exports nano, and takes of its oracle what some prompts need.
    pub fn new(prompts: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        export_to(&Source::nano(), &folder.path().join("exports"));
        copy_folder(
            &root().join("oracles/nano/checkpoint"),
            &folder.path().join("nano"),
        );
        let (from, to) = (
            root().join("oracles/nano/recorded"),
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
        }
    }

    /// A copy of everything.
    pub fn case(&self) -> Case {
        let folder = tempfile::tempdir().unwrap();
        copy_folder(self.folder.path(), folder.path());
        Case {
            gates: self.gates.clone(),
            folder,
        }
    }
}

/// A checkpoint `nano/`, its bundles `exports/`, and its oracle `oracle/`, in a
/// folder of their own.
pub struct Case {
    pub folder: TempDir,
    pub gates: Gates,
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
            CallShape::One,
        )
    }

    pub fn settings(&self) -> Settings {
        Settings {
            device: Device::Cpu,
            options: runtime::Options::default(),
            layers: None,
            oracle: self.path("oracle"),
            core_ai: gate::CoreAi::Now,
            root: root(),
            fixture: None,
            transcript: None,
            iphone: None,
        }
    }

    /// Runs some stages on it.
    pub fn run(&self, stages: &[Stage]) -> Result<Transcript> {
        let (candidate, settings) = (self.candidate()?, self.settings());
        gate::run(&candidate, &self.gates, &settings, stages, &Alone, |_| {})
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
        export_to(source, &self.path("exports"));
    }

    /// Changes the decoder's program, and writes the asset again with its hash.
    pub fn decoder(&mut self, change: impl FnOnce(&mut Module)) {
        self.program(DECODER, change);
    }

    /// The same for the vision encoder.
    pub fn vision(&mut self, change: impl FnOnce(&mut Module)) {
        self.program(VISION, change);
    }

    fn program(&mut self, bundle: &str, change: impl FnOnce(&mut Module)) {
        let dir = self
            .path("exports")
            .join(bundle)
            .join(format!("{bundle}.aimodel"));
        let mut asset = open_asset(&dir).unwrap();
        change(&mut asset.module);
        let beside = dir.with_extension("new");
        write_asset(&beside, &asset.module, &asset.metadata).unwrap();
        drop(asset.module);
        fs::remove_dir_all(&dir).unwrap();
        fs::rename(&beside, &dir).unwrap();
    }

    /// A file of the decoder's bundle.
    pub fn bundle_file(&self, name: &str) -> PathBuf {
        self.path("exports").join(DECODER).join(name)
    }

    /// Changes what was recorded of a prompt; the index has the new hash.
    pub fn recorded(&mut self, prompt: &str, change: impl FnOnce(&mut Vec<Stored>)) {
        let folder = self.path("oracle");
        let file = format!("{prompt}.safetensors");
        edit_tensors(&folder.join(&file), change);
        let hash = Sha256::digest(fs::read(folder.join(&file)).unwrap());
        self.index(|index| {
            let entries = index["prompts"].as_array_mut().unwrap();
            let entry = entries.iter_mut().find(|entry| entry["name"] == prompt);
            entry.unwrap()["sha256"] = hex::encode(&hash).into();
        });
    }

    /// Changes the oracle's index.
    pub fn index(&mut self, change: impl FnOnce(&mut Value)) {
        edit_json(&self.path("oracle/index.json"), change);
    }
}

/// A tensor of a safetensors file.
pub struct Stored {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

impl Stored {
    /// Bytes of a row of its last dimension.
    pub fn row_bytes(&self) -> usize {
        let rows: usize = self.shape.iter().rev().skip(1).product();
        self.bytes.len() / rows
    }
}

/// The tensor of a name.
pub fn stored<'t>(tensors: &'t mut [Stored], name: &str) -> &'t mut Stored {
    let found = tensors.iter_mut().find(|tensor| tensor.name == name);
    found.unwrap_or_else(|| panic!("no tensor {name}"))
}

pub fn read_tensors(path: &Path) -> Vec<Stored> {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.iter().map(|(name, tensor)| Stored {
        name: name.to_owned(),
        dtype: tensor.dtype(),
        shape: tensor.shape().to_vec(),
        bytes: tensor.data().to_vec(),
    });
    tensors.collect()
}

/// Changes tensors of a safetensors file.
pub fn edit_tensors(path: &Path, change: impl FnOnce(&mut Vec<Stored>)) {
    let mut tensors = read_tensors(path);
    change(&mut tensors);
    let views = tensors.iter().map(|one| {
        let view = TensorView::new(one.dtype, one.shape.clone(), &one.bytes).unwrap();
        (one.name.as_str(), view)
    });
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// Changes a JSON file.
pub fn edit_json(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value = read_json(path);
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

pub fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Copies what is in a folder into another, which may be there.
fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|one| (one.path(), one.file_name())).unwrap();
        if path.is_dir() {
            copy_folder(&path, &to.join(name));
        } else {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}
