//! Locations, as in an asset whose debug information was stripped.
//!
//! Every operation still has one: the location of a file without a name, and a
//! number that identifies the operation. Locations of other dialects, such as
//! coreai-core 1.0.0b1 writes, do not load on OS 27 beta 2 and later.

use std::{collections::HashMap, sync::Arc};

use mlir_bytecode::{AttrId, Block, Entry, Field, Module, Operation, Region, Value};

use crate::{
    Attribute, Result, graphs,
    schema::{NAMESPACE, attr_code as code, dialect},
};

/// How many operations and block arguments of a program have a location, and
/// how many of these stop it from loading on OS 27 beta 2 and later.
///
/// ```
/// use aimodel::{AssetBuilder, ElementType, Locations, TensorType, strip_locations};
/// use mlir_bytecode::{Entry, Field};
///
/// let mut asset = AssetBuilder::new();
/// let mut graph = asset.graph("main");
/// let x = graph.input("x", TensorType::fixed([4], ElementType::F16))?;
/// graph.finish(&[("y", x)])?;
/// let mut module = asset.finish()?;
/// assert_eq!(Locations::of(&module).faulty(), 0);
///
/// // MLIR's own unknown location, as coreai-core 1.0.0b1 writes it.
/// let unknown = module.attribute(Entry::fields(&"builtin".into(), [Field::Int(15)]));
/// module.root.location = unknown;
/// assert_eq!(Locations::of(&module).builtin, 1);
/// strip_locations(&mut module)?;
/// assert_eq!(Locations::of(&module).faulty(), 0);
/// # Ok::<(), aimodel::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Locations {
    /// All operations and arguments.
    pub total: usize,
    /// Arguments with MLIR's unknown location.
    pub unknown: usize,
    /// Those with a location of another dialect than AICode: MLIR's builtin
    /// one, which coreai-core 1.0.0b1 writes.
    pub builtin: usize,
    /// Those of the AICode dialect with fused locations within fused ones.
    /// coreai-core 1.0.0b1 to b3 load them, and 1.0.0b3 writes them.
    pub nested: usize,
}

impl Locations {
    /// Looks at every location of a program.
    #[must_use]
    pub fn of(module: &Module) -> Self {
        let mut found = Self::default();
        // Many operations share one.
        let mut known: HashMap<AttrId, Option<Fault>> = HashMap::new();
        let mut waiting = vec![&module.root];
        while let Some(op) = waiting.pop() {
            let blocks = op.regions.iter().flat_map(|region| &region.blocks);
            let arguments = blocks.clone().flat_map(|block| &block.arguments);
            let locations = arguments.map(|argument| argument.location);
            for location in locations.chain([Some(op.location)]) {
                found.total += 1;
                let fault = match location {
                    None => Some(Fault::Unknown),
                    Some(id) => *known.entry(id).or_insert_with(|| fault(module, id)),
                };
                match fault {
                    Some(Fault::Unknown) => found.unknown += 1,
                    Some(Fault::Builtin) => found.builtin += 1,
                    Some(Fault::Nested) => found.nested += 1,
                    None => {}
                }
            }
            waiting.extend(blocks.flat_map(|block| &block.operations));
        }
        found
    }

    /// How many stop the program from loading.
    #[must_use]
    pub fn faulty(&self) -> usize {
        self.unknown + self.builtin
    }
}

/// What is wrong with a location.
#[derive(Clone, Copy)]
enum Fault {
    Unknown,
    Builtin,
    /// None that stops it from loading.
    Nested,
}

fn fault(module: &Module, id: AttrId) -> Option<Fault> {
    let entry = module.attr_entry(id)?;
    if entry.dialect.as_ref() != NAMESPACE {
        return Some(Fault::Builtin);
    }
    let nested = fused(module, id)
        .iter()
        .any(|field| matches!(field, Field::Attr(inner) if !fused(module, *inner).is_empty()));
    nested.then_some(Fault::Nested)
}

/// The locations that a location is fused of; see `docs/format.md`.
fn fused(module: &Module, id: AttrId) -> &[Field] {
    let fields = module.attr_entry(id).and_then(Entry::as_fields);
    let fields = fields.unwrap_or_default();
    // The source and the scope; where it is inlined, also at what.
    let rest = match fields {
        [Field::Int(code::LOCATION), _, _, rest @ ..]
        | [Field::Int(code::INLINED_LOCATION), _, _, _, rest @ ..] => rest,
        _ => return &[],
    };
    match rest {
        [Field::Int(count), rest @ ..] => rest.get(..*count as usize).unwrap_or_default(),
        _ => &[],
    }
}

/// Gives every operation and argument of a program the location that it has
/// where the debug information was stripped. Nothing else changes.
///
/// # Errors
/// A module whose root is not an asset of graphs.
pub fn strip_locations(module: &mut Module) -> Result<()> {
    graphs(module)?;
    assign(module)?;
    module.root.location = nowhere(module)?;
    Ok(())
}

