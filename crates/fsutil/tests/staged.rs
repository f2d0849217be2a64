//! Folders that appear whole or not at all.

#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use fsutil::StagedDir;

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn what_appears_meanwhile_is_not_overwritten() {
    for folder in [false, true] {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("out");
        let staged = StagedDir::create(&dir).unwrap();
        staged.write_file("new", b"new").unwrap();
        if folder {
            fs::create_dir(&dir).unwrap();
        } else {
            fs::write(&dir, "mine").unwrap();
        }
        let error = staged.commit().unwrap_err().to_string();
        assert!(error.contains("exists already"), "{error}");
        assert_eq!(names(parent.path()), ["out"]);
        assert_eq!(dir.is_dir(), folder);
    }
}

#[test]
fn folders_above_are_made_and_taken_away_again() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("exports/today/bundle");
    drop(StagedDir::create(&dir).unwrap());
    assert!(names(parent.path()).is_empty());
    StagedDir::create(&dir).unwrap().commit().unwrap();
    assert!(dir.is_dir());
    assert_eq!(names(&parent.path().join("exports/today")), ["bundle"]);
    // A file cannot have folders in it.
    let file = parent.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(StagedDir::create(file.join("bundle")).is_err());
    assert!(StagedDir::create("/").is_err());
}

/// `/dev/full` refuses every write as a full disk does.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_named() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("bundle");
    let staged = StagedDir::create(&out).unwrap();
    std::os::unix::fs::symlink("/dev/full", staged.path().join("full")).unwrap();
    let file = fs::OpenOptions::new()
        .write(true)
        .open(staged.path().join("full"))
        .unwrap();
    let error = std::io::Write::write_all(&mut &file, b"x").unwrap_err();
    let error = staged.failed("model.aimodel/main.mlirb", error).to_string();
    let expected = format!(
        "{}: the disk is full",
        out.join("model.aimodel/main.mlirb").display()
    );
    assert!(error.starts_with(&expected), "{error}");
    drop(staged);
    assert!(names(parent.path()).is_empty());
}

#[test]
fn files_appear_with_the_folder() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("bundle");
    let staged = StagedDir::create(&out).unwrap();
    staged.write_file("metadata.json", b"{}").unwrap();
    staged.write_file("tokenizer/vocab.json", b"{}").unwrap();
    assert!(staged.write_file("metadata.json", b"{}").is_err());
    assert!(!out.exists());
    staged.commit().unwrap();
    assert_eq!(names(&out), ["metadata.json", "tokenizer"]);
    let error = StagedDir::create(&out).unwrap_err().to_string();
    assert!(error.contains("exists already"), "{error}");
}

#[test]
fn paths_in_it_are_shown_as_they_will_be() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("bundle");
    let staged = StagedDir::create(&out).unwrap();
    let within = staged.path().join("a/b");
    assert_eq!(staged.final_path(&within), out.join("a/b"));
    assert_eq!(staged.final_path(staged.path()), out);
    assert_eq!(staged.final_path(Path::new("/other")), Path::new("/other"));
}
