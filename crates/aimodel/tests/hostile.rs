//! Programs that somebody damaged: reading, verifying, printing, counting and
//! writing them gives an error or works, in bounded time and memory.

#![allow(clippy::unwrap_used)]

mod common;

use std::io;

use aimodel::{
    AiCode, AssetBuilder, Attribute, ElementType, Form, Module, NAMESPACE, Summary, TensorType,
    graphs, print_ir, verify,
};
use common::small;
use mlir_bytecode::{Entry, Field, Tables, read, write};
use proptest::prelude::*;
use testkit::alloc::{Counting, peak};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn bytes_of(module: &Module) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(module, &Tables::number(module).unwrap(), &mut bytes).unwrap();
    bytes
}

/// Does everything with a program that can be done; whether it is valid.
fn survive(bytes: &[u8]) -> bool {
    let (valid, used) = peak(|| match read(bytes.into(), &[&AiCode]) {
        Ok((module, _)) => look_at(&module),
        Err(_) => false,
    });
    let allowed = 512 * bytes.len() + (4 << 20);
    assert!(
        used <= allowed,
        "{used} bytes for a file of {}",
        bytes.len()
    );
    valid
}

fn look_at(module: &Module) -> bool {
    let valid = verify(module).is_ok();
    let summary = Summary::of(module);
    let _ = print_ir(module, Form::Dialect, &mut io::sink());
    let _ = print_ir(module, Form::Stored, &mut io::sink());
    let written = Tables::number(module).and_then(|tables| write(module, &tables, io::sink()));
    // What is valid can be counted and written.
    if valid {
        summary.unwrap();
        written.unwrap();
    }
    valid
}

#[test]
fn the_small_asset_is_valid() {
    assert_eq!(verify(&small()).map_err(|error| error.to_string()), Ok(()));
    assert!(survive(&bytes_of(&small())));
}

#[test]
fn every_truncation_is_survived() {
    let bytes = bytes_of(&small());
    for length in 0..bytes.len() {
        assert!(!survive(&bytes[..length]));
    }
}

#[test]
fn damaged_bytes_are_survived() {
    let bytes = bytes_of(&small());
    let mut damaged = bytes.clone();
    for position in 0..bytes.len() {
        let was = bytes[position];
        // The neighbours as a varint, ends of the range, and single bits.
        for value in [
            was ^ 2,
            was.wrapping_add(2),
            was ^ 1,
            was ^ 0x80,
            0,
            1,
            3,
            0xff,
        ] {
            damaged[position] = value;
            survive(&damaged);
        }
        damaged[position] = was;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn splices_are_survived(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0_usize..30, 0_usize..30), 1..4),
    ) {
        let mut bytes = bytes_of(&small());
        for (from, at, removed, length) in cuts {
            let from = from.index(bytes.len());
            let piece: Vec<u8> = bytes[from..].iter().take(length).copied().collect();
            let at = at.index(bytes.len());
            let end = (at + removed).min(bytes.len());
            bytes.splice(at..end, piece);
        }
        survive(&bytes);
    }
}

fn entry(module: &mut Module, fields: Vec<Field>) -> mlir_bytecode::AttrId {
    module.attribute(Entry::fields(&NAMESPACE.into(), fields))
}

/// The small asset with a property of its last graph replaced.
fn with_property(index: usize, value: impl FnOnce(&mut Module) -> Field) -> Module {
    let mut module = small();
    let value = value(&mut module);
    let graph = module.root.regions[0].blocks[0].operations.last().unwrap();
    let properties = module
        .properties_encoding(graph.properties.unwrap())
        .unwrap();
    let mlir_bytecode::Encoding::Fields(fields) = properties else {
        unreachable!()
    };
    let mut fields = fields.to_vec();
    fields[index] = value;
    let properties = module.properties(fields);
    let graph = module.root.regions[0].blocks[0].operations.last_mut();
    graph.unwrap().properties = Some(properties);
    module
}

#[test]
fn lists_of_lists_do_not_unfold() {
    // Unfolded, this would be 60^14 attributes; arrays have code 5.
    let unfolding = |module: &mut Module| {
        let mut list = entry(module, vec![Field::Int(46)]);
        for _ in 0..14 {
            let mut fields = vec![Field::Int(5), Field::Int(60)];
            fields.extend(std::iter::repeat_n(Field::Attr(list), 60));
            list = entry(module, fields);
        }
        list
    };
    // The attributes of the arguments, `externalize`, and those of the results.
    for index in [0, 2, 8] {
        let module = with_property(index, |module| Field::Attr(unfolding(module)));
        // Nothing is known of `externalize` that it could break.
        assert_eq!(survive(&bytes_of(&module)), index == 2);
    }
    let mut module = small();
    let list = unfolding(&mut module);
    let error = Attribute::read(&module, list).unwrap_err().to_string();
    assert_eq!(error, "an attribute unfolds to too many others");
}

#[test]
fn functions_of_functions_do_not_unfold() {
    let module = with_property(3, |module| {
        let dialect = NAMESPACE.into();
        let mut ty = module.ty(Entry::fields(&dialect, vec![Field::Int(32)]));
        for _ in 0..6 {
            let mut fields = vec![Field::Int(30), Field::Int(0), Field::Int(200)];
            fields.extend(std::iter::repeat_n(Field::Type(ty), 200));
            ty = module.ty(Entry::fields(&dialect, fields));
        }
        Field::Attr(entry(module, vec![Field::Int(4), Field::Type(ty)]))
    });
    assert!(!survive(&bytes_of(&module)));
}

#[test]
fn many_graphs_may_share_one_long_signature() {
    let mut module = with_property(3, |module| {
        let dialect = NAMESPACE.into();
        let ty = module.ty(Entry::fields(&dialect, vec![Field::Int(32)]));
        let mut fields = vec![Field::Int(30), Field::Int(0), Field::Int(100_000)];
        fields.extend(std::iter::repeat_n(Field::Type(ty), 100_000));
        let ty = module.ty(Entry::fields(&dialect, fields));
        Field::Attr(entry(module, vec![Field::Int(4), Field::Type(ty)]))
    });
    let graphs = &mut module.root.regions[0].blocks[0].operations;
    let mut last = graphs.pop().unwrap();
    last.regions[0].blocks[0].arguments.clear();
    last.regions[0].blocks[0].operations.clear();
    graphs.clear();
    graphs.extend(std::iter::repeat_n(last, 10_000));
    assert!(!survive(&bytes_of(&module)));
}

#[test]
fn extents_beyond_all_memory_are_survived() {
    let max = (i64::MAX - 1) as u64;
    for dims in [vec![max, max], vec![0, max, max], vec![max], vec![1; 400]] {
        let mut asset = AssetBuilder::new();
        let mut graph = asset.graph("main");
        let x = graph
            .input("x", TensorType::fixed(dims, ElementType::F64))
            .unwrap();
        graph.finish(&[("y", x)]).unwrap();
        survive(&bytes_of(&asset.finish().unwrap()));
    }
}

#[test]
fn a_damaged_root_is_named() {
    let mut module = small();
    module.root.regions.clear();
    let error = graphs(&module).unwrap_err().to_string();
    assert_eq!(error, "the asset has 0 regions, expected one");
    let mut module = small();
    let graph = module.root.regions[0].blocks[0].operations.remove(0);
    module.root = graph;
    let error = graphs(&module).unwrap_err().to_string();
    assert!(
        error.contains("found `aicode.dataflow.graph_v1`"),
        "{error}"
    );
    assert!(!look_at(&module));
}
