//! Files that somebody damaged, by chance or on purpose: reading them gives a
//! module or an error, in time and memory that their size explains.

#![allow(clippy::unwrap_used)]

mod common;
mod foreign;

use std::sync::Arc;

use common::{Toy, allowed, everything, toy};
use mlir_bytecode::{
    AttrId, Block, Entry, Error, Field, MAX_DEPTH, Module, Operation, Region, Tables, read, write,
};
use proptest::prelude::*;
use testkit::alloc::{Counting, peak};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn bytes_of(module: &Module) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(module, &Tables::number(module).unwrap(), &mut bytes).unwrap();
    bytes
}

/// Reads a file and does everything with it that can be done.
fn survive(bytes: &[u8]) {
    let shared: Arc<[u8]> = bytes.into();
    let (module, used) = peak(|| read(shared, &[&Toy]));
    let limit = allowed(bytes.len());
    assert!(used <= limit, "{used} bytes for a file of {}", bytes.len());
    let Ok((mut module, tables)) = module else {
        return;
    };
    let (_, used) = peak(|| {
        let mut kept = Vec::new();
        let kept = write(&module, &tables, &mut kept).map(|()| kept);
        let anew = Tables::number(&module).and_then(|tables| {
            let mut anew = Vec::new();
            write(&module, &tables, &mut anew).map(|()| anew)
        });
        // What was written can be read.
        for bytes in [kept, anew].into_iter().flatten() {
            read(bytes.into(), &[&Toy]).unwrap();
        }
        module.compute_isolation()
    });
    assert!(used <= 4 * limit, "{used} bytes for {} again", bytes.len());
}

#[test]
fn one_of_everything_comes_back() {
    let bytes = bytes_of(&everything());
    let (module, tables) = read(bytes.clone().into(), &[&Toy]).unwrap();
    let mut kept = Vec::new();
    write(&module, &tables, &mut kept).unwrap();
    assert_eq!(kept, bytes);
    assert_eq!(bytes_of(&module), bytes);
}

#[test]
fn every_truncation_is_an_error() {
    let bytes = bytes_of(&everything());
    for length in 0..bytes.len() {
        assert!(read(bytes[..length].into(), &[&Toy]).is_err());
        survive(&bytes[..length]);
    }
}

#[test]
fn every_byte_may_be_any_other() {
    let bytes = bytes_of(&everything());
    let mut damaged = bytes.clone();
    for position in 0..bytes.len() {
        for value in 0..=u8::MAX {
            damaged[position] = value;
            survive(&damaged);
        }
        damaged[position] = bytes[position];
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn splices_are_survived(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0_usize..40), 1..6),
        noise in prop::collection::vec(any::<u8>(), 0..24),
    ) {
        let mut bytes = bytes_of(&everything());
        for (from, to, at, length) in cuts {
            let start = from.index(bytes.len());
            let piece: Vec<u8> = bytes[start..].iter().take(length).copied().collect();
            let end = (at.index(bytes.len()) + to.index(length + 1)).min(bytes.len());
            bytes.splice(at.index(bytes.len()).min(end)..end, piece);
            if bytes.is_empty() {
                return Ok(());
            }
        }
        survive(&bytes);
        let at = bytes.len() / 2;
        bytes.splice(at..at, noise);
        survive(&bytes);
    }
}

/// A module whose root has those regions.
fn with_regions(fill: impl FnOnce(&mut Module, AttrId) -> Vec<Region>) -> Module {
    let mut module = Module::new("a test");
    let unit = module.attribute(Entry::fields(&toy(), vec![Field::Int(0)]));
    let name = module.op_name("toy", "outer", true);
    let regions = fill(&mut module, unit);
    let mut root = Operation::new(name, unit);
    root.regions = regions;
    module.root = root;
    module
}

#[test]
fn small_items_take_little_memory() {
    const COUNT: usize = 100_000;
    let block = |operations| Block {
        operations,
        ..Block::default()
    };
    let operations = with_regions(|module, unit| {
        let leaf = module.op_name("toy", "leaf", true);
        let operations = vec![Operation::new(leaf, unit); COUNT];
        vec![Region {
            blocks: vec![block(operations)],
        }]
    });
    let blocks = with_regions(|_, _| {
        vec![Region {
            blocks: vec![block(Vec::new()); COUNT],
        }]
    });
    let regions = with_regions(|_, _| vec![Region::default(); COUNT]);
    let results = with_regions(|module, unit| {
        let ty = module.ty(Entry::fields(&toy(), vec![Field::Int(0)]));
        let leaf = module.op_name("toy", "leaf", true);
        let mut op = Operation::new(leaf, unit);
        op.results = (0..COUNT).map(|_| module.value(ty)).collect();
        vec![Region {
            blocks: vec![block(vec![op])],
        }]
    });
    let attributes = with_regions(|module, unit| {
        let all = (0..COUNT as u64 / 4).map(|i| {
            let fields = vec![Field::Int(6), Field::Byte(i as u8), Field::Int(i >> 8)];
            Field::Attr(module.attribute(Entry::fields(&toy(), fields)))
        });
        let mut fields: Vec<Field> = all.collect();
        fields.splice(0..0, [Field::Int(2), Field::Int(fields.len() as u64)]);
        let list = module.attribute(Entry::fields(&toy(), fields));
        let leaf = module.op_name("toy", "leaf", true);
        let mut op = Operation::new(leaf, unit);
        op.attributes = Some(list);
        vec![Region {
            blocks: vec![block(vec![op])],
        }]
    });
    for module in [operations, blocks, regions, results, attributes] {
        survive(&bytes_of(&module));
    }
}

