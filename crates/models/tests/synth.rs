//! Synthetic checkpoints are whole, the same every time, and read back.

use approx::{assert_abs_diff_eq, assert_relative_eq};
use models::Architecture;
use models::qwen3_vl::synth;

use checkpoint::Element;
use checkpoint::Source;
use checkpoint::TokenizerFiles;
use models::Error;
use models::qwen3_vl::Config;
use models::qwen3_vl::synth::Options;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

fn write(config: &Config, out: &Path, options: Options) -> Result<(), Error> {
    synth::write(config, out, options, |_, _| {})
}

fn content(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            Some((name, fs::read(entry.path()).ok()?))
        })
        .collect()
}

#[test]
fn a_synthetic_checkpoint_is_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::preset("nano").unwrap();
    let out = folder.path().join("nano");
    let mut last = (0, 0);
    synth::write(&config, &out, Options::default(), |done, total| {
        last = (done, total)
    })
    .unwrap();
    assert!(last.0 == last.1 && last.0 > 2_000_000, "{last:?}");

    let source = Source::folder(&out).unwrap();
    assert_eq!(Config::load(&source).unwrap(), config);
    let checkpoint = models::qwen3_vl::open(&source).unwrap();
    config.check(&checkpoint).unwrap();
    let tokenizer = TokenizerFiles::load(&source).unwrap();
    assert!(tokenizer.get("chat_template.jinja").is_some());

    // Deviation 0.02 around 0 for matrices, 0.1 around 1 for norms.
    for (name, shape, mean, deviation) in [
        (
            models::qwen3_vl::names::EMBED_TOKENS,
            [512, 128].as_slice(),
            0.0,
            0.02,
        ),
        (
            "model.visual.deepstack_merger_list.0.norm.weight",
            &[256],
            1.0,
            0.1,
        ),
    ] {
        let tensor = checkpoint.tensor(name, shape).unwrap();
        assert_eq!(tensor.element(), Element::Bf16);
        let values: Vec<f64> = tensor
            .bytes()
            .chunks_exact(2)
            .map(|b| {
                f64::from(f32::from_bits(
                    u32::from(u16::from_le_bytes([b[0], b[1]])) << 16,
                ))
            })
            .collect();
        let count = values.len() as f64;
        let found_mean = values.iter().sum::<f64>() / count;
        let variance = values.iter().map(|v| (v - found_mean).powi(2)).sum::<f64>() / count;
        println!("{name}: {found_mean}, {}", variance.sqrt());
        // Some hundreds of draws at least.
        assert_abs_diff_eq!(found_mean, mean, epsilon = 0.2 * deviation);
        assert_relative_eq!(variance.sqrt(), deviation, max_relative = 0.1);
    }
}

#[test]
fn bytes_depend_on_seed_and_shape_only() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::preset("nano").unwrap();
    let one = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .unwrap();
    let (a, b, c) = (
        folder.path().join("a"),
        folder.path().join("b"),
        folder.path().join("c"),
    );
    write(&config, &a, Options::default()).unwrap();
    one.install(|| write(&config, &b, Options::default()))
        .unwrap();
    write(&config, &c, Options::default().seed(1)).unwrap();
    assert_eq!(content(&a), content(&b));
    let (a, c) = (content(&a), content(&c));
    assert_ne!(a["model.safetensors"], c["model.safetensors"]);
    assert_eq!(a["tokenizer.json"], c["tokenizer.json"]);
}

#[test]
fn large_checkpoints_are_sharded() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::preset("nano").unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    write(&config, &a, Options::default()).unwrap();
    write(&config, &b, Options::default().shard_bytes(1 << 20)).unwrap();
    let names = content(&b);
    assert!(
        names.contains_key("model-00001-of-00003.safetensors"),
        "{:?}",
        names.keys()
    );
    assert!(!names.contains_key("model.safetensors"));
    let open = |path: &Path| models::qwen3_vl::open(&Source::folder(path).unwrap()).unwrap();
    let (a, b) = (open(&a), open(&b));
    for models::Parameter { name, shape, .. } in models::qwen3_vl::names::parameters(&config) {
        assert_eq!(
            a.tensor(&name, &shape).unwrap().bytes(),
            b.tensor(&name, &shape).unwrap().bytes()
        );
    }
}

#[test]
fn an_output_that_exists_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::preset("nano").unwrap();
    let out = folder.path().join("out");
    fs::create_dir(&out).unwrap();
    let error = write(&config, &out, Options::default()).unwrap_err();
    assert!(
        matches!(error, Error::File(fsutil::Error::Exists { .. })),
        "{error}"
    );
    assert!(error.to_string().contains("out"), "{error}");
    // Below a file there can be no folder.
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = write(&config, &file.join("no/such"), Options::default()).unwrap_err();
    assert!(matches!(error, Error::File(_)), "{error}");
    assert_eq!(content(&out).len(), 0);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}
