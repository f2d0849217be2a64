//! Operations element by element, one after the other, without their
//! intermediate results in memory.

use aimodel::{Approximate, ElementType};
use candle_core::{Device, Tensor, cuda_backend::CudaStorageSlice};

use super::{BLOCKS, CudaContext, Kernel, RANK, THREADS, axes, axis_args, by_eight};
use crate::{
    backend::DeviceTensor,
    error::{OpResult, refuse},
    ops::{Binary, Op, Operands, Unary},
    value::{Value, broadcast},
};

/// The most inputs and operations; the same as in `kernels/`.
pub(super) const MAX_INPUTS: usize = 6;
pub(super) const MAX_OPS: usize = 12;

/// One operation of a chain, on what the one before it gives.
#[derive(Clone, Debug)]
pub(crate) struct ElementwiseOp {
    pub op: Op,
    /// The other operand, by its place among those of the chain.
    pub other: Option<usize>,
    /// Whether the other operand comes first.
    pub reversed: bool,
    /// What the result is made of.
    pub element: ElementType,
}

/// A chain begins with its first operand.
#[derive(Clone, Debug)]
pub(crate) struct FusedElementwise {
    pub links: Vec<ElementwiseOp>,
}

#[repr(C)]
#[derive(Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
struct ElementwiseOpArgs {
    code: u8,
    input: u8,
    reversed: u8,
    half_result: u8,
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::NoUninit)]
struct ElementwiseArgs {
    inputs: [u64; MAX_INPUTS],
    out: u64,
    extents: [i32; RANK],
    strides: [[i32; RANK]; MAX_INPUTS],
    half_input: [u8; MAX_INPUTS],
    links: [ElementwiseOpArgs; MAX_OPS],
    padding: u16,
    count: i32,
    links_count: i32,
    half_out: i32,
}

/// The number of an operation in `kernels/`, if a chain may have it.
pub(super) fn code(op: &Op) -> Option<u8> {
    Some(match op {
        Op::Binary(Binary::Add) => 0,
        Op::Binary(Binary::Sub) => 1,
        Op::Binary(Binary::Mul) => 2,
        Op::Binary(Binary::Divide) => 3,
        Op::Binary(Binary::Maximum) => 4,
        Op::Binary(Binary::Minimum) => 5,
        Op::Unary(Unary::Rsqrt) => 6,
        Op::Unary(Unary::Exp) => 7,
        Op::Unary(Unary::Sin) => 8,
        Op::Unary(Unary::Cos) => 9,
        Op::Silu => 10,
        Op::Gelu(Approximate::None) => 11,
        Op::Gelu(Approximate::Tanh) => 12,
        Op::Gelu(Approximate::Sigmoid) => 13,
        Op::Cast(ElementType::F16 | ElementType::F32) => 14,
        _ => return None,
    })
}

impl FusedElementwise {
    /// Operations on halves, each with the next operand if it takes two.
    pub fn of(ops: &[Op]) -> Self {
        let mut inputs = 1;
        let links = ops.iter().map(|op| {
            let other = matches!(op, Op::Binary(_)).then_some(inputs);
            inputs += usize::from(other.is_some());
            ElementwiseOp {
                op: op.clone(),
                other,
                reversed: false,
                element: ElementType::F16,
            }
        });
        Self {
            links: links.collect(),
        }
    }

    pub fn run(&self, operands: &Operands<'_>) -> OpResult<Value> {
        let inputs = (0..operands.operands.len()).map(|i| operands.view(i));
        let inputs = inputs.collect::<OpResult<Vec<_>>>()?;
        match self.run_fused(operands.backend.device(), &inputs)? {
            Some(out) => Ok(Value::from(out)),
            None => self.run_unfused(operands),
        }
    }

    fn run_unfused(&self, operands: &Operands<'_>) -> OpResult<Value> {
        let mut value = operands.at(0)?.clone();
        for link in &self.links {
            let other = link.other.map(|at| operands.at(at)).transpose()?;
            let pair = match other {
                None => vec![&value],
                Some(other) if link.reversed => vec![other, &value],
                Some(other) => vec![&value, other],
            };
            value = link.op.run(operands.backend, &pair)?;
        }
        Ok(value)
    }

    fn run_fused(&self, device: &Device, inputs: &[DeviceTensor]) -> OpResult<Option<Tensor>> {
        let (Some(cuda), Some(last)) = (CudaContext::of(device)?, self.links.last()) else {
            return Ok(None);
        };
        if inputs.len() > MAX_INPUTS || self.links.len() > MAX_OPS {
            return Ok(None);
        }
        let mut dims = Vec::new();
        for input in inputs {
            dims = broadcast(&dims, input.dims())?;
        }
        let count: usize = dims.iter().product();
        let (mut pointers, mut half_input, mut strides) =
            ([0; MAX_INPUTS], [0; MAX_INPUTS], Vec::new());
        for (index, input) in inputs.iter().enumerate() {
            let view = input.broadcast_as(&dims)?;
            let Some(view) = cuda.float_view(view.queued()) else {
                return Ok(None);
            };
            pointers[index] = view.pointer;
            half_input[index] = u8::from(view.half);
            strides.push(view.strides);
        }
        let mut axes = axes(&dims, &strides);
        let wide = by_eight(&mut axes, &pointers);
        let items: usize = axes.iter().map(|(extent, _)| extent).product();
        let (Some((extents, strides)), Ok(int)) = (axis_args(&axes), i32::try_from(items)) else {
            return Ok(None);
        };
        if count == 0 {
            return Ok(None);
        }
        let half_out = last.element == ElementType::F16;
        let mut args = ElementwiseArgs {
            inputs: pointers,
            out: 0,
            extents,
            strides,
            half_input,
            links: [ElementwiseOpArgs::default(); MAX_OPS],
            padding: 0,
            count: int,
            links_count: self.links.len() as i32,
            half_out: i32::from(half_out),
        };
        for (link, args) in self.links.iter().zip(&mut args.links) {
            let Some(code) = code(&link.op) else {
                return refuse(format!("{:?} is no link of a chain", link.op));
            };
            *args = ElementwiseOpArgs {
                code,
                input: link.other.unwrap_or(0) as u8,
                reversed: u8::from(link.reversed),
                half_result: u8::from(link.element == ElementType::F16),
            };
        }
        let out = match half_out {
            true => {
                let (out, pointer) = cuda.alloc_output(&dims)?;
                args.out = pointer;
                out
            }
            false => {
                let out = cuda.alloc_uninit(count)?;
                args.out = cuda.pointer(&out);
                cuda.tensor(CudaStorageSlice::F32(out), dims)
            }
        };
        let kernel = match wide {
            true => Kernel::Elementwise8,
            false => Kernel::Elementwise1,
        };
        let blocks = items.div_ceil(THREADS).min(BLOCKS * cuda.multiprocessors);
        // SAFETY: the views have been broadcast to the extents of the result.
        unsafe { cuda.launch(kernel, [blocks, 1, 1], THREADS, 0, &args)? };
        Ok(Some(out))
    }
}
