//! States: what a host keeps between calls.

use std::collections::{BTreeMap, HashMap, HashSet};

use aimodel::{Type, Value};

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

/// A fixed state is written once.
pub const STATE_WRITES: Rule = Rule {
    id: "state-writes",
    what: "several writes in a call to a state whose shape is fixed",
    reason: "the GPU drops all but one of them; a pair that grows is fine",
    remedy: "collect what is new and write it once, or let the state grow along one dimension",
    source: DELEGATES,
};

/// The engine drives two states.
pub const TWO_STATES: Rule = Rule {
    id: "two-states",
    what: "a function with a number of states other than two (none, where it is not a decoder)",
    reason: "Apple's engines create exactly two and refuse any other number",
    remedy: "keep all keys in one state and all values in the other",
    source: ENGINE,
};

/// The rules for a graph.
pub fn graph(graph: &Graph<'_>, place: &str, findings: &mut Findings) {
    let view = &graph.view;
    let is_state = |value: Value| matches!(Type::of(view.module, value), Ok(Type::Handle(_)));
    let arguments = view.arguments().iter().map(|argument| argument.value);
    let states = arguments.filter(|value| is_state(*value)).count();
    if !view.private && !matches!(states, 0 | 2) {
        findings.add(&TWO_STATES, place, format!("there are {states} states"));
    }
    let origins = origins(graph);
    let mut writes: BTreeMap<usize, usize> = BTreeMap::new();
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
            *writes.entry(handle.index()).or_default() += 1;
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
            format!("one state is written {count} times"),
        );
    }
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
        let positions = match name {
            // What is updated, begin, end, stride, and what it becomes.
            "primitive.slice_update_v1" => op.operands.get(1..4)?,
            "primitive.scatter_nd_v1" | "primitive.scatter_along_axis_v1" => {
                op.operands.get(1..2)?
            }
            _ => return None,
        };
        if let Some(origin) = positions.iter().find_map(|at| origins.get(at)) {
            return Some(*origin);
        }
        value = *op.operands.first()?;
    }
    None
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
