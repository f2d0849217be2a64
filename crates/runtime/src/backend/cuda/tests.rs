//! Each kernel against what the CPU computes, on random numbers.
//!
//! No CI job runs these: they need an NVIDIA GPU, and
//! `cargo test --release -p runtime --features cuda`.

use std::sync::Arc;

use aimodel::{Approximate, Blob, ElementType};
use candle_core::{DType, Device, Tensor};
use half::f16;
use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{Rng, SeedableRng},
};

use super::{
    CudaContext, FusedElementwise, MixedRope, Product, argmax,
    attention::attention,
    fused_elementwise::ElementwiseOp,
    product::{BLOCK, Int8, Weight},
    row_kernels::{gather_rows, norm},
};
use crate::{
    backend::{self, DeviceTensor},
    kernel::{AttentionShape, WeightMatrix},
    ops::{Angles, Binary, Composite, Op, Unary},
    value::{Ints, Mapped, Value},
};

/// The allowed difference of f16 that were rounded at another step, in parts of
/// the largest.
const ROUNDINGS: f64 = 2e-3;

struct Draw(Xoshiro256PlusPlus);

impl Draw {
    fn new(seed: u64) -> Self {
        Self(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    /// Numbers around 0, about `size` large.
    fn f16s(&mut self, count: usize, size: f32) -> Vec<f16> {
        let mut one = || (self.0.next_u64() >> 40) as f32 / (1 << 23) as f32 - 1.0;
        let sums = (0..count).map(|_| (one() + one() + one()) * size);
        sums.map(f16::from_f32).collect()
    }

    fn tensor(&mut self, dims: &[usize], size: f32) -> Tensor {
        let values = self.f16s(dims.iter().product(), size);
        Tensor::from_vec(values, dims, &Device::Cpu).unwrap()
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count)
            .map(|_| (self.0.next_u64() >> 32) as u8)
            .collect()
    }
}

fn device() -> Device {
    crate::cuda(0).unwrap()
}

/// Runs an operation on a device.
fn run(op: &Op, device: &Device, operands: &[Value]) -> Tensor {
    let operands: Vec<Value> = operands
        .iter()
        .map(|value| match value {
            Value::Float(tensor) => Value::from(to(tensor, device)),
            other => other.clone(),
        })
        .collect();
    let operands: Vec<&Value> = operands.iter().collect();
    compute(op, device, &operands)
}

fn to(tensor: &DeviceTensor, device: &Device) -> Tensor {
    tensor
        .to_device(device)
        .map_err(|problem| problem.0)
        .unwrap()
}

fn compute(op: &Op, device: &Device, operands: &[&Value]) -> Tensor {
    let backend = backend::of(device).map_err(|problem| problem.0).unwrap();
    let result = op.run(&*backend, operands).map_err(|problem| problem.0);
    let result = result.unwrap().float(device).map_err(|problem| problem.0);
    to(&result.unwrap(), device)
}

#[track_caller]
fn close(found: &Tensor, expected: &Tensor, tolerance: f64, what: &str) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    let numbers = |tensor: &Tensor| -> Vec<f64> {
        let here = tensor.to_device(&Device::Cpu).unwrap();
        let flat = here.flatten_all().unwrap();
        flat.to_dtype(DType::F64).unwrap().to_vec1().unwrap()
    };
    let (found, expected) = (numbers(found), numbers(expected));
    let max = expected.iter().fold(0.0_f64, |max, v| max.max(v.abs()));
    for (at, (a, b)) in found.iter().zip(&expected).enumerate() {
        let off = (a - b).abs();
        assert!(
            a == b || off <= tolerance * max,
            "{what}: element {at}: expected {b} of at most {max}, found {a}"
        );
    }
}

