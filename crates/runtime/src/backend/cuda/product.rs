//! Products with constant matrices, which are stored on the GPU as they are in
//! the file.

use std::sync::Arc;

use candle_core::{Tensor, cuda_backend::cudarc::driver::CudaSlice};
use half::f16;

use super::{CudaContext, FusedElementwise, Kernel, SHARED, THREADS, WARPS, contiguous, flush};
use crate::{
    error::{OpResult, refuse},
    ops::{Binary, Composite, Op, Operands},
    value::{Mapped, Value, broadcast, read_f16},
};

/// Elements of a row that have one scale.
pub(super) const BLOCK: usize = 32;
/// The maximum number of blocks for each multiprocessor in products of one row.
const BLOCKS: usize = 2;
/// The maximum number of blocks for each multiprocessor where weights are dequantized.
const DEQUANTIZE_BLOCKS: usize = 8;

/// A matrix of scaled si8 on the GPU.
pub(crate) struct Int8 {
    data: CudaSlice<u8>,
    scales: CudaSlice<f16>,
    rows: usize,
    cols: usize,
}

impl std::fmt::Debug for Int8 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Int8({}×{})", self.rows, self.cols)
    }
}

impl Int8 {
    /// Copies rows of si8 and their scales, f16, to the GPU.
    pub fn new(cuda: &CudaContext, data: &Mapped, scales: &Mapped) -> OpResult<Self> {
        let &[rows, cols] = &data.dims[..] else {
            return refuse("it is not a matrix");
        };
        if cols % BLOCK != 0 || scales.dims != [rows, cols / BLOCK] {
            return refuse("the scales do not fit the matrix");
        }
        Ok(Self {
            data: cuda.stream.clone_htod(data.bytes()?)?,
            scales: cuda.stream.clone_htod(&read_f16(scales.bytes()?))?,
            rows,
            cols,
        })
    }

    /// As f16, `[rows, cols]`.
    fn dequantize(&self, cuda: &CudaContext) -> OpResult<Tensor> {
        #[repr(C)]
        #[derive(Clone, Copy, bytemuck::NoUninit)]
        struct DequantizeArgs {
            weight: u64,
            scales: u64,
            out: u64,
            count: i64,
        }
        let count = self.rows * self.cols;
        let out = cuda.alloc_uninit(count)?;
        let args = DequantizeArgs {
            weight: cuda.pointer(&self.data),
            scales: cuda.pointer(&self.scales),
            out: cuda.pointer(&out),
            count: count as i64,
        };
        let blocks = (count / 16).div_ceil(THREADS);
        let blocks = blocks.clamp(1, DEQUANTIZE_BLOCKS * cuda.multiprocessors);
        // SAFETY: data, scales and result have the extents of the matrix, which
        // `new` checked.
        unsafe { cuda.launch(Kernel::Dequantize, [blocks, 1, 1], THREADS, 0, &args)? };
        Ok(cuda.f16_tensor(out, (self.rows, self.cols)))
    }
}

/// A constant row-major matrix.
#[derive(Clone, Debug)]
pub(crate) enum Weight {
    /// Of f16: the next operand.
    F16,
    Int8(Arc<Int8>),
}

/// `norm(x) · weightᵀ + add`, or `(norm(x) · weightᵀ) · silu(norm(x) · gateᵀ)`.
///
/// Operands are x, the weights of f16, the scale of the norm, and what is added,
/// as far as the product has them.
#[derive(Debug)]
pub(crate) struct Product {
    /// The weight, and that of the gate if there is one.
    pub weights: Vec<Weight>,
    pub norm: Option<Arc<Composite>>,
    pub add: bool,
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::NoUninit)]
struct ProductArgs {
    weights: [u64; 2],
    scales: [u64; 2],
    x: u64,
    norm: u64,
    add: u64,
    out: u64,
    rows: i32,
    cols: i32,
    eps: f32,
    padding: u32,
}

/// A weight with its operand.
enum Matrix<'w> {
    F16(Tensor),
    Int8(&'w Int8),
}

impl Matrix<'_> {
    fn dims(&self) -> OpResult<[usize; 2]> {
        match self {
            Self::Int8(matrix) => Ok([matrix.rows, matrix.cols]),
            Self::F16(tensor) => Ok(tensor.dims2()?.into()),
        }
    }
}

impl Product {
    /// The position of the norm's scale among the operands.
    pub fn norm_operand(&self) -> usize {
        let half = |weight: &&Weight| matches!(weight, Weight::F16);
        1 + self.weights.iter().filter(half).count()
    }

