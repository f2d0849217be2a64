//! What the graphs of a program hold.

use std::collections::HashSet;

use aimodel::{
    Attribute, Dim, ElementType, GraphView, Locations, Module, Operation, TensorType, Value, graphs,
};

use super::{
    attention,
    graph::Graph,
    rule::{DELEGATES, Findings, LIBRARY, Rule},
    scales, states,
};
use crate::Result;

/// No floor of floats.
pub const FLOAT_FLOOR: Rule = Rule {
    id: "float-floor",
    what: "a floor division of floats by one, which is how floor, trunc and ceil are stored",
    reason: "the GPU takes it for the identity, while the CPU computes it right",
    remedy: "compute the whole number in integers, or divide by something other than one \
             (`div(2x, 2, floor)`)",
    source: DELEGATES,
};

/// No rounding of floats.
pub const FLOAT_ROUND: Rule = Rule {
    id: "float-round",
    what: "a `round` of floats",
    reason: "the GPU rounds ties away from zero, where the CPU and the checkpoint round them to \
             even",
    remedy: "keep values whole, or round in integers",
    source: DELEGATES,
};

/// No dimension of extent zero.
pub const ZERO_EXTENT: Rule = Rule {
    id: "zero-extent",
    what: "a value with a dimension of extent zero (an empty list of extents, the shape of a \
           scalar, is none)",
    reason: "GPU and ANE abort on it",
    remedy: "leave out the input, the slice or the concatenated part that holds nothing",
    source: DELEGATES,
};

/// What is a kernel says so.
pub const COMPOSITE: Rule = Rule {
    id: "composite-declaration",
    what: "a private graph that stays a call and declares no kernel, or whose declaration lacks \
           an attribute, is of another version, has another number of inputs or outputs than the \
           graph, or names the graph's arguments in another order",
    reason: "Apple's compiler puts its fused kernel in place of a graph only where the \
             declaration is exact",
    remedy: "declare `rms_norm`, `rope`, `scaled_dot_product_attention` or `layer_norm` exactly, \
             or inline the graph",
    source: "the reference assets",
};

/// Locations are those of a stripped asset.
pub const LOCATIONS: Rule = Rule {
    id: "debug-locations",
    what: "a location that is not of the AICode dialect",
    reason: "loading ends with \"expected AICode versioned location\" on beta 2 and later",
    remedy: "`repair` writes a copy without them",
    source: LIBRARY,
};

/// No mask of floats from a comparison of wide integers.
pub const WIDE_COMPARE: Rule = Rule {
    id: "wide-compare",
    what: "a comparison of 64-bit integers that is cast to floats",
    reason: "the mask overwrites other values, on Apple's delegates and in Core AI's runtime on \
             the CPU",
    remedy: "compare integers of 32 bits",
    source: DELEGATES,
};

/// The rules for a program.
pub fn program(module: &Module, asset: &str, findings: &mut Findings) -> Result<()> {
    locations(module, asset, findings);
    for view in graphs(module)? {
        let place = format!("{asset}, @{}", view.name);
        let graph = Graph::new(view);
        for (index, op) in graph.view.operations().iter().enumerate() {
            if let Some(name) = graph.view.op_name(op) {
                let mut found = |rule, what: String| {
                    findings.add(rule, &place, format!("operation {index}, `{name}`, {what}"));
                };
                rounding(&graph, op, name, &mut found);
                extents(&graph, op, &mut found);
                wide_masks(&graph, op, name, &mut found);
                scales::operation(&graph, op, name, &mut found);
            }
        }
        for argument in graph.view.arguments() {
            if let Some(ty) = graph.tensor(argument.value).filter(is_empty) {
                findings.add(&ZERO_EXTENT, &place, format!("an argument is {ty}"));
            }
        }
        if let Some(problem) = declaration(&graph.view) {
            findings.add(&COMPOSITE, &place, problem);
        }
        states::graph(&graph, &place, findings);
        attention::graph(&graph, &place, findings);
    }
    Ok(())
}

fn is_float(element: ElementType) -> bool {
    use ElementType::{BF16, F16, F32, F64, Tf32};
    matches!(element, F16 | BF16 | F32 | F64 | Tf32)
}

