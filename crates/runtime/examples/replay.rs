//! Replays a function against outputs that were recorded elsewhere.
//!
//!     cargo run -p runtime --example replay -- ASSET RECORDED.safetensors [FUNCTION] [CHUNK]
//!
//! RECORDED holds inputs and outputs of the function under their names. A
//! decoder, which has the inputs `input_ids` and `position_ids`, reads `ids`
//! [T] in calls of CHUNK tokens (1 unless given); `logits` [T, V] are expected
//! after them, and its other inputs stay the same from call to call.
//!
//! For each way to run a program this prints, for each output, the smallest
//! cosine of a row, the largest difference, and how many rows have their
//! maximum at the same place.
//!
//! No CI job runs this: it is for comparisons by hand.

use std::{collections::HashMap, error::Error, time::Instant};

use candle_core::{DType, Device, Tensor};
use runtime::{Function, Options, Program, States};

type Recorded = HashMap<String, Tensor>;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [asset, recorded, rest @ ..] = &args[..] else {
        return Err("usage: replay ASSET RECORDED.safetensors [FUNCTION] [CHUNK]".into());
    };
    let name = rest.first().map_or("main", String::as_str);
    let chunk: usize = rest.get(1).map_or(Ok(1), |text| text.parse())?;
    let device = if cfg!(feature = "cuda") {
        runtime::cuda(0)?
    } else {
        Device::Cpu
    };
    let recorded = candle_core::safetensors::load(recorded, &Device::Cpu)?;
    for options in [
        Options::as_core_ai(),
        Options::unfused(),
        Options::default(),
    ] {
        let clock = Instant::now();
        let program = Program::load(asset, device.clone(), options)?;
        println!("{options:?}: loaded in {:.3} s", seconds(clock));
        let clock = Instant::now();
        let function = program.function(name)?;
        let outputs = if function.input("position_ids").is_some() {
            vec![("logits".to_owned(), decode(&function, &recorded, chunk)?)]
        } else {
            function.run(&fixed_inputs(&function, &recorded)?, &mut States::new())?
        };
        println!("  ran in {:.3} s", seconds(clock));
        for (name, found) in outputs {
            compare(&name, &found, get(&recorded, &name)?)?;
        }
    }
    Ok(())
}

fn seconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64()
}

fn get<'r>(recorded: &'r Recorded, name: &str) -> Result<&'r Tensor, String> {
    recorded
        .get(name)
        .ok_or_else(|| format!("the recording has no `{name}`"))
}

/// The inputs that are recorded under their own names.
fn fixed_inputs<'f>(
    function: &Function<'f>,
    recorded: &Recorded,
) -> Result<Vec<(&'f str, Tensor)>, String> {
    let names = function.inputs().iter().map(|input| input.name.as_str());
    let fixed = names.filter(|name| !["input_ids", "position_ids"].contains(name));
    fixed
        .map(|name| Ok((name, get(recorded, name)?.clone())))
        .collect()
}

fn decode(
    function: &Function<'_>,
    recorded: &Recorded,
    chunk: usize,
) -> Result<Tensor, Box<dyn Error>> {
    let device = Device::Cpu;
    let ids = get(recorded, "ids")?.to_dtype(DType::I64)?;
    let ids = ids.to_vec1::<i64>()?;
    let fixed = fixed_inputs(function, recorded)?;
    let (mut states, mut rows) = (States::new(), Vec::new());
    for (index, ids) in ids.chunks(chunk.max(1)).enumerate() {
        let end = (index * chunk + ids.len()) as i64;
        let mut inputs = fixed.clone();
        inputs.push(("input_ids", Tensor::new(ids, &device)?.unsqueeze(0)?));
        let positions = Tensor::arange(0, end, &device)?.unsqueeze(0)?;
        inputs.push(("position_ids", positions));
        let outputs = function.run(&inputs, &mut states)?;
        let logits = outputs.iter().find(|(name, _)| name == "logits");
        let (_, logits) = logits.ok_or("the function has no output `logits`")?;
        rows.push(logits.squeeze(0)?.to_device(&device)?);
    }
    Ok(Tensor::cat(&rows, 0)?)
}

fn compare(name: &str, found: &Tensor, expected: &Tensor) -> Result<(), Box<dyn Error>> {
    let rows = |tensor: &Tensor| {
        let wide = tensor.to_dtype(DType::F64)?;
        wide.to_device(&Device::Cpu)?.to_vec2::<f64>()
    };
    let (found, expected) = (rows(found)?, rows(expected)?);
    if found.len() != expected.len() {
        let (expected, found) = (expected.len(), found.len());
        return Err(format!("`{name}`: expected {expected} rows, found {found}").into());
    }
    let (mut min_cosine, mut max_difference, mut same) = (1.0_f64, 0.0_f64, 0);
    for (found, expected) in found.iter().zip(&expected) {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let cosine = dot(found, expected) / (dot(found, found) * dot(expected, expected)).sqrt();
        min_cosine = min_cosine.min(cosine);
        let differences = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
        max_difference = differences.fold(max_difference, f64::max);
        let argmax = |row: &[f64]| (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b]));
        same += usize::from(argmax(found) == argmax(expected));
    }
    println!(
        "  {name}: {} rows, smallest cosine {min_cosine:.8}, largest difference \
         {max_difference:.5}, same maximum {same}",
        found.len()
    );
    Ok(())
}
