//! How far int8 weights are from the halves that they stand for.
//!
//! Nothing is judged by this: what the quantizer does is fixed to the bit, and
//! the stage weights holds the artifact to it. It shows where a model suffers.

use std::{collections::BTreeMap, io};

use aimodel::{Blob, Module, ResourceValue};
use half::f16;
use rayon::prelude::*;

use crate::{
    Result,
    transcript::{Measure, Series},
};

/// Elements that share a scale.
const BLOCK: usize = 32;
/// How many groups the rows of a head are shown in.
const GROUPS: usize = 256;
/// The names of the head and of the table that a tied head is a copy of.
const HEAD: &str = "lm_head.weight";

/// The error of each decoder layer, and that of the head by groups of rows, of
/// `hidden` elements each: the root of the sum of squared differences over that
/// of squared weights. `halves` is the same decoder with weights of f16.
///
/// A decoder without int8 weights has none, nor has one whose constants are not
/// named after the checkpoint's parameters.
pub fn errors(
    decoder: &Module,
    halves: &Module,
    embedding: &str,
    layers: usize,
    hidden: usize,
) -> Result<Vec<Series>> {
    let (stored, exact) = (blobs(decoder), blobs(halves));
    let data = stored.iter().filter_map(|(key, data)| {
        let name = key.strip_suffix(".data")?;
        let scales = stored.get(format!("{name}.scale").as_str())?;
        let exact = exact.get(name).or_else(|| match name {
            HEAD => exact.get(embedding),
            _ => None,
        })?;
        Some((name, data, scales, exact))
    });
    let matrices: Vec<_> = data.collect();
    let measured = matrices.par_iter().map(|(name, data, scales, exact)| {
        let row = if *name == HEAD { hidden } else { usize::MAX };
        let mut meter = Meter::new(bytes(data), bytes(scales), row);
        exact.write_to(&mut meter).map_err(aimodel::Error::from)?;
        Ok((*name, meter.end()))
    });
    let measured = measured.collect::<Result<Vec<_>>>()?;

    let mut by_layer = vec![Sums::default(); layers];
    let mut series = Vec::new();
    for (name, rows) in measured {
        if let Some(layer) = layer_of(name).and_then(|layer| by_layer.get_mut(layer)) {
            rows.iter().for_each(|row| layer.add(row));
        } else if name == HEAD && !rows.is_empty() {
            let step = rows.len().div_ceil(GROUPS);
            let worst = rows.chunks(step).map(|group| {
                let errors = group.iter().map(Sums::relative);
                errors.fold(0.0, f64::max)
            });
            series.push(Series {
                what: "int8 against f16, relative error: the worst row of each group".to_owned(),
                measure: Measure::Error,
                prompt: None,
                axis: "head row".to_owned(),
                first: 0,
                step,
                values: worst.collect(),
                bar: None,
            });
        }
    }
    if by_layer.iter().any(|sums| sums.weight > 0.0) {
        series.insert(
            0,
            Series {
                what: "int8 against f16, relative error of a layer's matrices".to_owned(),
                measure: Measure::Error,
                prompt: None,
                axis: "layer".to_owned(),
                first: 0,
                step: 1,
                values: by_layer.iter().map(Sums::relative).collect(),
                bar: None,
            },
        );
    }
    Ok(series)
}

fn blobs(module: &Module) -> BTreeMap<&str, &Blob> {
    let resources = module.resources.iter();
    let blobs = resources.filter_map(|(_, resource)| match &resource.value {
        ResourceValue::Blob { data, .. } => Some((&*resource.key, data)),
        _ => None,
    });
    blobs.collect()
}

/// An asset's blobs lie in the mapped file.
fn bytes(blob: &Blob) -> &[u8] {
    blob.as_slice().unwrap_or_default()
}

/// The number after `layers.`.
fn layer_of(name: &str) -> Option<usize> {
    let (_, rest) = name.split_once("layers.")?;
    rest.split_once('.')?.0.parse().ok()
}

