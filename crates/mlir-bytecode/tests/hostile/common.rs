//! A dialect for tests, and a module with one of everything.

#![allow(clippy::unwrap_used)]

use mlir_bytecode::{
    Blob, Block, BlockArgument, Dialect, DialectName, Entry, ExternalResources, Field, FieldReader,
    Module, Operation, Region, Resource, ResourceValue, Result, Str, UseListOrder,
};

/// A dialect whose encodings start with a code:
/// 0 nothing, 1 a string, 2 a list of attributes, 3 a list of types, 4 a
/// resource and bytes, 5 an attribute that may be absent, 6 a byte and a number.
pub struct Toy;

fn read_toy(fields: &mut FieldReader<'_, '_>) -> Result<()> {
    match fields.int()? {
        0 => Ok(()),
        1 => fields.string().map(drop),
        2 => (0..fields.count()?).try_for_each(|_| fields.attr().map(drop)),
        3 => (0..fields.count()?).try_for_each(|_| fields.ty().map(drop)),
        4 => {
            fields.resource()?;
            fields.blob().map(drop)
        }
        5 => fields.optional_attr().map(drop),
        6 => {
            fields.byte()?;
            fields.int().map(drop)
        }
        other => Err(fields.error(format!("unknown code {other}"))),
    }
}

impl Dialect for Toy {
    fn name(&self) -> &str {
        "toy"
    }
    fn read_attribute(&self, fields: &mut FieldReader<'_, '_>) -> Result<()> {
        read_toy(fields)
    }
    fn read_type(&self, fields: &mut FieldReader<'_, '_>) -> Result<()> {
        read_toy(fields)
    }
    fn read_properties(&self, _: &str, fields: &mut FieldReader<'_, '_>) -> Result<()> {
        read_toy(fields)
    }
}

pub fn toy() -> Str {
    "toy".into()
}

/// A module with one of everything that the container knows.
pub fn everything() -> Module {
    let mut module = Module::new("a test");
    module.dialects.push(DialectName {
        name: toy(),
        version: Some([5].into()),
    });
    let entry = |fields: Vec<Field>| Entry::fields(&toy(), fields);
    let unit = module.attribute(entry(vec![Field::Int(0)]));
    let text = module.attribute(entry(vec![Field::Int(1), Field::Str("some text".into())]));
    let list = module.attribute(entry(vec![
        Field::Int(2),
        Field::Int(3),
        Field::Attr(unit),
        Field::Attr(text),
        Field::Attr(unit),
    ]));
    let nested = module.attribute(entry(vec![
        Field::Int(2),
        Field::Int(2),
        Field::Attr(list),
        Field::Attr(list),
    ]));
    let blob = module.resource(
        &toy(),
        Resource::new(
            "weights",
            ResourceValue::Blob {
                alignment: 16,
                data: Blob::new(vec![7_u8; 40]),
            },
        ),
    );
    let flag = module.resource(&toy(), Resource::new("flag", ResourceValue::Bool(true)));
    let name = module.resource(
        &toy(),
        Resource::new("name", ResourceValue::Str("some text".into())),
    );
    let outside = vec![Resource::new(
        "outside",
        ResourceValue::Blob {
            alignment: 8,
            data: Blob::new(vec![1_u8; 9]),
        },
    )];
    module.external_resources.push(ExternalResources {
        name: "somebody".into(),
        resources: outside,
    });
    let resources = [blob, flag, name].map(|id| {
        module.attribute(entry(vec![
            Field::Int(4),
            Field::Resource(id),
            Field::Blob([1, 2, 3].into()),
        ]))
    });
    let number = module.attribute(entry(vec![
        Field::Int(6),
        Field::Byte(9),
        Field::Int(1 << 40),
    ]));
    let written = module.attribute(Entry::text("other", "in words"));
    let scalar = module.ty(entry(vec![Field::Int(0)]));
    let function = module.ty(entry(vec![
        Field::Int(3),
        Field::Int(2),
        Field::Type(scalar),
        Field::Type(scalar),
    ]));
    let shared = module.properties([Field::Int(5), Field::OptionalAttr(Some(nested))]);
    let absent = module.properties([Field::Int(5), Field::OptionalAttr(None)]);

    let [outer, inner, leaf] =
        ["outer", "inner", "leaf"].map(|name| module.op_name("toy", name, true));
    let foreign = module.op_name("other", "op", false);

    // A leaf that gives two values, and one that takes them.
    let values = [scalar, function].map(|ty| module.value(ty));
    let mut first = Operation::new(leaf, unit);
    first.results = values.to_vec();
    first.properties = Some(shared);
    first.attributes = Some(list);
    first.use_list_orders = vec![UseListOrder {
        value: 0,
        pairs: false,
        indices: vec![1, 0],
    }];
    let mut second = Operation::new(foreign, written);
    second.operands = vec![values[0], values[1], values[0]];
    second.successors = vec![1];
    second.attributes = Some(resources[0]);

    // An operation whose region uses a value from around it.
    let argument = module.value(scalar);
    let mut user = Operation::new(leaf, number);
    user.operands = vec![argument, values[0]];
    user.attributes = Some(resources[1]);
    let mut open = Operation::new(inner, unit);
    open.properties = Some(absent);
    open.regions = vec![
        Region {
            blocks: vec![Block {
                arguments: vec![BlockArgument {
                    value: argument,
                    location: Some(text),
                }],
                operations: vec![user],
                use_list_orders: vec![UseListOrder {
                    value: 0,
                    pairs: true,
                    indices: vec![0, 1],
                }],
            }],
        },
        Region::default(),
    ];

    let parameter = module.value(scalar);
    let mut root = Operation::new(outer, resources[2]);
    root.regions = vec![Region {
        blocks: vec![
            Block {
                arguments: vec![BlockArgument {
                    value: parameter,
                    location: None,
                }],
                operations: vec![first, second, open],
                use_list_orders: Vec::new(),
            },
            Block::default(),
        ],
    }];
    module.root = root;
    module.compute_isolation().unwrap();
    module
}

/// How much may be held while a file of that size is read.
pub fn allowed(size: usize) -> usize {
    256 * size + (1 << 20)
}
