//! Every operation against what Core AI's runtime computes, on inputs that
//! `conformance/make_op_cases.py` drew. On the CPU, or with the feature `cuda`
//! or `metal` on that device: no CI job has one, so those runs are by hand.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, path::Path};

use candle_core::{DType, Device, Tensor};
use runtime::{Accumulate, Options, Program, States};

/// How far a float may be off: the rounding of a few operations, relative to
/// the largest number of the result.
fn tolerance(dtype: DType, options: Options, device: &Device) -> f64 {
    match (dtype, options.accumulate) {
        (DType::F16, Accumulate::F16) if device.is_cpu() => 7e-4,
        // Core AI sums 2,000 f16 in f16, which is that far off.
        (DType::F16, _) => 3e-3,
        _ => 3e-6,
    }
}

#[test]
fn operations_agree_with_core_ai() {
    let device = if cfg!(feature = "cuda") {
        runtime::cuda(0).unwrap()
    } else {
        Device::metal_if_available(0).unwrap()
    };
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let tensors = candle_core::safetensors::load(fixtures.join("ops.safetensors"), &Device::Cpu);
    let tensors: BTreeMap<String, Tensor> = tensors.unwrap().into_iter().collect();
    let mut runs: BTreeMap<&str, [BTreeMap<&str, &Tensor>; 2]> = BTreeMap::new();
    for (key, tensor) in &tensors {
        let (run, name) = key.rsplit_once('/').unwrap();
        let side = usize::from(name.starts_with('y'));
        runs.entry(run).or_default()[side].insert(name, tensor);
    }
    let mut problems = Vec::new();
    for options in [
        Options::as_core_ai(),
        Options::unfused(),
        Options::default(),
    ] {
        let asset = fixtures.join("ops.aimodel");
        let program = Program::load(asset, device.clone(), options).unwrap();
        // Every function was recorded.
        for function in program.functions() {
            let first = format!("{}/", function.name);
            assert!(runs.keys().any(|run| run.starts_with(&first)), "{first}");
        }
        for (run, [inputs, outputs]) in &runs {
            let (function, _) = run.rsplit_once('/').unwrap();
            let function = program.function(function).unwrap();
            let inputs: Vec<(&str, Tensor)> = inputs
                .iter()
                .map(|(name, tensor)| (*name, (*tensor).clone()))
                .collect();
            match function.run(&inputs, &mut States::new()) {
                Err(error) => problems.push(format!("{run}: {error}")),
                Ok(found) => {
                    let mut names: Vec<&str> =
                        found.iter().map(|(name, _)| name.as_str()).collect();
                    names.sort_unstable();
                    if names != outputs.keys().copied().collect::<Vec<_>>() {
                        problems.push(format!(
                            "{run}, {options:?}: the outputs are {names:?}, expected {:?}",
                            outputs.keys()
                        ));
                        continue;
                    }
                    for (name, found) in found {
                        let expected = outputs[name.as_str()];
                        let tolerance = tolerance(expected.dtype(), options, &device);
                        if let Some(problem) = compare(&found, expected, tolerance) {
                            problems.push(format!("{run}, {options:?}: {problem}"));
                        }
                    }
                }
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

fn compare(found: &Tensor, expected: &Tensor, tolerance: f64) -> Option<String> {
    if found.dims() != expected.dims() {
        return Some(format!(
            "expected {:?}, found {:?}",
            expected.dims(),
            found.dims()
        ));
    }
    let dtype = expected.dtype();
    let numbers = |tensor: &Tensor| -> Vec<f64> {
        let here = tensor.to_device(&Device::Cpu).unwrap();
        let flat = here.flatten_all().unwrap();
        flat.to_dtype(DType::F64).unwrap().to_vec1().unwrap()
    };
    let (found, expected) = (numbers(found), numbers(expected));
    let scale = expected.iter().fold(0.0_f64, |max, v| max.max(v.abs()));
    let allowed = if dtype.is_float() {
        tolerance * scale
    } else {
        0.0
    };
    let pairs = found.iter().zip(&expected).enumerate();
    let worst = pairs
        .map(|(at, (a, b))| (if a == b { 0.0 } else { (a - b).abs() }, at))
        .max_by(|a, b| a.0.total_cmp(&b.0));

    match worst {
        Some((off, at)) if off.is_nan() || off > allowed => Some(format!(
            "element {at}: expected {}, found {}; off by {off:e}, allowed {allowed:e}",
            expected[at], found[at]
        )),
        _ => None,
    }
}
