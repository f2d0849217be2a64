//! Padding, repeating and convolutions whose operands are not what they should
//! be: refused by the verifier or by the run, never a panic.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use aimodel::{Module, Operation, open_asset, verify};
use candle_core::{Device, Tensor};
use runtime::{Options, Program, States};

const OPERATIONS: [&str; 4] = [
    "primitive.pad_v1",
    "tile_v2",
    "primitive.conv2d_v1",
    "primitive.conv3d_v1",
];

/// The operations of a function's body.
fn body(module: &mut Module, graph: usize) -> &mut Vec<Operation> {
    &mut module.root.regions[0].blocks[0].operations[graph].regions[0].blocks[0].operations
}

#[test]
fn exchanged_and_missing_operands_are_refused() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let asset = open_asset(fixtures.join("ops.aimodel")).unwrap();
    let tensors = candle_core::safetensors::load(fixtures.join("ops.safetensors"), &Device::Cpu);
    let tensors = tensors.unwrap();
    let views = aimodel::graphs(&asset.module).unwrap();
    let found = views.iter().enumerate().flat_map(|(graph, view)| {
        let ops = view.operations().iter().enumerate();
        let ops = ops.filter(|(_, op)| OPERATIONS.contains(&view.op_name(op).unwrap()));
        let name = view.name.to_string();
        ops.map(move |(at, op)| (graph, name.clone(), at, op.operands.len()))
    });
    let (mut unverified, mut failed) = (0, 0);
    for (graph, name, at, count) in found.collect::<Vec<_>>() {
        let mut damaged = Vec::new();
        for first in 0..count {
            let mut module = asset.module.clone();
            body(&mut module, graph)[at].operands.remove(first);
            damaged.push(module);
            for second in 0..count {
                let mut module = asset.module.clone();
                let operands = &mut body(&mut module, graph)[at].operands;
                // Once exchanged, and once twice the same.
                if first < second {
                    operands.swap(first, second);
                } else {
                    operands[first] = operands[second];
                }
                damaged.push(module);
            }
        }
        for module in damaged {
            if verify(&module).is_err() {
                unverified += 1;
            }
            let Ok(program) = Program::new(&module, Device::Cpu, Options::default()) else {
                continue;
            };
            let function = program.function(&name).unwrap();
            let inputs = function.inputs().iter().map(|input| {
                let tensor: Tensor = tensors[&format!("{name}/0/{}", input.name)].clone();
                (input.name.as_str(), tensor)
            });
            let inputs: Vec<_> = inputs.collect();
            failed += usize::from(function.run(&inputs, &mut States::new()).is_err());
        }
    }
    assert!(unverified > 200, "{unverified}");
    assert!(failed > 0, "{failed}");
}
