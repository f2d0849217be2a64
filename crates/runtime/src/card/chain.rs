//! Operations element by element, one after the other, without their
//! intermediate results in memory.

use aimodel::{Approximate, ElementType};
use candle_core::{DType, Device, Tensor, cuda_backend::CudaStorageSlice};

use super::{Card, Kernel, THREADS};
use crate::{
    error::{OpResult, refuse},
    ops::{Binary, Op, Operands, Unary},
    value::{Value, broadcast},
};

/// The most inputs, operations and axes; the same as in `kernels.cu`.
pub(super) const INPUTS: usize = 6;
pub(super) const LINKS: usize = 12;
const RANK: usize = 5;
/// Blocks for each processor, where there is more to do.
const BLOCKS: usize = 16;

/// One operation of a chain, on what the one before it gives.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub op: Op,
    /// The other operand, by its place among those of the chain.
    pub other: Option<usize>,
    /// Whether the other operand comes first.
    pub turned: bool,
    /// What the result is made of.
    pub element: ElementType,
}

/// A chain begins with its first operand.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    pub links: Vec<Link>,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct LinkArgs {
    code: u8,
    input: u8,
    turned: u8,
    half_result: u8,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct ChainArgs {
    inputs: [u64; INPUTS],
    out: u64,
    extents: [i32; RANK],
    strides: [[i32; RANK]; INPUTS],
    half_input: [u8; INPUTS],
    links: [LinkArgs; LINKS],
    count: i32,
    inputs_count: i32,
    links_count: i32,
    half_out: i32,
}

/// The number of an operation in `kernels.cu`, if a chain may have it.
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

impl Chain {
    pub fn run(&self, operands: &Operands<'_>) -> OpResult<Value> {
        let inputs = (0..operands.operands.len()).map(|i| operands.float(i));
        let inputs = inputs.collect::<OpResult<Vec<_>>>()?;
        match self.at_once(operands.device, &inputs)? {
            Some(out) => Ok(Value::Float(out)),
            None => self.one_by_one(operands),
        }
    }

    fn one_by_one(&self, operands: &Operands<'_>) -> OpResult<Value> {
        let mut value = operands.at(0)?.clone();
        for link in &self.links {
            let other = link.other.map(|at| operands.at(at)).transpose()?;
            let pair = match other {
                None => vec![&value],
                Some(other) if link.turned => vec![other, &value],
                Some(other) => vec![&value, other],
            };
            value = link.op.run(operands.device, &pair)?;
        }
        Ok(value)
    }

    fn at_once(&self, device: &Device, inputs: &[Tensor]) -> OpResult<Option<Tensor>> {
        let (Some(card), Some(last)) = (Card::of(device)?, self.links.last()) else {
            return Ok(None);
        };
        if inputs.len() > INPUTS || self.links.len() > LINKS {
            return Ok(None);
        }
        let mut dims = Vec::new();
        for input in inputs {
            dims = broadcast(&dims, input.dims())?;
        }
        let count: usize = dims.iter().product();
        let half_out = last.element == ElementType::F16;
        let mut args = ChainArgs {
            inputs: [0; INPUTS],
            out: 0,
            extents: [1; RANK],
            strides: [[0; RANK]; INPUTS],
            half_input: [0; INPUTS],
            links: [LinkArgs::default(); LINKS],
            count: i32::try_from(count).unwrap_or(0),
            inputs_count: inputs.len() as i32,
            links_count: self.links.len() as i32,
            half_out: i32::from(half_out),
        };
        let mut strides = Vec::new();
        for (index, input) in inputs.iter().enumerate() {
            let view = input.broadcast_as(&*dims)?;
            let Some(place) = card.any_place(&view) else {
                return Ok(None);
            };
            args.inputs[index] = place.pointer;
            args.half_input[index] = u8::from(place.half);
            strides.push(place.strides);
        }
        let axes = axes(&dims, &strides);
        if args.count == 0 || axes.len() > RANK {
            return Ok(None);
        }
        for (at, (extent, steps)) in (RANK - axes.len()..).zip(&axes) {
            args.extents[at] = *extent as i32;
            for (own, step) in args.strides.iter_mut().zip(steps) {
                match i32::try_from(*step) {
                    Ok(step) => own[at] = step,
                    Err(_) => return Ok(None),
                }
            }
        }
        for (link, args) in self.links.iter().zip(&mut args.links) {
            let Some(code) = code(&link.op) else {
                return refuse(format!("{:?} is no link of a chain", link.op));
            };
            *args = LinkArgs {
                code,
                input: link.other.unwrap_or(0) as u8,
                turned: u8::from(link.turned),
                half_result: u8::from(link.element == ElementType::F16),
            };
        }
        let out = match half_out {
            true => {
                let out = card.room(count)?;
                args.out = card.pointer(&out);
                CudaStorageSlice::F16(out)
            }
            false => {
                let out = card.room(count)?;
                args.out = card.pointer(&out);
                CudaStorageSlice::F32(out)
            }
        };
        let blocks = count.div_ceil(THREADS).min(BLOCKS * card.processors);
        // SAFETY: the views have been broadcast to the extents of the result.
        unsafe { card.launch(Kernel::Chain, [blocks, 1, 1], THREADS, 0, &args)? };
        let out = card.tensor(out, dims);
        debug_assert!(matches!(out.dtype(), DType::F16 | DType::F32));
        Ok(Some(out))
    }
}

/// Extents and the steps of each input along them, outermost first, with axes
/// put together that are one in all inputs.
fn axes(dims: &[usize], strides: &[Vec<usize>]) -> Vec<(usize, Vec<usize>)> {
    let mut axes: Vec<(usize, Vec<usize>)> = Vec::new();
    for (axis, &extent) in dims.iter().enumerate() {
        if extent == 1 {
            continue;
        }
        let steps: Vec<usize> = strides.iter().map(|own| own[axis]).collect();
        if let Some((outer, outer_steps)) = axes.last_mut() {
            let mut pairs = outer_steps.iter().zip(&steps);
            if pairs.all(|(outer, inner)| *outer == inner * extent) {
                (*outer, *outer_steps) = (*outer * extent, steps);
                continue;
            }
        }
        axes.push((extent, steps));
    }
    axes
}
