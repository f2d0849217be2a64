//! What a model argument names.
#![allow(clippy::unwrap_used)]

use checkpoint::TokenizerFiles;
use models::Architecture;
use models::Error;
use models::qwen3_vl::{self, Chat, Config};

#[test]
fn nano_is_a_whole_checkpoint() {
    let source = models::open_source("nano", None).unwrap();
    assert_eq!((source.model(), source.revision()), ("nano", None));
    let config = Config::load(&source).unwrap();
    assert_eq!(Some(&config), Config::preset("nano").as_ref());
    config.check(&qwen3_vl::open(&source).unwrap()).unwrap();
    let files = TokenizerFiles::load(&source).unwrap();
    let prompt = Chat::load(&files, &config)
        .unwrap()
        .question("hello", Some(4))
        .unwrap();
    assert_eq!(prompt.ids.iter().filter(|id| **id >= 512).count(), 16);
}

#[test]
fn what_names_no_model_is_refused() {
    for model in [
        "",
        "no-such",
        "./no/such",
        "/no/such",
        "a/b/c",
        "../x",
        "a/..",
        "-a/b",
        "a/b ",
        "a\\b",
        "http://x",
        "a/",
        "/b",
        "a--b/c",
    ] {
        let error = models::open_source(model, None).unwrap_err();
        assert!(
            matches!(error, Error::Checkpoint(checkpoint::Error::Model { .. })),
            "{model}: {error}"
        );
        assert!(error.to_string().contains("organization/name"), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    assert!(models::open_source(path, None).is_ok());
    let file = folder.path().join("config.json");
    std::fs::write(&file, "{}").unwrap();
    let error = models::open_source(file.to_str().unwrap(), None).unwrap_err();
    assert!(error.to_string().contains("name the folder"), "{error}");
    for model in ["nano", path] {
        let error = models::open_source(model, Some("main")).unwrap_err();
        assert!(error.to_string().contains("revision"), "{error}");
    }
}
