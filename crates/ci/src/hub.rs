//! From a checkpoint on a hub to a published release and back, with the real
//! commands and a hub on loopback that misbehaves. What is wrong is never
//! taken, what breaks off goes on, and the token is never shown.

use super::outcome::Outcome;
use crate::repo;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use testkit::hub::{Access, Fault, Server, TOKEN};

/// Whose place nano's checkpoint takes.
const MODEL: &str = "Qwen/Qwen3-VL-2B-Instruct";
/// What it is published as.
const REPOSITORY: &str = "me/nano-coreai";
const VISION: &str = "qwen3_vl_2b_instruct_vision/qwen3_vl_2b_instruct_vision.aimodel/main.mlirb";
const DECODER: &str = "qwen3_vl_2b_instruct_decode_int8hu_s1";
/// What is published for Apple's package.
const VLM: &str = "apple/qwen3_vl_2b_instruct_vlm_int8hu";

/// The step.
pub fn run() -> Outcome {
    let bench = Bench::new()?;
    let faults = [bench.export()?, bench.publish()?, bench.verify()?];
    let faults: usize = faults.iter().sum();
    let commands = bench.commands.get();
    Ok(format!(
        "export, release, push and verify against a local hub: {commands} commands, {faults} kinds \
         of faults, nothing wrong taken, no token shown"
    ))
}

struct Bench {
    server: Server,
    scratch: tempfile::TempDir,
    commit: String,
    commands: Cell<usize>,
}

/// How a command ended.
struct Ended {
    line: String,
    code: Option<i32>,
    printed: String,
}

impl Ended {
    fn expect(self, code: i32, words: &[&str]) -> Result<Ended> {
        let Ended { line, printed, .. } = &self;
        ensure!(
            self.code == Some(code),
            "`{line}` ended with {:?}, expected {code}; it printed:\n{printed}",
            self.code
        );
        for word in words {
            ensure!(
                printed.contains(word),
                "`{line}` does not print {word:?}, but:\n{printed}"
            );
        }
        Ok(self)
    }
}

