//! vlm bundles of nano against what transformers recorded of conversations with
//! several pictures and turns (`oracles/conversations.py`).

// Helpers outside test functions, which clippy.toml does not exempt.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use bundle::Layout;
use candle_core::{DType, Device, Tensor};
use checkpoint::{Source, TokenizerFiles};
use common::{conversations, conversations_folder, open, read, recipe};
use models::PromptWriter;
use serde_json::{Value, json};
use testkit::nano;

/// From this margin on, another best token is a fault.
const MARGIN: f32 = 0.1;

fn json(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(conversations_folder().join(name)).unwrap()).unwrap()
}

fn recorded(name: &str) -> impl Fn(&str) -> Tensor {
    let path = conversations_folder().join(format!("{name}.safetensors"));
    let tensors = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    move |name| tensors[name].clone()
}

fn numbers(tensor: &Tensor) -> Vec<i64> {
    let flat = tensor.flatten_all().unwrap();
    flat.to_dtype(DType::I64).unwrap().to_vec1().unwrap()
}

fn rows(tensor: &Tensor) -> Vec<Vec<f64>> {
    tensor.to_dtype(DType::F64).unwrap().to_vec2().unwrap()
}

/// The minimum cosine, and how many positions that lead by the margin have
/// another best token.
fn compare(found: &Tensor, expected: &Tensor, margins: &[f32]) -> (f64, usize) {
    let (found, expected) = (rows(found), rows(expected));
    assert_eq!(found.len(), expected.len());
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let best = |row: &[f64]| (0..row.len()).max_by(|i, j| row[*i].total_cmp(&row[*j]));
    let (mut cosine, mut wrong) = (1.0_f64, 0);
    for ((a, b), margin) in found.iter().zip(&expected).zip(margins) {
        cosine = cosine.min(dot(a, b) / (dot(a, a) * dot(b, b)).sqrt());
        wrong += usize::from(*margin >= MARGIN && best(a) != best(b));
    }
    (cosine, wrong)
}

#[test]
fn conversations_are_read_as_transformers_reads_them() {
    let architecture = models::open(&Source::nano()).unwrap();
    for (mode, bar) in [("fp16", 0.9999), ("int8lin", 0.999), ("int8hu", 0.999)] {
        let out = tempfile::tempdir().unwrap();
        let options = export::Options {
            recipe: recipe(mode),
            layouts: vec![Layout::Vlm],
            ..nano::options()
        };
        let bundles = nano::export(out.path(), &options);
        let model = open(&bundles[0].path).unwrap();
        let talks = conversations();
        assert_eq!(talks.len(), 8);
        for (name, talk) in talks {
            let recorded = recorded(&name);
            let prompt = model.prompt(&talk).unwrap().tokens;
            let ids: Vec<i64> = prompt.ids.iter().map(|id| i64::from(*id)).collect();
            assert_eq!(ids, numbers(&recorded("input_ids")), "{name}");
            let positions = architecture.graph_positions(&prompt, Layout::Vlm);
            let axes = (0..3).flat_map(|axis| positions.iter().map(move |p| i64::from(p[axis])));
            let expected = numbers(&recorded("position_ids"));
            assert_eq!(axes.collect::<Vec<_>>(), expected, "{name}");
            let margins: Vec<f32> = recorded("margins").to_vec1().unwrap();
            for chunk in [usize::MAX, 64, 7, 1] {
                let found = read(&model, &talk, chunk);
                let (cosine, wrong) = compare(&found, &recorded("logits"), &margins);
                let what = format!("{mode}, {name}, {chunk} a call: {cosine}, {wrong} others");
                println!("{what}");
                assert!(cosine >= bar && wrong == 0, "{what}");
            }
        }
    }
}

/// Apple's adapter sends a picture's token, a newline and the text as one
/// message; then it repeats the token for each row of the picture.
#[test]
fn the_adapters_prompts_have_transformers_ids() {
    let files = TokenizerFiles::load(&Source::nano()).unwrap();
    let architecture = models::open(&Source::nano()).unwrap();
    let mended = architecture
        .tokenizer_files(files.clone(), Layout::Vlm)
        .unwrap();
    let own =
        architecture.tokenizer_files(files.clone(), Layout::Pipelined(bundle::CallShape::One));
    assert_eq!(own.unwrap().files, files.files);
    let writer: Box<dyn PromptWriter> = architecture.prompt_writer(&mended).unwrap();
    let image = architecture.image_token().unwrap();
    let template = text::ChatTemplate::find(&mended).unwrap();
    let prompts = json("prompts.json");
    let prompts = prompts.as_array().unwrap();
    assert_eq!(prompts.len(), 200);
    for prompt in prompts {
        let mut content = prompt["text"].as_str().unwrap().to_owned();
        if prompt["picture"] == true {
            content = format!("<|image_pad|>\n{content}");
        }
        let mut messages = Vec::new();
        if let Some(system) = prompt["system"].as_str() {
            messages.push(json!({"role": "system", "content": system}));
        }
        messages.push(json!({"role": "user", "content": content}));
        let rendered = template
            .render_messages(&Value::Array(messages), true)
            .unwrap();
        let ids = writer.tokenizer().encode(&rendered).unwrap();
        let ids = ids.into_iter().flat_map(|id| {
            let count = if id == image { 16 } else { 1 };
            std::iter::repeat_n(i64::from(id), count)
        });
        let expected = prompt["ids"].as_array().unwrap().iter();
        let expected: Vec<i64> = expected.map(|id| id.as_i64().unwrap()).collect();
        assert_eq!(ids.collect::<Vec<_>>(), expected, "{prompt}");
    }
}
