//! Small checkpoints to export, and ways to look at what became of them.

// Every test program uses a part of it.
#![allow(dead_code)]
// Helpers outside test functions, which clippy.toml does not exempt.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use bundle::{CallShape, Layout};
use checkpoint::Source;
use export::{Error, Exported, Options, Progress};
use models::qwen3_vl::Config;
use models::qwen3_vl::synth;
use quantize::Recipe;
use serde_json::Value;
use tempfile::TempDir;
use testkit::{assert_one_line, names, tensors::Tensors};

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
        layouts: vec![Layout::Pipelined(CallShape::One)],
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
        assert_one_line(&error.to_string(), parts);
        self.assert_clean();
    }

    /// Nothing is left of an export that failed.
    pub fn assert_clean(&self) {
        let left = names(self.folder.path());
        let other: Vec<_> = left.iter().filter(|name| *name != "tiny").collect();
        assert!(other.is_empty(), "left behind: {other:?}");
    }

    /// Changes the weights of `model.safetensors`.
    pub fn edit(&self, change: impl FnOnce(&mut Tensors)) {
        Tensors::edit(&self.file("model.safetensors"), change);
    }

    /// Changes the `config.json`.
    pub fn edit_config(&self, change: impl FnOnce(&mut Value)) {
        testkit::edit_json(&self.file("config.json"), change);
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
