//! Attention over a cache of f16.

use std::ffi::c_void;

use candle_core::{
    Tensor,
    cuda_backend::cudarc::cublas::{result, sys},
};

use half::f16;

use super::{
    COUNTERS, CudaContext, DeviceView, Kernel, SCRATCH, THREADS, WARPS, contiguous, flush,
};
use crate::{
    error::{OpResult, Problem, refuse},
    kernel::AttentionShape,
};

/// The minimum number of keys of a block, and the maximum number of blocks that share the keys.
const MIN_KEYS_PER_BLOCK: usize = 64;
const MAX_SPLITS: usize = 32;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::NoUninit)]
struct AttentionArgs {
    query: u64,
    key: u64,
    value: u64,
    key_strides: [i64; 2],
    value_strides: [i64; 2],
    parts: u64,
    done: u64,
    out: u64,
    group: i32,
    keys: i32,
    dim: i32,
    share: i32,
    scale: f32,
    padding: u32,
}

/// Attention of `[1, heads, rows, dim]`; keys and values may be views of a
/// cache.
pub(super) fn attention(
    shape: AttentionShape,
    scale: f64,
    [query, key, value]: [&Tensor; 3],
) -> OpResult<Option<Tensor>> {
    let Some(cuda) = CudaContext::of(query.device())? else {
        return Ok(None);
    };
    let query = if shape.heads == shape.kv_heads {
        query.clone()
    } else {
        // The heads that share keys are multiplied as one matrix.
        contiguous(query)?
    };
    let places = (
        cuda.f16_view(&query),
        cuda.f16_view(key),
        cuda.f16_view(value),
    );
    let (Some(q), Some(k), Some(v)) = places else {
        return Ok(None);
    };
    let by_row = |view: &DeviceView| view.strides[3] == 1;
    if ![&q, &k, &v].into_iter().all(by_row) {
        return Ok(None);
    }
    match one_query(&cuda, shape, scale, [&q, &k, &v])? {
        Some(out) => Ok(Some(out)),
        None => many_queries(&cuda, shape, scale, [&q, &k, &v]).map(Some),
    }
}

/// One query for each head.
fn one_query(
    cuda: &CudaContext,
    shape: AttentionShape,
    scale: f64,
    [query, key, value]: [&DeviceView; 3],
) -> OpResult<Option<Tensor>> {
    let AttentionShape {
        heads,
        kv_heads,
        rows,
        keys,
        dim,
        ..
    } = shape;
    let group = heads / kv_heads;
    let (kernel, side) = match group {
        _ if group % 4 == 0 => (Kernel::Attention4, 4),
        _ if group % 2 == 0 => (Kernel::Attention2, 2),
        _ => (Kernel::Attention1, 1),
    };
    let lanes = dim / 8;
    let share = keys.div_ceil(MAX_SPLITS).next_multiple_of(8);
    let share = share.max(MIN_KEYS_PER_BLOCK);
    let splits = keys.div_ceil(share);
    let fits = rows == 1
        && dim % 8 == 0
        && lanes.is_power_of_two()
        && lanes <= 32
        && query.contiguous
        && [query, key, value].into_iter().all(DeviceView::aligned)
        && heads * splits * (dim + 2) <= SCRATCH
        && heads / side <= COUNTERS;
    if !fits {
        return Ok(None);
    }
    let (out, pointer) = cuda.alloc_output(&[1, heads, 1, dim])?;
    let args = AttentionArgs {
        query: query.pointer,
        key: key.pointer,
        value: value.pointer,
        key_strides: [key.strides[1] as i64, key.strides[2] as i64],
        value_strides: [value.strides[1] as i64, value.strides[2] as i64],
        parts: cuda.pointer(&cuda.parts),
        done: cuda.pointer(&cuda.counters),
        out: pointer,
        group: group as i32,
        keys: keys as i32,
        dim: dim as i32,
        share: share as i32,
        scale: scale as f32,
        padding: 0,
    };
    let grid = [splits, kv_heads, group / side];
    let shared = 4 * side * (THREADS / lanes) * (dim + 2);
    // SAFETY: the views have the extents of `shape`; the checks above bound what
    // is written to `parts` and `counters`; `out` has `heads · dim` elements.
    unsafe { cuda.launch(kernel, grid, THREADS, shared, &args)? };
    Ok(Some(out))
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::NoUninit)]
struct SoftmaxArgs {
    scores: u64,
    out: u64,
    count: i32,
    keys: i32,
    rows: i32,
    causal: i32,
}

/// A batch of matrices in memory, with the distances between rows and between
/// matrices.
#[derive(Clone, Copy)]
struct Matrix {
    pointer: u64,
    row: usize,
    next: usize,
    is_f32: bool,
}

