//! Matrix products, and matrices that are stored in blocks of integers.

use aimodel::ElementType;
use candle_core::{DType, Device, Tensor};
use half::f16;

use super::operands::Operands;
use crate::{
    error::{OpResult, refuse},
    kernel,
    options::Accumulate,
    thread_pool,
    value::{Value, broadcast, row_major},
};

/// A product of contiguous matrices. f16 is multiplied in f32 where the device
/// has no product of f16 that sums in f32.
fn product(how: Accumulate, x: &Tensor, y: &Tensor, device: &Device) -> OpResult<Tensor> {
    let dtype = x.dtype();
    match (dtype, device.is_cpu()) {
        (DType::F16, true) if how == Accumulate::F16 => {
            let (rank, dims) = (x.rank(), [x.dims(), &y.dims()[y.rank() - 1..]].concat());
            let [rows, inner, cols] = [dims[rank - 2], dims[rank - 1], dims[rank]];
            let (x, y) = (x.flatten_all()?, y.flatten_all()?);
            let (x, y) = (x.to_vec1::<f16>()?, y.to_vec1::<f16>()?);
            let out = kernel::multiply_f16(&x, &y, [rows, inner, cols]);
            let dims = [&dims[..rank - 1], &[cols]].concat();
            Ok(Tensor::from_vec(out, dims, device)?)
        }
        (DType::F16 | DType::BF16, true) => {
            let y = y.to_dtype(DType::F32)?;
            Ok(x.to_dtype(DType::F32)?.matmul(&y)?.to_dtype(dtype)?)
        }
        _ => Ok(x.matmul(y)?),
    }
}

pub fn batch_matmul(how: Accumulate, operands: &Operands<'_>) -> OpResult<Value> {
    let (x, y) = (operands.float(0)?, operands.float(1)?);
    Ok(Value::from(multiply(how, &x, &y, operands.device()?)?))
}

/// The product of matrices, over batches that broadcast.
fn multiply(how: Accumulate, x: &Tensor, y: &Tensor, device: &Device) -> OpResult<Tensor> {
    let (Some(xb), Some(yb)) = (x.rank().checked_sub(2), y.rank().checked_sub(2)) else {
        return refuse(format!(
            "{:?} and {:?} are not matrices",
            x.dims(),
            y.dims()
        ));
    };
    let (rows, inner) = (x.dims()[xb], x.dims()[xb + 1]);
    let cols = y.dims()[yb + 1];
    if y.dims()[yb] != inner {
        return refuse(format!(
            "{:?} and {:?} cannot be multiplied",
            x.dims(),
            y.dims()
        ));
    }
    let batch = broadcast(&x.dims()[..xb], &y.dims()[..yb])?;
    let result = [&batch[..], &[rows, cols]].concat();
    if result.contains(&0) || inner == 0 {
        return Ok(Tensor::zeros(result, x.dtype(), device)?);
    }
    if yb == 0 {
        // One matrix for all: the batches are rows.
        let x = x.reshape(((), inner))?;
        return Ok(product(how, &x, y, device)?.reshape(result)?);
    }
    let x = x.broadcast_as([&batch[..], &[rows, inner]].concat())?;
    let y = y.broadcast_as([&batch[..], &[inner, cols]].concat())?;
    let count: usize = batch.iter().product();
    let x = x.contiguous()?.reshape((count, rows, inner))?;
    let y = y.contiguous()?.reshape((count, inner, cols))?;
    Ok(product(how, &x, &y, device)?.reshape(result)?)
}

pub fn blockwise_shift_scale(operands: &Operands<'_>) -> OpResult<Value> {
    let values = [
        operands.at(0)?,
        operands.at(1)?,
        operands.at(2)?,
        operands.at(3)?,
    ];
    Ok(Value::from(dequantize(values, operands.device()?)?))
}

/// `(data − zero_point) · scale + offset`, in the elements of the scale; each
/// of the last three has one element for a block of the data.
pub(crate) fn dequantize(
    [data, scale, zero, offset]: [&Value; 4],
    device: &Device,
) -> OpResult<Tensor> {
    let dims = data.dims().to_vec();
    let blocks = scale.dims().to_vec();
    let divides =
        dims.len() == blocks.len() && dims.iter().zip(&blocks).all(|(d, b)| *b > 0 && d % b == 0);
    if !divides || zero.dims() != blocks || offset.dims() != blocks {
        return refuse(format!(
            "{scale}, {zero} and {offset} do not divide {data} into blocks"
        ));
    }
    let floats = |value: &Value| -> OpResult<Vec<f32>> {
        let host = value.float(&Device::Cpu)?.to_device(&Device::Cpu)?;
        let host = host.to_dtype(DType::F32)?;
        Ok(host.flatten_all()?.to_vec1::<f32>()?)
    };
    let element = match scale {
        Value::Float(tensor) => tensor.dtype(),
        _ => DType::F16,
    };
    let (scales, offsets) = (floats(scale)?, floats(offset)?);
    let zeros = zero.ints()?.dense();
    let bytes;
    let data = match data {
        Value::Mapped(mapped) if mapped.element == ElementType::Si8 => mapped.bytes()?,
        other => {
            bytes = other.ints()?.dense().into_iter().map(|v| v as u8);
            &bytes.collect::<Vec<u8>>()
        }
    };
    // Along the last axis a block is one run.
    let Some((&cols, outer)) = dims.split_last() else {
        return refuse("a scalar has no blocks");
    };
    let strides = row_major(&blocks);
    let own = row_major(outer);
    let run = cols / blocks[dims.len() - 1];
    let block = |row: usize| -> usize {
        (0..outer.len())
            .map(|i| row / own[i] % outer[i] / (outer[i] / blocks[i]) * strides[i])
            .sum()
    };
    let scaled = |at: usize, byte: u8| (i64::from(byte as i8) - zeros[at]) as f32 * scales[at];
    Ok(match element {
        DType::F16 => {
            // Each step is rounded to f16, as the graph says.
            let value =
                |at, byte| f16::from_f32(f16::from_f32(scaled(at, byte)).to_f32() + offsets[at]);
            Tensor::from_vec(by_block(data, [cols, run], block, value), dims, device)?
        }
        other => {
            let value = |at, byte| scaled(at, byte) + offsets[at];
            let out = by_block(data, [cols, run], block, value);
            Tensor::from_vec(out, dims, device)?.to_dtype(other)?
        }
    })
}

/// `value` of each byte and its block: `block` gives the first of a row, and a
/// block is `run` bytes long.
fn by_block<T: Clone + Default + Send>(
    data: &[u8],
    [cols, run]: [usize; 2],
    block: impl Fn(usize) -> usize + Sync,
    value: impl Fn(usize, u8) -> T + Sync,
) -> Vec<T> {
    /// Bytes that are worth a piece of work of their own.
    const PIECE: usize = 1 << 14;
    let mut out = vec![T::default(); data.len()];
    let cols = cols.max(1);
    let rows = PIECE.div_ceil(cols);
    thread_pool::split(&mut out, rows * cols, |piece, out| {
        let first = piece * rows;
        let lines = data[first * cols..].chunks(cols).zip(out.chunks_mut(cols));
        for (row, (line, out)) in (first..).zip(lines) {
            let runs = out.chunks_mut(run).zip(line.chunks(run));
            for (at, (out, bytes)) in (block(row)..).zip(runs) {
                for (out, byte) in out.iter_mut().zip(bytes) {
                    *out = value(at, *byte);
                }
            }
        }
    });
    out
}
