//! Decodes greedily with exported assets, as `conformance/generate.py` does
//! through Core AI's runtime.
//!
//!     cargo run -p engine --example generate -- DECODER.aimodel VISION.aimodel INPUT.safetensors MOST END...
//!
//! INPUT holds `ids` [T] i32, image tokens as V + slot, and, if there is an
//! image, `patches` [4N, 1536] f16 and `image_start` [1] i32. Prints each new
//! id on a line of its own, and to standard error how long it took.

use std::{error::Error, time::Instant};

use candle_core::{DType, Device};
use engine::{Decoder, Image};
use runtime::{Options, Program};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [decoder, vision, input, most, ends @ ..] = &args[..] else {
        return Err("usage: generate DECODER VISION INPUT MOST END...".into());
    };
    let ends = ends
        .iter()
        .map(|end| end.parse())
        .collect::<Result<Vec<u32>, _>>()?;
    let device = match cfg!(feature = "cuda") {
        true => runtime::cuda(0)?,
        false => Device::Cpu,
    };
    let given = candle_core::safetensors::load(input, &Device::Cpu)?;
    let ids = given["ids"].to_dtype(DType::I64)?.to_vec1::<i64>()?;
    let ids: Vec<i32> = ids.into_iter().map(|id| id as i32).collect();
    let clock = Instant::now();
    let (mut start, mut amount, mut image) = (1 << 30, 0, None);
    if let Some(patches) = given.get("patches") {
        let vision = Program::load(vision, device.clone(), Options::default())?;
        let encoded = Image::encode(&vision, patches.clone())?;
        let tokens = encoded.embeds.dim(0)? as i32;
        let first = given["image_start"]
            .to_dtype(DType::I64)?
            .to_vec1::<i64>()?[0] as i32;
        start = first + tokens;
        amount = tokens - f64::from(tokens).sqrt() as i32;
        image = Some(encoded);
        eprintln!("image: {:.3} s", clock.elapsed().as_secs_f64());
    }
    let clock = Instant::now();
    let engine = Decoder::new(Program::load(decoder, device, Options::default())?)?;
    eprintln!("load: {:.3} s", clock.elapsed().as_secs_f64());
    let mut session = engine.start(start, amount, image.as_ref())?;
    let clock = Instant::now();
    let mut first = None;
    let tokens = session.generate(&ids, most.parse()?, &ends, |token| {
        first.get_or_insert_with(|| clock.elapsed().as_secs_f64());
        println!("{token}");
        true
    })?;
    let (first, total) = (first.unwrap_or_default(), clock.elapsed().as_secs_f64());
    let prompt = ids.len() as f64 / first;
    let rate = (tokens.len() - 1) as f64 / (total - first);
    eprintln!("prompt: {first:.3} s, {prompt:.1} tokens/s; then {rate:.1} tokens/s");
    Ok(())
}
