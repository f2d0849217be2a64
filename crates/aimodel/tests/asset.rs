//! Asset folders: they appear whole or not at all, and what is wrong with one
//! is said with the file's name.

#![allow(clippy::unwrap_used)]

mod common;

use testkit::names;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aimodel::{
    AssetBuilder, AssetMetadata, Blob, BlobError, BlobSource, ElementType, Error, Module,
    TensorType, open_asset, verify, write_asset, write_asset_into,
};
use common::small;

fn metadata() -> AssetMetadata {
    let mut metadata = AssetMetadata::new("a test", 1_000_000_000).unwrap();
    metadata.license = Some("Apache-2.0".to_owned());
    metadata
}

/// A folder with an asset in it, and the path of that.
fn written() -> (tempfile::TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("small.aimodel");
    write_asset(&dir, &small(), &metadata()).unwrap();
    (parent, dir)
}

#[test]
fn what_is_written_is_read() {
    let (parent, dir) = written();
    assert_eq!(names(parent.path()), ["small.aimodel"]);
    assert_eq!(names(&dir), ["main.hash", "main.mlirb", "metadata.json"]);
    let asset = open_asset(&dir).unwrap();
    assert_eq!(asset.metadata, metadata());
    asset.check_hash().unwrap();
    verify(&asset.module).unwrap();
    let json = fs::read_to_string(dir.join("metadata.json")).unwrap();
    let expected = r#"{
  "assetVersion": "2.0",
  "creationDate": "20010909T014640Z",
  "producer": "a test",
  "license": "Apache-2.0"
}
"#;
    assert_eq!(json, expected);

    let again = parent.path().join("again.aimodel");
    write_asset(&again, &asset.module, &asset.metadata).unwrap();
    for name in names(&dir) {
        assert_eq!(
            fs::read(dir.join(&name)).unwrap(),
            fs::read(again.join(&name)).unwrap()
        );
    }
}

#[cfg(unix)]
#[test]
fn others_may_read_what_is_written() {
    use std::os::unix::fs::PermissionsExt;
    let (parent, dir) = written();
    let plain = parent.path().join("plain");
    fs::create_dir(&plain).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&dir), mode(&plain));
}

#[test]
fn what_exists_is_not_overwritten() {
    let (parent, dir) = written();
    let file = parent.path().join("file");
    fs::write(&file, "mine").unwrap();
    let empty = parent.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let before = names(parent.path());
    for target in [&dir, &file, &empty] {
        let error = write_asset(target, &small(), &metadata()).unwrap_err();
        let expected = format!("{}: exists already", target.display());
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
    assert_eq!(names(parent.path()), before);
    assert_eq!(fs::read(file).unwrap(), b"mine");
}

#[test]
fn a_folder_takes_an_asset_where_none_of_its_files_is() {
    let (_parent, dir) = written();
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("bundle/model.aimodel");
    write_asset_into(&out, &small(), &metadata()).unwrap();
    for name in names(&dir) {
        assert_eq!(
            fs::read(dir.join(&name)).unwrap(),
            fs::read(out.join(&name)).unwrap()
        );
        // Another file of that name stays as it is.
        let other = parent.path().join(&name);
        fs::create_dir(&other).unwrap();
        fs::write(other.join(&name), "mine").unwrap();
        let error = write_asset_into(&other, &small(), &metadata()).unwrap_err();
        assert!(
            matches!(&error, Error::File { path, .. } if *path == other.join(&name)),
            "{error}"
        );
        assert_eq!(fs::read(other.join(&name)).unwrap(), b"mine");
        // Whatever was written, it is not an asset.
        assert!(open_asset(&other).is_err());
    }
}

#[test]
fn errors_are_shown_under_another_path() {
    let (_parent, dir) = written();
    let error = write_asset_into(&dir, &small(), &metadata()).unwrap_err();
    let shown = error.map_path(|path| {
        assert_eq!(path, dir.join("main.mlirb"));
        PathBuf::from("elsewhere")
    });
    assert!(shown.to_string().starts_with("elsewhere: "), "{shown}");
}

/// A blob whose bytes cannot be made.
struct Broken(io::ErrorKind);

impl BlobSource for Broken {
    fn len(&self) -> u64 {
        8 << 20
    }
    fn write_to(&self, out: &mut dyn io::Write) -> Result<(), BlobError> {
        out.write_all(&vec![0; 4 << 20])?;
        Err(BlobError::source(io::Error::from(self.0)))
    }
}

fn broken(kind: io::ErrorKind) -> Module {
    let mut asset = AssetBuilder::new();
    let mut graph = asset.graph("main");
    let ty = TensorType::fixed([8 << 20], ElementType::Si8);
    let constant = graph
        .resource(ty, "broken", || Blob::new(Broken(kind)))
        .unwrap();
    graph.finish(&[("y", constant)]).unwrap();
    asset.finish().unwrap()
}

#[test]
fn nothing_is_left_of_what_cannot_be_made() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("exports/small.aimodel");
    let module = broken(io::ErrorKind::InvalidData);
    let error = write_asset(&dir, &module, &metadata()).unwrap_err();
    // The error of the source arrives as itself, not as one of the file.
    let Error::Blob(error) = error else {
        panic!("{error}")
    };
    let error = error.downcast::<io::Error>().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(names(parent.path()).is_empty());
}

