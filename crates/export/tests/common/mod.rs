//! Small checkpoints to export, and ways to look at what became of them.

// Every test program uses a part of it.
#![allow(dead_code)]
// Helpers outside test functions, which clippy.toml does not exempt.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use bundle::CallShape;
use checkpoint::Source;
use export::{Error, Exported, Options, Progress};
use models::qwen3_vl::Config;
use models::qwen3_vl::synth;
use quantize::Recipe;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// A whole Qwen3-VL with next to no weights.
pub fn tiny() -> Config {
    let mut config = Config::preset("nano").unwrap();
    let text = &mut config.text_config;
    text.hidden_size = 64;
    text.intermediate_size = 96;
    text.num_hidden_layers = 3;
    let vision = &mut config.vision_config;
    vision.hidden_size = 32;
    vision.intermediate_size = 64;
    vision.num_heads = 2;
    vision.out_hidden_size = 64;
    vision.patch_size = 4;
    vision.num_position_embeddings = 16;
    config
}

/// int8hu for one token at a time, and the vision encoder, at grid 2.
pub fn options() -> Options {
    Options {
        recipe: Recipe::named("int8hu").unwrap(),
        shapes: vec![CallShape::One],
        grid: 2,
        max_context: 4096,
        decoder: true,
        vision: true,
        name: None,
        license: None,
        created: 0,
    }
}

/// The vision encoder alone.
pub fn vision_only() -> Options {
    Options {
        decoder: false,
        ..options()
    }
}

/// The decoder alone, in that mode.
pub fn decoder_only(mode: &'static Recipe) -> Options {
    Options {
        recipe: mode,
        vision: false,
        ..options()
    }
}

/// Nobody watches.
pub fn quiet() -> Progress {
    Arc::new(|_, _| std::ops::ControlFlow::Continue(()))
}

/// A folder with a checkpoint `tiny` in it, removed with all else that it gets.
pub struct Bench {
    pub folder: TempDir,
}

impl Bench {
    pub fn new(config: &Config) -> Self {
        Self::sharded(config, usize::MAX)
    }

    pub fn sharded(config: &Config, shard_bytes: usize) -> Self {
        let bench = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let options = synth::Options::default().shard_bytes(shard_bytes);
        synth::write(config, &bench.model(), options, |_, _| {}).unwrap();
        bench
    }

    /// The checkpoint.
    pub fn model(&self) -> PathBuf {
        self.folder.path().join("tiny")
    }

    /// A file of the checkpoint.
    pub fn file(&self, name: &str) -> PathBuf {
        self.model().join(name)
    }

    pub fn source(&self) -> Source {
        Source::folder(self.model()).unwrap()
    }

    /// Where exports go. Nothing of this path exists before one.
    pub fn out(&self) -> PathBuf {
        self.folder.path().join("made").join("out")
    }

    pub fn export(&self, options: &Options) -> Result<Vec<Exported>, Error> {
        export::export(&self.source(), &self.out(), options, quiet())
    }

    /// An export that works; its folder is gone afterwards.
    pub fn accepts(&self, options: &Options) {
        let bundles = self.export(options).unwrap();
        assert!(!bundles.is_empty());
        fs::remove_dir_all(self.folder.path().join("made")).unwrap();
    }

    /// An export that is refused: one line that has all of `parts`, and nothing
    /// left, not even the folders above.
    pub fn refuses(&self, options: &Options, parts: &[&str]) {
        let error = self.export(options).unwrap_err();
        assert_says(&error.to_string(), parts);
        self.assert_clean();
    }

    /// Nothing is left of an export that failed.
    pub fn assert_clean(&self) {
        let left = names(self.folder.path());
        let other: Vec<_> = left.iter().filter(|name| *name != "tiny").collect();
        assert!(other.is_empty(), "left behind: {other:?}");
    }

    /// Changes the weights of `model.safetensors`.
    pub fn edit(&self, change: impl FnOnce(&mut Weights)) {
        let path = self.file("model.safetensors");
        let mut weights = Weights::read(&path);
        change(&mut weights);
        weights.write(&path);
    }

    /// Changes the `config.json`.
    pub fn edit_config(&self, change: impl FnOnce(&mut Value)) {
        let path = self.file("config.json");
        let mut config = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut config);
        fs::write(path, config.to_string()).unwrap();
    }
}

