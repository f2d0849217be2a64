//! Attention kernels that do not compile.

use aimodel::{Dim, TensorType};

use super::{
    graph::{Graph, kernel},
    rule::{DELEGATES, Findings, Rule},
};

/// A query is short.
pub const ATTENTION_QUERY: Rule = Rule {
    id: "attention-query",
    what: "a `scaled_dot_product_attention` of 384 queries or more over keys of unknown number, \
           which is a cache",
    reason: "the encoding of the kernel aborts at 384; 16 and 64 ran clean, and between them and \
             384 nobody measured",
    remedy: "export with the call shape `pf64` or less",
    source: DELEGATES,
};

/// Queries, keys and values are equally wide.
pub const ATTENTION_WIDTH: Rule = Rule {
    id: "attention-width",
    what: "a `scaled_dot_product_attention` whose values have another width than its queries and \
           keys",
    reason: "Apple's compiler cannot lower it",
    remedy: "pad the narrower ones with zeros, or spell the attention out",
    source: DELEGATES,
};

/// The number of queries from which on the kernel is known to abort.
const ABORTS_FROM: u64 = 384;

/// The rules for a graph.
pub fn graph(graph: &Graph<'_>, place: &str, findings: &mut Findings) {
    if kernel(&graph.view).as_deref() != Some("scaled_dot_product_attention") {
        return;
    }
    let arguments = graph.view.arguments().iter().take(3);
    let types: Vec<TensorType> = arguments
        .filter_map(|argument| graph.tensor(argument.value))
        .collect();
    let [query, key, value] = &types[..] else {
        return;
    };
    let width = |ty: &TensorType| ty.dims.last().copied();
    if width(query) != width(value) || width(key) != width(value) {
        let found = format!("the query is {query}, the key {key}, the value {value}");
        findings.add(&ATTENTION_WIDTH, place, found);
    }
    // [1, heads, S, D] and [1, heads, T, D].
    let count = |ty: &TensorType| ty.dims.get(2).copied();
    if let (Some(Dim::Static(queries)), Some(Dim::Dynamic)) = (count(query), count(key))
        && queries >= ABORTS_FROM
    {
        findings.add(&ATTENTION_QUERY, place, format!("the query is {query}"));
    }
}