#[test]
fn many_dialects_do_not_slow_the_numbering() {
    let module = with_regions(|module, unit| {
        for index in 0..20_000 {
            module.dialects.push(mlir_bytecode::DialectName {
                name: format!("d{index}").into(),
                version: None,
            });
        }
        // The last dialect in the file is the one that is looked for.
        let last = module.dialects.len() - 1;
        module.dialects.swap(0, last);
        let leaf = module.op_name("toy", "leaf", true);
        let operations = (0..20_000_u64).map(|index| {
            let fields = vec![Field::Int(6), Field::Byte(0), Field::Int(index)];
            let mut op = Operation::new(leaf, unit);
            op.attributes = Some(attribute(module, fields));
            op
        });
        vec![Region {
            blocks: vec![Block {
                operations: operations.collect(),
                ..Block::default()
            }],
        }]
    });
    Tables::number(&module).unwrap();
}

fn attribute(module: &mut Module, fields: Vec<Field>) -> AttrId {
    module.attribute(Entry::fields(&toy(), fields))
}

#[test]
fn lists_of_lists_are_numbered_once() {
    // Unfolded, this would be 40^40 attributes.
    let module = with_regions(|module, unit| {
        let mut list = unit;
        for _ in 0..40 {
            let mut fields = vec![Field::Int(2), Field::Int(40)];
            fields.extend(std::iter::repeat_n(Field::Attr(list), 40));
            list = attribute(module, fields);
        }
        let leaf = module.op_name("toy", "leaf", true);
        let mut op = Operation::new(leaf, unit);
        op.attributes = Some(list);
        vec![Region {
            blocks: vec![Block {
                operations: vec![op],
                ..Block::default()
            }],
        }]
    });
    survive(&bytes_of(&module));
}

#[test]
fn attributes_may_refer_to_themselves_in_a_file() {
    // Found by its content: a list of two whose first item is the unit.
    let mut module = everything();
    let unit = attribute(&mut module, vec![Field::Int(0)]);
    let list = vec![Field::Int(2), Field::Int(1), Field::Attr(unit)];
    module.root.attributes = Some(attribute(&mut module, list));
    let bytes = bytes_of(&module);
    let (module, _) = read(bytes.clone().into(), &[&Toy]).unwrap();
    let own = module.root.attributes.unwrap().index() as u8;
    let place =
        (0..bytes.len()).find(|&at| bytes[at..].starts_with(&[2 << 1 | 1, 3, unit_at(&module)]));
    let mut cyclic = bytes.clone();
    cyclic[place.unwrap() + 2] = own << 1 | 1;
    assert!(read(cyclic.clone().into(), &[&Toy]).is_ok());
    survive(&cyclic);
}

/// The encoded position of the unit.
fn unit_at(module: &Module) -> u8 {
    let location = module.root.regions[0].blocks[0].operations[0].location;
    (location.index() as u8) << 1 | 1
}

/// A file whose regions nest that deep, each operation `isolated` or not.
fn nested(depth: usize, isolated: bool) -> Vec<u8> {
    let mut bytes = bytes_of(&with_regions(|_, _| Vec::new()));
    // The IR section of the small module: `01 …` is replaced by one with the
    // nesting in it. Everything is number 0, written as 1.
    let mut ir = vec![1, 0x00, 1];
    for _ in 0..depth {
        let mut outer = vec![1, 0x10, 1, (1 << 1 | u8::from(isolated)) << 1 | 1];
        let mut region = vec![3, 1, 1 << 2 | 1];
        region.extend(&ir);
        if isolated {
            outer.push(4);
            varint(region.len(), &mut outer);
        }
        outer.extend(region);
        ir = outer;
    }
    ir.insert(0, 1 << 2 | 1);
    let at = (0..bytes.len())
        .find(|&at| bytes[at..].starts_with(&[4, 4 << 1 | 1, 5, 1, 0, 1]))
        .unwrap();
    let mut section = vec![4];
    varint(ir.len(), &mut section);
    section.extend(ir);
    bytes.splice(at..at + 6, section);
    bytes
}

fn varint(value: usize, out: &mut Vec<u8>) {
    // Four bytes hold all lengths here.
    out.extend((((value as u32) << 1 | 1) << 3).to_le_bytes());
}

#[test]
fn regions_nest_so_deep_and_no_deeper() {
    for isolated in [false, true] {
        for depth in [1, MAX_DEPTH] {
            let bytes = nested(depth, isolated);
            read(bytes.clone().into(), &[&Toy]).unwrap();
            survive(&bytes);
        }
        let bytes = nested(MAX_DEPTH + 1, isolated);
        let error = read(bytes.into(), &[&Toy]).unwrap_err().to_string();
        assert!(error.contains("nest deeper than 64"), "{error}");
        survive(&nested(20_000, isolated));
    }
}

#[test]
fn errors_say_what_and_where() {
    let bytes = bytes_of(&everything());
    let of = |bytes: &[u8]| read(bytes.into(), &[&Toy]).unwrap_err();
    assert!(matches!(of(b"PK\x03\x04"), Error::NotBytecode { found } if found == "50 4b 03 04"));
    assert!(matches!(of(b""), Error::NotBytecode { .. }));
    let mut newer = bytes.clone();
    newer[4] = 9 << 1 | 1;
    assert!(matches!(of(&newer), Error::Version { found: 9 }));
    let error = of(&bytes[..bytes.len() - 1]).to_string();
    assert!(
        error.contains("at byte") && error.contains("expected"),
        "{error}"
    );
}
