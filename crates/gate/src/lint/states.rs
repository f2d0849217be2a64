//! States: what a host keeps between calls.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::Range,
};

use aimodel::{Operation, Type, Value};
use bundle::contract;

use super::{
    graph::Graph,
    rule::{DELEGATES, ENGINE, Findings, Rule},
};

/// Where the cache is written comes from a shape.
pub const KV_POSITION: Rule = Rule {
    id: "kv-position",
    what: "a write into a state whose position is computed from a tensor's value",
    reason: "the GPU traps on it, on Mac and iPhone",
    remedy: "take the position from the shape of `position_ids` (`get_shape`)",
    source: DELEGATES,
};

/// A fixed state is not written several times in a row.
pub const STATE_WRITES: Rule = Rule {
    id: "state-writes",
    what: "several writes in a row to a state whose shape is fixed, of which nothing reads what \
           the first ones wrote but the next write (a cache that each layer writes and reads is \
           none)",
    reason: "the GPU drops all but one of them; a pair that grows is fine",
    remedy: "collect what is new and write it once, or let the state grow along one dimension",
    source: DELEGATES,
};

/// Engines drive two states.
pub const TWO_STATES: Rule = Rule {
    id: "two-states",
    what: "a decoder (a function that takes `position_ids` and gives `logits`) with fewer than two \
           states, with more than four, or with more than two beside static inputs",
    reason: "Apple's engines keep two states, its pipelined one up to four, and the one that binds \
             static inputs exactly two; they refuse any other number",
    remedy: "keep all keys in one state and all values in the other",
    source: ENGINE,
};

/// Keys and values are equally wide.
pub const STATE_WIDTH: Rule = Rule {
    id: "state-width",
    what: "a decoder whose first two states, its caches, have another last extent each, of which \
           one is beyond 256",
    reason: "the engine sizes both by one of them, and reads beside the other",
    remedy: "make both as wide as the wider one",
    source: DELEGATES,
};

/// The width up to which caches of unequal widths were sized right.
const SAFE_WIDTH: u64 = 256;

/// States that some engine of Apple's can keep.
const MAX_STATES: usize = 4;

/// The rules for a graph.
pub fn graph(graph: &Graph<'_>, place: &str, findings: &mut Findings) {
    let view = &graph.view;
    let is_state = |value: Value| matches!(Type::of(view.module, value), Ok(Type::Handle(_)));
    let arguments = view.arguments().iter().map(|argument| argument.value);
    let held: Vec<Value> = arguments.filter(|value| is_state(*value)).collect();
    let states = held.len();
    if !view.private
        && let Some(inputs) = inputs_of_decoder(graph, states)
    {
        let max = if inputs > 2 { 2 } else { MAX_STATES };
        if !(2..=max).contains(&states) {
            let found = format!("there are {states} states and {inputs} inputs");
            findings.add(&TWO_STATES, place, found);
        }
        let width = |value: &Value| graph.tensor(*value)?.dims.last()?.known();
        if let [Some(keys), Some(values)] = [held.first(), held.get(1)].map(|at| width(at?))
            && keys != values
            && keys.max(values) > SAFE_WIDTH
        {
            let found = format!("the states are {keys} and {values} wide");
            findings.add(&STATE_WIDTH, place, found);
        }
    }
    let origins = origins(graph);
    let mut writes: BTreeMap<usize, usize> = BTreeMap::new();
    // The longest row of writes to each state, and the one that goes on.
    let mut rows: BTreeMap<usize, usize> = BTreeMap::new();
    let mut followed = HashSet::new();
    for (index, op) in view.operations().iter().enumerate() {
        let (Some("dataflow.write_handle_v1"), [handle, value, _]) =
            (view.op_name(op), &op.operands[..])
        else {
            continue;
        };
        if graph
            .tensor(*handle)
            .is_some_and(|ty| ty.static_dims().is_some())
        {
            let row = rows.entry(handle.index()).or_default();
            *row += 1;
            let longest = writes.entry(handle.index()).or_default();
            *longest = (*longest).max(*row);
            if is_read_between(graph, *handle, op) {
                *row = 0;
            }
        }
        if let Some(origin) = position_of_write(graph, &origins, *value, &mut followed) {
            let found = format!(
                "operation {index} writes at a position that comes from {}",
                called(graph, origin)
            );
            findings.add(&KV_POSITION, place, found);
        }
    }
    for count in writes.into_values().filter(|count| *count > 1) {
        findings.add(
            &STATE_WRITES,
            place,
            format!("one state is written {count} times in a row"),
        );
    }
}

