//! Times exported assets: the vision tower, reading a prompt, and decoding.
//!
//!     cargo run --release -p runtime --example time -- DECODER.aimodel VISION.aimodel [PROMPT] [NEW]
//!
//! On the processor, or on the card in a build with the feature `cuda`. Prints
//! the median of five runs, after one that is not counted. How many bytes a
//! token needs is the decoder's size without its embedding table.

use std::{error::Error, path::Path, time::Instant};

use candle_core::{DType, Device, Tensor};
use runtime::{
    Options, Program,
    engine::{Engine, Image},
};

const RUNS: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [decoder, vision, rest @ ..] = &args[..] else {
        return Err("usage: time DECODER VISION [PROMPT] [NEW]".into());
    };
    let number = |at: usize, default| rest.get(at).map_or(Ok(default), |text| text.parse());
    let (prompt, new) = (number(0, 211)?, number(1, 64)?);
    let device = match cfg!(feature = "cuda") {
        true => runtime::cuda(0)?,
        false => Device::Cpu,
    };
    let image = time_vision(vision, &device)?;

    let clock = Instant::now();
    let program = Program::load(decoder, device, Options::default())?;
    let main = program.function("main")?;
    let table: usize = ["logits", "image_embeds"]
        .iter()
        .map(|name| {
            let parameters = main.outputs().iter().chain(main.inputs());
            let mut found = parameters.filter(|parameter| parameter.name == *name);
            let last = found.next().and_then(|p| p.ty.dims.last()?.known());
            last.unwrap_or(0) as usize
        })
        .product();
    let size = std::fs::metadata(Path::new(decoder).join("main.mlirb"))?.len() as usize;
    let bytes = (size - 2 * table) as f64;
    let engine = Engine::new(program)?;
    println!("load      {:8.1} ms", clock.elapsed().as_secs_f64() * 1e3);

    let ids: Vec<i32> = (0..prompt as i32)
        .map(|i| 5 + i * 37 % (engine.vocabulary() as i32 - 5))
        .collect();
    let (mut reads, mut steps) = (Vec::new(), Vec::new());
    for _ in 0..=RUNS {
        let mut session = engine.start(1 << 30, 0, image.as_ref())?;
        let (clock, mut times) = (Instant::now(), Vec::new());
        session.generate(&ids, new + 1, &[], |_| {
            times.push(clock.elapsed().as_secs_f64());
            true
        })?;
        reads.push(times[0]);
        steps.push((times[new] - times[0]) / new as f64);
    }
    let (read, step) = (median(&mut reads), median(&mut steps));
    println!(
        "prompt    {:8.1} ms, {:.1} tokens/s",
        read * 1e3,
        ids.len() as f64 / read
    );
    println!(
        "decode    {:8.3} ms a token, {:.1} tokens/s; {:.3} GB a token, {:.0} GB/s",
        step * 1e3,
        1.0 / step,
        bytes / 1e9,
        bytes / step / 1e9,
    );
    Ok(())
}

/// The median, without the first run.
fn median(times: &mut Vec<f64>) -> f64 {
    times.remove(0);
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn time_vision(asset: &str, device: &Device) -> Result<Option<Image>, Box<dyn Error>> {
    let program = Program::load(asset, device.clone(), Options::default())?;
    let main = program.function("main")?;
    let patches = main.input("patches").and_then(|ty| ty.static_dims());
    let patches = patches.ok_or("the vision asset has no input `patches`")?;
    let dims: Vec<usize> = patches.into_iter().map(|dim| dim as usize).collect();
    let count: usize = dims.iter().product();
    let values: Vec<f32> = (0..count)
        .map(|i| ((i * 7919) % 255) as f32 / 127.5 - 1.0)
        .collect();
    let patches = Tensor::from_vec(values, dims, &Device::Cpu)?.to_dtype(DType::F16)?;
    let (mut times, mut image) = (Vec::new(), None);
    for _ in 0..=RUNS {
        let clock = Instant::now();
        let encoded = Image::encode(&program, patches.clone())?;
        device.synchronize()?;
        times.push(clock.elapsed().as_secs_f64());
        image = Some(encoded);
    }
    println!("vision    {:8.3} ms", median(&mut times) * 1e3);
    Ok(image)
}
