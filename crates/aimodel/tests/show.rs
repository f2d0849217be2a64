//! What people see of a program: its text and its summary.

#![allow(clippy::unwrap_used)]

mod common;

use aimodel::{AssetBuilder, ElementType, Form, Parameter, Summary, TensorType, print_ir};
use common::small;

fn text(form: Form) -> String {
    let mut text = Vec::new();
    print_ir(&small(), form, &mut text).unwrap();
    String::from_utf8(text).unwrap()
}

#[test]
fn the_dialect_form_is_short() {
    let expected = include_str!("small.coreai.mlir");
    assert_eq!(text(Form::Dialect), expected);
}

#[test]
fn the_stored_form_has_it_all() {
    let text = text(Form::Stored);
    let expected = [
        r#""aicode.serialization.asset"() <{version = 2026"#,
        r#"%5 = "aicode.primitive.reduce_v1"(%arg4, %arg5, %4) ({"#,
        "^bb0(%arg6: tensor<f32>, %arg7: tensor<f32>):",
        r#"value = dense_resource<weight: 8 bytes>"#,
        r#"callee = @norm : !param.symbol"#,
        r#"compositeDecl = "rms_norm" = {input_names = ["input", "scale"],"#,
    ];
    for expected in expected {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
}

#[test]
fn names_cannot_steer_a_terminal() {
    const EVIL: &str = "a\u{1b}[2J\u{7}\u{202e}\nb";
    let mut asset = AssetBuilder::new();
    let mut main = asset.graph(EVIL);
    let ty = TensorType::fixed([4], ElementType::F16);
    let x = main.input(EVIL, ty).unwrap();
    main.finish(&[(EVIL, x)]).unwrap();
    let module = asset.finish().unwrap();
    for form in [Form::Dialect, Form::Stored] {
        let mut text = Vec::new();
        print_ir(&module, form, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("\\u{1b}[2J"), "{text}");
        let bad = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!text.contains(bad), "{text:?}");
    }
}

#[test]
fn the_summary_counts() {
    let summary = Summary::of(&small()).unwrap();
    assert_eq!(summary.functions.len(), 1);
    let main = &summary.functions[0];
    let list = |parameters: &[Parameter]| -> Vec<String> {
        parameters.iter().map(Parameter::to_string).collect()
    };
    assert_eq!(main.name, "main");
    assert_eq!(list(&main.inputs), ["x: tensor<2x4xf16>"]);
    assert_eq!(list(&main.states), ["cache: tensor<2x?xf16>"]);
    assert_eq!(list(&main.outputs), ["chances: tensor<2x4xf16>"]);
    let norm = &summary.graphs[0];
    assert_eq!(norm.composite.as_deref(), Some("rms_norm"));
    let count = |name: &str| {
        let found = summary.operations.iter().find(|(other, _)| other == name);
        found.map_or(0, |(_, count)| *count)
    };
    // One in the graph itself, each reduction once, and their combiners.
    assert_eq!(count("invoke"), 1);
    assert_eq!(count("reduce_mean"), 1);
    assert_eq!(count("reduce"), 3);
    assert_eq!(count("output"), 0);
    assert_eq!(count("yield"), 0);
    let total: u64 = summary
        .graphs
        .iter()
        .flat_map(|graph| &graph.operations)
        .map(|(_, n)| n)
        .sum();
    let all: u64 = summary.operations.iter().map(|(_, count)| count).sum();
    assert_eq!(total, all);
    let halves = summary
        .storage
        .iter()
        .find(|storage| storage.element == ElementType::F16);
    assert_eq!(
        halves.map(|storage| (storage.elements, storage.bytes)),
        Some((4, 8))
    );
    assert_eq!(summary.resources, (1, 8));
}

#[test]
fn names_of_a_file_cannot_command_a_terminal() {
    let lie = "x\u{1b}[2J\nmodule {";
    for dialect in [aimodel::NAMESPACE, "strange"] {
        let mut module = small();
        let name = module.op_name(dialect, lie, true);
        let main = &mut module.root.regions[0].blocks[0].operations[1];
        main.regions[0].blocks[0].operations[0].name = name;
        for form in [Form::Dialect, Form::Stored] {
            let mut text = Vec::new();
            print_ir(&module, form, &mut text).unwrap();
            let text = String::from_utf8(text).unwrap();
            let control = |c: char| c.is_control() && c != '\n';
            assert!(!text.contains(control), "{text}");
            assert!(text.contains(r"x\u{1b}[2J\nmodule {"), "{text}");
        }
    }
}
