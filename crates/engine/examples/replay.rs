//! Replays an asset against what was recorded elsewhere.
//!
//!     cargo run --release -p engine --example replay -- ASSET RECORDED.safetensors
//!
//! For a decoder, RECORDED holds `ids` [T] i32, the encoded picture under the
//! names of the decoder's inputs, f16, and `logits` [T, V] f16; for a vision
//! encoder, `patches` and its outputs. Prints, with and without fusions and as
//! Core AI computes, the least cosine of a row, the greatest difference and how
//! many rows have the same first element.

use std::{collections::HashMap, error::Error, time::Instant};

use bundle::contract::{
    IMAGE_EMBEDS, LOGITS, MAIN, NO_IMAGE, PATCHES, ROPE_SHIFT_AMOUNT, ROPE_SHIFT_START,
};
use candle_core::{DType, Device, Tensor};
use engine::{Decoder, StaticInputs};
use runtime::{Options, Program, States};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [asset, recorded] = &args[..] else {
        return Err("usage: replay ASSET RECORDED.safetensors".into());
    };
    let device = if cfg!(feature = "cuda") {
        runtime::cuda(0)?
    } else {
        Device::Cpu
    };
    let recorded = candle_core::safetensors::load(recorded, &Device::Cpu)?;
    let plain = Options {
        fuse: false,
        ..Options::default()
    };
    for options in [Options::as_core_ai(), plain, Options::default()] {
        let clock = Instant::now();
        let program = Program::load(asset, device.clone(), options)?;
        println!(
            "{options:?}: loaded in {:.3} s",
            clock.elapsed().as_secs_f64()
        );
        let clock = Instant::now();
        let main = program.function(MAIN)?;
        let outputs = if main.input(PATCHES).is_some() {
            let patches = recorded[PATCHES].clone();
            main.run(&[(PATCHES, patches)], &mut States::new())?
        } else {
            vec![(LOGITS.to_owned(), decode(program, &recorded)?)]
        };
        println!("  ran in {:.3} s", clock.elapsed().as_secs_f64());
        for (name, found) in outputs {
            compare(&name, &found, &recorded[&name])?;
        }
    }
    Ok(())
}

/// The logits after each token.
fn decode(program: Program, recorded: &HashMap<String, Tensor>) -> Result<Tensor, Box<dyn Error>> {
    let inputs = program.function(MAIN)?.inputs().iter();
    let given = inputs.filter_map(|input| {
        let tensor = recorded.get(&input.name)?;
        Some((input.name.clone(), tensor.clone()))
    });
    let mut given: StaticInputs = given.collect();
    let decoder = Decoder::new(program)?;
    let ids = recorded["ids"].to_dtype(DType::I64)?.to_vec1::<i64>()?;
    let ids: Vec<i32> = ids.into_iter().map(|id| id as i32).collect();
    let vocabulary = decoder.vocabulary() as i32;
    let (mut start, mut amount) = (NO_IMAGE, 0);
    if let Some(first) = ids.iter().position(|id| *id >= vocabulary) {
        // The grid is a square.
        let tokens = recorded[IMAGE_EMBEDS].dim(0)? as i32;
        (start, amount) = (first as i32 + tokens, tokens - tokens.isqrt());
    }
    given.insert_number(ROPE_SHIFT_START, start)?;
    given.insert_number(ROPE_SHIFT_AMOUNT, amount)?;
    let count = recorded[LOGITS].dim(0)?;
    Ok(decoder.start(&given)?.read_all(&ids[..count])?)
}

fn compare(name: &str, found: &Tensor, expected: &Tensor) -> Result<(), Box<dyn Error>> {
    let rows = |tensor: &Tensor| {
        tensor
            .to_dtype(DType::F64)?
            .to_device(&Device::Cpu)?
            .to_vec2::<f64>()
    };
    let (found, expected) = (rows(found)?, rows(expected)?);
    let (mut least, mut most, mut same) = (1.0_f64, 0.0_f64, 0);
    for (found, expected) in found.iter().zip(&expected) {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let cosine = dot(found, expected) / (dot(found, found) * dot(expected, expected)).sqrt();
        least = least.min(cosine);
        let pairs = found.iter().zip(expected);
        most = pairs.fold(most, |most, (a, b)| most.max((a - b).abs()));
        let best = |row: &[f64]| (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b]));
        same += usize::from(best(found) == best(expected));
    }
    println!(
        "  {name}: {} rows, least cosine {least:.8}, greatest difference {most:.5}, same first {same}",
        found.len()
    );
    Ok(())
}