/// Scores of all queries, their softmax, and the values weighted by it.
fn many_queries(
    cuda: &CudaContext,
    shape: AttentionShape,
    scale: f64,
    [query, key, value]: [&DeviceView; 3],
) -> OpResult<Tensor> {
    let AttentionShape {
        heads,
        kv_heads,
        rows,
        keys,
        dim,
        causal,
    } = shape;
    let group = heads / kv_heads;
    let queries = group * rows;
    let matrix = |view: &DeviceView| Matrix {
        pointer: view.pointer,
        row: view.strides[2].max(dim),
        next: view.strides[1],
        is_f32: false,
    };
    let (key, value) = (matrix(key), matrix(value));
    let query = match group {
        1 => matrix(query),
        _ => Matrix {
            pointer: query.pointer,
            row: dim,
            next: queries * dim,
            is_f32: false,
        },
    };
    let count = kv_heads * queries * keys;
    let (scores, weights) = (
        cuda.alloc_uninit::<f32>(count)?,
        cuda.alloc_uninit::<f16>(count)?,
    );
    let score = Matrix {
        pointer: cuda.pointer(&scores),
        row: keys,
        next: queries * keys,
        is_f32: true,
    };
    let weight = Matrix {
        pointer: cuda.pointer(&weights),
        is_f32: false,
        ..score
    };
    // Rows of all heads side by side, as the next operation needs them.
    let (out, pointer) = match group {
        1 => cuda.alloc_output(&[1, rows, heads, dim])?,
        _ => cuda.alloc_output(&[1, heads, rows, dim])?,
    };
    let mixed = Matrix {
        pointer,
        row: if group == 1 { heads * dim } else { dim },
        next: if group == 1 { dim } else { queries * dim },
        is_f32: false,
    };
    multiply(
        cuda,
        [queries, dim, keys],
        kv_heads,
        scale,
        query,
        (key, true),
        score,
    )?;
    let args = SoftmaxArgs {
        scores: score.pointer,
        out: weight.pointer,
        count: (kv_heads * queries) as i32,
        keys: keys as i32,
        rows: rows as i32,
        causal: i32::from(causal),
    };
    let blocks = [(kv_heads * queries).div_ceil(WARPS), 1, 1];
    // SAFETY: scores and weights have `count` elements, and there is a warp for
    // each of their rows.
    unsafe { cuda.launch(Kernel::Softmax, blocks, THREADS, 0, &args)? };
    multiply(
        cuda,
        [queries, keys, dim],
        kv_heads,
        1.0,
        weight,
        (value, false),
        mixed,
    )?;
    Ok(match group {
        1 => out.transpose(1, 2)?,
        _ => out,
    })
}

/// `out = factor · x · y`, or `yᵀ` for `y`, for each matrix of a batch; sums are
/// in f32.
fn multiply(
    cuda: &CudaContext,
    [rows, inner, cols]: [usize; 3],
    batch: usize,
    factor: f64,
    x: Matrix,
    (y, transposed): (Matrix, bool),
    out: Matrix,
) -> OpResult<()> {
    let int = |value: usize| match i32::try_from(value) {
        Ok(value) => Ok(value),
        Err(_) => refuse(format!("{value} is too large for a product")),
    };
    let (alpha, beta) = (factor as f32, 0.0_f32);
    let ty = |matrix: Matrix| {
        if matrix.is_f32 {
            sys::cudaDataType::CUDA_R_32F
        } else {
            sys::cudaDataType::CUDA_R_16F
        }
    };
    flush()?;
    let blas = cuda.device.cublas_handle();
    // cuBLAS is column-major, so each matrix is its own transpose to it, and the
    // operands change places.
    // SAFETY: the callers' matrices are memory of this GPU with these extents.
    let status = unsafe {
        result::gemm_strided_batched_ex(
            *blas.handle(),
            if transposed {
                sys::cublasOperation_t::CUBLAS_OP_T
            } else {
                sys::cublasOperation_t::CUBLAS_OP_N
            },
            sys::cublasOperation_t::CUBLAS_OP_N,
            int(cols)?,
            int(rows)?,
            int(inner)?,
            std::ptr::from_ref(&alpha).cast::<c_void>(),
            y.pointer as *const c_void,
            ty(y),
            int(y.row)?,
            y.next as i64,
            x.pointer as *const c_void,
            ty(x),
            int(x.row)?,
            x.next as i64,
            std::ptr::from_ref(&beta).cast::<c_void>(),
            out.pointer as *mut c_void,
            ty(out),
            int(out.row)?,
            out.next as i64,
            int(batch)?,
            sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
            sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT_TENSOR_OP,
        )
    };
    status.map_err(|error| Problem(format!("cuBLAS: {error:?}")))
}
