//! What the builder refuses: graphs that are lost, and values of other assets.

#![allow(clippy::unwrap_used)]

use aimodel::{AssetBuilder, ElementType, TensorType, Value, verify};

fn row() -> TensorType {
    TensorType::fixed([4], ElementType::F16)
}

fn double(asset: &mut AssetBuilder, name: &str) {
    let mut graph = asset.graph(name);
    let x = graph.input("x", row()).unwrap();
    let y = graph.add(x, x).unwrap();
    graph.finish(&[("y", y)]).unwrap();
}

#[test]
fn a_graph_that_is_dropped_unfinished_is_named() {
    let mut asset = AssetBuilder::new();
    double(&mut asset, "main");
    drop(asset.graph("lost"));
    let error = asset.finish().unwrap_err().to_string();
    assert_eq!(error, "graph @lost was begun and not finished");

    // Others that are finished after it do not hide it.
    let mut asset = AssetBuilder::new();
    drop(asset.graph("lost"));
    drop(asset.graph("later"));
    double(&mut asset, "main");
    let error = asset.finish().unwrap_err().to_string();
    assert_eq!(error, "graph @lost was begun and not finished");

    let mut asset = AssetBuilder::new();
    double(&mut asset, "main");
    double(&mut asset, "other");
    verify(&asset.finish().unwrap()).unwrap();
}

/// A value that only an asset with more of them has.
fn foreign() -> Value {
    let mut asset = AssetBuilder::new();
    let mut graph = asset.graph("main");
    let values = (0..100).map(|_| graph.input("x", row()).unwrap());
    values.last().unwrap()
}

#[test]
fn values_of_another_asset_are_errors() {
    let value = foreign();
    let mut asset = AssetBuilder::new();
    let mut graph = asset.graph("main");
    let x = graph.input("x", row()).unwrap();
    assert!(graph.ty(x).is_ok());
    let says = |error: aimodel::Error| error.to_string().contains("value 99 is of another asset");
    assert!(says(graph.ty(value).unwrap_err()));
    assert!(says(graph.tensor("add", value).unwrap_err()));
    assert!(says(graph.add(x, value).unwrap_err()));
    assert!(says(graph.range(x, value, x).unwrap_err()));
    assert!(says(graph.finish(&[("y", value)]).unwrap_err()));
    let error = asset.finish().unwrap_err().to_string();
    assert_eq!(error, "graph @main was begun and not finished");
}
