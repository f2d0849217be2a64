//! The bytes against those of the published recipe and of a scalar twin.

use half::{bf16, f16};
use proptest::prelude::*;
use quantize::{BLOCK, BlockFormat, Element, Error, Matrix, Scheme, Weights};

/// Quantizes all rows of `parts`.
fn quantize(parts: &[Weights], cols: usize, scheme: Scheme) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let matrix = Matrix::new(parts, cols)?;
    let mut data = vec![0x55; matrix.rows() * cols];
    let mut scales = vec![0x55; matrix.rows() * cols / BLOCK * 2];
    matrix.quantize(
        BlockFormat::int8(scheme),
        0..matrix.rows(),
        &mut data,
        &mut scales,
    )?;
    Ok((data, scales))
}

/// The recipe spelled out, one weight at a time, with the half crate.
fn twin(weights: &[f32], scheme: Scheme) -> (Vec<u8>, Vec<u8>) {
    let (divisor, min) = match scheme {
        Scheme::SymmetricWithClipping => (127.0, -127.0),
        Scheme::Symmetric => (127.5, -128.0),
    };
    let (mut data, mut scales) = (Vec::new(), Vec::new());
    for block in weights.chunks(BLOCK) {
        let block: Vec<f32> = block.iter().map(|w| f16::from_f32(*w).to_f32()).collect();
        let max = block.iter().fold(0f32, |max, w| max.max(w.abs()));
        let scale = f16::from_f32(max / divisor).max(f16::from_f32(2f32.powi(-23)));
        scales.extend(scale.to_le_bytes());
        for w in block {
            let q = (w / scale.to_f32()).round_ties_even().clamp(min, 127.0);
            data.push(q as i8 as u8);
        }
    }
    (data, scales)
}

fn bytes_of(element: Element, weights: &[f32]) -> Vec<u8> {
    match element {
        Element::Bf16 => weights
            .iter()
            .flat_map(|w| bf16::from_f32(*w).to_le_bytes())
            .collect(),
        Element::F16 => weights
            .iter()
            .flat_map(|w| f16::from_f32(*w).to_le_bytes())
            .collect(),
        Element::F32 => weights.iter().flat_map(|w| w.to_le_bytes()).collect(),
    }
}

macro_rules! fixture {
    ($name:literal) => {
        (
            include_bytes!(concat!("fixtures/", $name, ".bf16")).as_slice(),
            include_bytes!(concat!("fixtures/", $name, ".int8")).as_slice(),
            include_bytes!(concat!("fixtures/", $name, ".scales")).as_slice(),
        )
    };
}

#[test]
fn bytes_are_those_of_the_published_recipe() {
    for (name, (weights, int8, scales), cols, scheme) in [
        ("qkv", fixture!("qkv"), 128, Scheme::SymmetricWithClipping),
        (
            "down_proj",
            fixture!("down_proj"),
            256,
            Scheme::SymmetricWithClipping,
        ),
        ("head", fixture!("head"), 128, Scheme::Symmetric),
    ] {
        let whole = quantize(&[Weights::new(Element::Bf16, weights)], cols, scheme).unwrap();
        assert_eq!(whole, (int8.to_vec(), scales.to_vec()), "{name}");
        // The other scheme must give other bytes, or the fixture proves little.
        let other = match scheme {
            Scheme::Symmetric => Scheme::SymmetricWithClipping,
            Scheme::SymmetricWithClipping => Scheme::Symmetric,
        };
        let wrong = quantize(&[Weights::new(Element::Bf16, weights)], cols, other).unwrap();
        assert_ne!(wrong.1, scales, "{name}");
    }
}

