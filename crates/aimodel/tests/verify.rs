//! Everything that the verifier refuses, made from an asset that it accepts.

#![allow(clippy::unwrap_used)]

mod common;

use aimodel::{
    Attribute, Blob, Dim, ElementType, Module, NAMESPACE, TensorType, Type, Value, verify,
};
use common::small;
use mlir_bytecode::{AttrId, Encoding, Field, Operation, PropertiesId, Region, ResourceValue};

/// The operations of a graph of the small asset: 0 is the composite.
fn body(module: &mut Module, graph: usize) -> &mut Vec<Operation> {
    &mut graph_op(module, graph).regions[0].blocks[0].operations
}

fn graph_op(module: &mut Module, graph: usize) -> &mut Operation {
    &mut module.root.regions[0].blocks[0].operations[graph]
}

/// The position of the first operation of that name.
fn find(module: &mut Module, graph: usize, name: &str) -> usize {
    let id = module.op_name(NAMESPACE, name, true);
    let ops = body(module, graph);
    ops.iter().position(|op| op.name == id).unwrap()
}

fn tensor(module: &mut Module, dims: &[u64], element: ElementType) -> Value {
    let ty = Type::from(TensorType::fixed(dims, element));
    let ty = ty.intern(module).unwrap();
    module.value(ty)
}

/// Replaces what the first operation of a name gives, and its uses.
fn retype(module: &mut Module, graph: usize, name: &str, ty: impl Into<Type>) {
    let at = find(module, graph, name);
    let ty = ty.into().intern(module).unwrap();
    let new = module.value(ty);
    let old = std::mem::replace(&mut body(module, graph)[at].results[0], new);
    for op in body(module, graph) {
        for operand in &mut op.operands {
            if *operand == old {
                *operand = new;
            }
        }
    }
}

/// Properties with the field at `index` replaced.
fn changed(module: &mut Module, id: PropertiesId, index: usize, value: AttrId) -> PropertiesId {
    let Some(Encoding::Fields(fields)) = module.properties_encoding(id) else {
        unreachable!()
    };
    let mut fields = fields.to_vec();
    fields[index] = match fields[index] {
        Field::OptionalAttr(_) => Field::OptionalAttr(Some(value)),
        _ => Field::Attr(value),
    };
    module.properties(fields)
}

/// Replaces a property of a graph.
fn set_graph(module: &mut Module, graph: usize, index: usize, value: Attribute) {
    let value = value.intern(module).unwrap();
    let id = graph_op(module, graph).properties.unwrap();
    let properties = changed(module, id, index, value);
    graph_op(module, graph).properties = Some(properties);
}

/// Replaces a property of the first operation of a name.
fn set(module: &mut Module, graph: usize, name: &str, index: usize, value: Attribute) {
    let value = value.intern(module).unwrap();
    let at = find(module, graph, name);
    let id = body(module, graph)[at].properties.unwrap();
    let properties = changed(module, id, index, value);
    body(module, graph)[at].properties = Some(properties);
}

/// Exchanges two operations of a graph.
fn swap(module: &mut Module, graph: usize, a: &str, b: &str) {
    let (a, b) = (find(module, graph, a), find(module, graph, b));
    body(module, graph).swap(a, b);
}

fn callee(name: &str) -> Attribute {
    let symbol = Attribute::SymbolRef(vec![name.into()]);
    Attribute::ParamConstant(Box::new(symbol), Type::Symbol)
}

const F16: ElementType = ElementType::F16;

