//! ARCHITECTURE.md lists the dependencies of each crate by hand. The tests here
//! keep that table true.

use crate::repo;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use toml::{Table, Value};

/// Dependencies of a crate within this repository, by folder; `(optional)` is
/// part of an entry, as in the table.
type Dependencies = BTreeSet<String>;

const OPTIONAL: &str = " (optional)";

/// The rows of the table that are crates, in order.
fn documented() -> Vec<(String, Dependencies)> {
    let text = fs::read_to_string(repo::root().join("ARCHITECTURE.md")).unwrap();
    let (_, section) = text.split_once("## What depends on what").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let mut rows = Vec::new();
    for line in section.lines() {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let (Some(folder), Some(dependencies)) = (cells.next(), cells.next()) else {
            continue;
        };
        let folder = folder.trim_matches('`');
        let Some(folder) = folder
            .strip_prefix("crates/")
            .or_else(|| (folder == "xtask").then_some(folder))
        else {
            continue;
        };
        let names = dependencies.split(", ").filter(|name| *name != "–");
        rows.push((folder.to_owned(), names.map(str::to_owned).collect()));
    }
    rows
}

/// What the manifests of the workspace say.
fn manifests() -> BTreeMap<String, Dependencies> {
    let root = repo::root();
    let mut folders = vec![root.join("xtask")];
    for entry in fs::read_dir(root.join("crates")).unwrap() {
        folders.push(entry.unwrap().path());
    }
    let read = |path: &Path| -> Table {
        let text = fs::read_to_string(path.join("Cargo.toml")).unwrap();
        text.parse().unwrap()
    };
    let manifests: Vec<(String, Table)> = folders
        .iter()
        .map(|path| {
            let folder = path.file_name().unwrap().to_str().unwrap();
            (folder.to_owned(), read(path))
        })
        .collect();
    // A package may be called other than its folder: aimodel-cli lies in cli.
    let folder_of = |package: &str| {
        let named = manifests.iter().find(|(_, manifest)| {
            manifest["package"].get("name").and_then(Value::as_str) == Some(package)
        });
        named.map(|(folder, _)| folder.clone())
    };
    manifests
        .iter()
        .map(|(folder, manifest)| {
            let of_targets = manifest.get("target").and_then(Value::as_table);
            let of_targets = of_targets.into_iter().flat_map(Table::values);
            let tables = of_targets
                .chain([&Value::Table(manifest.clone())])
                .filter_map(|table| table.get("dependencies")?.as_table().cloned())
                .collect::<Vec<_>>();
            let found = tables.iter().flatten().filter_map(|(package, details)| {
                let name = folder_of(package)?;
                let optional = details.get("optional").and_then(Value::as_bool);
                let mark = if optional == Some(true) { OPTIONAL } else { "" };
                Some(name + mark)
            });
            (folder.clone(), found.collect())
        })
        .collect()
}

#[test]
fn the_table_of_dependencies_is_that_of_the_manifests() {
    let documented: BTreeMap<_, _> = documented().into_iter().collect();
    let manifests = manifests();
    assert!(manifests.len() > 15);
    for (folder, expected) in &manifests {
        let row = documented.get(folder);
        let row = row.unwrap_or_else(|| panic!("ARCHITECTURE.md has no row for {folder}"));
        assert_eq!(
            row, expected,
            "ARCHITECTURE.md (left), Cargo.toml of {folder} (right)"
        );
    }
    for folder in documented.keys() {
        assert!(
            manifests.contains_key(folder),
            "ARCHITECTURE.md has a row for {folder}, which is not a crate"
        );
    }
}

#[test]
fn crates_depend_only_on_crates_above_them() {
    let mut above = BTreeSet::new();
    for (folder, dependencies) in documented() {
        for name in dependencies {
            let name = name.strip_suffix(OPTIONAL).unwrap_or(&name);
            assert!(
                above.contains(name),
                "ARCHITECTURE.md: {folder} depends on {name}, whose row is not above it"
            );
        }
        above.insert(folder);
    }
}
