//! Parameters of the checkpoint as constants of a graph.

use std::{io, ops::Range};

use aimodel::{Blob, BlobError, BlobSource, ElementType, GraphBuilder, TensorType, Value};
use checkpoint::{Checkpoint, Tensor};
use quantize::{BlockFormat, Matrix, Storage};

use super::{Error, Result, pair::pair};

/// Constants of fewer elements than this stand in the IR, as Core AI's own
/// library has it.
const INLINE_BELOW: u64 = 256;

/// How many weights are made at a time: enough to pay for handing them from
/// thread to thread, few enough to stay in the CPU's cache until they are
/// written and hashed.
const CHUNK: usize = 1 << 20;

/// A matrix made of parameters that stand below each other.
#[derive(Clone)]
pub struct Parts {
    parts: Vec<Part>,
    rows: usize,
    cols: usize,
}

/// A parameter as rows of a matrix.
#[derive(Clone)]
struct Part {
    /// Its canonical name, for messages.
    name: String,
    tensor: Tensor,
    rows: usize,
}

impl Parts {
    /// A matrix of `cols` columns; a parameter of more dimensions is taken as
    /// rows of that length. `parts` are canonical names and shapes.
    ///
    /// # Errors
    /// A parameter that is missing or of another shape.
    pub fn new(
        checkpoint: &Checkpoint,
        parts: &[(String, Vec<usize>)],
        cols: usize,
    ) -> Result<Self> {
        let part = |(name, shape): &(String, Vec<usize>)| {
            Ok(Part {
                name: name.clone(),
                tensor: checkpoint.tensor(name, shape)?,
                rows: shape.iter().product::<usize>() / cols.max(1),
            })
        };
        let mut all = Self {
            parts: parts.iter().map(part).collect::<Result<_>>()?,
            rows: 0,
            cols,
        };
        all.rows = all.matrix()?.rows();
        Ok(all)
    }

    fn matrix(&self) -> Result<Matrix<'_>> {
        let weights: Vec<_> = self
            .parts
            .iter()
            .map(|part| part.tensor.weights())
            .collect();
        Matrix::new(&weights, self.cols).map_err(|source| self.error(source))
    }

    /// A refusal, by the parameter that it is about.
    fn error(&self, source: quantize::Error) -> Error {
        if let quantize::Error::NotFinite { row, col, value } = source {
            let mut row = row;
            for part in &self.parts {
                if row < part.rows {
                    return Error::Weights {
                        tensor: part.name.clone(),
                        source: quantize::Error::NotFinite { row, col, value },
                    };
                }
                row -= part.rows;
            }
        }
        Error::Weights {
            tensor: self.label(),
            source,
        }
    }

    /// The names, for messages.
    fn label(&self) -> String {
        let names: Vec<&str> = self.parts.iter().map(|part| part.name.as_str()).collect();
        names.join(" + ")
    }

    /// All of it as f16.
    fn to_f16(&self) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.rows * self.cols * 2];
        let made = self.matrix()?.to_f16(0..self.rows, &mut bytes);
        made.map_err(|source| self.error(source))?;
        Ok(bytes)
    }

    /// Makes some rows after the others, `row_bytes` of output each, and writes
    /// them: while some are written, the next are made.
    fn stream(
        &self,
        row_bytes: usize,
        out: &mut dyn io::Write,
        mut make: impl FnMut(&Matrix<'_>, Range<usize>, &mut [u8]) -> Result<(), quantize::Error> + Send,
    ) -> Result<(), BlobError> {
        let matrix = self.matrix().map_err(BlobError::source)?;
        let step = (CHUNK / self.cols.max(1)).max(1);
        let (mut ready, mut next) = (Vec::new(), Vec::new());
        for start in (0..self.rows).step_by(step) {
            let rows = start..self.rows.min(start + step);
            next.resize(rows.len() * row_bytes, 0);
            let mut made = Ok(());
            let written = rayon::in_place_scope(|scope| {
                scope.spawn(|_| {
                    made = make(&matrix, rows.clone(), &mut next);
                    self.release(rows);
                });
                out.write_all(&ready)
            });
            written?;
            made.map_err(|source| BlobError::source(self.error(source)))?;
            std::mem::swap(&mut ready, &mut next);
        }
        // Reading some rows brings back pages of those before them.
        self.release(0..self.rows);
        Ok(out.write_all(&ready)?)
    }

    /// Releases the mapped pages of these rows, so that a large checkpoint does
    /// not count as memory in use.
    fn release(&self, rows: Range<usize>) {
        let mut first = 0;
        for part in &self.parts {
            let within = |row: usize| row.clamp(first, first + part.rows) - first;
            let row_bytes = self.cols * part.tensor.element().size();
            part.tensor
                .release(within(rows.start) * row_bytes..within(rows.end) * row_bytes);
            first += part.rows;
        }
    }
}

