//! Programs on thread pools: results do not depend on the number of threads,
//! and several callers share the threads of one pool.

#![allow(clippy::unwrap_used)]

use std::{
    thread,
    time::{Duration, Instant},
};

use aimodel::{AssetBuilder, Blob, ElementType, Module, TensorType};
use candle_core::{DType, Device, Tensor};
use half::f16;
use runtime::{Options, Program, States, ThreadPool};
use testkit::Noise;

const WIDTH: usize = 512;
const INNER: usize = 1024;
const BLOCK: usize = 32;

/// How long a test waits for a worker to take part before it fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Numbers that look random, from −1 to 1.
fn noise(seed: u64, count: usize) -> Vec<f32> {
    let mut noise = Noise::new(seed);
    (0..count).map(|_| noise.next_f32()).collect()
}

fn f16_bytes(values: &[f32]) -> Vec<u8> {
    let halves = values.iter().map(|value| f16::from_f32(*value));
    halves.flat_map(f16::to_le_bytes).collect()
}

/// `x + silu(x · upᵀ) · downᵀ` for x `[1, rows, 512]`, `up` of f16 and `down`
/// of int8.
fn module(rows: usize) -> Module {
    let mut asset = AssetBuilder::new();
    let mut graph = asset.graph("main");
    let fixed = |dims: &[usize], element| {
        let dims: Vec<u64> = dims.iter().map(|extent| *extent as u64).collect();
        TensorType::fixed(dims, element)
    };
    let x = graph
        .input("x", fixed(&[1, rows, WIDTH], ElementType::F16))
        .unwrap();
    let swap = graph.si32(&[1, 0]).unwrap();
    let up: Vec<f32> = noise(1, INNER * WIDTH).iter().map(|v| v * 0.06).collect();
    let up = graph.resource(fixed(&[INNER, WIDTH], ElementType::F16), "up", || {
        Blob::new(f16_bytes(&up))
    });
    let up = graph.transpose(up.unwrap(), swap).unwrap();
    let inner = graph.batch_matmul(x, up).unwrap();
    let inner = graph.silu(inner).unwrap();
    let down = noise(2, WIDTH * INNER);
    let down: Vec<u8> = down.iter().map(|v| (v * 127.0) as i8 as u8).collect();
    let down = graph.resource(fixed(&[WIDTH, INNER], ElementType::Si8), "down", || {
        Blob::new(down)
    });
    let blocks = [WIDTH, INNER / BLOCK];
    let scales: Vec<f32> = noise(3, WIDTH * INNER / BLOCK)
        .iter()
        .map(|v| 1e-4 + 2e-5 * v)
        .collect();
    let scales = graph.resource(fixed(&blocks, ElementType::F16), "scales", || {
        Blob::new(f16_bytes(&scales))
    });
    let zero = graph.splat(fixed(&blocks, ElementType::Si8), &[0]).unwrap();
    let offset = graph.splat(fixed(&blocks, ElementType::F16), &[0, 0]);
    let down = graph
        .blockwise_shift_scale(down.unwrap(), scales.unwrap(), zero, offset.unwrap())
        .unwrap();
    let down = graph.transpose(down, swap).unwrap();
    let y = graph.batch_matmul(inner, down).unwrap();
    let y = graph.add(x, y).unwrap();
    graph.finish(&[("y", y)]).unwrap();
    asset.finish().unwrap()
}

fn program(rows: usize, options: Options) -> Program {
    Program::new(&module(rows), Device::Cpu, options).unwrap()
}

fn input(seed: u64, rows: usize) -> Tensor {
    let x = Tensor::from_vec(noise(seed, rows * WIDTH), (1, rows, WIDTH), &Device::Cpu);
    x.unwrap().to_dtype(DType::F16).unwrap()
}

/// One call, whose output is the input of the next.
fn step(program: &Program, x: Tensor) -> Tensor {
    let main = program.function("main").unwrap();
    let outputs = main.run(&[("x", x)], &mut States::new()).unwrap();
    let [(name, y)] = <[_; 1]>::try_from(outputs).unwrap();
    assert_eq!(name, "y");
    y
}

fn bits(x: &Tensor) -> Vec<u16> {
    let values: Vec<f16> = x.flatten_all().unwrap().to_vec1().unwrap();
    assert!(values.iter().all(|value| value.is_finite()));
    values.into_iter().map(f16::to_bits).collect()
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    for (rows, options) in [
        // One vector, many at once, and all as Core AI computes it.
        (1, Options::default()),
        (70, Options::default()),
        (2, Options::as_core_ai()),
    ] {
        let program = program(rows, options);
        let expected = bits(&step(
            &program.clone().with_thread_pool(ThreadPool::new(1)),
            input(9, rows),
        ));
        assert_ne!(expected, bits(&input(9, rows)));
        for threads in [2, 3, 8] {
            let pool = ThreadPool::new(threads);
            let program = program.clone().with_thread_pool(pool.clone());
            let found = bits(&step(&program, input(9, rows)));
            assert_eq!(found, expected, "{rows} rows, {threads} threads");
            assert_eq!(pool.worker_pieces().len(), threads - 1);
        }
    }
}

#[test]
fn sessions_at_once_share_a_pool_and_compute_the_same() {
    const SESSIONS: u64 = 4;
    const STEPS: usize = 30;
    let alone = program(1, Options::default()).with_thread_pool(ThreadPool::new(1));
    let pool = ThreadPool::new(3);
    let shared = alone.clone().with_thread_pool(pool.clone());
    let expected: Vec<Vec<u16>> = (0..SESSIONS)
        .map(|session| {
            let last = (0..STEPS).fold(input(session, 1), |x, _| step(&alone, x));
            bits(&last)
        })
        .collect();
    let all_helped = || pool.worker_pieces().iter().all(|pieces| *pieces > 0);
    let since = Instant::now();
    // On a busy machine a worker may come late: as often as it takes.
    while !all_helped() && since.elapsed() < PATIENCE {
        let found: Vec<Vec<u16>> = thread::scope(|scope| {
            let sessions: Vec<_> = (0..SESSIONS)
                .map(|session| {
                    let shared = &shared;
                    scope.spawn(move || {
                        let last = (0..STEPS).fold(input(session, 1), |x, _| step(shared, x));
                        bits(&last)
                    })
                })
                .collect();
            let found = sessions.into_iter().map(|session| session.join().unwrap());
            found.collect()
        });
        assert_eq!(found, expected);
    }
    assert!(
        all_helped(),
        "{:?} pieces by the workers",
        pool.worker_pieces()
    );
}