    pub fn run(&self, operands: &Operands<'_>) -> OpResult<Value> {
        let Some(cuda) = CudaContext::of(operands.backend.device())? else {
            return refuse("it needs an NVIDIA GPU");
        };
        let x = operands.view(0)?.queued().clone();
        let mut at = 1;
        let mut matrices = Vec::new();
        for weight in &self.weights {
            matrices.push(match weight {
                Weight::Int8(matrix) => Matrix::Int8(matrix),
                Weight::F16 => {
                    at += 1;
                    Matrix::F16(operands.view(at - 1)?.queued().clone())
                }
            });
        }
        let [rows, cols] = matrices[0].dims()?;
        if x.dims().last() != Some(&cols) {
            return refuse(format!(
                "{:?} and {:?}ᵀ cannot be multiplied",
                x.dims(),
                [rows, cols]
            ));
        }
        let norm = match &self.norm {
            Some(norm) => Some((norm, operands.at(at)?)),
            None => None,
        };
        let add = if self.add {
            Some(operands.at(at + usize::from(norm.is_some()))?)
        } else {
            None
        };
        if let Some(out) = self.one_row(&cuda, &x, &matrices, norm, add)? {
            return Ok(Value::from(out));
        }
        let backend = operands.backend;
        let x = match norm {
            Some((norm, scale)) => {
                let operands = [operands.at(0)?, scale];
                let normed = norm.run(&Operands {
                    backend,
                    operands: &operands,
                })?;
                normed.float(backend.device())?.queued().clone()
            }
            None => x,
        };
        let mut values = Vec::new();
        for matrix in &matrices {
            values.push(Value::from(many_rows(&cuda, &x, matrix)?));
        }
        let product = match &values[..] {
            [product, gate] => {
                let gating = FusedElementwise::of(&[Op::Silu, Op::Binary(Binary::Mul)]);
                gating.run(&Operands {
                    backend,
                    operands: &[gate, product],
                })?
            }
            _ => values.swap_remove(0),
        };
        let out = match add {
            Some(add) => FusedElementwise::of(&[Op::Binary(Binary::Add)]).run(&Operands {
                backend,
                operands: &[&product, add],
            }),
            None => Ok(product),
        };
        // What is only needed here may go once its launches are in the stream.
        flush()?;
        out
    }

    /// The product of one row of f16.
    fn one_row(
        &self,
        cuda: &CudaContext,
        x: &Tensor,
        matrices: &[Matrix<'_>],
        norm: Option<(&Arc<Composite>, &Value)>,
        add: Option<&Value>,
    ) -> OpResult<Option<Tensor>> {
        let [rows, cols] = matrices[0].dims()?;
        let aligned = |tensor: &Tensor, count: usize| {
            let view = cuda.f16_view(tensor).filter(|view| view.contiguous)?;
            let fits = tensor.elem_count() == count && view.pointer.is_multiple_of(16);
            fits.then_some(view.pointer)
        };
        let vector = |value: &Value, count: usize| match value {
            Value::Float(tensor) => aligned(tensor.queued(), count),
            _ => None,
        };
        let mut args = ProductArgs {
            weights: [0; 2],
            scales: [0; 2],
            x: aligned(x, cols).unwrap_or(0),
            norm: 0,
            add: 0,
            out: 0,
            rows: rows as i32,
            cols: cols as i32,
            eps: 0.0,
            padding: 0,
        };
        let width = match matrices[0] {
            Matrix::F16(_) => 8,
            Matrix::Int8(_) => BLOCK,
        };
        let shared = 2 * cols;
        if args.x == 0 || rows == 0 || cols % width != 0 || shared >= SHARED {
            return Ok(None);
        }
        if let Some((composite, scale)) = norm {
            let Composite::RmsNorm { eps } = **composite else {
                return Ok(None);
            };
            match vector(scale, cols) {
                Some(scale) => (args.norm, args.eps) = (scale, eps as f32),
                None => return Ok(None),
            }
        }
        let mut dims = x.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = rows;
        }
        if let Some(add) = add {
            match vector(add, rows) {
                Some(pointer) => args.add = pointer,
                None => return Ok(None),
            }
            dims = broadcast(&dims, add.dims())?;
        }
        for (index, matrix) in matrices.iter().enumerate() {
            if matrix.dims()? != [rows, cols] {
                return Ok(None);
            }
            match (matrix, &matrices[0]) {
                (Matrix::Int8(matrix), Matrix::Int8(_)) => {
                    args.weights[index] = cuda.pointer(&matrix.data);
                    args.scales[index] = cuda.pointer(&matrix.scales);
                }
                (Matrix::F16(tensor), Matrix::F16(_)) => match aligned(tensor, rows * cols) {
                    Some(pointer) => args.weights[index] = pointer,
                    None => return Ok(None),
                },
                _ => return Ok(None),
            }
        }
        let kernel = match (&matrices[0], matrices.len()) {
            (Matrix::Int8(_), 1) => Kernel::ProductInt8,
            (Matrix::Int8(_), _) => Kernel::GatedInt8,
            (Matrix::F16(_), 1) => Kernel::ProductHalf,
            (Matrix::F16(_), _) => Kernel::GatedHalf,
        };
        let (out, pointer) = cuda.alloc_output(&dims)?;
        args.out = pointer;
        let blocks = rows.div_ceil(WARPS).min(BLOCKS * cuda.multiprocessors);
        // SAFETY: all operands were checked to be contiguous, aligned and of
        // these extents, and the result has them too.
        unsafe { cuda.launch(kernel, [blocks, 1, 1], THREADS, shared, &args)? };
        Ok(Some(out))
    }
}

/// The product of any number of rows, which the tensor library computes.
fn many_rows(cuda: &CudaContext, x: &Tensor, matrix: &Matrix<'_>) -> OpResult<Tensor> {
    let [rows, cols] = matrix.dims()?;
    let mut dims = x.dims().to_vec();
    if let Some(last) = dims.last_mut() {
        *last = rows;
    }
    if dims.contains(&0) || cols == 0 {
        flush()?;
        return Ok(Tensor::zeros(dims, x.dtype(), x.device())?);
    }
    let weight = match matrix {
        Matrix::F16(tensor) => tensor.clone(),
        Matrix::Int8(matrix) => matrix.dequantize(cuda)?,
    };
    let x = contiguous(x)?;
    flush()?;
    let weight = weight.to_dtype(x.dtype())?.t()?;
    Ok(x.reshape(((), cols))?.matmul(&weight)?.reshape(dims)?)
}