#[test]
fn each_fault_is_found_and_named() {
    type Damage = fn(&mut Module);
    let cases: &[(Damage, &str)] = &[
        // Graphs.
        (
            |m| set_graph(m, 1, 5, Attribute::string("norm")),
            "there are two graphs @norm",
        ),
        (
            |m| set_graph(m, 0, 4, Attribute::flag(false)),
            "graph @norm: is a composite, which must be private",
        ),
        (
            |m| set_graph(m, 0, 6, Attribute::flag(false)),
            "graph @norm: is a composite, which must be private",
        ),
        (
            |m| set_graph(m, 1, 0, Attribute::Array(Vec::new())),
            "graph @main: the argument attributes are not one for each",
        ),
        (
            |m| {
                set_graph(
                    m,
                    1,
                    0,
                    Attribute::Array(vec![Attribute::Array(Vec::new()); 2]),
                )
            },
            "graph @main: its arguments are not all named",
        ),
        (
            |m| {
                let name = Attribute::named("aicode.name", Attribute::string("x"));
                let names = vec![Attribute::Array(vec![name]); 2];
                set_graph(m, 1, 8, Attribute::Array(names));
            },
            "graph @main: two results are named x",
        ),
        (
            |m| set_graph(m, 1, 3, Attribute::Type(Type::Token)),
            "`functionType` of @main is not a function type",
        ),
        (
            |m| {
                let ty = Type::Function {
                    inputs: Vec::new(),
                    outputs: vec![Type::Token; 2],
                };
                set_graph(m, 1, 3, Attribute::Type(ty));
            },
            "@main declares 0 arguments and has 2",
        ),
        (
            |m| {
                let inputs = vec![Type::Token; 2];
                let ty = Type::Function {
                    outputs: inputs.clone(),
                    inputs,
                };
                set_graph(m, 1, 3, Attribute::Type(ty));
            },
            "graph @main: arguments: number 0 is tensor<2x4xf16>, which is not what its function",
        ),
        (
            |m| graph_op(m, 0).regions.clear(),
            "operation 0 of the asset: expected one region with one block",
        ),
        (
            |m| drop(body(m, 1).pop()),
            "an output must be the last operation, and nothing else",
        ),
        (
            |m| {
                let output = body(m, 1).last().unwrap().clone();
                body(m, 1).insert(0, output);
            },
            "operation 0, `dataflow.output_v1`: operand 0 is not defined before it",
        ),
        // Calls.
        (
            |m| set(m, 1, "dataflow.invoke_v1", 1, callee("nobody")),
            "`dataflow.invoke_v1`: there is no graph @nobody",
        ),
        (
            |m| set(m, 1, "dataflow.invoke_v1", 1, Attribute::Unit),
            "`dataflow.invoke_v1`: does not name a graph",
        ),
        (
            |m| set(m, 1, "dataflow.invoke_v1", 1, callee("main")),
            "`dataflow.invoke_v1`: arguments of @main: number 1 is",
        ),
        (
            |m| {
                let at = find(m, 1, "dataflow.invoke_v1");
                let mut call = body(m, 1)[at].clone();
                let arguments = &m.root.regions[0].blocks[0].operations[0].regions[0].blocks[0];
                call.operands = arguments.arguments.iter().map(|a| a.value).collect();
                call.results = vec![tensor(m, &[2, 4], F16)];
                body(m, 0).insert(0, call);
            },
            "graph @norm calls itself, by way of @norm",
        ),
        (
            |m| {
                let at = find(m, 1, "dataflow.invoke_v1");
                body(m, 1)[at].operands.pop();
            },
            "`dataflow.invoke_v1`: arguments of @norm: 2 are declared, found 1",
        ),
        // Operations.
        (
            |m| {
                let name = m.op_name(NAMESPACE, "primitive.guess_v1", true);
                body(m, 1)[0].name = name;
            },
            "graph @main, operation 0, `primitive.guess_v1`: is not known",
        ),
        (
            |m| {
                let name = m.op_name("arith", "addi", true);
                body(m, 1)[0].name = name;
            },
            "`arith.addi` is not an operation of AICode",
        ),
        (
            |m| swap(m, 1, "dataflow.invoke_v1", "softmax_v1"),
            "`softmax_v1`: operand 0 is not defined before it",
        ),
        (
            |m| {
                let at = find(m, 0, "broadcasting_sub_v1");
                body(m, 0)[at].operands.pop();
            },
            "`broadcasting_sub_v1`: takes 2 operands, found 1",
        ),
        (
            |m| {
                let at = find(m, 0, "broadcasting_sub_v1");
                let result = tensor(m, &[2, 4], F16);
                body(m, 0)[at].results.push(result);
            },
            "`broadcasting_sub_v1`: gives 1 results, found 2",
        ),
        (
            |m| {
                let at = find(m, 0, "broadcasting_sub_v1");
                let result = body(m, 0)[at - 1].results[0];
                body(m, 0)[at].results = vec![result];
            },
            "is defined twice",
        ),
        (
            |m| {
                let at = find(m, 0, "broadcasting_sub_v1");
                body(m, 0)[at].successors = vec![0];
            },
            "has successors, expected none",
        ),
        (
            |m| {
                retype(
                    m,
                    0,
                    "broadcasting_sub_v1",
                    TensorType::fixed([2, 4], ElementType::F32),
                )
            },
            "`broadcasting_sub_v1`: tensor<2x4xf16> and tensor<2x4xf32> differ in their elements",
        ),
        (
            |m| retype(m, 0, "broadcasting_sub_v1", TensorType::fixed([2, 5], F16)),
            "`broadcasting_sub_v1`: tensor<2x4xf16> does not broadcast to tensor<2x5xf16>",
        ),
        (
            |m| retype(m, 1, "softmax_v1", TensorType::fixed([4, 2], F16)),
            "`softmax_v1`: tensor<2x4xf16> and tensor<4x2xf16> differ in their extents",
        ),
        (
            |m| retype(m, 1, "softmax_v1", Type::Token),
            "`softmax_v1`: expected a tensor, found !coreai.token",
        ),
        // Regions.
        (
            |m| body(m, 0)[1].regions.clear(),
            "`reduce_mean_v1`: must have one region with one block",
        ),
        (
            |m| {
                body(m, 0)[0].regions.push(Region::default());
            },
            "`primitive.constant_v1`: has regions, expected none",
        ),
        (
            |m| drop(region(m).operations.pop()),
            "`broadcasting_sub_v1`: its region must end with a yield",
        ),
        (|m| region(m).arguments.clear(), "is not defined before it"),
        (
            |m| region(m).arguments.swap(0, 1),
            "`broadcasting_sub_v1`: the arguments of its region are not its operands' types",
        ),
        (
            |m| {
                let first = region(m).arguments[1].value;
                region(m).operations.last_mut().unwrap().operands = vec![first];
            },
            "its region yields tensor<2x1xf16>, which is not its result",
        ),
        (
            |m| {
                let outer = graph_op(m, 0).regions[0].blocks[0].arguments[0].value;
                region(m).operations.last_mut().unwrap().operands = vec![outer];
            },
            "`dataflow.yield_v1`: operand 0 is not defined before it",
        ),
        // Constants.
        (
            |m| {
                let bytes = vec![0; 12].into();
                let content = Attribute::DenseElements {
                    splat: false,
                    bytes,
                };
                set(m, 1, "primitive.constant_v1", 0, content);
            },
            "tensor<2xsi32> takes 8 bytes, but its elements has 12",
        ),
        (
            |m| {
                let bytes = vec![0; 8].into();
                let content = Attribute::DenseElements { splat: true, bytes };
                set(m, 1, "primitive.constant_v1", 0, content);
            },
            "tensor<2xsi32> takes 4 bytes, but its elements has 8",
        ),
        (
            |m| set(m, 1, "primitive.constant_v1", 0, Attribute::Unit),
            "`primitive.constant_v1`: has no elements and no resource",
        ),
        (
            |m| m.resources[0].1.value = blob(6),
            "tensor<4xf16> takes 8 bytes, but resource `weight` has 6",
        ),
        (
            |m| m.resources[0].1.value = ResourceValue::Bool(true),
            "resource `weight` holds no bytes",
        ),
        (
            |m| {
                let ty = TensorType::new([Dim::Dynamic], ElementType::Si32);
                retype(m, 1, "primitive.constant_v1", ty);
            },
            "the extents of tensor<?xsi32> are not all known",
        ),
        // States.
        (
            |m| {
                let handle = graph_op(m, 1).regions[0].blocks[0].arguments[1].value;
                let at = find(m, 1, "softmax_v1");
                body(m, 1)[at].operands[0] = handle;
            },
            "`softmax_v1`: expected a tensor, found !coreai.handle<tensor<2x?xf16>>",
        ),
        (
            |m| {
                let fresh = find(m, 1, "dataflow.create_token_v1");
                let fresh = body(m, 1)[fresh].results[0];
                let at = find(m, 1, "dataflow.write_handle_v1");
                body(m, 1)[at].operands[2] = fresh;
            },
            "`dataflow.write_handle_v1`: does not follow what was done to its state before",
        ),
        (
            |m| {
                let at = find(m, 1, "dataflow.read_handle_v1");
                let token = body(m, 1)[at].results[1];
                body(m, 1).last_mut().unwrap().operands[0] = token;
            },
            "argument 1 is a state whose last token is not a result",
        ),
        (
            |m| {
                let at = find(m, 1, "dataflow.read_handle_v1");
                body(m, 1)[at].operands.swap(0, 1);
            },
            "`dataflow.read_handle_v1`: does not take (!coreai.token, !coreai.handle<",
        ),
    ];
    let mut wrong = Vec::new();
    for (damage, expected) in cases {
        let mut module = small();
        damage(&mut module);
        let error = match verify(&module) {
            Ok(()) => format!("nothing, instead of {expected}"),
            Err(error) => error.to_string(),
        };
        if !error.contains(expected) {
            wrong.push(format!("found {error}\nfor {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The region of the subtraction.
fn region(module: &mut Module) -> &mut mlir_bytecode::Block {
    let at = find(module, 0, "broadcasting_sub_v1");
    &mut body(module, 0)[at].regions[0].blocks[0]
}

fn blob(bytes: usize) -> ResourceValue {
    ResourceValue::Blob {
        alignment: 16,
        data: Blob::new(vec![0_u8; bytes]),
    }
}
