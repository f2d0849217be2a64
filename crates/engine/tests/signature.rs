//! Decoders of other signatures: static inputs are whatever is declared.

// Helpers outside test functions, which clippy.toml does not exempt.
#![allow(clippy::unwrap_used)]

use aimodel::{AssetBuilder, Dim, ElementType, TensorType};
use candle_core::{DType, Device, Tensor};
use engine::{Decoder, Error, StaticInputs};
use half::f16;
use models::TokenizedPrompt;
use runtime::{Options, Program};

const VOCABULARY: usize = 8;

/// A decoder whose next token is 3 · token + 1, modulo the vocabulary: its
/// logits are rows of a table. With `bias`, an input is added to them.
fn decoder(bias: bool) -> Decoder {
    let mut asset = AssetBuilder::new();
    let mut graph = asset.graph("main");
    let si32 = |dims: Vec<Dim>| TensorType::new(dims, ElementType::Si32);
    let ids = si32(vec![1.into(), 1.into()]);
    let ids = graph.input("input_ids", ids).unwrap();
    let positions = si32(vec![1.into(), Dim::Dynamic]);
    graph.input("position_ids", positions).unwrap();
    let width = VOCABULARY as u64;
    let bias = bias.then(|| {
        let ty = TensorType::fixed([1, 1, width], ElementType::F16);
        graph.input("bias", ty).unwrap()
    });
    let table = (0..VOCABULARY).flat_map(|row| {
        let best = (3 * row + 1) % VOCABULARY;
        (0..VOCABULARY).flat_map(move |column| {
            f16::from_f32(f32::from(u8::from(column == best))).to_le_bytes()
        })
    });
    let table: Vec<u8> = table.collect();
    let ty = TensorType::fixed([width, width], ElementType::F16);
    let table = graph.dense(ty, &table).unwrap();
    let last = graph.si32(&[2]).unwrap();
    let indices = graph.expand_dims(ids, last).unwrap();
    let mut logits = graph.gather_nd(table, indices).unwrap();
    if let Some(bias) = bias {
        logits = graph.add(logits, bias).unwrap();
    }
    graph.finish(&[("logits", logits)]).unwrap();
    let module = asset.finish().unwrap();
    let program = Program::new(&module, Device::Cpu, Options::default()).unwrap();
    Decoder::new(program).unwrap()
}

#[test]
fn two_inputs_are_enough() {
    let decoder = decoder(false);
    assert_eq!(
        (decoder.vocabulary(), decoder.picture_tokens()),
        (VOCABULARY, None)
    );
    let mut sequence = decoder.start(&StaticInputs::new()).unwrap();
    assert_eq!(sequence.greedy(&[5, 2], 4).unwrap(), [7, 6, 3, 2]);
    assert_eq!(sequence.len(), 5);
    // What a prompt offers and the decoder does not declare is left out.
    let prompt = TokenizedPrompt {
        inputs: vec![("rope_shift_start", 7)],
        ..TokenizedPrompt::default()
    };
    let inputs = decoder.inputs(&prompt, StaticInputs::new()).unwrap();
    assert_eq!(inputs.names().count(), 0);
}

#[test]
fn inputs_that_nobody_gives_are_zeros() {
    let decoder = decoder(true);
    let zeros = decoder.start(&StaticInputs::new());
    assert_eq!(zeros.unwrap().greedy(&[5], 2).unwrap(), [0, 1]);
    let bias = Tensor::new(&[[[0.0_f32, 0., 0., 0., 2., 0., 0., 0.]]], &Device::Cpu);
    let bias = bias.unwrap().to_dtype(DType::F16).unwrap();
    let given = StaticInputs::new().with("bias", bias);
    let mut sequence = decoder.start(&given).unwrap();
    assert_eq!(sequence.greedy(&[5], 2).unwrap(), [4, 4]);
    // A prompt with a picture needs all of them: zeros would be a wrong picture.
    let prompt = TokenizedPrompt {
        placements: vec![models::Placement {
            start: 0,
            grid: [1, 1],
        }],
        ..TokenizedPrompt::default()
    };
    let error = decoder.inputs(&prompt, StaticInputs::new()).unwrap_err();
    assert!(matches!(error, Error::MissingInput { .. }), "{error}");
    assert!(decoder.inputs(&prompt, given).is_ok());
}