#[test]
fn parts_ranges_and_threads_do_not_change_the_bytes() {
    let cols = 96;
    // Enough rows for several pieces of work in each part.
    let weights: Vec<f32> = (0..cols * 3000)
        .map(|i| ((i * 7919 % 10007) as f32 - 5000.0) * 1e-5)
        .collect();
    let bytes = bytes_of(Element::Bf16, &weights);
    let part = |rows: std::ops::Range<usize>| {
        Weights::new(
            Element::Bf16,
            &bytes[rows.start * cols * 2..rows.end * cols * 2],
        )
    };
    let parts = [
        part(0..1500),
        part(1500..1501),
        part(1501..1501),
        part(1501..3000),
    ];
    let scheme = Scheme::SymmetricWithClipping;
    let expected = quantize(&[part(0..3000)], cols, scheme).unwrap();
    for threads in [1, 2, 5] {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        assert_eq!(
            pool.install(|| quantize(&parts, cols, scheme)).unwrap(),
            expected
        );
    }
    let matrix = Matrix::new(&parts, cols).unwrap();
    assert_eq!((matrix.rows(), matrix.cols()), (3000, cols));
    let (mut data, mut scales) = (Vec::new(), Vec::new());
    for rows in [0..1, 1..1499, 1499..1502, 1502..1502, 1502..3000] {
        let (mut d, mut s) = (vec![0; rows.len() * cols], vec![0; rows.len() * cols / 16]);
        matrix
            .quantize(BlockFormat::int8(scheme), rows, &mut d, &mut s)
            .unwrap();
        data.extend(d);
        scales.extend(s);
    }
    assert_eq!((data, scales), expected);
}

#[test]
fn parts_may_differ_in_type() {
    let weights: Vec<f32> = (0..64).map(|i| i as f32 / 8.0 - 4.0).collect();
    let stored = [Element::Bf16, Element::F16, Element::F32].map(|e| (e, bytes_of(e, &weights)));
    let parts = stored.each_ref().map(|(e, bytes)| Weights::new(*e, bytes));
    let (data, scales) = quantize(&parts, 32, Scheme::Symmetric).unwrap();
    let one = twin(&weights, Scheme::Symmetric);
    assert_eq!((data, scales), (one.0.repeat(3), one.1.repeat(3)));
    let matrix = Matrix::new(&parts, 32).unwrap();
    let mut out = vec![0; 6 * 64];
    matrix.to_f16(0..6, &mut out).unwrap();
    assert_eq!(out, stored[1].1.repeat(3));
}

#[test]
fn weights_that_f16_cannot_hold_are_refused_with_their_place() {
    for element in [Element::Bf16, Element::F16, Element::F32] {
        for value in [
            f32::NAN,
            -f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            65536.0,
            -1e30,
        ] {
            let mut weights = vec![0.5; 64 * 2000];
            weights[64 * 1203 + 17] = value;
            weights[64 * 1999 + 3] = value;
            let bytes = bytes_of(element, &weights);
            // Two parts: rows are counted over both.
            let (a, b) = bytes.split_at(64 * 700 * element.size());
            let parts = [Weights::new(element, a), Weights::new(element, b)];
            let error = quantize(&parts, 64, Scheme::Symmetric).unwrap_err();
            assert!(
                matches!(
                    error,
                    Error::NotFinite {
                        row: 1203,
                        col: 17,
                        ..
                    }
                ),
                "{error}"
            );
            let matrix = Matrix::new(&parts, 64).unwrap();
            let error = matrix
                .to_f16(1200..2000, &mut vec![0; 800 * 128])
                .unwrap_err();
            assert!(
                matches!(
                    error,
                    Error::NotFinite {
                        row: 1203,
                        col: 17,
                        ..
                    }
                ),
                "{error}"
            );
            assert_eq!(matrix.to_f16(0..1203, &mut vec![0; 1203 * 128]), Ok(()));
        }
    }
    // The last f32 that rounds down to f16's greatest value, and the next.
    let edge = 65520f32;
    let below = f32::from_bits(edge.to_bits() - 1);
    let bytes = bytes_of(Element::F32, &[below; 32]);
    assert!(quantize(&[Weights::new(Element::F32, &bytes)], 32, Scheme::Symmetric).is_ok());
    let bytes = bytes_of(Element::F32, &[edge; 32]);
    assert!(quantize(&[Weights::new(Element::F32, &bytes)], 32, Scheme::Symmetric).is_err());
}

