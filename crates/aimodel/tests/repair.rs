//! Assets whose locations newer systems refuse, written anew without them. The
//! one in `fixtures` is what coreai-torch 0.4.0 made (`oracles/recipe/early.py`).

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs, io,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use aimodel::{
    AiCode, Asset, AssetBuilder, AssetMetadata, Blob, BlobError, BlobSource, Builtin, ElementType,
    Error, Locations, Module, NAMESPACE, Progress, TensorType, diff, open_asset, repair_asset,
    strip_locations, verify, write_asset,
};
use common::small;
use mlir_bytecode::{AttrId, Entry, Field, ResourceValue, Tables, read, write};
use tempfile::TempDir;
use testkit::alloc::{Counting, peak};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn early() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/early.aimodel")
}

fn go_on(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn repaired(asset: &Asset, producer: Option<&str>) -> (TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let target = parent.path().join("repaired.aimodel");
    repair_asset(asset, &target, producer, &mut go_on).unwrap();
    (parent, target)
}

/// A location of MLIR's builtin dialect: the unknown one.
fn unknown(module: &mut Module) -> AttrId {
    module.attribute(Entry::fields(&"builtin".into(), [Field::Int(15)]))
}

fn blobs(module: &Module) -> Vec<Vec<u8>> {
    let resources = module.resources.iter();
    let blobs = resources.map(|(_, resource)| match &resource.value {
        ResourceValue::Blob { data, .. } => data.to_vec().unwrap(),
        other => unreachable!("{other:?}"),
    });
    blobs.collect()
}

#[test]
fn an_early_asset_keeps_all_but_its_locations() {
    let asset = open_asset(early()).unwrap();
    let found = Locations::of(&asset.module);
    assert!(found.total > 300);
    assert_eq!(found.builtin, found.total);
    assert_eq!(found.faulty(), found.total);

    let (_parent, target) = repaired(&asset, None);
    let again = open_asset(&target).unwrap();
    again.check_hash().unwrap();
    verify(&again.module).unwrap();
    let now = Locations::of(&again.module);
    assert_eq!((now.total, now.faulty()), (found.total, 0));
    assert_eq!(diff(&again.module, &asset.module).unwrap(), []);
    assert_eq!(blobs(&again.module), blobs(&asset.module));
    assert!(blobs(&again.module).iter().any(|blob| blob.len() >= 4096));
    let metadata = |dir: &Path| fs::read(dir.join("metadata.json")).unwrap();
    assert_eq!(metadata(&target), metadata(&early()));
    // Nothing of the old locations is left, their dialect included.
    let bytes = fs::read(target.join("main.mlirb")).unwrap();
    for word in ["builtin", "call_stack", "early.py"] {
        let word = word.as_bytes();
        assert!(!bytes.windows(word.len()).any(|window| window == word));
    }
    // A second repair of it gives the same bytes.
    let (_parent, twice) = repaired(&again, None);
    assert_eq!(fs::read(twice.join("main.mlirb")).unwrap(), bytes);
}

#[test]
fn a_producer_is_named_only_where_none_is() {
    let asset = open_asset(early()).unwrap();
    let (_parent, target) = repaired(&asset, Some("a test"));
    let text = fs::read_to_string(target.join("metadata.json")).unwrap();
    let expected = "{\n  \"assetVersion\": \"2.0\",\n  \"producer\": \"a test\"\n}\n";
    assert_eq!(text, expected);
    let named = open_asset(&target).unwrap();
    let (_parent, target) = repaired(&named, Some("another"));
    assert_eq!(
        fs::read_to_string(target.join("metadata.json")).unwrap(),
        expected
    );
}

#[test]
fn every_kind_of_fault_is_found_and_repaired() {
    /// What makes it, what counts it, and whether it stops the program from loading.
    type Fault = (fn(&mut Module), fn(&Locations) -> usize, usize);
    let faults: [Fault; 3] = [
        (
            |module| module.root.location = unknown(module),
            |f| f.builtin,
            1,
        ),
        (
            |module| {
                let graph = &mut module.root.regions[0].blocks[0].operations[0];
                graph.regions[0].blocks[0].arguments[0].location = None;
            },
            |f| f.unknown,
            1,
        ),
        (
            |module| {
                let location = module.root.location;
                let fields = module
                    .attr_entry(location)
                    .unwrap()
                    .as_fields()
                    .unwrap()
                    .to_vec();
                assert_eq!(fields[3], Field::Int(0));
                for depth in 0..2 {
                    let inner = module.root.location;
                    let mut fused = fields[..3].to_vec();
                    fused.extend([Field::Int(1), Field::Attr(inner)]);
                    fused.extend_from_slice(&fields[4..]);
                    assert_eq!(Locations::of(module).faulty(), 0, "{depth}");
                    module.root.location =
                        module.attribute(Entry::fields(&NAMESPACE.into(), fused));
                }
            },
            |f| f.nested,
            0,
        ),
    ];
    let sound = small();
    for (make, count, faulty) in faults {
        let mut module = sound.clone();
        make(&mut module);
        let found = Locations::of(&module);
        assert_eq!((count(&found), found.faulty()), (1, faulty));
        strip_locations(&mut module).unwrap();
        let bytes = |module: &Module| {
            let mut bytes = Vec::new();
            write(module, &Tables::number(module).unwrap(), &mut bytes).unwrap();
            bytes
        };
        assert_eq!(bytes(&module), bytes(&sound));
    }
}

#[test]
fn a_damaged_program_is_not_repaired() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("damaged.aimodel");
    fs::create_dir(&dir).unwrap();
    for name in ["main.mlirb", "main.hash", "metadata.json"] {
        fs::copy(early().join(name), dir.join(name)).unwrap();
    }
    let mut bytes = fs::read(dir.join("main.mlirb")).unwrap();
    let blob = blobs(&open_asset(&dir).unwrap().module).concat();
    let weights = bytes.windows(64).position(|window| window == &blob[..64]);
    bytes[weights.unwrap()] ^= 1;
    fs::write(dir.join("main.mlirb"), bytes).unwrap();

    let asset = open_asset(&dir).unwrap();
    let target = parent.path().join("repaired.aimodel");
    let error = repair_asset(&asset, &target, None, &mut go_on).unwrap_err();
    assert!(error.to_string().contains("its SHA-256 is"), "{error}");
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
}