/// The f16 bytes of a matrix.
struct F16Blob(Parts);

impl BlobSource for F16Blob {
    fn len(&self) -> u64 {
        (self.0.rows * self.0.cols * 2) as u64
    }

    fn write_to(&self, out: &mut dyn io::Write) -> Result<(), BlobError> {
        self.0.stream(self.0.cols * 2, out, |matrix, rows, bytes| {
            matrix.to_f16(rows, bytes)
        })
    }
}

/// A matrix that is quantized when it is written: data and scales.
fn quantized(parts: Parts, format: BlockFormat) -> [Blob; 2] {
    let (row_data, row_scales) = (
        format.data_bytes(parts.cols),
        format.scale_bytes(parts.cols),
    );
    let lengths = [row_data, row_scales].map(|bytes| (parts.rows * bytes) as u64);
    pair(lengths, move |out| {
        let mut scales = vec![0; parts.rows * row_scales];
        parts.stream(row_data, out, |matrix, rows, data| {
            let scales = &mut scales[rows.start * row_scales..rows.end * row_scales];
            matrix.quantize(format, rows, data, scales)
        })?;
        Ok(scales)
    })
}

/// A matrix that is ready to multiply with: `[rows, cols]` of f16 in the graph,
/// dequantized there if it is stored in blocks.
///
/// # Errors
/// A format that is not implemented, or a width that its blocks do not divide.
pub fn matrix(
    body: &mut GraphBuilder<'_>,
    key: &str,
    parts: Parts,
    storage: Storage,
) -> Result<Value> {
    let (rows, cols) = (parts.rows as u64, parts.cols as u64);
    let format = match storage {
        Storage::F16 => {
            let ty = TensorType::fixed([rows, cols], ElementType::F16);
            return constant(body, key, ty, Blob::new(F16Blob(parts)));
        }
        Storage::Block(format) => format,
    };
    let refused = |source| Error::Weights {
        tensor: parts.label(),
        source,
    };
    format.check().map_err(refused)?;
    let element = match format.bits {
        8 => ElementType::Si8,
        _ => return Err(refused(quantize::Error::Format(format))),
    };
    if !parts.cols.is_multiple_of(format.block) {
        return Err(Error::Width {
            tensor: parts.label(),
            cols: parts.cols,
            block: format.block,
        });
    }
    let blocks = [rows, cols / format.block as u64];
    // Resources are written in the order in which they are added.
    let [data, scale] = quantized(parts, format);
    let ty = TensorType::fixed([rows, cols], element);
    let data = constant(body, &format!("{key}.data"), ty, data)?;
    let ty = TensorType::fixed(blocks, ElementType::F16);
    let scale = constant(body, &format!("{key}.scale"), ty, scale)?;
    let zero_point = body.splat(TensorType::fixed(blocks, element), &[0])?;
    let offset = body.splat(TensorType::fixed(blocks, ElementType::F16), &[0, 0])?;
    Ok(body.blockwise_shift_scale(data, scale, zero_point, offset)?)
}

/// The transpose `[in, out]` of parameters `[out, in…]` that stand one below the
/// other.
///
/// # Errors
/// A parameter that is missing or of another shape, or as [`matrix`].
pub fn transposed(
    body: &mut GraphBuilder<'_>,
    checkpoint: &Checkpoint,
    key: &str,
    parts: &[(String, Vec<usize>)],
    storage: Storage,
) -> Result<Value> {
    let shape = parts.first().map(|(_, shape)| shape.as_slice());
    let cols = shape.unwrap_or_default().iter().skip(1).product();
    let parts = Parts::new(checkpoint, parts, cols)?;
    let weight = matrix(body, key, parts, storage)?;
    let swap = body.ui32(&[1, 0])?;
    Ok(body.transpose(weight, swap)?)
}