#[test]
fn what_is_wrong_with_an_asset_is_said() {
    type Damage = fn(&Path);
    let cases: &[(Damage, &str)] = &[
        (
            |dir| fs::remove_file(dir.join("main.mlirb")).unwrap(),
            "main.mlirb: is missing",
        ),
        (
            |dir| fs::write(dir.join("main.mlirb"), "").unwrap(),
            "main.mlirb: not MLIR bytecode",
        ),
        (
            |dir| fs::write(dir.join("main.mlirb"), "ML\u{ef}R").unwrap(),
            "main.mlirb: not MLIR bytecode",
        ),
        (
            |dir| {
                fs::remove_file(dir.join("main.mlirb")).unwrap();
                fs::create_dir(dir.join("main.mlirb")).unwrap();
            },
            "main.mlirb: is not a regular file",
        ),
        (
            |dir| fs::remove_file(dir.join("main.hash")).unwrap(),
            "main.hash: is missing",
        ),
        (
            |dir| fs::write(dir.join("main.hash"), [0; 31]).unwrap(),
            "main.hash: expected the 32 bytes of a SHA-256, found 31",
        ),
        (
            |dir| fs::write(dir.join("main.hash"), [0; 1000]).unwrap(),
            "main.hash: expected 32 bytes at most, found more",
        ),
        (
            |dir| fs::remove_file(dir.join("metadata.json")).unwrap(),
            "metadata.json: is missing",
        ),
        (
            |dir| fs::write(dir.join("metadata.json"), "{").unwrap(),
            "metadata.json: is not JSON",
        ),
        (
            |dir| fs::write(dir.join("metadata.json"), "[".repeat(100_000)).unwrap(),
            "metadata.json: is not JSON",
        ),
        (
            |dir| fs::write(dir.join("metadata.json"), " ".repeat(2 << 20)).unwrap(),
            "metadata.json: expected 1048576 bytes at most",
        ),
        (
            |dir| fs::write(dir.join("metadata.json"), "[]").unwrap(),
            "metadata.json: expected a JSON object",
        ),
        (
            |dir| fs::write(dir.join("metadata.json"), "{}").unwrap(),
            "metadata.json: `assetVersion` is missing",
        ),
        (
            |dir| fs::write(dir.join("metadata.json"), r#"{"assetVersion": 2}"#).unwrap(),
            "metadata.json: `assetVersion` must be a string, found 2",
        ),
        (
            |dir| fs::write(dir.join("metadata.json"), r#"{"assetVersion": "3.0"}"#).unwrap(),
            "metadata.json: `assetVersion` is \"3.0\"; only \"2.0\" is known",
        ),
        (
            |dir| {
                let json = r#"{"assetVersion": "2.0", "creationDate": "yesterday"}"#;
                fs::write(dir.join("metadata.json"), json).unwrap();
            },
            "metadata.json: `creationDate` is \"yesterday\"; expected YYYYMMDDTHHMMSSZ",
        ),
        (
            |dir| fs::remove_dir_all(dir).unwrap(),
            "small.aimodel: there is no such folder",
        ),
    ];
    for (damage, expected) in cases {
        let (parent, dir) = written();
        damage(&dir);
        let error = open_asset(&dir).unwrap_err().to_string();
        let error = error.strip_prefix(parent.path().to_str().unwrap()).unwrap();
        assert!(error.contains(expected), "{error} for {expected}");
    }
}

#[test]
fn a_wrong_hash_is_found() {
    let (_parent, dir) = written();
    fs::write(dir.join("main.hash"), [7; 32]).unwrap();
    let asset = open_asset(&dir).unwrap();
    let error = asset.check_hash().unwrap_err().to_string();
    assert!(error.contains("main.mlirb: its SHA-256 is "), "{error}");
    assert!(error.contains(&"07".repeat(32)), "{error}");
    assert_ne!(asset.compute_hash().unwrap(), asset.stated_hash);
}