fn has<T: AsRef<str>>(names: &[Option<T>], wanted: &str) -> bool {
    names.iter().flatten().any(|name| name.as_ref() == wanted)
}

/// How many inputs a graph takes besides its states, if it is a decoder.
fn inputs_of_decoder(graph: &Graph<'_>, states: usize) -> Option<usize> {
    let view = &graph.view;
    let arguments = view.argument_names().ok()?;
    let results = view.result_names().ok()?;
    let is_decoder = has(&arguments, contract::POSITION_IDS) && has(&results, contract::LOGITS);
    is_decoder.then(|| arguments.len() - states)
}

/// Whether what a write leaves in a state is read by anything but the update that
/// the next write stores.
fn is_read_between(graph: &Graph<'_>, handle: Value, write: &Operation) -> bool {
    let tokens = write.results.iter();
    let reads = tokens.flat_map(|token| graph.users(*token)).filter(|op| {
        graph.view.op_name(op) == Some("dataflow.read_handle_v1")
            && op.operands.first() == Some(&handle)
    });
    let mut users = reads.flat_map(|read| {
        let held = read.results.first();
        held.into_iter()
            .flat_map(|held| graph.users(*held).iter().map(move |user| (held, user)))
    });
    users.any(|(held, user)| {
        let updates = graph.view.op_name(user).and_then(positions_of_update);
        updates.is_none() || user.operands.first() != Some(held)
    })
}

/// For each value that is computed from a tensor's value: an argument, or what
/// a state held, that it is computed from. Constants and shapes have none.
fn origins(graph: &Graph<'_>) -> HashMap<Value, Value> {
    let arguments = graph.view.arguments().iter();
    let mut origins: HashMap<Value, Value> = arguments
        .map(|argument| (argument.value, argument.value))
        .collect();
    for op in graph.view.operations() {
        let name = graph.view.op_name(op).unwrap_or_default();
        if name.starts_with("primitive.get_shape_v") {
            continue;
        }
        let reads = name == "dataflow.read_handle_v1";
        let behind = op.operands.iter().find_map(|value| origins.get(value));
        if let Some(origin) = behind.copied() {
            let results = op.results.iter();
            origins.extend(results.map(|result| (*result, if reads { *result } else { origin })));
        }
    }
    origins
}

/// Follows what is written into a state back through its updates, as far as
/// nobody did before; gives what the position of one of them comes from, if it
/// comes from a value.
fn position_of_write(
    graph: &Graph<'_>,
    origins: &HashMap<Value, Value>,
    mut value: Value,
    followed: &mut HashSet<Value>,
) -> Option<Value> {
    while followed.insert(value) {
        let (op, name) = graph.maker(value)?;
        let positions = op.operands.get(positions_of_update(name)?)?;
        if let Some(origin) = positions.iter().find_map(|at| origins.get(at)) {
            return Some(*origin);
        }
        value = *op.operands.first()?;
    }
    None
}

/// Where the operands of an operation that updates its first one say its place;
/// `None` for others.
fn positions_of_update(name: &str) -> Option<Range<usize>> {
    match name {
        // What is updated, begin, end, stride, and what it becomes.
        "primitive.slice_update_v1" => Some(1..4),
        "primitive.scatter_nd_v1" | "primitive.scatter_along_axis_v1" => Some(1..2),
        _ => None,
    }
}

/// How a finding calls an origin.
fn called(graph: &Graph<'_>, origin: Value) -> String {
    let arguments = graph.view.arguments();
    let at = arguments
        .iter()
        .position(|argument| argument.value == origin);
    let names = graph.view.argument_names().unwrap_or_default();
    match at.map(|at| names.get(at).cloned().flatten()) {
        Some(Some(name)) => format!("the value of {name:?}"),
        Some(None) => "the value of an argument".to_owned(),
        None => "what a state holds".to_owned(),
    }
}
