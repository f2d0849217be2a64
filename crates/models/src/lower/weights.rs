//! Parameters of the checkpoint as constants of a graph.

use std::{
    io,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use aimodel::{Blob, BlobError, BlobSource, ElementType, GraphBuilder, TensorType, Value};
use checkpoint::Checkpoint;
use checkpoint::TensorView;
use quantize::{BlockFormat, Matrix, Storage};

use super::{Error, Result};

/// Constants of fewer elements than this stand in the IR, as Core AI's own
/// library has it.
const INLINE_BELOW: u64 = 256;

/// How many weights are made at a time: enough to pay for handing them from
/// thread to thread, few enough to stay in the processor's cache until they are
/// written and hashed.
const CHUNK: usize = 1 << 20;

/// A matrix made of parameters that stand below each other.
#[derive(Clone)]
pub struct Parts {
    checkpoint: Arc<Checkpoint>,
    /// Canonical names and shapes.
    parts: Vec<(String, Vec<usize>)>,
    rows: usize,
    cols: usize,
}

impl Parts {
    /// A matrix of `cols` columns; a parameter of more dimensions is taken as
    /// rows of that length.
    ///
    /// # Errors
    /// A parameter that is missing or of another shape.
    pub fn new(
        checkpoint: &Arc<Checkpoint>,
        parts: &[(String, Vec<usize>)],
        cols: usize,
    ) -> Result<Self> {
        let mut all = Self {
            checkpoint: checkpoint.clone(),
            parts: parts.to_vec(),
            rows: 0,
            cols,
        };
        all.rows = all.with_matrix(|matrix| Ok(matrix.rows()))?;
        Ok(all)
    }

    fn with_matrix<T>(
        &self,
        work: impl FnOnce(&Matrix<'_>) -> Result<T, quantize::Error>,
    ) -> Result<T> {
        let views = self
            .parts
            .iter()
            .map(|(name, shape)| self.checkpoint.tensor(name, shape));
        let weights = views
            .map(|view| Ok(view?.weights()))
            .collect::<Result<Vec<_>>>()?;
        Matrix::new(&weights, self.cols)
            .and_then(|matrix| work(&matrix))
            .map_err(|source| self.error(source))
    }

    /// A refusal, by the parameter that it is about.
    fn error(&self, source: quantize::Error) -> Error {
        if let quantize::Error::NotFinite { row, col, value } = source {
            let mut row = row;
            for (name, shape) in &self.parts {
                let rows = shape.iter().product::<usize>() / self.cols.max(1);
                if row < rows {
                    return Error::Weights {
                        tensor: name.clone(),
                        source: quantize::Error::NotFinite { row, col, value },
                    };
                }
                row -= rows;
            }
        }
        Error::Weights {
            tensor: self.label(),
            source,
        }
    }

    /// The names, for messages.
    fn label(&self) -> String {
        let names: Vec<&str> = self.parts.iter().map(|(name, _)| name.as_str()).collect();
        names.join(" + ")
    }

    fn to_f16(&self, rows: Range<usize>, out: &mut [u8]) -> Result<()> {
        self.with_matrix(|matrix| matrix.to_f16(rows, out))
    }

    /// Makes some rows after the others, `row_bytes` of output each, and writes
    /// them: while some are written, the next are made.
    fn stream(
        &self,
        row_bytes: usize,
        out: &mut dyn io::Write,
        mut make: impl FnMut(Range<usize>, &mut [u8]) -> Result<()> + Send,
    ) -> Result<(), BlobError> {
        let step = (CHUNK / self.cols.max(1)).max(1);
        let (mut ready, mut next) = (Vec::new(), Vec::new());
        for start in (0..self.rows).step_by(step) {
            let rows = start..self.rows.min(start + step);
            next.resize(rows.len() * row_bytes, 0);
            let mut made = Ok(());
            let written = rayon::in_place_scope(|scope| {
                scope.spawn(|_| {
                    made = make(rows.clone(), &mut next);
                    self.release(rows);
                });
                out.write_all(&ready)
            });
            written?;
            made.map_err(BlobError::source)?;
            std::mem::swap(&mut ready, &mut next);
        }
        // Reading some rows brings back pages of those before them.
        self.release(0..self.rows);
        Ok(out.write_all(&ready)?)
    }

    /// Gives the mapped pages of these rows back, so that a large checkpoint does
    /// not count as memory in use.
    fn release(&self, rows: Range<usize>) {
        let mut first = 0;
        for (name, shape) in &self.parts {
            let count = shape.iter().product::<usize>() / self.cols.max(1);
            let within = |row: usize| row.clamp(first, first + count) - first;
            if let Ok(view) = self.checkpoint.tensor(name, shape) {
                let row_bytes = view.bytes.len() / count.max(1);
                let bytes = within(rows.start) * row_bytes..within(rows.end) * row_bytes;
                self.checkpoint.release(&TensorView {
                    bytes: &view.bytes[bytes],
                    ..view
                });
            }
            first += count;
        }
    }
}

/// The f16 bytes of a matrix.
struct HalfBlob(Parts);

impl BlobSource for HalfBlob {
    fn len(&self) -> u64 {
        (self.0.rows * self.0.cols * 2) as u64
    }

    fn write_to(&self, out: &mut dyn io::Write) -> Result<(), BlobError> {
        let make = |rows, bytes: &mut [u8]| self.0.to_f16(rows, bytes);
        self.0.stream(self.0.cols * 2, out, make)
    }
}

/// A matrix that is quantized when it is written: its data first, which gives
/// the scales along with it.
struct Quantized {
    parts: Parts,
    format: BlockFormat,
    /// The scales, from when the data were written until they are.
    scales: Mutex<Option<Vec<u8>>>,
}

impl Quantized {
    /// Bytes of data, and of scales, for each row.
    fn row_bytes(&self) -> [usize; 2] {
        let cols = self.parts.cols;
        [self.format.data_bytes(cols), self.format.scale_bytes(cols)]
    }

    /// Writes the data, and returns the scales.
    fn run(&self, out: &mut dyn io::Write) -> Result<Vec<u8>, BlobError> {
        let [row_data, row_scales] = self.row_bytes();
        let mut scales = vec![0; self.parts.rows * row_scales];
        self.parts.stream(row_data, out, |rows, data| {
            let scales = &mut scales[rows.start * row_scales..rows.end * row_scales];
            self.parts
                .with_matrix(|matrix| matrix.quantize(self.format, rows, data, scales))
        })?;
        Ok(scales)
    }
}

struct DataBlob(Arc<Quantized>);

impl BlobSource for DataBlob {
    fn len(&self) -> u64 {
        (self.0.parts.rows * self.0.row_bytes()[0]) as u64
    }

    fn write_to(&self, out: &mut dyn io::Write) -> Result<(), BlobError> {
        let scales = self.0.run(out)?;
        *self.0.scales.lock().unwrap_or_else(PoisonError::into_inner) = Some(scales);
        Ok(())
    }
}

struct ScaleBlob(Arc<Quantized>);

impl BlobSource for ScaleBlob {
    fn len(&self) -> u64 {
        (self.0.parts.rows * self.0.row_bytes()[1]) as u64
    }

    fn write_to(&self, out: &mut dyn io::Write) -> Result<(), BlobError> {
        let kept = self
            .0
            .scales
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let scales = match kept {
            Some(scales) => scales,
            None => self.0.run(&mut io::sink())?,
        };
        Ok(out.write_all(&scales)?)
    }
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
            return constant(body, key, ty, Blob::new(HalfBlob(parts)));
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
    let quantized = Arc::new(Quantized {
        parts,
        format,
        scales: Mutex::new(None),
    });
    let ty = TensorType::fixed([rows, cols], element);
    let data = Blob::new(DataBlob(quantized.clone()));
    let data = constant(body, &format!("{key}.data"), ty, data)?;
    let ty = TensorType::fixed(blocks, ElementType::F16);
    let scale = constant(
        body,
        &format!("{key}.scale"),
        ty,
        Blob::new(ScaleBlob(quantized)),
    )?;
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
    checkpoint: &Arc<Checkpoint>,
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
    checkpoint: &Arc<Checkpoint>,
    name: &str,
    len: usize,
) -> Result<Value> {
    let bytes = read_half(checkpoint, name, &[len])?;
    halves(body, name, &[len as u64], bytes)
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
pub fn halves(
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
pub fn read_half(checkpoint: &Arc<Checkpoint>, name: &str, shape: &[usize]) -> Result<Vec<u8>> {
    let cols = shape.last().copied().unwrap_or(1);
    let parts = Parts::new(checkpoint, &[(name.to_owned(), shape.to_vec())], cols)?;
    let mut bytes = vec![0; parts.rows * parts.cols * 2];
    parts.to_f16(0..parts.rows, &mut bytes)?;
    Ok(bytes)
}

/// A parameter as f32.
///
/// # Errors
/// One that is missing or of another shape, or that f16 could not hold.
pub fn read_f32(checkpoint: &Checkpoint, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
    let tensor = checkpoint.tensor(name, shape)?;
    let pairs = || tensor.bytes.as_chunks::<2>().0.iter();
    let values: Vec<f32> = match tensor.element {
        quantize::Element::F32 => tensor
            .bytes
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