/// The same matrix on the GPU, with its operands, and on the CPU.
fn matrices(
    draw: &mut Draw,
    rows: usize,
    cols: usize,
    int8: bool,
) -> (Weight, Vec<Value>, WeightMatrix) {
    let cuda = CudaContext::of(&device()).unwrap().unwrap();
    if int8 {
        let data = Blob::new(draw.bytes(rows * cols));
        let scales = draw.f16s(rows * cols / BLOCK, 0.01);
        let scales = scales.into_iter().flat_map(|s| s.to_le_bytes());
        let scales = Blob::new(scales.collect::<Vec<u8>>());
        let mapped = |element, cols, data: &Blob| Mapped {
            element,
            dims: vec![rows, cols],
            data: data.clone(),
        };
        let matrix = Int8::new(
            &cuda,
            &mapped(ElementType::Si8, cols, &data),
            &mapped(ElementType::F16, cols / BLOCK, &scales),
        );
        let matrix = Arc::new(matrix.map_err(|problem| problem.0).unwrap());
        let here = WeightMatrix::int8([rows, cols], BLOCK, data, scales).unwrap();
        (Weight::Int8(matrix), Vec::new(), here)
    } else {
        let values = draw.f16s(rows * cols, 0.5);
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let here = WeightMatrix::f16([rows, cols], Blob::new(bytes)).unwrap();
        let tensor = Tensor::from_vec(values, (rows, cols), &Device::Cpu).unwrap();
        (Weight::F16, vec![Value::from(tensor)], here)
    }
}

#[test]
fn products_agree_with_the_cpu() {
    let device = device();
    let cuda = CudaContext::of(&device).unwrap().unwrap();
    let shapes = [
        (7, 32),
        (64, 128),
        (300, 2048),
        (37, 6144),
        (5, 12288),
        (3000, 544),
    ];
    for (index, (rows, cols)) in shapes.into_iter().enumerate() {
        for int8 in [true, false] {
            for count in [1, 3, 70] {
                let mut draw = Draw::new(index as u64);
                let x = Value::from(draw.tensor(&[1, count, cols], 1.0));
                let scale = Value::from(draw.tensor(&[cols], 1.0));
                let add = Value::from(draw.tensor(&[1, count, rows], 50.0));
                let (weight, operand, here) = matrices(&mut draw, rows, cols, int8);
                let (gate, gate_operand, gate_here) = matrices(&mut draw, rows, cols, int8);
                let composite = Arc::new(Composite::RmsNorm { eps: 1e-6 });
                for (normed, added) in [(false, false), (true, false), (false, true), (true, true)]
                {
                    let cpu = Device::Cpu;
                    let mut inner = x.clone();
                    let mut operands = [vec![x.clone()], operand.clone()].concat();
                    if normed {
                        let norm = Op::Composite(composite.clone());
                        inner = Value::from(run(&norm, &cpu, &[x.clone(), scale.clone()]));
                        operands.push(scale.clone());
                    }
                    let here = Op::Fused(Arc::new(here.clone()));
                    let mut expected = run(&here, &cpu, &[inner]);
                    if added {
                        let sum = Op::Binary(Binary::Add);
                        expected = run(&sum, &cpu, &[Value::from(expected), add.clone()]);
                        operands.push(add.clone());
                    }
                    let product = Product {
                        weights: vec![weight.clone()],
                        norm: normed.then(|| composite.clone()),
                        add: added,
                    };
                    let op = Op::Fused(Arc::new(super::Fused::Product(product)));
                    let found = run(&op, &device, &operands);
                    let what =
                        format!("{rows}×{cols}, {count} rows, int8 {int8}, {normed}, {added}");
                    close(&found, &expected, ROUNDINGS, &what);
                }
                let cpu = Device::Cpu;
                let both = [&here, &gate_here].map(|rows| {
                    let op = Op::Fused(Arc::new(rows.clone()));
                    Value::from(run(&op, &cpu, std::slice::from_ref(&x)))
                });
                let gated = Value::from(run(&Op::Silu, &cpu, &both[1..]));
                let expected = run(&Op::Binary(Binary::Mul), &cpu, &[both[0].clone(), gated]);
                let product = Product {
                    weights: vec![weight.clone(), gate],
                    norm: None,
                    add: false,
                };
                let op = Op::Fused(Arc::new(super::Fused::Product(product)));
                let operands = [vec![x], operand, gate_operand].concat();
                let found = run(&op, &device, &operands);
                let what = format!("gated {rows}×{cols}, {count} rows, int8 {int8}");
                close(&found, &expected, 2.0 * ROUNDINGS, &what);
            }
        }
    }
    cuda.stream.synchronize().unwrap();
}

