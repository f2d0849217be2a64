//! nano's bundles, pipelined in two modes and one of the layout vlm, and what the gates find of them, made once, and
//! copies to spoil.

// Every test program uses a part of it.
#![allow(dead_code)]
// Helpers outside test functions, which clippy.toml does not exempt.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use checkpoint::Source;
use gate::{Candidate, Gates, Settings, Stage, Transcript};
use release::{Given, Parts, Release, Result};
use tempfile::TempDir;
use testkit::{assert_contains, gate::NoTools, nano};
pub use testkit::{copy_folder, repository};

/// The decoder to use, and the other; and the bundle for Apple's package.
pub const DECODERS: [&str; 3] = [
    "nano_decode_int8hu_s1",
    "nano_decode_int8lin_s1",
    "nano_vlm_int8hu",
];

/// The recipe of nano.
pub fn given() -> Given {
    Given::load(&repository().join("recipes/nano.toml")).unwrap()
}

/// The text of nano's set of gates.
pub fn gates() -> String {
    fs::read_to_string(repository().join("gates/nano.toml")).unwrap()
}

/// What a release of nano is made from.
pub struct Bench {
    pub exports: PathBuf,
    pub transcripts: Vec<Transcript>,
}

/// It, made once in a test program.
pub fn bench() -> &'static Bench {
    static BENCH: OnceLock<(TempDir, Bench)> = OnceLock::new();
    let made = BENCH.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let exports = folder.path().join("exports");
        export(&exports);
        let recipe = given().recipe;
        let transcripts = recipe.decoders().map(|decoder| {
            let (recipe, layout) = (decoder.mode, decoder.layout);
            let candidate = Candidate::open(Source::nano(), &exports, "nano", recipe, layout);
            let candidate = candidate.unwrap();
            judge(&candidate)
        });
        let transcripts = transcripts.collect();
        let bench = Bench {
            exports,
            transcripts,
        };
        (folder, bench)
    });
    &made.1
}

/// Exports what the recipe names.
pub fn export(exports: &Path) {
    let recipe = given().recipe;
    for options in release::exports(&recipe, 0) {
        nano::export(exports, &options);
    }
}

/// Runs all gates.
pub fn judge(candidate: &Candidate) -> Transcript {
    let settings = Settings {
        device: runtime::candle_core::Device::Cpu,
        options: runtime::Options::default(),
        layers: None,
        oracle: repository().join("oracles/nano/recorded"),
        core_ai: gate::CoreAi::Now,
        root: repository().to_owned(),
        fixture: None,
        transcript: None,
        iphone: None,
    };
    let gates = Gates::parse("nano", &gates()).unwrap();
    gate::run(candidate, &gates, &settings, &Stage::ALL, &NoTools, |_| {}).unwrap()
}

/// A release of nano, as it should be, in a folder of its own.
pub struct Case {
    folder: TempDir,
}

impl Case {
    /// A copy of it.
    pub fn new() -> Case {
        static MADE: OnceLock<TempDir> = OnceLock::new();
        let made = MADE.get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            let bench = bench();
            assemble(&bench.transcripts, &folder.path().join("out")).unwrap();
            folder
        });
        let folder = tempfile::tempdir().unwrap();
        copy_folder(&made.path().join("out"), &folder.path().join("out"));
        Case { folder }
    }

    pub fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.out().join(name)
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Changes a text file, and something must have changed.
    pub fn edit(&self, name: &str, from: &str, to: &str) {
        let text = self.read(name);
        assert!(text.contains(from), "{name} has no {from:?}");
        fs::write(self.path(name), text.replacen(from, to, 1)).unwrap();
    }

    /// Writes `SHA256SUMS` anew, as somebody would who wants to hide a change.
    pub fn sum_up(&self) {
        let listing = release::Listing::read(&self.out()).unwrap();
        fs::write(self.path("SHA256SUMS"), release::sums::write(&listing)).unwrap();
    }

    /// What is message of it, which must be a refusal with all of these parts.
    pub fn refuses(&self, parts: &[&str]) {
        let error = release::check_for_push(&self.out()).unwrap_err();
        refuses(&error, parts);
        // verify says the same.
        assert_eq!(
            Release::open(&self.out()).unwrap_err().to_string(),
            error.to_string()
        );
    }
}

/// A refusal that says all of these.
pub fn refuses(error: &release::Error, parts: &[&str]) {
    assert!(matches!(error, release::Error::Refused(_)), "{error}");
    let message = error.to_string();
    assert_contains(&message, parts);
    // Of the place in the release, not of where it happens to lie.
    assert!(
        !message.contains("/tmp/") && !message.contains(".out."),
        "{message}"
    );
}

/// Makes a release of the bench's bundles.
pub fn assemble(transcripts: &[Transcript], out: &Path) -> Result<Release> {
    let (given, gates) = (given(), gates());
    let parts = Parts {
        given: &given,
        gates: &gates,
        exports: &bench().exports,
        transcripts,
    };
    release::assemble(&parts, out)
}