/// Zeros that are made as they are written.
struct Zeros(u64);

impl BlobSource for Zeros {
    fn len(&self) -> u64 {
        self.0
    }
    fn write_to(&self, out: &mut dyn io::Write) -> Result<(), BlobError> {
        let piece = [0; 4096];
        Ok((0..self.0 / 4096).try_for_each(|_| out.write_all(&piece))?)
    }
}

#[test]
fn large_constants_are_streamed_and_can_be_broken_off() {
    const BYTES: u64 = 64 << 20;
    let mut asset = AssetBuilder::new();
    let mut main = asset.graph("main");
    let ty = TensorType::fixed([BYTES / 2], ElementType::F16);
    let x = main.input("x", ty.clone()).unwrap();
    let weight = main
        .resource(ty, "weight", || Blob::new(Zeros(BYTES)))
        .unwrap();
    let y = main.add(x, weight).unwrap();
    main.finish(&[("y", y)]).unwrap();
    let mut module = asset.finish().unwrap();
    module.root.location = unknown(&mut module);
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("large.aimodel");
    write_asset(&dir, &module, &AssetMetadata::new("a test", 0).unwrap()).unwrap();
    let asset = open_asset(&dir).unwrap();

    let ((other, target), used) = peak(|| repaired(&asset, None));
    // Without a map the program is read to be compared.
    let read = if cfg!(feature = "mmap") {
        0
    } else {
        BYTES as usize
    };
    assert!(used < read + (4 << 20), "{used} bytes");
    assert!(fs::metadata(target.join("main.mlirb")).unwrap().len() > BYTES);
    drop(other);

    // All bytes are reported, in pieces.
    let (mut reports, mut bytes) = (0, 0);
    let whole = parent.path().join("whole");
    let mut count = |progress: Progress| {
        reports += 1;
        bytes += progress.bytes;
        ControlFlow::Continue(())
    };
    repair_asset(&asset, &whole, None, &mut count).unwrap();
    assert_eq!(bytes, fs::metadata(whole.join("main.mlirb")).unwrap().len());
    assert!(reports > BYTES >> 20, "{reports}");

    for stop in [1, BYTES / 2, BYTES] {
        let mut done = 0;
        let mut stopping = |progress: Progress| {
            done += progress.bytes;
            if done < stop {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        };
        let stopped = parent.path().join(format!("stopped at {stop}"));
        let error = repair_asset(&asset, &stopped, None, &mut stopping).unwrap_err();
        assert!(matches!(error, Error::Interrupted), "{error}");
        assert!(open_asset(&stopped).is_err());
    }
}

#[test]
fn damaged_bytes_are_survived() {
    let bytes = fs::read(early().join("main.mlirb")).unwrap();
    let mut damaged = bytes.clone();
    let mut readable = 0;
    // Coprime with the sizes of what lies there, so that every kind is met.
    for position in (0..bytes.len()).step_by(7) {
        for value in [bytes[position] ^ 2, bytes[position].wrapping_add(2), 0xff] {
            damaged[position] = value;
            if let Ok((mut module, _)) = read(damaged.clone().into(), &[&AiCode, &Builtin]) {
                readable += 1;
                let _ = Locations::of(&module);
                if strip_locations(&mut module).is_ok() {
                    assert_eq!(Locations::of(&module).faulty(), 0);
                    let tables = Tables::number(&module);
                    let _ = tables.and_then(|t| write(&module, &t, io::sink()));
                }
            }
        }
        damaged[position] = bytes[position];
    }
    assert!(readable > 1000, "{readable}");
}