impl Bench {
    fn new() -> Result<Bench> {
        let scratch = repo::scratch()?;
        let server = Server::start()?;
        let remote = scratch.path().join("remote");
        let checkpoint = repo::root().join("oracles/nano/checkpoint");
        testkit::copy_folder(&checkpoint, &remote);
        fs::write(remote.join("README.md"), "what no export needs")?;
        fs::write(remote.join("other.safetensors"), vec![7; 100_000])?;
        let commit = server.add(MODEL, &remote)?;
        Ok(Bench {
            server,
            scratch,
            commit,
            commands: Cell::new(0),
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Runs a command of the tool, with its own home on the hub.
    fn run(&self, home: &str, args: &[&str]) -> Result<Ended> {
        self.run_with(home, args, &[])
    }

    fn run_with(&self, home: &str, args: &[&str], variables: &[(&str, &str)]) -> Result<Ended> {
        let mut command = Command::new(repo::tool()?);
        command.args(args).current_dir(self.scratch.path());
        for name in ["HF_HUB_CACHE", "HF_TOKEN_PATH", "HF_HUB_OFFLINE"] {
            command.env_remove(name);
        }
        command.env("HF_ENDPOINT", self.server.endpoint());
        command.env("HF_HOME", self.path(home));
        command.env("HF_TOKEN", TOKEN);
        // The loopback is reached without whatever proxy there is.
        command.env("NO_PROXY", "127.0.0.1");
        command.envs(variables.iter().copied());
        let output = command.output()?;
        let mut printed = String::from_utf8_lossy(&output.stdout).into_owned();
        printed.push_str(&String::from_utf8_lossy(&output.stderr));
        let line = args.join(" ");
        ensure!(
            !printed.contains("secret0"),
            "`{line}` shows a secret:\n{printed}"
        );
        self.commands.set(self.commands.get() + 1);
        let code = output.status.code();
        Ok(Ended {
            line,
            code,
            printed,
        })
    }

    fn fault(&self, method: &'static str, path: &str, times: usize, fault: Fault) {
        self.server.fault(method, path, 0, times, fault);
    }

    /// All faults have happened.
    fn settle(&self) -> Result<()> {
        let pending = self.server.pending();
        ensure!(
            pending.is_empty(),
            "these faults did not happen: {pending:?}"
        );
        self.server.calm();
        Ok(())
    }

    /// No request but those that only read.
    fn assert_only_read(&self) -> Result<()> {
        let requests = self.server.requests();
        let wrote = requests
            .iter()
            .find(|r| !r.starts_with("GET") && !r.starts_with("HEAD"));
        ensure!(wrote.is_none(), "something was written: {wrote:?}");
        Ok(())
    }

    fn export(&self) -> Result<usize> {
        let export = ["export", "int8hu", "--grid", "4", "--out"];
        let refused = [
            (Fault::Status(404, ""), "not on the hub"),
            (Fault::Status(401, ""), "HF_TOKEN"),
            (Fault::Status(403, ""), "HF_TOKEN"),
            (Fault::Flip(99_999), "other bytes than the hub states"),
        ];
        let count = refused.len();
        for (fault, word) in refused {
            self.fault("GET", "/cdn/", 99, fault);
            let ended = self.run("refused", &[&export[..], &["refused"]].concat())?;
            ended.expect(2, &[word, MODEL, "--model DIR"])?;
            ensure!(
                !self.path("refused/hub/refs").exists(),
                "a wrong download is noted as good"
            );
            self.server.calm();
        }
        self.server.access(MODEL, Access::Gated);
        let ended = self.run("refused", &[&export[..], &["refused"]].concat())?;
        ended.expect(2, &["accept the terms", "--model DIR"])?;
        self.server.access(MODEL, Access::Open);
        let hostile = [
            "export",
            "int8hu",
            "--out",
            "refused",
            "--model",
            "org/hostile",
        ];
        self.server.add("org/hostile", &self.path("remote"))?;
        self.server.list_also("org/hostile", "../../escaped.json");
        self.run("refused", &hostile)?
            .expect(2, &["not to be trusted"])?;
        let none = [
            "export", "int8hu", "--out", "refused", "--model", "org/none",
        ];
        self.run("refused", &none)?
            .expect(2, &["org/none", "not on the hub", "--model DIR"])?;
        let nobody = [("HF_ENDPOINT", "http://127.0.0.1:9")];
        let ended = self.run_with("empty", &[&export[..], &["refused"]].concat(), &nobody)?;
        ended.expect(2, &["cannot be reached", "--model DIR"])?;
        ensure!(
            !self.path("refused").join(DECODER).exists(),
            "something was exported"
        );
        self.server.calm();

        // Each is overcome in one go.
        let overcome = [
            ("/revision/", Fault::Status(503, "")),
            ("/tree/", Fault::Status(429, "Retry-After: 1\r\n")),
            ("/cdn/", Fault::Drop),
            ("/cdn/", Fault::Cut(500_000)),
            ("/cdn/", Fault::Short(300_000)),
            ("config.json", Fault::Status(500, "")),
        ];
        let count = count + overcome.len();
        for (path, fault) in overcome {
            self.fault("GET", path, 1, fault);
        }
        let ended = self.run("home", &[&export[..], &["exports"]].concat())?;
        ended.expect(0, &[DECODER, "asks to slow down"])?;
        let requests = self.server.requests();
        for file in ["README.md", "other.safetensors"] {
            let asked = requests.iter().any(|request| request.contains(file));
            ensure!(!asked, "{file} was fetched, and no export needs it");
        }
        self.settle()?;

        let metadata = fs::read(self.path("exports").join(DECODER).join("metadata.json"))?;
        let metadata: Value = serde_json::from_slice(&metadata)?;
        let source = &metadata["source"];
        ensure!(
            source["hf_model_id"] == MODEL && source["hf_revision"] == self.commit.as_str(),
            "the bundle says that it comes from {source}"
        );
        // The same without the hub, and from a folder.
        let offline = [
            ("HF_ENDPOINT", "http://127.0.0.1:9"),
            ("HF_HUB_OFFLINE", "1"),
        ];
        let ended = self.run_with("home", &[&export[..], &["offline"]].concat(), &offline)?;
        ended.expect(0, &[])?;
        let folder = ["--model", "remote", "--name", "qwen3_vl_2b_instruct"];
        let ended = self.run("none", &[&export[..], &["folder"], &folder].concat())?;
        ended.expect(0, &[])?;
        for other in ["offline", "folder"] {
            for asset in [
                format!("{DECODER}/{DECODER}.aimodel/main.mlirb"),
                VISION.into(),
            ] {
                same(
                    &self.path("exports").join(&asset),
                    &self.path(other).join(&asset),
                )?;
            }
        }
        Ok(count)
    }

    fn publish(&self) -> Result<usize> {
        let recipe = self.recipe()?;
        let recipe = recipe
            .to_str()
            .context("the scratch folder's path is not UTF-8")?;
        let oracle = repo::root().join("oracles/nano/recorded");
        let oracle = oracle
            .to_str()
            .context("the repository's path is not UTF-8")?;
        let make = [
            "release",
            "--recipe",
            recipe,
            "--oracle",
            oracle,
            "--exports",
            "made",
            "--out",
        ];
        self.run("home", &[&make[..], &["release"]].concat())?
            .expect(0, &["files"])?;

        let push = ["release", "--out", "release", "--push", REPOSITORY];
        self.server.calm();
        let ended = self.run("home", &[&push[..], &["--dry-run"]].concat())?;
        ended.expect(0, &["create", "send", "nothing was done"])?;
        self.assert_only_read()?;
        let anyone = [("HF_TOKEN", "")];
        self.run_with("nobody", &push, &anyone)?
            .expect(2, &["HF_TOKEN"])?;
        self.assert_only_read()?;

        let overcome = [
            ("POST", "/repos/create", Fault::Status(500, "")),
            ("POST", "/preupload/", Fault::Drop),
            ("GET", "/xet-write-token/", Fault::Status(503, "")),
            ("POST", "/commit/", Fault::Status(429, "Retry-After: 1\r\n")),
            ("POST", "/commit/", Fault::LoseAnswer),
        ];
        let count = overcome.len();
        for (method, path, fault) in overcome {
            self.fault(method, path, 1, fault);
        }
        self.run("home", &push)?.expect(0, &["pushed", "commit"])?;
        self.settle()?;
        let mut published = self.server.files(REPOSITORY);
        published.remove(".gitattributes");
        for asset in ["embedding.aimodel", "vision.aimodel"] {
            let program = format!("{VLM}/{asset}/main.mlirb");
            ensure!(
                published.contains_key(&program),
                "{program} was not published"
            );
        }
        for (name, bytes) in &published {
            ensure!(
                fs::read(self.path("release").join(name))? == *bytes,
                "{name} was published with other bytes"
            );
        }
        let commits = self.server.commits(REPOSITORY);
        ensure!(
            commits.len() == 2,
            "it took more than one commit: {commits:?}"
        );
        self.run("home", &push)?.expect(0, &["0 files"])?;
        self.assert_only_read()?;

        // What does not hold is not published.
        testkit::copy_folder(&self.path("release"), &self.path("tampered"));
        let file = self.path("tampered/README.md");
        fs::write(&file, fs::read_to_string(&file)?.replace('9', "8"))?;
        self.server.calm();
        let tampered = ["release", "--out", "tampered", "--push", "me/tampered"];
        self.run("home", &tampered)?.expect(1, &["README.md"])?;
        ensure!(
            self.server.requests().is_empty(),
            "the hub was asked in vain"
        );
        Ok(count)
    }

    fn verify(&self) -> Result<usize> {
        let verify = ["verify", REPOSITORY];
        self.fault("GET", "/cdn/", 1, Fault::Cut(200_000));
        self.fault("GET", "/cdn/", 1, Fault::Flip(70_000));
        self.fault("GET", "SHA256SUMS", 2, Fault::Drop);
        self.run("reader", &verify)?
            .expect(0, &["files", "evidence", "card"])?;
        self.settle()?;
        self.fault("GET", "/resolve/", 99, Fault::Flip(5));
        self.run("other", &verify)?
            .expect(2, &["other bytes than the hub states"])?;
        self.server.calm();

        // Published with one wrong byte, by a hub that vouches for it.
        testkit::copy_folder(&self.path("release"), &self.path("wrong"));
        let assets = [
            format!("gpu-pipelined/{DECODER}/{DECODER}.aimodel/main.mlirb"),
            format!("{VLM}/vision.aimodel/main.mlirb"),
        ];
        for asset in &assets {
            let asset = self.path("wrong").join(asset);
            let mut bytes = fs::read(&asset)?;
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(&asset, bytes)?;
        }
        self.server.add("me/wrong", &self.path("wrong"))?;
        self.run("reader", &["verify", "me/wrong"])?
            .expect(1, &assets.each_ref().map(String::as_str))?;
        let left = fs::read_dir(self.path("reader/hub"))?.flatten();
        let left: Vec<_> = left
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.starts_with(".verify-"))
            .collect();
        ensure!(left.is_empty(), "verify left {left:?} behind");
        ensure!(
            self.server.leaks().is_empty(),
            "the token was sent to another host: {:?}",
            self.server.leaks()
        );
        Ok(4)
    }

    /// nano's recipe, for what the local hub calls it.
    fn recipe(&self) -> Result<PathBuf> {
        let known = repo::root().join("recipes/nano.toml");
        let text = fs::read_to_string(&known)?;
        let license = repo::root().join("LICENSE");
        let mut recipe = text.replace(
            "model = \"nano\"",
            &format!("model = \"{MODEL}\"\nrevision = \"main\""),
        );
        recipe = recipe.replace("../LICENSE", &license.display().to_string());
        recipe = recipe.replace(r#"["int8hu", "int8lin"]"#, r#"["int8hu"]"#);
        if !recipe.contains(MODEL) {
            bail!("{} has no model = \"nano\"", known.display());
        }
        let path = self.path("recipe.toml");
        fs::write(&path, recipe)?;
        Ok(path)
    }
}

fn same(a: &Path, b: &Path) -> Result<()> {
    let read = |path: &Path| fs::read(path).with_context(|| path.display().to_string());
    ensure!(
        read(a)? == read(b)?,
        "{} and {} differ",
        a.display(),
        b.display()
    );
    Ok(())
}