/// One line of text, with all of those parts.
pub fn assert_says(message: &str, parts: &[&str]) {
    assert!(!message.contains('\n'), "{message}");
    for part in parts {
        assert!(message.contains(part), "expected {part:?} in: {message}");
    }
}

/// Names in a folder, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Everything below a folder: the content of files, `None` for folders.
pub type Tree = BTreeMap<PathBuf, Option<Vec<u8>>>;

pub fn tree(folder: &Path) -> Tree {
    fn walk(root: &Path, folder: &Path, tree: &mut Tree) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_owned();
            // A link would be a file here, and none is ever written.
            if fs::symlink_metadata(&path).unwrap().is_dir() {
                tree.insert(name, None);
                walk(root, &path, tree);
            } else {
                tree.insert(name, Some(fs::read(&path).unwrap()));
            }
        }
    }
    let mut tree = Tree::new();
    walk(folder, folder, &mut tree);
    tree
}

/// The tensors of a safetensors file.
pub struct Weights {
    pub tensors: Vec<Tensor>,
}

pub struct Tensor {
    pub name: String,
    pub dtype: String,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

impl Weights {
    pub fn read(path: &Path) -> Self {
        let file = fs::read(path).unwrap();
        let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        let header: Map<String, Value> = serde_json::from_slice(&file[8..8 + length]).unwrap();
        let data = &file[8 + length..];
        let tensor = |(name, info): (&String, &Value)| {
            let number = |value: &Value| value.as_u64().unwrap() as usize;
            let shape = info["shape"].as_array().unwrap();
            let (start, end) = (&info["data_offsets"][0], &info["data_offsets"][1]);
            Tensor {
                name: name.clone(),
                dtype: info["dtype"].as_str().unwrap().to_owned(),
                shape: shape.iter().map(number).collect(),
                bytes: data[number(start)..number(end)].to_vec(),
            }
        };
        let stored = header.iter().filter(|(name, _)| *name != "__metadata__");
        Self {
            tensors: stored.map(tensor).collect(),
        }
    }

    pub fn write(&self, path: &Path) {
        let (mut header, mut data) = (Map::new(), Vec::new());
        for tensor in &self.tensors {
            let end = data.len() + tensor.bytes.len();
            let info = json!({
                "dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [data.len(), end]
            });
            header.insert(tensor.name.clone(), info);
            data.extend_from_slice(&tensor.bytes);
        }
        let header = Value::from(header).to_string();
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend_from_slice(header.as_bytes());
        file.extend_from_slice(&data);
        fs::write(path, file).unwrap();
    }

    pub fn tensor(&mut self, name: &str) -> &mut Tensor {
        let found = self.tensors.iter_mut().find(|tensor| tensor.name == name);
        found.unwrap_or_else(|| panic!("{name}"))
    }
}

impl Tensor {
    /// Sets the last element, of two bytes.
    pub fn set_last(&mut self, bits: u16) {
        let at = self.bytes.len() - 2;
        self.bytes[at..].copy_from_slice(&bits.to_le_bytes());
    }
}

/// What a child process is told to do.
const CHILD: [&str; 2] = ["EXPORT_TEST_MODEL", "EXPORT_TEST_OUT"];

/// The name of the test that does it.
pub const CHILD_TEST: &str = "common::export_in_a_child_process";

/// Runs an export of `model` to `out`, with [`options`], in another process: this
/// program again, started by `command`, which it is the last part of.
pub fn export_in_child(mut command: Command, model: &Path, out: &Path) -> Result<(), String> {
    command
        .args([CHILD_TEST, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD[0], model)
        .env(CHILD[1], out);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    if text.contains("EXPORTED") {
        return Ok(());
    }
    match text.lines().find_map(|line| line.strip_prefix("REFUSED ")) {
        Some(message) => Err(message.to_owned()),
        None => panic!("the child process said {output:?}"),
    }
}

#[test]
fn export_in_a_child_process() {
    let (Some(model), Some(out)) = (env::var_os(CHILD[0]), env::var_os(CHILD[1])) else {
        return;
    };
    let source = Source::folder(model).unwrap();
    match export::export(&source, Path::new(&out), &options(), quiet()) {
        Ok(_) => println!("\nEXPORTED"),
        Err(error) => println!("\nREFUSED {error}"),
    }
}
