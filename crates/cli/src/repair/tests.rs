#![allow(clippy::unwrap_used)]

use super::{Args, PRODUCER, run};
use crate::Refused;
use aimodel::{AssetBuilder, AssetMetadata, ElementType, Locations, TensorType, diff, open_asset};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

fn early() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../aimodel/tests/fixtures/early.aimodel")
}

fn repair(path: &Path, out: &Path, name_producer: bool) -> anyhow::Result<()> {
    run(Args {
        path: path.to_owned(),
        out: out.to_owned(),
        name_producer,
    })
}

/// A bundle with an early asset, a sound one, and files; and a folder beside it
/// for its copy.
fn bundle() -> (TempDir, PathBuf, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let bundle = parent.path().join("a_decode_int8hu_s1");
    fs::create_dir_all(bundle.join("tokenizer")).unwrap();
    fs::write(bundle.join("metadata.json"), "{ }").unwrap();
    fs::write(bundle.join("tokenizer/vocab.json"), "{\"a\": 1}").unwrap();
    let asset = bundle.join("early.aimodel");
    fs::create_dir(&asset).unwrap();
    for name in ["main.mlirb", "main.hash", "metadata.json"] {
        fs::copy(early().join(name), asset.join(name)).unwrap();
    }
    sound(&bundle.join("sound.aimodel"));
    let out = parent.path().join("repaired");
    (parent, bundle, out)
}

fn sound(at: &Path) {
    let mut asset = AssetBuilder::new();
    let mut main = asset.graph("main");
    let ty = TensorType::fixed([4], ElementType::F16);
    let x = main.input("x", ty).unwrap();
    main.finish(&[("y", x)]).unwrap();
    let metadata = AssetMetadata::new("a test", 0).unwrap();
    aimodel::write_asset(at, &asset.finish().unwrap(), &metadata).unwrap();
}

/// All files below a folder and what they hold.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let (mut found, mut waiting) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(next) = waiting.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().display().to_string();
                found.push((name, fs::read(path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_bundle_is_copied_and_its_faulty_assets_are_repaired() {
    let (_parent, bundle, out) = bundle();
    let before = files(&bundle);
    repair(&bundle, &out, false).unwrap();
    assert_eq!(files(&bundle), before);
    let copy = out.join("a_decode_int8hu_s1");
    let after = files(&copy);
    let differing: Vec<&str> = before
        .iter()
        .zip(&after)
        .filter(|(before, after)| before != after)
        .map(|(before, after)| {
            assert_eq!(before.0, after.0);
            before.0.as_str()
        })
        .collect();
    assert_eq!(
        differing,
        ["early.aimodel/main.hash", "early.aimodel/main.mlirb"]
    );
    assert_eq!(before.len(), after.len());
    let [was, is] = [&bundle, &copy].map(|at| open_asset(at.join("early.aimodel")).unwrap());
    is.check_hash().unwrap();
    assert_eq!(diff(&is.module, &was.module).unwrap(), []);
    assert_eq!(Locations::of(&is.module).faulty(), 0);

    // What is there is not overwritten, and the copy needs no repair.
    let error = repair(&bundle, &out, false).unwrap_err();
    assert!(error.to_string().contains("exists already"), "{error}");
    repair(&copy, &out.join("again"), false).unwrap();
    assert!(!out.join("again").exists());
}

#[test]
fn an_asset_alone_is_repaired_and_named() {
    let out = tempfile::tempdir().unwrap();
    repair(&early(), out.path(), true).unwrap();
    let asset = open_asset(out.path().join("early.aimodel")).unwrap();
    assert_eq!(asset.metadata.producer.as_deref(), Some(PRODUCER));
}

#[test]
fn nothing_is_written_of_what_is_damaged_or_elsewhere() {
    let (parent, bundle, out) = bundle();
    fs::write(bundle.join("sound.aimodel/main.hash"), [0; 32]).unwrap();
    let error = repair(&bundle, &out, false).unwrap_err();
    assert!(error.is::<Refused>(), "{error}");
    assert!(error.to_string().contains("sound.aimodel"), "{error}");
    fs::remove_dir_all(bundle.join("sound.aimodel")).unwrap();

    #[cfg(unix)]
    {
        let link = bundle.join("tokenizer/merges.txt");
        std::os::unix::fs::symlink("/etc/hostname", &link).unwrap();
        let error = repair(&bundle, &out, false).unwrap_err();
        assert!(
            error.to_string().contains("merges.txt is a link"),
            "{error}"
        );
        fs::remove_file(link).unwrap();
    }
    let empty = parent.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let error = repair(&empty, &out, false).unwrap_err();
    assert!(error.to_string().contains("holds no main.mlirb"), "{error}");
    assert!(!out.exists());
}