/// The location of an operation that has no place in the source.
pub(crate) fn nowhere(module: &mut Module) -> Result<AttrId> {
    location(module, &[])
}

/// The location of the operation with the given number.
fn numbered(module: &mut Module, number: u64) -> Result<AttrId> {
    let number = Attribute::Integer {
        width: 64,
        unsigned: true,
        bits: number,
    };
    let data = Attribute::Dictionary(vec![
        ("type".into(), Attribute::string("coreai")),
        ("value".into(), number),
    ]);
    let data = data.intern(module)?;
    let data = entry(module, [Field::Int(code::METADATA_DATA), Field::Attr(data)]);
    let id = Field::Str(Arc::from("op_id"));
    let metadata = entry(module, [Field::Int(code::METADATA), id, Field::Attr(data)]);
    location(module, &[metadata])
}

fn location(module: &mut Module, metadata: &[AttrId]) -> Result<AttrId> {
    let text = |text: &str| Field::Str(Arc::from(text));
    let file = entry(
        module,
        [Field::Int(code::FILE), text("-"), text(""), text("")],
    );
    let zero = || Field::Int(0);
    let start = [
        Field::Int(code::SOURCE_LOCATION),
        Field::Attr(file),
        zero(),
        zero(),
        zero(),
        zero(),
    ];
    let start = entry(module, start);
    let scope = Attribute::Unit.intern(module)?;
    let mut fields = vec![
        Field::Int(code::LOCATION),
        Field::Attr(start),
        Field::Attr(scope),
    ];
    // The number of locations fused with it.
    fields.push(zero());
    fields.push(Field::Int(metadata.len() as u64));
    fields.extend(metadata.iter().copied().map(Field::Attr));
    Ok(entry(module, fields))
}

fn entry(module: &mut Module, fields: impl Into<Box<[Field]>>) -> AttrId {
    module.attribute(Entry::fields(&dialect(), fields))
}

/// Gives every operation of a finished module its location, with the numbers
/// that Core AI's serializer gives: first the graphs in their order, then the
/// operations of the last graph, and so on back to the first.
pub(crate) fn assign(module: &mut Module) -> Result<()> {
    let mut regions = std::mem::take(&mut module.root.regions);
    let mut located = vec![None; module.value_count()];
    let graphs = || regions_of_graphs(&regions);
    let count = graphs().count();
    let mut next = count as u64;
    let mut locations = vec![Vec::new(); count];
    for (index, graph) in graphs().enumerate() {
        locations[index].push(numbered(module, index as u64)?);
        debug_assert_eq!(graph.regions.len(), 1);
    }
    for (index, graph) in graphs().enumerate().collect::<Vec<_>>().into_iter().rev() {
        let body = graph.regions.iter().flat_map(|region| &region.blocks);
        for _ in body.flat_map(|block| &block.operations) {
            locations[index].push(numbered(module, next)?);
            next += 1;
        }
    }
    let graphs = regions.iter_mut().flat_map(|region| &mut region.blocks);
    for (graph, locations) in graphs
        .flat_map(|block| &mut block.operations)
        .zip(locations)
    {
        let mut locations = locations.into_iter();
        graph.location = locations.next().unwrap_or(graph.location);
        for block in graph
            .regions
            .iter_mut()
            .flat_map(|region| &mut region.blocks)
        {
            for argument in &mut block.arguments {
                argument.location = Some(graph.location);
                located[argument.value.index()] = Some(graph.location);
            }
            for (op, location) in block.operations.iter_mut().zip(&mut locations) {
                place(op, location, &mut located);
            }
        }
    }
    module.root.regions = regions;
    Ok(())
}

fn regions_of_graphs(regions: &[Region]) -> impl Iterator<Item = &Operation> {
    regions
        .iter()
        .flat_map(|region| &region.blocks)
        .flat_map(|block| &block.operations)
}

/// Gives an operation and everything in its regions one location. An argument
/// of a region has the location of the operand that it stands for.
fn place(op: &mut Operation, location: AttrId, located: &mut [Option<AttrId>]) {
    op.location = location;
    for result in &op.results {
        located[result.index()] = Some(location);
    }
    let operands: Vec<Value> = op.operands.clone();
    for Block {
        arguments,
        operations,
        ..
    } in op.regions.iter_mut().flat_map(|r| &mut r.blocks)
    {
        for (index, argument) in arguments.iter_mut().enumerate() {
            let from = operands
                .get(index)
                .and_then(|operand| located[operand.index()]);
            argument.location = from.or(Some(location));
            located[argument.value.index()] = argument.location;
        }
        for op in operations {
            place(op, location, located);
        }
    }
}
