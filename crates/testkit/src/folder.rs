//! Folders and the JSON files in them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

/// The top folder of the repository.
pub fn repository() -> &'static Path {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    top.expect("crates/testkit lies in the repository")
}

/// The bundle of this name that tools of others made of nano's checkpoint.
pub fn foreign_bundle(name: &str) -> PathBuf {
    repository()
        .join("crates/engine/tests/fixtures/apple")
        .join(name)
}

/// Copies what is in a folder into another one, which may exist. Links are
/// followed.
pub fn copy_folder(from: &Path, to: &Path) {
    let copy = || {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let to = to.join(entry.file_name());
            if entry.path().is_dir() {
                copy_folder(&entry.path(), &to);
            } else {
                fs::copy(entry.path(), to)?;
            }
        }
        std::io::Result::Ok(())
    };
    copy().unwrap_or_else(|error| panic!("{} to {}: {error}", from.display(), to.display()));
}

/// The names in a folder, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder);
    let entries = entries.unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// What is below a folder, by path: the content of files, `None` for folders.
pub type Tree = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// Reads everything below a folder.
pub fn tree(folder: &Path) -> Tree {
    fn walk(root: &Path, folder: &Path, tree: &mut Tree) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_owned();
            // A link counts as a file: a product never writes one.
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

/// Reads a JSON file.
pub fn read_json(path: &Path) -> Value {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Changes a JSON file.
pub fn edit_json(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value = read_json(path);
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_everything() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        fs::create_dir_all(a.join("empty")).unwrap();
        fs::create_dir_all(a.join("deep/er")).unwrap();
        fs::write(a.join("deep/er/x.json"), r#"{"k":1}"#).unwrap();
        copy_folder(&a, &b);
        assert_eq!(names(&b), ["deep", "empty"]);
        assert!(tree(&a) == tree(&b));
        assert_eq!(tree(&b).len(), 4);
        edit_json(&b.join("deep/er/x.json"), |value| value["k"] = 2.into());
        assert_eq!(read_json(&b.join("deep/er/x.json"))["k"], 2);
        assert!(tree(&a) != tree(&b));
        assert!(repository().join("Cargo.lock").is_file());
    }
}