/// A norm or a bias, as f16.
///
/// # Errors
/// A parameter that is missing, of another shape, or more than f16 holds.
pub fn vector(
    body: &mut GraphBuilder<'_>,
    checkpoint: &Checkpoint,
    name: &str,
    len: usize,
) -> Result<Value> {
    let bytes = read_f16(checkpoint, name, &[len])?;
    f16_constant(body, name, &[len as u64], bytes)
}

/// A constant: in the IR if it is small, else a resource.
fn constant(body: &mut GraphBuilder<'_>, key: &str, ty: TensorType, data: Blob) -> Result<Value> {
    if ty.element_count().is_some_and(|count| count < INLINE_BELOW) {
        let bytes = data.to_vec().map_err(aimodel::Error::from)?;
        return Ok(body.dense(ty, &bytes)?);
    }
    Ok(body.resource(ty, key, || data)?)
}

/// A constant of f16 from its bytes: in the IR if it is small or all of its
/// elements are equal, else a resource.
pub fn f16_constant(
    body: &mut GraphBuilder<'_>,
    key: &str,
    dims: &[u64],
    bytes: Vec<u8>,
) -> Result<Value> {
    let ty = TensorType::fixed(dims, ElementType::F16);
    if bytes.chunks(2).all(|element| element == &bytes[..2]) {
        return Ok(body.dense(ty, &bytes)?);
    }
    constant(body, key, ty, Blob::new(bytes))
}

/// A parameter as f16 bytes, little-endian.
///
/// # Errors
/// As [`vector`].
pub fn read_f16(checkpoint: &Checkpoint, name: &str, shape: &[usize]) -> Result<Vec<u8>> {
    let cols = shape.last().copied().unwrap_or(1);
    Parts::new(checkpoint, &[(name.to_owned(), shape.to_vec())], cols)?.to_f16()
}

/// A parameter as f32.
///
/// # Errors
/// One that is missing or of another shape, or that f16 could not hold.
pub fn read_f32(checkpoint: &Checkpoint, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
    let tensor = checkpoint.tensor(name, shape)?;
    let pairs = || tensor.bytes().as_chunks::<2>().0.iter();
    let values: Vec<f32> = match tensor.element() {
        quantize::Element::F32 => tensor
            .bytes()
            .as_chunks()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect(),
        quantize::Element::F16 => pairs()
            .map(|b| half::f16::from_le_bytes(*b).to_f32())
            .collect(),
        quantize::Element::Bf16 => pairs()
            .map(|b| half::bf16::from_le_bytes(*b).to_f32())
            .collect(),
    };
    let held = |value: &f32| half::f16::from_f32(*value).is_finite();
    if let Some(at) = values.iter().position(|value| !held(value)) {
        let cols = shape.last().copied().unwrap_or(1).max(1);
        return Err(Error::Weights {
            tensor: name.to_owned(),
            source: quantize::Error::NotFinite {
                row: at / cols,
                col: at % cols,
                value: values[at],
            },
        });
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aimodel::{AssetBuilder, AssetMetadata};
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    /// The order in which a program writes its resources is that of the graph, so
    /// that no matrix is quantized twice.
    #[test]
    fn writing_a_program_makes_a_pair_once() {
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = runs.clone();
        let [first, second] = pair([512, 1024], move |out| {
            counted.fetch_add(1, Ordering::Relaxed);
            out.write_all(&[7; 512])?;
            Ok(vec![9; 1024])
        });
        let mut asset = AssetBuilder::new();
        let mut graph = asset.graph("main");
        let ty = |element| TensorType::fixed([512], element);
        let data = constant(&mut graph, "b", ty(ElementType::Si8), first.clone()).unwrap();
        let scale = constant(&mut graph, "a", ty(ElementType::F16), second.clone()).unwrap();
        graph.finish(&[("data", data), ("scale", scale)]).unwrap();
        let module = asset.finish().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let metadata = AssetMetadata::new("test", 0).unwrap();
        let path = folder.path().join("pair.aimodel");
        aimodel::write_asset(path, &module, &metadata).unwrap();
        assert_eq!(runs.load(Ordering::Relaxed), 1);

        // Alone, or again, each is what it was.
        assert_eq!(second.to_vec().unwrap(), [9; 1024]);
        assert_eq!(first.to_vec().unwrap(), [7; 512]);
        assert_eq!(second.to_vec().unwrap(), [9; 1024]);
        assert_eq!(runs.load(Ordering::Relaxed), 3);
    }
}