fn rounding(
    graph: &Graph<'_>,
    op: &Operation,
    name: &str,
    found: &mut impl FnMut(&'static Rule, String),
) {
    let Some(ty) = op.results.first().and_then(|result| graph.tensor(*result)) else {
        return;
    };
    match (name, &op.operands[..]) {
        _ if !is_float(ty.element) => {}
        ("primitive.round_v1", _) => found(&FLOAT_ROUND, format!("gives {ty}")),
        ("primitive.floor_divide_v1" | "broadcasting_floor_divide_v1", [_, by])
            if graph.is_constant_one(*by, ty.element) =>
        {
            found(&FLOAT_FLOOR, format!("divides {ty} by one"));
        }
        _ => {}
    }
}

fn wide_masks(
    graph: &Graph<'_>,
    op: &Operation,
    name: &str,
    found: &mut impl FnMut(&'static Rule, String),
) {
    let (Some(result), Some(mask)) = (op.results.first(), op.operands.first()) else {
        return;
    };
    if name != "primitive.cast_v1" || !graph.tensor(*result).is_some_and(|ty| is_float(ty.element))
    {
        return;
    }
    // Through what is computed of truth values alone.
    let mut open = vec![*mask];
    let mut seen = HashSet::new();
    while let Some(value) = open.pop() {
        let is_truth = graph
            .tensor(value)
            .is_some_and(|ty| ty.element == ElementType::Bool);
        if !is_truth || !seen.insert(value) {
            continue;
        }
        let Some((maker, name)) = graph.maker(value) else {
            continue;
        };
        // Shapes and places may be wide without harm.
        if !is_comparison(name) {
            open.extend(&maker.operands);
            continue;
        }
        let wide = maker.operands.iter().filter_map(|operand| {
            let ty = graph.tensor(*operand)?;
            matches!(ty.element, ElementType::Si64 | ElementType::Ui64).then_some(ty)
        });
        if let Some(ty) = wide.into_iter().next() {
            found(&WIDE_COMPARE, format!("casts a comparison of {ty}"));
            return;
        }
    }
}

fn is_comparison(name: &str) -> bool {
    let name = name.strip_prefix("primitive.").unwrap_or(name);
    let name = name.strip_prefix("broadcasting_").unwrap_or(name);
    ["equal_v", "greater_v", "not_equal_v"]
        .iter()
        .any(|known| name.starts_with(known))
}

fn is_empty(ty: &TensorType) -> bool {
    ty.dims.contains(&Dim::Static(0))
}

fn extents(graph: &Graph<'_>, op: &Operation, found: &mut impl FnMut(&'static Rule, String)) {
    for result in &op.results {
        let Some(ty) = graph.tensor(*result).filter(is_empty) else {
            continue;
        };
        if !is_shape_of_scalar(graph, *result, &ty) {
            found(&ZERO_EXTENT, format!("gives {ty}"));
        }
    }
}

/// Whether a value is an empty vector that only says which shape another one
/// gets.
fn is_shape_of_scalar(graph: &Graph<'_>, value: Value, ty: &TensorType) -> bool {
    let users = graph.users(value);
    let as_shape = users.iter().all(|op| {
        let name = graph.view.op_name(op).unwrap_or_default();
        let takes_shape = ["primitive.reshape_v", "primitive.broadcast_to_v"]
            .iter()
            .any(|known| name.starts_with(known));
        takes_shape && op.operands.first() != Some(&value)
    });
    ty.rank() == 1 && !is_float(ty.element) && as_shape
}

/// What the declarations of kernels must say besides a version of 1.
const KERNELS: [(&str, &[&str]); 4] = [
    ("rms_norm", &["axes", "eps"]),
    ("layer_norm", &["axes", "eps"]),
    ("rope", &["base", "interleaved", "scale"]),
    (
        "scaled_dot_product_attention",
        &["is_causal", "window_size"],
    ),
];

/// What is wrong with the declaration of a graph.
fn declaration(view: &GraphView<'_>) -> Option<String> {
    let Some(id) = view.composite else {
        return (view.private && view.no_inline)
            .then(|| "it is private, stays a call, and declares no kernel".to_owned());
    };
    let Ok(Attribute::Opaque(name, parts)) = Attribute::read(view.module, id) else {
        return Some("its declaration cannot be read".to_owned());
    };
    // Kernels that nobody described may declare what they like.
    let (_, needed) = KERNELS.iter().find(|(known, _)| *known == name.as_ref())?;
    let part = |wanted: &str| {
        parts.iter().find_map(|part| match part {
            Attribute::Opaque(name, values) if name.as_ref() == wanted => values.first(),
            _ => None,
        })
    };
    let names = |wanted: &str| match part(wanted) {
        Some(Attribute::Array(names)) => names.iter().map(Attribute::as_str).collect(),
        _ => None::<Vec<_>>,
    };
    let arguments = view.argument_names().ok()?;
    let arguments: Vec<&str> = arguments.iter().flatten().map(AsRef::as_ref).collect();
    // coreai-torch declares query, key and value for arguments that it calls q, k and
    // v: they belong together by position.
    let inputs = names("input_names").unwrap_or_default();
    let moved = inputs
        .iter()
        .zip(&arguments)
        .any(|(declared, argument)| declared != argument && arguments.contains(declared));
    if inputs.len() != arguments.len() || moved {
        return Some(format!(
            "{name} declares the inputs {inputs:?}, and its arguments are {arguments:?}"
        ));
    }
    let results = names("output_names").map_or(0, |names| names.len());
    if results != view.outputs.len() {
        return Some(format!(
            "{name} declares {results} outputs and has {}",
            view.outputs.len()
        ));
    }
    let attributes = match part("op_attrs") {
        Some(Attribute::Dictionary(attributes)) => attributes.as_slice(),
        _ => &[],
    };
    let get = |wanted: &str| {
        let found = attributes.iter().find(|(key, _)| key.as_ref() == wanted);
        found.map(|(_, value)| value)
    };
    match get("version") {
        Some(Attribute::Integer { bits: 1, .. }) => {}
        _ => return Some(format!("{name} does not declare version 1")),
    }
    let missing = needed.iter().find(|key| get(key).is_none());
    missing.map(|key| format!("{name} does not declare `{key}`"))
}

/// Looks at every location of a program, regions and arguments included.
fn locations(module: &Module, asset: &str, findings: &mut Findings) {
    let found = Locations::of(module);
    let problems = [
        (found.unknown, "an argument has an unknown location"),
        (found.builtin, "there is a location of the builtin dialect"),
    ];
    for (count, problem) in problems {
        if count > 0 {
            findings.add(&LOCATIONS, asset, problem);
        }
    }
}
