//! Elementwise operations, one after the other, whose intermediate results stay
//! in registers.

use aimodel::{Approximate, ElementType};
use candle_core::{Device, Tensor, cuda_backend::CudaStorageSlice};

use super::{BLOCKS, CudaContext, Kernel, RANK, THREADS, axes, axis_args, by_eight};
use crate::{
    backend::DeviceTensor,
    error::{OpResult, refuse},
    ops::{Binary, Op, Operands, Unary},
    value::{Value, broadcast},
};

/// The maximum number of inputs, and of operations; the same as in `kernels/`.
pub(super) const MAX_INPUTS: usize = 6;
pub(super) const MAX_OPS: usize = 12;

/// One operation, on the result of the one before it.
#[derive(Clone, Debug)]
pub(crate) struct ElementwiseOp {
    pub op: Op,
    /// The other operand, by its position among the inputs.
    pub other: Option<usize>,
    /// Whether the other operand comes first.
    pub reversed: bool,
    /// The element type of the result.
    pub element: ElementType,
}

/// Operations of which the first takes the first input.
#[derive(Clone, Debug)]
pub(crate) struct FusedElementwise {
    pub ops: Vec<ElementwiseOp>,
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
    ops: [ElementwiseOpArgs; MAX_OPS],
    padding: u16,
    count: i32,
    ops_count: i32,
    half_out: i32,
}

/// The number of an operation in `kernels/`, if it can be fused.
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
    /// Operations on f16. Those with two operands take the next input.
    pub fn of(ops: &[Op]) -> Self {
        let mut inputs = 1;
        let ops = ops.iter().map(|op| {
            let other = matches!(op, Op::Binary(_)).then_some(inputs);
            inputs += usize::from(other.is_some());
            ElementwiseOp {
                op: op.clone(),
                other,
                reversed: false,
                element: ElementType::F16,
            }
        });
        Self { ops: ops.collect() }
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
        for operation in &self.ops {
            let other = operation.other.map(|at| operands.at(at)).transpose()?;
            let pair = match other {
                None => vec![&value],
                Some(other) if operation.reversed => vec![other, &value],
                Some(other) => vec![&value, other],
            };
            value = operation.op.run(operands.backend, &pair)?;
        }
        Ok(value)
    }

    fn run_fused(&self, device: &Device, inputs: &[DeviceTensor]) -> OpResult<Option<Tensor>> {
        let (Some(cuda), Some(last)) = (CudaContext::of(device)?, self.ops.last()) else {
            return Ok(None);
        };
        if inputs.len() > MAX_INPUTS || self.ops.len() > MAX_OPS {
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
            ops: [ElementwiseOpArgs::default(); MAX_OPS],
            padding: 0,
            count: int,
            ops_count: self.ops.len() as i32,
            half_out: i32::from(half_out),
        };
        for (operation, args) in self.ops.iter().zip(&mut args.ops) {
            let Some(code) = code(&operation.op) else {
                return refuse(format!("{:?} cannot be fused", operation.op));
            };
            *args = ElementwiseOpArgs {
                code,
                input: operation.other.unwrap_or(0) as u8,
                reversed: u8::from(operation.reversed),
                half_result: u8::from(operation.element == ElementType::F16),
            };
        }
        let out = if half_out {
            let (out, pointer) = cuda.alloc_output(&dims)?;
            args.out = pointer;
            out
        } else {
            let out = cuda.alloc_uninit(count)?;
            args.out = cuda.pointer(&out);
            cuda.tensor(CudaStorageSlice::F32(out), dims)
        };
        let kernel = if wide {
            Kernel::Elementwise8
        } else {
            Kernel::Elementwise1
        };
        let blocks = items.div_ceil(THREADS).min(BLOCKS * cuda.multiprocessors);
        // SAFETY: the views were broadcast to the extents of the result, which
        // has `count` elements.
        unsafe { cuda.launch(kernel, [blocks, 1, 1], THREADS, 0, &args)? };
        Ok(Some(out))
    }
}
