//! An asset with one of everything that our graphs have.

#![allow(clippy::unwrap_used)]

use aimodel::{
    AssetBuilder, Attribute, Blob, Composite, Dim, ElementType, Module, TensorType, Value,
};

/// `scale(input, scale) = mean-normalised input · scale`, and a main function
/// that updates a state, calls it, and adds a large constant.
pub fn small() -> Module {
    let mut asset = AssetBuilder::new();
    let row = TensorType::fixed([2, 4], ElementType::F16);
    let declaration = Composite::new(
        "rms_norm",
        [("axes", Attribute::si64(-1)), ("eps", Attribute::f32(1e-6))],
    );
    let mut norm = asset.composite("norm", declaration);
    let x = norm.input("input", row.clone()).unwrap();
    let weight = norm
        .input("scale", TensorType::fixed([4], ElementType::F16))
        .unwrap();
    let axes = norm.si32(&[1]).unwrap();
    let mean = norm.reduce_mean(x, axes).unwrap();
    let centred = norm.sub(x, mean).unwrap();
    let scaled = norm.mul(centred, weight).unwrap();
    let norm = norm.finish(&[("output", scaled)]).unwrap();

    let mut main = asset.graph("main");
    let x = main.input("x", row.clone()).unwrap();
    let cache = TensorType::new([Dim::Static(2), Dim::Dynamic], ElementType::F16);
    let cache = main.state("cache", cache).unwrap();
    let token = main.create_token().unwrap();
    let (held, token) = main.read_handle(cache, token).unwrap();
    let bounds: [Value; 3] = [[0, 0], [2, 4], [1, 1]].map(|bound| main.si32(&bound).unwrap());
    let updated = main.slice_update(held, x, bounds).unwrap();
    let token = main.write_handle(cache, updated, token).unwrap();
    let weight = main
        .resource(TensorType::fixed([4], ElementType::F16), "weight", || {
            Blob::new(vec![0_u8, 0x3c, 0, 0x40, 0, 0x42, 0, 0x44])
        })
        .unwrap();
    let normal = main.invoke(&norm, &[x, weight]).unwrap();
    let last = main.scalar_si32(1).unwrap();
    let chances = main.softmax(normal, last).unwrap();
    main.finish(&[("cache", token), ("chances", chances)])
        .unwrap();
    asset.finish().unwrap()
}