#[test]
fn attention_agrees_with_the_cpu() {
    let device = device();
    let shapes = [
        // heads, kv heads, rows, keys, dim
        (4, 2, 1, 1, 32),
        (4, 2, 1, 37, 32),
        (16, 8, 1, 275, 128),
        (32, 8, 1, 4000, 128),
        (3, 1, 1, 100, 64),
        (4, 4, 1, 33, 256),
        (2, 2, 1, 50, 24),
        (4, 2, 5, 64, 32),
        (16, 8, 64, 275, 128),
        (4, 4, 49, 49, 64),
        (4, 4, 16, 16, 16),
    ];
    for (index, (heads, kv_heads, rows, keys, dim)) in shapes.into_iter().enumerate() {
        for causal in [true, false] {
            let mut draw = Draw::new(index as u64);
            let query = draw.tensor(&[1, heads, rows, dim], 1.0);
            // Keys and values are views of a larger cache.
            let cache = |draw: &mut Draw| draw.tensor(&[1, kv_heads, keys + 11, dim], 1.0);
            let (key, value) = (cache(&mut draw), cache(&mut draw));
            let on = |device: &Device| {
                let part = |x: &Tensor| {
                    let x = x.to_device(device).unwrap();
                    x.narrow(2, 3, keys).unwrap()
                };
                let query = query.to_device(device).unwrap();
                let op = Op::Composite(Arc::new(Composite::Attention { causal }));
                let operands = [query, part(&key), part(&value)].map(Value::from);
                let operands: Vec<&Value> = operands.iter().collect();
                compute(&op, device, &operands)
            };
            let what = format!("{heads}/{kv_heads} heads, {rows} rows, {keys} keys, {dim}");
            // Twice: what a launch leaves in the scratch memory must not matter.
            for _ in 0..2 {
                close(&on(&device), &on(&Device::Cpu), ROUNDINGS, &what);
            }
            let shape =
                AttentionShape::new(query.dims(), key.dims(), value.dims(), causal).unwrap();
            let on_gpu = [&query, &key, &value].map(|x| x.to_device(&device).unwrap());
            let scale = 1.0 / (dim as f64).sqrt();
            let found = attention(shape, scale, on_gpu.each_ref()).unwrap();
            assert!(found.is_some(), "{what} has no kernel");
        }
    }
}

#[test]
fn mixed_ropes_agree_with_the_cpu() {
    let device = device();
    for (heads, rows, dim, normed) in [(6, 1, 32, true), (24, 1, 128, true), (5, 9, 64, false)] {
        let mut draw = Draw::new(dim as u64);
        let composites = (0..3).map(|_| Arc::new(Composite::Rope(Angles::new(5e6))));
        let mut rope = MixedRope::new(composites.collect());
        // A view of a product.
        let x = draw.tensor(&[1, heads + 2, rows, dim], 1.0);
        let mut operands = vec![Value::from(x.narrow(1, 1, heads).unwrap())];
        if normed {
            rope.norm = Some(Arc::new(Composite::RmsNorm { eps: 1e-6 }));
            operands.push(Value::from(draw.tensor(&[heads, 1, dim], 1.0)));
        }
        for step in [1, 17, 400] {
            let positions = (0..rows as i64).map(|row| 3 + row * step).collect();
            operands.push(Value::Ints(Ints::new(
                ElementType::Si32,
                vec![1, rows],
                positions,
            )));
            operands.push(Value::from(draw.tensor(&[1, 1, 1, dim], 1.0)));
        }
        let op = Op::Fused(Arc::new(super::Fused::Rope(rope)));
        let expected = run(&op, &Device::Cpu, &operands);
        let found = run(&op, &device, &operands);
        close(
            &found,
            &expected,
            ROUNDINGS,
            &format!("{heads} heads of {dim}"),
        );
    }
}

