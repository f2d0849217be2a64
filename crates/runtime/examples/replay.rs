//! Replays a decoder against logits that were recorded elsewhere.
//!
//!     cargo run -p runtime --example replay -- ASSET RECORDED.safetensors [FUNCTION] [CHUNK]
//!
//! RECORDED holds `ids` [T] i32, `image_embeds` and `deepstack_embeds` f16,
//! `start` (where the image starts) and `logits` [T, V] f16. Prints, with and
//! without fusions and as Core AI computes, the least cosine of a position, the greatest difference
//! and how many positions have the same first token.
//! With a RECORDED that has `patches`, `image_embeds` and no `ids`, ASSET is a
//! vision tower.

use std::{collections::HashMap, error::Error, time::Instant};

use candle_core::{DType, Device, Tensor};
use runtime::{Options, Program, States};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [asset, recorded, rest @ ..] = &args[..] else {
        return Err("usage: replay ASSET RECORDED.safetensors [FUNCTION] [CHUNK]".into());
    };
    let function = rest.first().map_or("main", String::as_str);
    let chunk: usize = rest.get(1).map_or(Ok(1), |text| text.parse())?;
    let device = match cfg!(feature = "cuda") {
        true => runtime::cuda(0)?,
        false => Device::Cpu,
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
        let main = program.function(function)?;
        let outputs = if main.input("patches").is_some() {
            let patches = recorded["patches"].clone();
            main.run(&[("patches", patches)], &mut States::new())?
        } else {
            vec![("logits".to_owned(), decode(&main, &recorded, chunk)?)]
        };
        println!("  ran in {:.3} s", clock.elapsed().as_secs_f64());
        for (name, found) in outputs {
            compare(&name, &found, &recorded[&name])?;
        }
    }
    Ok(())
}

fn decode(
    function: &runtime::Function<'_>,
    recorded: &HashMap<String, Tensor>,
    chunk: usize,
) -> Result<Tensor, Box<dyn Error>> {
    let ids = recorded["ids"].to_dtype(DType::I64)?.to_vec1::<i64>()?;
    let tokens = recorded["image_embeds"].dim(0)? as i64;
    let vocabulary = recorded["logits"].dim(1)? as i64;
    let first = ids.iter().position(|id| *id >= vocabulary);
    let (start, amount) = match first {
        Some(first) => (
            first as i64 + tokens,
            tokens - (tokens as f64).sqrt() as i64,
        ),
        None => (1 << 30, 0),
    };
    let device = Device::Cpu;
    let mut states = States::new();
    let mut rows = Vec::new();
    let count = recorded["logits"].dim(0)?;
    for at in (0..count).step_by(chunk) {
        let end = at + chunk;
        let inputs = [
            (
                "input_ids",
                Tensor::new(&ids[at..end], &device)?.unsqueeze(0)?,
            ),
            (
                "position_ids",
                Tensor::arange(0, end as i64, &device)?.unsqueeze(0)?,
            ),
            ("image_embeds", recorded["image_embeds"].clone()),
            ("deepstack_embeds", recorded["deepstack_embeds"].clone()),
            ("rope_shift_start", Tensor::new(&[start], &device)?),
            ("rope_shift_amount", Tensor::new(&[amount], &device)?),
        ];
        let outputs = function.run(&inputs, &mut states)?;
        rows.push(outputs[0].1.squeeze(0)?.to_device(&device)?);
    }
    Ok(Tensor::cat(&rows, 0)?)
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
