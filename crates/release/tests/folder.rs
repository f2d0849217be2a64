//! A release of nano, as it should be.

mod common;

use std::fs;

use checkpoint::Source;
use common::{Case, assemble, bench, given, repository};
use release::{Listing, Release, sums};
use serde_json::Value;

#[test]
fn two_releases_are_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["a", "b"].map(|name| folder.path().join(name));
    let made = paths
        .each_ref()
        .map(|path| assemble(&bench().transcripts, path).unwrap());
    let read = paths.each_ref().map(|path| Listing::read(path).unwrap());
    assert_eq!(read[0], read[1]);
    assert_eq!(made[0].listing, read[0]);
    assert_eq!(Release::open(&paths[0]).unwrap().listing, read[0]);
    // It is not made over one that is there.
    assert!(assemble(&bench().transcripts, &paths[0]).is_err());
    assert_eq!(Listing::read(&paths[0]).unwrap(), read[0]);
}

#[test]
fn gates_run_again_publish_the_same() {
    let recipe = "int8hu".parse().unwrap();
    let layout = bundle::Layout::Pipelined("s1".parse().unwrap());
    let exports = &bench().exports;
    let candidate = gate::Candidate::open(Source::nano(), exports, "nano", recipe, layout).unwrap();
    let again = release::publish(&common::judge(&candidate)).unwrap();
    let before = release::publish(&bench().transcripts[0]).unwrap();
    assert_eq!(again, before);
    let value: Value = serde_json::from_str(&again).unwrap();
    assert!(value["environment"].get("threads").is_none());
    assert!(value["stages"][0].get("seconds").is_none());
    // It reads as a transcript, and holds.
    let transcript: gate::Transcript = serde_json::from_str(&again).unwrap();
    transcript.holds(&given().recipe.required()).unwrap();
}

#[test]
fn the_checkpoint_gives_the_same_sums_again() {
    let case = Case::new();
    let release = Release::open(&case.out()).unwrap();
    let exports = tempfile::tempdir().unwrap();
    common::export(exports.path());
    release::differences(&release, exports.path()).unwrap();
    release.check_source(&Source::nano()).unwrap();

    let files = [
        "nano_decode_int8lin_s1/nano_decode_int8lin_s1.aimodel/main.mlirb",
        "nano_vlm_int8hu/embedding.aimodel/main.mlirb",
    ];
    for file in files {
        let mut bytes = fs::read(exports.path().join(file)).unwrap();
        bytes[5000] ^= 1;
        fs::write(exports.path().join(file), bytes).unwrap();
    }
    fs::write(exports.path().join("nano_vision/more"), "").unwrap();
    fs::remove_file(
        exports
            .path()
            .join("nano_vlm_int8hu/vision.aimodel/main.hash"),
    )
    .unwrap();
    let error = release::differences(&release, exports.path()).unwrap_err();
    let parts = [
        files[0],
        files[1],
        "the checkpoint gives",
        "gpu-pipelined/nano_vision/more: is not in the folder",
        "apple/nano_vlm_int8hu/vision.aimodel/main.hash: is in the folder, and",
    ];
    common::refuses(&error, &parts);
}

