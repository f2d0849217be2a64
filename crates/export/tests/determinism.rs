//! The same checkpoint and options give the same bytes.

// Helpers outside test functions, which clippy.toml does not exempt.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::{env, fs, path::Path, process::Command};

use bundle::{CallShape, Layout};
use checkpoint::Source;
use common::{Bench, export_in_child, options, quiet, tiny};
use export::Options;
use quantize::Recipe;
use testkit::{Tree, tree};

const RECIPES: &[Recipe] = quantize::RECIPES;
const QUERIES: [CallShape; 3] = [CallShape::One, CallShape::Dynamic, CallShape::Prefill(8)];

fn everything(mode: &'static Recipe) -> Options {
    Options {
        recipe: mode,
        layouts: QUERIES.map(Layout::Pipelined).to_vec(),
        ..options()
    }
}

/// What an export to a new folder leaves in it.
fn exported(bench: &Bench, options: &Options) -> Tree {
    bench.export(options).unwrap();
    let tree = tree(&bench.out());
    fs::remove_dir_all(bench.out().parent().unwrap()).unwrap();
    tree
}

/// Equal, or else which files differ.
fn assert_same(a: &Tree, b: &Tree) {
    let names: Vec<_> = a.keys().collect();
    assert_eq!(names, b.keys().collect::<Vec<_>>());
    let differ: Vec<_> = a.keys().filter(|name| a[*name] != b[*name]).collect();
    assert!(differ.is_empty(), "{differ:?} differ");
}

#[test]
fn neither_time_nor_threads_matter() {
    // Matrices of several chunks, which threads share in ways of their own.
    let mut config = tiny();
    config.text_config.vocab_size = 40_000;
    let bench = Bench::new(&config);
    let mut trees = Vec::new();
    for threads in [1, 2, 3, 7] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let pool = pool.build().unwrap();
        trees.push(pool.install(|| exported(&bench, &options())));
    }
    trees.push(exported(&bench, &options()));
    for other in &trees[1..] {
        assert_same(&trees[0], other);
    }
}

#[test]
fn together_or_one_by_one_does_not_matter() {
    let bench = Bench::new(&tiny());
    for mode in RECIPES {
        let together = exported(&bench, &everything(mode));
        assert_same(&together, &exported(&bench, &everything(mode)));
        let mut apart = Tree::new();
        for query in QUERIES {
            let one = Options {
                layouts: vec![Layout::Pipelined(query)],
                vision: false,
                ..everything(mode)
            };
            apart.extend(exported(&bench, &one));
        }
        let vision = Options {
            decoder: false,
            ..everything(mode)
        };
        apart.extend(exported(&bench, &vision));
        assert_same(&together, &apart);
    }
}

#[test]
fn the_order_of_the_queries_does_not_matter() {
    let bench = Bench::new(&tiny());
    let mut backwards = everything(Recipe::named("int8hu").unwrap());
    backwards.layouts.reverse();
    assert_same(
        &exported(&bench, &everything(Recipe::named("int8hu").unwrap())),
        &exported(&bench, &backwards),
    );
}

#[test]
fn neither_places_nor_spellings_of_paths_matter() {
    let bench = Bench::new(&tiny());
    let expected = exported(&bench, &options());
    let folder = bench.folder.path();
    fs::create_dir_all(folder.join("deep/er")).unwrap();
    let absolute = bench.model();
    // Where the process is, the checkpoint from there, and the output.
    for (place, model, out) in [
        (folder, Path::new("tiny"), Path::new("out")),
        (folder, Path::new("./deep/../tiny/"), Path::new("deep/out")),
        (
            &folder.join("deep/er"),
            Path::new("../../tiny"),
            Path::new("out"),
        ),
        (&absolute, Path::new("."), Path::new("../out")),
        (Path::new("/"), &absolute, &folder.join("out")),
    ] {
        let mut command = Command::new(env::current_exe().unwrap());
        command.current_dir(place);
        export_in_child(command, model, out).unwrap();
        let made = place.join(out);
        assert_same(&expected, &tree(&made));
        fs::remove_dir_all(made).unwrap();
    }
    // Nor does what the environment says about time, language and threads.
    let mut command = Command::new(env::current_exe().unwrap());
    command.envs([
        ("TZ", "Asia/Kolkata"),
        ("LC_ALL", "tr_TR.UTF-8"),
        ("RAYON_NUM_THREADS", "1"),
    ]);
    export_in_child(command, &absolute, &bench.out()).unwrap();
    assert_same(&expected, &tree(&bench.out()));
}

#[test]
fn how_weights_are_filed_does_not_matter() {
    let single = Bench::new(&tiny());
    let expected = exported(&single, &options());
    let sharded = Bench::sharded(&tiny(), 50_000);
    assert_same(&expected, &exported(&sharded, &options()));
    // In another order, and under names that other tools write.
    single.edit(|weights| {
        weights.tensors.reverse();
        for tensor in &mut weights.tensors {
            tensor.name = tensor.name.replace("model.language_model.", "model.");
            tensor.name = tensor.name.replace("model.visual.", "visual.");
        }
    });
    assert_same(&expected, &exported(&single, &options()));
}

#[test]
fn the_stated_time_is_in_the_metadata_only() {
    let bench = Bench::new(&tiny());
    let a = exported(&bench, &options());
    let later = Options {
        license: Some("Apache-2.0".to_owned()),
        created: 1_795_374_656,
        ..options()
    };
    let b = exported(&bench, &later);
    let differ: Vec<_> = a.keys().filter(|name| a[*name] != b[*name]).collect();
    let expected = [
        "tiny_decode_int8hu_s1/metadata.json",
        "tiny_decode_int8hu_s1/tiny_decode_int8hu_s1.aimodel/metadata.json",
        "tiny_vision/tiny_vision.aimodel/metadata.json",
    ];
    assert_eq!(differ, expected.map(Path::new));
    let text = |tree: &Tree, index: usize| {
        let bytes = tree[Path::new(expected[index])].clone();
        String::from_utf8(bytes.unwrap()).unwrap()
    };
    assert!(text(&a, 0).contains("\"date\": \"1970-01-01T00:00:00+00:00\""));
    assert!(text(&b, 0).contains("\"date\": \"2026-11-22T19:10:56+00:00\""));
    for index in [1, 2] {
        assert!(text(&a, index).contains("\"creationDate\": \"19700101T000000Z\""));
        assert!(text(&b, index).contains("\"creationDate\": \"20261122T191056Z\""));
    }
}

#[test]
fn the_embedded_checkpoint_is_as_good_as_its_folder() {
    let bench = Bench::new(&tiny());
    let nano = Source::nano();
    let path = bench.folder.path().join("nano");
    fs::create_dir(&path).unwrap();
    let files = checkpoint::TokenizerFiles::load(&nano).unwrap().files;
    for (name, bytes) in files {
        fs::write(path.join(name), bytes).unwrap();
    }
    for name in ["config.json", "model.safetensors"] {
        fs::write(path.join(name), &*nano.map(name).unwrap().unwrap()).unwrap();
    }
    let options = Options {
        grid: 4,
        ..options()
    };
    let folder = Source::folder(&path).unwrap();
    let (a, b) = (bench.folder.path().join("a"), bench.folder.path().join("b"));
    export::export(&nano, &a, &options, quiet()).unwrap();
    export::export(&folder, &b, &options, quiet()).unwrap();
    assert_same(&tree(&a), &tree(&b));
}
