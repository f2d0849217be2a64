//! A disk that does not take an export ends it with one clear error, and nothing
//! is left; nor is anything touched that was there.

// Helpers outside test functions, which clippy.toml does not exempt.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::{
    fs,
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bundle::{CallShape, Layout};
use common::{Bench, decoder_only, options, quiet, tiny};
use export::{Options, Progress};
use quantize::Recipe;
use testkit::{assert_one_line, names, tree};

#[test]
fn what_exists_is_not_touched() {
    let bench = Bench::new(&tiny());
    let out = bench.out();
    let mut all = options();
    all.layouts = vec![
        Layout::Pipelined(CallShape::One),
        Layout::Pipelined(CallShape::Dynamic),
    ];
    let bundles = ["tiny_decode_int8hu_s1", "tiny_decode_int8hu", "tiny_vision"];
    for name in bundles {
        let path = out.join(name);
        let refuses = || {
            let before = tree(&out);
            let error = bench.export(&all).unwrap_err().to_string();
            assert_one_line(&error, &[path.to_str().unwrap(), "exists already"]);
            assert!(tree(&out) == before, "{:?}", names(&out));
        };
        fs::create_dir_all(&out).unwrap();
        fs::create_dir(&path).unwrap();
        refuses();
        fs::write(path.join("mine"), "mine").unwrap();
        refuses();
        fs::remove_dir_all(&path).unwrap();
        fs::write(&path, "mine").unwrap();
        refuses();
        fs::remove_file(&path).unwrap();
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("nowhere", &path).unwrap();
            let error = bench.export(&all).unwrap_err().to_string();
            assert_one_line(&error, &[path.to_str().unwrap(), "exists already"]);
            assert_eq!(names(&out), [name]);
        }
        fs::remove_dir_all(out.parent().unwrap()).unwrap();
    }
    bench.export(&all).unwrap();
    let mut made = names(&out);
    made.sort_by_key(|name| bundles.iter().position(|bundle| bundle == name));
    assert_eq!(made, bundles);
    let error = bench.export(&all).unwrap_err().to_string();
    assert_one_line(&error, &["tiny_decode_int8hu_s1", "exists already"]);
}

#[test]
fn an_error_shows_the_way_to_a_second_recipe() {
    let bench = Bench::new(&tiny());
    bench.export(&options()).unwrap();
    let other = Options {
        recipe: Recipe::named("fp16").unwrap(),
        ..options()
    };
    let error = bench.export(&other).unwrap_err().to_string();
    assert_one_line(
        &error,
        &[
            "tiny_vision",
            "exists already",
            "leave the vision encoder out",
        ],
    );
    bench
        .export(&decoder_only(Recipe::named("fp16").unwrap()))
        .unwrap();
}

#[test]
fn a_model_without_a_name_for_a_folder_needs_one() {
    let bench = Bench::new(&tiny());
    let model = bench.model().with_file_name("微调");
    std::fs::rename(bench.model(), &model).unwrap();
    let source = checkpoint::Source::folder(&model).unwrap();
    let error = export::export(&source, &bench.out(), &options(), quiet());
    assert_one_line(&error.unwrap_err().to_string(), &["name", "微调"]);
    assert!(!bench.out().exists());
    let named = Options {
        name: Some("tuned".to_owned()),
        ..options()
    };
    export::export(&source, &bench.out(), &named, quiet()).unwrap();
}

#[test]
fn an_out_path_that_is_a_file_is_named() {
    let bench = Bench::new(&tiny());
    let file = bench.folder.path().join("made");
    for deeper in ["", "out"] {
        fs::write(&file, "mine").unwrap();
        let out = file.join(deeper);
        let error = export::export(&bench.source(), &out, &options(), common::quiet());
        let error = error.unwrap_err().to_string();
        assert_one_line(&error, &[file.to_str().unwrap()]);
        assert_eq!(fs::read(&file).unwrap(), b"mine");
        fs::remove_file(&file).unwrap();
        bench.assert_clean();
    }
}

