//! Tables and ids of another module: errors, never a panic.

use mlir_bytecode::{
    Block, BlockArgument, Entry, Error, Field, Module, Operation, Region, Resource, ResourceValue,
    Tables, write,
};

use crate::common::{everything, toy};

/// A module that has nothing but a root.
fn small() -> Module {
    let mut module = Module::new("small");
    let unit = module.attribute(Entry::fields(&toy(), [Field::Int(0)]));
    let name = module.op_name("toy", "root", true);
    module.root = Operation::new(name, unit);
    module
}

fn problem(module: &Module, tables: &Tables) -> String {
    let Error::Unwritable(problem) = write(module, tables, std::io::sink()).unwrap_err() else {
        unreachable!("nothing else can go wrong");
    };
    problem
}

#[test]
fn tables_of_another_module_are_refused_one_by_one() {
    let (large, small) = (everything(), small());
    let own = Tables::number(&small).unwrap();
    let other = Tables::number(&large).unwrap();
    write(&small, &own, std::io::sink()).unwrap();
    assert_eq!(
        problem(&small, &other),
        "its tables are those of another module"
    );

    type Mix = fn(&mut Tables, &Tables);
    let mixes: [Mix; 5] = [
        |own, other| own.dialects.clone_from(&other.dialects),
        |own, other| own.op_names.clone_from(&other.op_names),
        |own, other| own.attrs.clone_from(&other.attrs),
        |own, other| own.types.clone_from(&other.types),
        |own, other| own.resources.clone_from(&other.resources),
    ];
    for mix in mixes {
        let mut tables = own.clone();
        mix(&mut tables, &other);
        assert_ne!(tables, own);
        assert_eq!(
            problem(&small, &tables),
            "its tables are those of another module"
        );
    }
    let mut tables = own.clone();
    let properties = large.root.regions[0].blocks[0]
        .operations
        .iter()
        .filter_map(|op| op.properties);
    tables.properties.extend(properties);
    assert!(!tables.properties.is_empty());
    assert_eq!(
        problem(&small, &tables),
        "its tables are those of another module"
    );
}

#[test]
fn ids_of_another_module_are_refused() {
    let large = everything();
    // The last of each kind, which the small module does not have.
    let mut source = everything();
    let ty = source.ty(Entry::fields(&toy(), [Field::Int(3), Field::Int(0)]));
    let value = source.value(ty);
    let attr = source.attribute(Entry::text("toy", "new"));
    let name = source.op_name("toy", "new", true);
    let properties = source.properties([Field::Int(9)]);
    let resource = source.resource(&toy(), Resource::new("new", ResourceValue::Bool(false)));
    assert!(large.attr_entry(attr).is_none());
    assert!(large.type_entry(ty).is_none());
    assert!(large.properties_encoding(properties).is_none());
    assert!(large.value_type(value).is_none());
    assert_eq!(large.full_op_name(name), "(no operation)");

    let argument = |module: &mut Module| {
        let block = Block {
            arguments: vec![BlockArgument {
                value,
                location: None,
            }],
            ..Block::default()
        };
        module.root.regions.push(Region {
            blocks: vec![block],
        });
    };
    type Change<'a> = Box<dyn Fn(&mut Module) + 'a>;
    let changes: [Change; 8] = [
        Box::new(|module| module.root.name = name),
        Box::new(|module| module.root.location = attr),
        Box::new(|module| module.root.attributes = Some(attr)),
        Box::new(|module| module.root.properties = Some(properties)),
        Box::new(|module| module.root.results.push(value)),
        Box::new(|module| module.root.operands.push(value)),
        Box::new(argument),
        Box::new(|module| {
            let fields = [
                Field::Int(4),
                Field::Resource(resource),
                Field::Blob([].into()),
            ];
            module.root.location = module.attribute(Entry::fields(&toy(), fields));
        }),
    ];
    for (index, change) in changes.iter().enumerate() {
        let mut module = small();
        let tables = Tables::number(&module).unwrap();
        change(&mut module);
        // Numbered for the module as it was, and for what it is now.
        assert!(!problem(&module, &tables).is_empty());
        if let Ok(tables) = Tables::number(&module) {
            assert!(!problem(&module, &tables).is_empty(), "change {index}");
        }
    }
    let mut module = small();
    argument(&mut module);
    assert!(module.compute_isolation().is_err());
    let mut module = small();
    let mut inner = Operation::new(module.root.name, module.root.location);
    inner.operands.push(value);
    module.root.regions.push(Region {
        blocks: vec![Block {
            operations: vec![inner],
            ..Block::default()
        }],
    });
    assert!(module.compute_isolation().is_err());
}

#[test]
fn alignments_that_would_fill_the_memory_are_refused() {
    for alignment in [0, 3, 1 << 21, 1 << 63] {
        let mut module = everything();
        for (_, resource) in &mut module.resources {
            if let ResourceValue::Blob {
                alignment: stated, ..
            } = &mut resource.value
            {
                *stated = alignment;
            }
        }
        let tables = Tables::number(&module).unwrap();
        let problem = problem(&module, &tables);
        assert!(problem.contains(&alignment.to_string()), "{problem}");
    }
}