#[test]
fn another_checkpoint_is_told() {
    let case = Case::new();
    let release = Release::open(&case.out()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    common::copy_folder(&repository().join("oracles/nano/checkpoint"), folder.path());
    let source = || Source::folder(folder.path()).unwrap();
    release.check_source(&source()).unwrap();
    let weights = folder.path().join("model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&weights, bytes).unwrap();
    let tokenizer = folder.path().join("tokenizer_config.json");
    let text = fs::read_to_string(&tokenizer).unwrap();
    fs::write(&tokenizer, format!("{text}\n")).unwrap();
    let error = release.check_source(&source()).unwrap_err().to_string();
    for part in [
        "is about a checkpoint with the digest",
        "nano_decode_int8hu_s1/tokenizer/tokenizer_config.json: is not what the checkpoint gives",
    ] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn sums_are_those_of_sha256sum() {
    let case = Case::new();
    let text = case.read("SHA256SUMS");
    let stated = sums::parse(&text).unwrap();
    let listing = Listing::read(&case.out()).unwrap();
    assert!(stated.contains_key("LICENSE") && stated.contains_key("recipe.toml"));
    assert!(!stated.contains_key("README.md"));
    assert!(stated.keys().all(|path| sums::lists(path)));
    // And three transcripts.
    assert_eq!(stated.len() + 5, listing.files.len());
    #[cfg(target_os = "linux")]
    {
        let mut command = std::process::Command::new("sha256sum");
        command.args(["-c", "--quiet", "--strict", "SHA256SUMS"]);
        assert!(command.current_dir(case.out()).status().unwrap().success());
    }
}

#[test]
fn every_recipe_reads() {
    let mut models = Vec::new();
    for entry in fs::read_dir(repository().join("recipes")).unwrap() {
        let path = entry.unwrap().path();
        let given = release::Given::load(&path).unwrap();
        let gates = repository().join(format!("gates/{}.toml", given.recipe.gates));
        gate::Gates::load(&gates).unwrap();
        assert!(given.license.len() > 500, "{}", path.display());
        models.push(given.recipe.model);
    }
    models.sort();
    let expected = [
        "Qwen/Qwen3-VL-2B-Instruct",
        "Qwen/Qwen3-VL-4B-Instruct",
        "Qwen/Qwen3-VL-8B-Instruct",
        "nano",
    ];
    assert_eq!(models, expected);
}

#[test]
fn recipes_that_cannot_be_released() {
    let good = fs::read_to_string(repository().join("recipes/qwen3-vl-2b.toml")).unwrap();
    release::Recipe::parse(&good).unwrap();
    for (from, to, part) in [
        ("Qwen/Qwen3-VL-2B-Instruct", "../Qwen", "model"),
        ("Qwen/Qwen3-VL-2B-Instruct", "some-folder", "model"),
        ("\"int8lin\"]", "\"int8hu\"]", "twice"),
        ("\"int8lin\"]", "\"int4\"]", "int4"),
        ("modes = [\"int8hu\", \"int8lin\"]", "modes = []", "modes"),
        ("Apache-2.0", "Apache 2", "license"),
        ("Apache-2.0", "MIT", "license_file"),
        ("Apache-2.0", "other", "license_name"),
        ("\"en\"", "\"English\"", "language"),
        ("tags = [", "tags = [\"a b\", ", "tags"),
        ("title = \"", "title = \"\\n", "title"),
        ("title = \"", "title = \"\\u202e", "title"),
        ("gates = \"qwen3-vl\"", "gates = \"../x\"", "gates"),
        ("\"ladder\"", "\"speed\"", "speed"),
        ("grid = 14", "grid = 14\nsize = 3", "size"),
        (
            "[vlm]\nmodes = [\"int8hu\"]",
            "[vlm]\nmodes = []",
            "vlm.modes",
        ),
        (
            "[vlm]\nmodes = [\"int8hu\"]",
            "[vlm]\nmodes = [\"int8hu\", \"int8hu\"]",
            "qwen3_vl_2b_instruct_vlm_int8hu is there twice",
        ),
        ("[vlm]\nmodes", "[vlm]\nqueries = []\nmodes", "queries"),
    ] {
        let text = good.replacen(from, to, 1);
        assert_ne!(text, good, "{from}");
        let error = release::Recipe::parse(&text).unwrap_err().to_string();
        assert!(error.contains(part), "{to}: {error}");
    }
}

#[test]
fn vlm_bundles_of_a_recipe() {
    let file = |name: &str| {
        let path = repository().join(format!("recipes/{name}.toml"));
        release::Given::load(&path).unwrap().recipe
    };
    let recipe = file("qwen3-vl-2b");
    let decoders: Vec<_> = recipe.decoders().collect();
    let [first, other, vlm] = &decoders[..] else {
        panic!("{decoders:?}");
    };
    assert_eq!(first.max_context, 4096);
    assert_eq!(
        other.place(),
        "gpu-pipelined/qwen3_vl_2b_instruct_decode_int8lin_s1"
    );
    assert_eq!(vlm.place(), "apple/qwen3_vl_2b_instruct_vlm_int8hu");
    assert_eq!(vlm.max_context, 1024);
    assert!(!vlm.has_stage(gate::Stage::Device) && first.has_stage(gate::Stage::Device));
    // Two decoders, a vision encoder beside them, and three in one folder.
    assert_eq!(recipe.assets().len(), 6);
    let exports = release::exports(&recipe, 7);
    let made: Vec<_> = exports
        .iter()
        .map(|options| {
            let contexts = (options.max_context, options.created);
            (
                options.recipe.name,
                options.layouts.len(),
                options.vision,
                contexts,
            )
        })
        .collect();
    let expected = [
        ("int8hu", 1, true, (4096, 7)),
        ("int8lin", 1, false, (4096, 7)),
        ("int8hu", 1, false, (1024, 7)),
    ];
    assert_eq!(made, expected);
    assert_eq!(exports[2].layouts, [bundle::Layout::Vlm]);
    // Without a context of its own, the recipe's.
    assert_eq!(
        file("qwen3-vl-8b").decoders().last().unwrap().max_context,
        4096
    );

    // A recipe need not have any.
    let text = fs::read_to_string(repository().join("recipes/nano.toml")).unwrap();
    let text = text.split("[vlm]").next().unwrap();
    let recipe = release::Recipe::parse(text).unwrap();
    assert_eq!(recipe.decoders().count(), 2);
    assert_eq!(release::exports(&recipe, 0).len(), 2);
}

/// What a recipe calls a licence is published: it must be one by its name, and
/// no link.
#[test]
fn licences_that_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("id_rsa");
    fs::write(&secret, "secret").unwrap();
    fs::write(folder.path().join("licence.txt"), "terms").unwrap();
    let good = fs::read_to_string(repository().join("recipes/nano.toml")).unwrap();
    let path = folder.path().join("own.toml");
    let load = |file: &str| {
        let text = good.replacen("../LICENSE", file, 1);
        assert_ne!(text, good);
        fs::write(&path, text).unwrap();
        release::Given::load(&path)
    };
    assert_eq!(load("licence.txt").unwrap().license, "terms");
    let absolute = secret.display().to_string();
    let mut refused = vec!["id_rsa", absolute.as_str(), "LICENSE-missing"];
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&secret, folder.path().join("LICENSE")).unwrap();
        refused.push("LICENSE");
    }
    for file in refused {
        let error = load(file).unwrap_err().to_string();
        assert!(error.contains("LICENSE"), "{file}: {error}");
    }
}