/// An export during which, when all weights are written, `meddle` happens.
fn meddled(bench: &Bench, options: &Options, meddle: impl Fn() + Send + Sync + 'static) -> String {
    let done = AtomicBool::new(false);
    let progress = Arc::new(move |written, total| {
        if written == total && !done.swap(true, Ordering::Relaxed) {
            meddle();
        }
        ControlFlow::Continue(())
    });
    let result = export::export(&bench.source(), &bench.out(), options, progress);
    result.unwrap_err().to_string()
}

#[test]
fn a_name_that_is_taken_meanwhile_leaves_no_other_bundle() {
    let bench = Bench::new(&tiny());
    for name in ["tiny_decode_int8hu_s1", "tiny_vision"] {
        let path = bench.out().join(name);
        let taken = path.clone();
        let error = meddled(&bench, &options(), move || {
            fs::create_dir_all(&taken).unwrap();
            fs::write(taken.join("theirs"), "theirs").unwrap();
        });
        assert_one_line(&error, &[path.to_str().unwrap(), "exists already"]);
        assert_eq!(names(&bench.out()), [name]);
        assert_eq!(names(&path), ["theirs"]);
        fs::remove_dir_all(bench.out().parent().unwrap()).unwrap();
    }
}

#[test]
fn a_hash_that_cannot_be_written_leaves_nothing() {
    let bench = Bench::new(&tiny());
    let out = bench.out();
    // The vision encoder is the last to be written.
    let error = meddled(&bench, &options(), move || {
        let staged = names(&out)
            .into_iter()
            .find(|name| name.starts_with(".tiny_vision."));
        let asset = out.join(staged.unwrap()).join("tiny_vision.aimodel");
        fs::create_dir(asset.join("main.hash")).unwrap();
    });
    let path = bench
        .out()
        .join("tiny_vision/tiny_vision.aimodel/main.hash");
    assert_one_line(&error, &[path.to_str().unwrap()]);
    bench.assert_clean();
}

#[cfg(unix)]
mod unix {
    use std::{
        collections::BTreeSet,
        env, fs,
        os::unix::{fs::PermissionsExt, process::CommandExt},
        path::Path,
        process::Command,
    };

    use crate::common::{Bench, export_in_child, options, tiny};
    use testkit::{assert_one_line, names, tree};

    /// The user who owns nothing.
    const NOBODY: u32 = 65_534;

    /// A disk on which no file gets longer than so many blocks of the shell's
    /// `ulimit -f`: writes fail beyond, as they do on a full disk.
    fn export_on_full_disk(bench: &Bench, blocks: u64) -> Result<(), String> {
        let mut command = Command::new("sh");
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
        command
            .args(["-c", &script])
            .arg(env::current_exe().unwrap());
        export_in_child(command, &bench.model(), &bench.out())
    }

    #[test]
    fn a_full_disk_leaves_nothing() {
        let mut config = tiny();
        // Several megabytes, of which a part is on the disk when it is full.
        config.text_config.vocab_size = 20_000;
        let bench = Bench::new(&config);
        bench.export(&options()).unwrap();
        let sizes = |suffix: &str| {
            let files = tree(&bench.out()).into_iter().filter_map(|(path, bytes)| {
                let found = path.to_str()?.ends_with(suffix);
                Some(bytes?.len() as u64).filter(|_| found)
            });
            files.max().unwrap()
        };
        let program = sizes("_s1.aimodel/main.mlirb");
        assert!(program > 3 << 20);
        let tokenizer = sizes("tokenizer/tokenizer.json");
        assert!(sizes("metadata.json") < 1024 && tokenizer > 4096 && tokenizer < 64 << 10);
        fs::remove_dir_all(bench.out().parent().unwrap()).unwrap();

        // A block is 512 bytes in some shells and 1024 in others.
        let mut full = BTreeSet::new();
        for blocks in [0, 2, 128, program / 4096, program / 1024 - 1] {
            let error = export_on_full_disk(&bench, blocks).unwrap_err();
            let place = bench.out().join("tiny_decode_int8hu_s1");
            assert_one_line(&error, &[place.to_str().unwrap(), "File too large"]);
            let (path, _) = error.split_once(": ").unwrap();
            let name = Path::new(path).file_name().unwrap();
            full.insert(name.to_str().unwrap().to_owned());
            bench.assert_clean();
        }
        let expected = ["main.mlirb", "metadata.json", "tokenizer.json"];
        assert_eq!(full.iter().collect::<Vec<_>>(), expected);
        export_on_full_disk(&bench, program / 256).unwrap();
        assert_eq!(names(&bench.out()).len(), 2);
    }