#[test]
fn wrong_sizes_are_refused() {
    let bytes = [0; 96];
    let weights = [Weights::new(Element::Bf16, &bytes)];
    let error = Matrix::new(&weights, 32).unwrap_err();
    assert!(matches!(
        error,
        Error::PartialRow {
            part: 0,
            bytes: 96,
            row_bytes: 64
        }
    ));
    assert!(matches!(
        Matrix::new(&weights, 0),
        Err(Error::PartialRow { .. })
    ));
    assert!(matches!(
        Matrix::new(&weights, usize::MAX),
        Err(Error::PartialRow { .. })
    ));

    let matrix = Matrix::new(&weights, 48).unwrap();
    let int8 = BlockFormat::int8(Scheme::Symmetric);
    let error = matrix
        .quantize(int8, 0..1, &mut [0; 48], &mut [0; 3])
        .unwrap_err();
    assert_eq!(
        error,
        Error::Width {
            cols: 48,
            block: 32
        }
    );
    assert!(error.to_string().contains("48"));
    assert!(matches!(
        matrix.to_f16(0..2, &mut [0; 192]),
        Err(Error::Rows {
            end: 2,
            rows: 1,
            ..
        })
    ));
    let error = matrix.to_f16(0..1, &mut [0; 95]).unwrap_err();
    assert_eq!(
        error,
        Error::Buffer {
            what: "f16",
            expected: 96,
            found: 95
        }
    );
}

#[test]
fn formats_that_are_not_implemented_are_refused() {
    let bytes = [0; 128];
    let matrix = Matrix::new(&[Weights::new(Element::Bf16, &bytes)], 64).unwrap();
    let int8 = BlockFormat::int8(Scheme::Symmetric);
    for (format, says) in [
        (BlockFormat { bits: 4, ..int8 }, "int4 in blocks of 32"),
        (BlockFormat { block: 16, ..int8 }, "int8 in blocks of 16"),
        (BlockFormat { block: 0, ..int8 }, "int8 in blocks of 0"),
    ] {
        let error = matrix
            .quantize(format, 0..1, &mut [0; 64], &mut [0; 4])
            .unwrap_err();
        assert_eq!(error, Error::Format(format));
        assert!(error.to_string().starts_with(says), "{error}");
    }
}

/// Weights that lie on the edges: zeros, subnormals, ties, the greatest f16.
fn edge_weight() -> impl Strategy<Value = f32> {
    let finite = |bits: u16| f16::from_bits((bits % 0x7c00) | (bits & 0x8000)).to_f32();
    prop_oneof![
        Just(0.0),
        Just(-0.0),
        Just(65504.0),
        Just(-65504.0),
        (-8i32..8).prop_map(|i| i as f32 * 2f32.powi(-24)),
        // Halves of a scale: what rounds to even.
        (-255i32..=255).prop_map(|i| i as f32 * 0.5),
        any::<u16>().prop_map(finite),
        -0.1f32..0.1,
    ]
}

proptest! {
    #[test]
    fn bytes_are_those_of_the_scalar_twin(
        weights in prop::collection::vec(edge_weight(), 64),
        body: bool,
        shrink in -20i32..1,
        element in prop_oneof![Just(Element::Bf16), Just(Element::F16), Just(Element::F32)],
    ) {
        let scheme = if body { Scheme::SymmetricWithClipping } else { Scheme::Symmetric };
        let weights: Vec<f32> = weights.iter().map(|w| w * 2f32.powi(shrink)).collect();
        let bytes = bytes_of(element, &weights);
        let stored: Vec<f32> = match element {
            Element::Bf16 => weights.iter().map(|w| bf16::from_f32(*w).to_f32()).collect(),
            Element::F16 => weights.iter().map(|w| f16::from_f32(*w).to_f32()).collect(),
            Element::F32 => weights,
        };
        match quantize(&[Weights::new(element, &bytes)], 32, scheme) {
            Ok(found) => prop_assert_eq!(found, twin(&stored, scheme)),
            // 65504 rounds up to 65536 in bf16.
            Err(error) => prop_assert!(stored.iter().any(|w| w.abs() >= 65520.0), "{error}"),
        }
    }
}
