//! Programs have the functions of their contract.
#![allow(clippy::unwrap_used)]

use aimodel::{Module, Summary};
use bundle::{CallShape, Layout};
use checkpoint::Source;
use models::{Contract, Port};
use quantize::RECIPES;

/// The functions of a program, as a contract states them.
fn functions(module: &Module) -> Vec<Contract> {
    let known = [
        "main",
        "prefill",
        "input_ids",
        "position_ids",
        "image_embeds",
        "deepstack_embeds",
        "rope_shift_start",
        "rope_shift_amount",
        "keyCache",
        "valueCache",
        "logits",
        "patches",
        "embed_tokens",
        "inputs_embeds",
        "pixel_values",
        "image_features",
    ];
    let name = |found: &str| *known.iter().find(|name| **name == found).unwrap();
    let ports = |parameters: &[aimodel::Parameter]| -> Vec<Port> {
        let port = |p: &aimodel::Parameter| Port::new(name(&p.name), p.ty.clone());
        parameters.iter().map(port).collect()
    };
    let summary = Summary::of(module).unwrap();
    let contract = |function: &aimodel::Function| Contract {
        function: name(&function.name),
        inputs: ports(&function.inputs),
        states: ports(&function.states),
        outputs: ports(&function.outputs),
    };
    summary.functions.iter().map(contract).collect()
}

#[test]
fn programs_have_the_functions_of_their_contract() {
    let source = Source::nano();
    let architecture = models::open(&source).unwrap();
    let weights = models::open_weights(&source, architecture.as_ref()).unwrap();
    for grid in [2, 5] {
        for layout in [
            Layout::Pipelined(CallShape::One),
            Layout::Pipelined(CallShape::Dynamic),
            Layout::Pipelined(CallShape::Prefill(8)),
            Layout::Vlm,
        ] {
            let expected = architecture.contracts(layout, grid);
            let roles: Vec<_> = expected.iter().map(|(role, _)| *role).collect();
            assert_eq!(roles, layout.roles());
            for recipe in RECIPES {
                let programs = architecture.lower(&weights, recipe, layout, grid).unwrap();
                let found = programs.iter();
                let found: Vec<_> = found
                    .map(|(role, module)| (*role, functions(module)))
                    .collect();
                assert_eq!(found, expected, "{recipe} {layout:?} {grid}");
            }
        }
        let module = architecture.lower_vision(&weights, grid).unwrap().unwrap();
        let expected = architecture.vision_contract(grid).unwrap();
        assert_eq!(functions(&module), [expected], "{grid}");
    }
}