/// Squared differences, and squared weights.
#[derive(Clone, Debug, Default)]
struct Sums {
    difference: f64,
    weight: f64,
}

impl Sums {
    fn add(&mut self, other: &Sums) {
        self.difference += other.difference;
        self.weight += other.weight;
    }

    fn relative(&self) -> f64 {
        match self.weight {
            0.0 => 0.0,
            weight => (self.difference / weight).sqrt(),
        }
    }
}

/// Takes the halves of a matrix, in any portions, and measures block by block.
struct Meter<'b> {
    data: &'b [u8],
    scales: &'b [u8],
    /// Elements of a row.
    row: usize,
    /// Elements seen.
    seen: usize,
    rest: Vec<u8>,
    rows: Vec<Sums>,
}

impl<'b> Meter<'b> {
    fn new(data: &'b [u8], scales: &'b [u8], row: usize) -> Self {
        Self {
            data,
            scales,
            row: row.max(1),
            seen: 0,
            rest: Vec::new(),
            rows: Vec::new(),
        }
    }

    fn end(self) -> Vec<Sums> {
        self.rows
    }

    fn block(&mut self, halves: &[u8]) {
        let (block, row) = (self.seen / BLOCK, self.seen / self.row);
        self.seen += BLOCK;
        let scale = self.scales.get(2 * block..2 * block + 2);
        let data = self.data.get(block * BLOCK..(block + 1) * BLOCK);
        let (Some(&[low, high]), Some(data)) = (scale, data) else {
            return;
        };
        let scale = f16::from_le_bytes([low, high]).to_f32();
        let mut sums = [0f32; 2];
        for (half, byte) in halves.as_chunks::<2>().0.iter().zip(data) {
            let exact = f16::from_le_bytes(*half).to_f32();
            let difference = exact - f32::from(*byte as i8) * scale;
            sums[0] += difference * difference;
            sums[1] += exact * exact;
        }
        if self.rows.len() <= row {
            self.rows.resize(row + 1, Sums::default());
        }
        self.rows[row].add(&Sums {
            difference: sums[0].into(),
            weight: sums[1].into(),
        });
    }
}

impl io::Write for Meter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut bytes = bytes;
        let len = bytes.len();
        if !self.rest.is_empty() {
            let more = (2 * BLOCK - self.rest.len()).min(bytes.len());
            self.rest.extend_from_slice(&bytes[..more]);
            bytes = &bytes[more..];
            if self.rest.len() == 2 * BLOCK {
                let block = std::mem::take(&mut self.rest);
                self.block(&block);
            }
        }
        let mut blocks = bytes.chunks_exact(2 * BLOCK);
        for block in &mut blocks {
            self.block(block);
        }
        self.rest.extend_from_slice(blocks.remainder());
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Meter;
    use half::f16;
    use std::io::Write;

    #[test]
    fn portions_of_any_size_give_the_same() {
        let halves: Vec<u8> = (0..256u32)
            .flat_map(|n| f16::from_f32((n as f32).sin()).to_le_bytes())
            .collect();
        let data: Vec<u8> = (0..256u32)
            .map(|n| ((n as f32).sin() * 100.0).round() as i8 as u8)
            .collect();
        let scales = f16::from_f32(0.01).to_le_bytes().repeat(8);
        let measure = |portion: usize| {
            let mut meter = Meter::new(&data, &scales, 64);
            halves
                .chunks(portion)
                .for_each(|p| meter.write_all(p).unwrap());
            let rows = meter.end();
            rows.iter().map(|row| row.relative()).collect::<Vec<_>>()
        };
        let whole = measure(512);
        assert_eq!(whole.len(), 4);
        assert!(
            whole.iter().all(|error| (1e-4..1e-2).contains(error)),
            "{whole:?}"
        );
        for portion in [1, 7, 63, 64, 65, 200] {
            assert_eq!(measure(portion), whole);
        }
    }
}