    /// What makes weights and what writes them run side by side; whichever stops
    /// ends the other, and both at once give one error.
    #[test]
    fn weights_that_stop_while_others_are_written_leave_nothing() {
        let mut config = tiny();
        // Matrices of many chunks.
        config.text_config.vocab_size = 100_000;
        let bench = Bench::new(&config);
        bench.edit(|weights| {
            // The last weight of the table is infinite.
            weights
                .tensor("model.language_model.embed_tokens.weight")
                .set_last(0x7f80);
        });
        let place = bench.out().join("tiny_decode_int8hu_s1");
        let full = |blocks| {
            let error = export_on_full_disk(&bench, blocks).unwrap_err();
            bench.assert_clean();
            let full = error.contains("File too large");
            if full {
                assert_one_line(&error, &[place.to_str().unwrap(), "main.mlirb"]);
            } else {
                assert_one_line(&error, &["embed_tokens", "row 99999"]);
            }
            full
        };
        // The table takes 12.8 MB, and a block is 512 or 1024 bytes.
        assert!(full(1_000) && full(5_000));
        assert!(!full(100_000));
        // While the last rows are made, those before them find the disk full.
        for blocks in [11_500, 12_500, 23_000, 25_000] {
            full(blocks);
        }
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let bench = Bench::new(&tiny());
        let open = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let out = bench.out();
        fs::create_dir_all(&out).unwrap();
        open(&out, 0o555);
        let is_root = fs::write(out.join("probe"), "").is_ok();
        let result = if is_root {
            // The superuser may write everywhere: be nobody. That one needs
            // a copy of this program that it may reach.
            fs::remove_file(out.join("probe")).unwrap();
            if Command::new("true").uid(NOBODY).status().is_err() {
                println!("skipped: a superuser here cannot become anybody else");
                return;
            }
            open(bench.folder.path(), 0o755);
            let program = bench.folder.path().join("program");
            fs::copy(env::current_exe().unwrap(), &program).unwrap();
            let mut command = Command::new(&program);
            command.uid(NOBODY).current_dir("/");
            let result = export_in_child(command, &bench.model(), &out);
            fs::remove_file(program).unwrap();
            result
        } else {
            bench
                .export(&options())
                .map(drop)
                .map_err(|e| e.to_string())
        };
        assert_one_line(
            &result.unwrap_err(),
            &[out.to_str().unwrap(), "Permission denied"],
        );
        assert!(names(&out).is_empty());
        open(&out, 0o755);
    }
}

#[test]
fn an_export_that_is_broken_off_leaves_nothing() {
    let bench = Bench::new(&tiny());
    let total = Arc::new(AtomicU64::new(0));
    let counted = total.clone();
    let count: Progress = Arc::new(move |_, all| {
        counted.store(all, Ordering::Relaxed);
        ControlFlow::Continue(())
    });
    export::export(&bench.source(), &bench.out(), &options(), count).unwrap();
    fs::remove_dir_all(bench.out()).unwrap();
    let total = total.load(Ordering::Relaxed);
    for stop in [1, total / 3, total / 2, total] {
        let progress: Progress = Arc::new(move |done, _| {
            if done >= stop {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        let error = export::export(&bench.source(), &bench.out(), &options(), progress);
        assert_one_line(
            &error.unwrap_err().to_string(),
            &["interrupted", "nothing was written"],
        );
        assert!(!bench.out().exists(), "stopped at {stop} of {total}");
    }
}
