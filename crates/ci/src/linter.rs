//! The community's linter: it finds nothing on nano's bundles, and where it has
//! a rule that our lint has too, both find the same fault.

use super::{nano, outcome::Outcome};
use aimodel_cli::venv::Venv;
use anyhow::{Context, Result, ensure};
use gate::lint;
use serde_json::Value;
use std::{collections::BTreeSet, fs, path::Path};

/// A fault, made in a copy of a bundle of nano.
struct Fault {
    /// The linter's rule.
    linter: &'static str,
    /// The rule of our lint.
    lint_rule: &'static str,
    make: fn(&Path) -> Result<()>,
}

const METADATA: &str = "metadata.json";
const SETTINGS: &str = "tokenizer/tokenizer_config.json";

/// Every rule of the linter that a bundle can trip without Xcode, and that is a
/// fault of the bundle.
const FAULTS: &[Fault] = &[
    #[cfg(unix)]
    Fault {
        linter: "ASSET-SYMLINK",
        lint_rule: "symlink",
        make: |bundle| {
            let asset = nano::asset(bundle);
            let elsewhere = bundle.with_file_name("elsewhere");
            fs::rename(&asset, &elsewhere)?;
            Ok(std::os::unix::fs::symlink(elsewhere, asset)?)
        },
    },
    Fault {
        linter: "IR-040-DEBUG-LOC",
        lint_rule: "asset-producer",
        make: |bundle| {
            edit(&nano::asset(bundle).join(METADATA), |m| {
                remove(m, "producer")
            })
        },
    },
    Fault {
        linter: "BUNDLE-INCOMPLETE",
        lint_rule: "bundle-manifest",
        make: |bundle| {
            edit(&bundle.join(METADATA), |m| {
                remove(&mut m["language"], "vocab_size");
            })
        },
    },
    Fault {
        linter: "BUNDLE-INCOMPLETE",
        lint_rule: "tokenizer-files",
        make: |bundle| Ok(fs::remove_dir_all(bundle.join("tokenizer"))?),
    },
    Fault {
        linter: "BUNDLE-ASSET-MISSING",
        lint_rule: "bundle-asset",
        make: |bundle| {
            edit(&bundle.join(METADATA), |m| {
                m["assets"]["main"] = "other.aimodel".into();
            })
        },
    },
    Fault {
        linter: "TOKENIZER-CLASS-UNREGISTERED",
        lint_rule: "tokenizer-class",
        make: |bundle| {
            edit(&bundle.join(SETTINGS), |s| {
                s["tokenizer_class"] = "Qwen3VLTokenizer".into();
            })
        },
    },
    Fault {
        linter: "CHAT-TEMPLATE-ABSENT",
        lint_rule: "chat-template",
        make: |bundle| {
            fs::remove_file(bundle.join("tokenizer/chat_template.jinja"))?;
            edit(&bundle.join(SETTINGS), |s| remove(s, "chat_template"))
        },
    },
    Fault {
        linter: "EOS-NOT-EMITTED-BY-TEMPLATE",
        lint_rule: "end-token",
        make: |bundle| {
            edit(&bundle.join(SETTINGS), |s| {
                s["eos_token"] = "<|endoftext|>".into();
            })
        },
    },
];

/// Runs the step.
pub fn run() -> Outcome {
    let venv = Venv::linter()?;
    let mut targets = vec![nano::asset(&nano::vision()?)];
    for recipe in quantize::RECIPES {
        for shape in nano::CALL_SHAPES {
            targets.push(nano::decoder(recipe.name, shape)?);
        }
    }
    let mut rules = 0;
    for target in &targets {
        let (found, ran) = doctor(&venv, target)?;
        ensure!(
            found.is_empty(),
            "coreai doctor {}: {found:?}",
            target.display()
        );
        rules = rules.max(ran);
    }
    let good = nano::decoder("int8hu", "s1")?;
    for fault in FAULTS {
        agree(&venv, &good, fault)
            .with_context(|| format!("a bundle for {} and {}", fault.linter, fault.lint_rule))?;
    }
    Ok(format!(
        "coreai doctor has no finding on {} bundles and assets, up to {rules} rules each; of {} \
         faults, it and our lint found each, and nothing else",
        targets.len(),
        FAULTS.len()
    ))
}

/// Refuses a fault that one of the two does not find, or with others.
fn agree(venv: &Venv, good: &Path, fault: &Fault) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let bundle = folder.path().join(good.file_name().unwrap_or_default());
    testkit::copy_folder(good, &bundle);
    (fault.make)(&bundle)?;
    let (found, _) = doctor(venv, &bundle)?;
    let found: Vec<&str> = found.iter().map(String::as_str).collect();
    ensure!(found == [fault.linter], "coreai doctor found {found:?}");
    let findings = lint::bundle(&bundle)?;
    let rules: BTreeSet<&str> = findings
        .iter()
        .map(|finding| finding.rule.as_str())
        .collect();
    ensure!(
        rules == BTreeSet::from([fault.lint_rule]),
        "our lint found {findings:?}"
    );
    Ok(())
}

/// The rules that the linter has findings of, and how many it ran.
fn doctor(venv: &Venv, target: &Path) -> Result<(Vec<String>, usize)> {
    let mut doctor = venv.python()?;
    doctor.args(["-m", "coreai_cli", "doctor", "--json"]);
    // Not through `output`: it ends with an error code when it has findings.
    let output = doctor.arg(target).output()?;
    let printed: Value = serde_json::from_slice(&output.stdout).with_context(|| {
        format!(
            "coreai doctor {} printed no JSON: {}",
            target.display(),
            String::from_utf8_lossy(&output.stderr)
        )
    })?;
    let findings = printed["findings"]
        .as_array()
        .context("no list of findings")?;
    let ids = findings.iter().map(|finding| finding["id"].as_str());
    let ids: Option<Vec<String>> = ids.map(|id| id.map(str::to_owned)).collect();
    let ids = ids.context("a finding without a rule")?;
    ensure!(
        !ids.is_empty() || output.status.success(),
        "coreai doctor {}: {printed:#}",
        target.display()
    );
    Ok((ids, printed["rules_run"].as_array().map_or(0, Vec::len)))
}

/// Changes a JSON file.
fn edit(path: &Path, change: impl FnOnce(&mut Value)) -> Result<()> {
    let mut value = serde_json::from_slice(&fs::read(path)?)?;
    change(&mut value);
    Ok(fs::write(path, value.to_string())?)
}

fn remove(value: &mut Value, key: &str) {
    if let Some(object) = value.as_object_mut() {
        object.remove(key);
    }
}