#[test]
fn fused_elementwise_operations_agree_with_the_cpu() {
    let device = device();
    let operation =
        |op: Op, other: Option<usize>, reversed: bool, element: ElementType| ElementwiseOp {
            op,
            other,
            reversed,
            element,
        };
    let half = ElementType::F16;
    let binary = |op, other, reversed| operation(Op::Binary(op), Some(other), reversed, half);
    let alone = |op| operation(op, None, false, half);
    let sequences: Vec<Vec<ElementwiseOp>> = vec![
        vec![alone(Op::Silu), binary(Binary::Mul, 1, false)],
        vec![
            binary(Binary::Add, 1, false),
            alone(Op::Gelu(Approximate::Tanh)),
        ],
        vec![
            binary(Binary::Sub, 1, true),
            alone(Op::Gelu(Approximate::None)),
        ],
        vec![
            alone(Op::Unary(Unary::Exp)),
            binary(Binary::Divide, 1, true),
        ],
        vec![
            binary(Binary::Maximum, 1, false),
            binary(Binary::Minimum, 2, true),
        ],
        vec![alone(Op::Unary(Unary::Sin)), alone(Op::Unary(Unary::Cos))],
        vec![
            operation(Op::Cast(ElementType::F32), None, false, ElementType::F32),
            operation(Op::Unary(Unary::Exp), None, false, ElementType::F32),
            operation(Op::Unary(Unary::Rsqrt), None, false, ElementType::F32),
        ],
    ];
    let shapes: [[&[usize]; 3]; 4] = [
        [&[1, 5, 64], &[64], &[1, 1, 1]],
        [&[3, 1, 7, 2], &[1, 5, 7, 1], &[]],
        [&[2000, 300], &[2000, 300], &[300]],
        [&[1], &[1], &[1]],
    ];
    for shapes in shapes {
        for operations in &sequences {
            let mut draw = Draw::new(7);
            let count = 1 + operations
                .iter()
                .filter_map(|operation| operation.other)
                .max()
                .unwrap_or(0);
            let operands: Vec<Value> = shapes[..count]
                .iter()
                .map(|dims| Value::from(draw.tensor(dims, 1.0)))
                .collect();
            let what = format!("{operations:?} of {shapes:?}");
            let sequence = FusedElementwise {
                ops: operations.clone(),
            };
            let op = Op::Fused(Arc::new(super::Fused::Elementwise(sequence)));
            let expected = run(&op, &Device::Cpu, &operands);
            close(&run(&op, &device, &operands), &expected, ROUNDINGS, &what);
        }
    }
}

