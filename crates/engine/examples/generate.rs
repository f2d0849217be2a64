//! Decodes greedily with exported assets, as `conformance/generate.py` does
//! through Core AI's runtime.
//!
//!     cargo run --release -p engine --example generate -- DECODER.aimodel VISION.aimodel INPUT.safetensors COUNT STOP...
//!
//! DECODER.aimodel is the one in its bundle, whose metadata states how pictures
//! are cut. INPUT holds `ids` [T] i32, picture tokens as V + slot, and, if there is a
//! picture, `patches` [4N, …] f16 and `image_start` [1] i32. Prints each new id
//! on a line of its own, and to standard error how long it took.
//!
//! No CI job runs this: it is for comparisons by hand.

use std::{error::Error, ops::ControlFlow, path::Path, time::Instant};

use bundle::{
    Bundle, PictureGeometry,
    contract::{NO_IMAGE, PATCHES, ROPE_SHIFT_AMOUNT, ROPE_SHIFT_START},
};
use candle_core::{DType, Device, Tensor};
use engine::{Decoder, PictureSpec, Sampler, StaticInputs, Step, VisionEncoder};
use models::TokenizedPrompt;
use picture::Patches;
use runtime::{Options, Program};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [decoder, vision, input, count, stops @ ..] = &args[..] else {
        return Err("usage: generate DECODER VISION INPUT COUNT STOP...".into());
    };
    let stops = stops
        .iter()
        .map(|stop| stop.parse())
        .collect::<Result<Vec<u32>, _>>()?;
    let device = if cfg!(feature = "cuda") {
        runtime::cuda(0)?
    } else {
        Device::Cpu
    };
    let given = candle_core::safetensors::load(input, &Device::Cpu)?;
    let clock = Instant::now();
    let (mut pictures, mut shift) = (StaticInputs::new(), [NO_IMAGE, 0]);
    if let Some(patches) = given.get(PATCHES) {
        let vision = load(vision, &device)?;
        let (rows, cols) = patches.dims2()?;
        let values = patches.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
        let geometry = geometry(decoder.as_ref())?;
        let vision = VisionEncoder::new(vision, PictureSpec::from(&geometry))?;
        pictures = vision.encode(&Patches { rows, cols, values })?;
        let start = integers(&given["image_start"])?[0];
        let tokens = i32::try_from(geometry.image_tokens)?;
        shift = [start + tokens, tokens - i32::try_from(geometry.grid)?];
        eprintln!("picture: {:.3} s", clock.elapsed().as_secs_f64());
    }
    let clock = Instant::now();
    let decoder = Decoder::new(load(decoder, &device)?)?;
    eprintln!("load: {:.3} s", clock.elapsed().as_secs_f64());
    let prompt = TokenizedPrompt {
        ids: integers(&given["ids"])?,
        inputs: [ROPE_SHIFT_START, ROPE_SHIFT_AMOUNT]
            .into_iter()
            .zip(shift)
            .collect(),
        ..TokenizedPrompt::default()
    };
    let mut sequence = decoder.start(&decoder.inputs(&prompt, pictures)?)?;
    let clock = Instant::now();
    let (mut first, mut sampler) = (None, Sampler::greedy());
    let count = count.parse()?;
    let made = sequence.generate(&prompt.ids, &mut sampler, count, &stops, |step| {
        if let Step::Token(token) = step {
            first.get_or_insert_with(|| clock.elapsed().as_secs_f64());
            println!("{token}");
        }
        ControlFlow::Continue(())
    })?;
    let (first, total) = (first.unwrap_or_default(), clock.elapsed().as_secs_f64());
    let prompt = prompt.ids.len() as f64 / first;
    let rate = (made.tokens.len() - 1) as f64 / (total - first);
    eprintln!("prompt: {first:.3} s, {prompt:.1} tokens/s; then {rate:.1} tokens/s");
    Ok(())
}

/// Loads an asset, whose program stays mapped.
fn load(asset: impl AsRef<Path>, device: &Device) -> Result<Program, Box<dyn Error>> {
    // SAFETY: whoever measures leaves the assets alone meanwhile.
    let opened = unsafe { aimodel::open_asset_mmap(asset) }?;
    Ok(Program::new(
        &opened.module,
        device.clone(),
        Options::default(),
    )?)
}

/// How pictures are cut for the decoder whose asset this is.
fn geometry(asset: &Path) -> bundle::Result<PictureGeometry> {
    let folder = asset.parent().unwrap_or(Path::new("."));
    Bundle::at(folder).manifest()?.geometry()
}

fn integers(tensor: &Tensor) -> candle_core::Result<Vec<i32>> {
    let wide = tensor.to_dtype(DType::I64)?.to_vec1::<i64>()?;
    Ok(wide.into_iter().map(|number| number as i32).collect())
}