#[test]
fn row_kernels_agree_with_the_cpu() {
    let (device, mut draw) = (device(), Draw::new(3));
    let there = |tensor: &Tensor| tensor.to_device(&device).unwrap();
    for (rows, width) in [(1, 2048), (784, 1024), (9, 72)] {
        let x = draw.tensor(&[rows, width], 3.0);
        let (gamma, beta) = (draw.tensor(&[width], 1.0), draw.tensor(&[width], 1.0));
        for beta in [None, Some(&beta)] {
            let composite = match beta {
                None => Composite::RmsNorm { eps: 1e-6 },
                Some(_) => Composite::LayerNorm { eps: 1e-6 },
            };
            let operands = [Some(&x), Some(&gamma), beta].into_iter().flatten();
            let operands: Vec<Value> = operands.cloned().map(Value::from).collect();
            let expected = run(&Op::Composite(Arc::new(composite)), &Device::Cpu, &operands);
            let beta = beta.map(there);
            let found = norm(&there(&x), &there(&gamma), beta.as_ref(), 1e-6).unwrap();
            close(
                &found.unwrap(),
                &expected,
                ROUNDINGS,
                &format!("norm {rows}×{width}"),
            );
        }
    }
    let table = draw.tensor(&[50, 96], 1.0);
    for places in [vec![49], vec![3, 0, 49, 3], (0..40).rev().collect()] {
        let at: Vec<u32> = places.iter().map(|at| *at as u32).collect();
        let at = Tensor::new(at, &Device::Cpu).unwrap();
        let expected = table.index_select(&at, 0).unwrap();
        let found = gather_rows(&there(&table), 96, &places).unwrap().unwrap();
        close(&found, &expected, 0.0, "rows of a table");
    }
    assert!(gather_rows(&there(&table), 96, &[50]).unwrap().is_none());
    for count in [1, 7, 512, 151_936] {
        let mut x = draw.f16s(count, 1.0);
        let max = f16::from_f32(9.0);
        x[count / 2] = max;
        x[count - 1] = max;
        let x = Tensor::from_vec(x, count, &device).unwrap();
        assert_eq!(argmax(&x).unwrap(), Some(count as u32 / 2), "of {count}");
    }
}

/// Sessions on several threads, whose launches are captured into graphs while
/// other threads put work into the same stream.
#[test]
fn concurrent_sessions_compute_the_same() {
    const WIDTH: usize = 64;
    const LAYERS: u64 = 24;
    const STEPS: usize = 20;
    let mut asset = aimodel::AssetBuilder::new();
    let mut graph = asset.graph("main");
    let ty = |dims: &[u64]| aimodel::TensorType::fixed(dims, ElementType::F16);
    let x = graph.input("x", ty(&[1, 1, WIDTH as u64])).unwrap();
    let swap = graph.si32(&[1, 0]).unwrap();
    let mut y = x;
    for layer in 0..LAYERS {
        let weight = Draw::new(layer).f16s(WIDTH * WIDTH, 0.12);
        let bytes: Vec<u8> = weight.iter().flat_map(|w| w.to_le_bytes()).collect();
        let key = format!("weight{layer}");
        let weight = graph.resource(ty(&[WIDTH as u64; 2]), &key, || Blob::new(bytes));
        let weight = graph.transpose(weight.unwrap(), swap).unwrap();
        y = graph.batch_matmul(y, weight).unwrap();
    }
    graph.finish(&[("y", y)]).unwrap();
    let device = device();
    let program = crate::Program::new(
        &asset.finish().unwrap(),
        device.clone(),
        crate::Options::default(),
    );
    let program = program.unwrap();
    let session = |seed: u64| -> Vec<Vec<f16>> {
        let main = program.function("main").unwrap();
        let mut draw = Draw::new(100 + seed);
        let step = |_| {
            let inputs = [("x", draw.tensor(&[1, 1, WIDTH], 1.0))];
            let mut outputs = main.run(&inputs, &mut crate::States::new()).unwrap();
            let (_, y) = outputs.pop().unwrap();
            let y = y.to_device(&Device::Cpu).unwrap();
            y.flatten_all().unwrap().to_vec1().unwrap()
        };
        (0..STEPS).map(step).collect()
    };
    let expected: Vec<_> = (0..4).map(session).collect();
    assert!(expected.iter().flatten().flatten().any(|y| *y != f16::ZERO));
    std::thread::scope(|scope| {
        let sessions: Vec<_> = (0..4)
            .map(|seed| {
                let session = &session;
                scope.spawn(move || session(seed))
            })
            .collect();
        for (session, expected) in sessions.into_iter().zip(&expected) {
            assert_eq!(&session.join().unwrap(), expected);
        }
    });
}
