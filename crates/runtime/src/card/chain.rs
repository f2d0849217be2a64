//! Operations element by element, one after the other, without their
//! intermediate results in memory.

use aimodel::{Approximate, ElementType};
use candle_core::{Device, Tensor, cuda_backend::CudaStorageSlice};

use super::{BLOCKS, Card, Kernel, RANK, THREADS, axes, axis_args, by_eight, flush, parameters};
use crate::{
    error::{OpResult, refuse},
    ops::{Binary, Op, Operands, Unary},
    value::{Value, broadcast},
};

/// The most inputs and operations; the same as in `kernels/`.
pub(super) const INPUTS: usize = 6;
pub(super) const LINKS: usize = 12;

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
    gap: u16,
    count: i32,
    links_count: i32,
    half_out: i32,
}

parameters!(ChainArgs);

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

impl Chain {
    /// Operations on halves, each with the next operand if it takes two.
    pub fn of(ops: &[Op]) -> Self {
        let mut inputs = 1;
        let links = ops.iter().map(|op| {
            let other = matches!(op, Op::Binary(_)).then_some(inputs);
            inputs += usize::from(other.is_some());
            Link {
                op: op.clone(),
                other,
                turned: false,
                element: ElementType::F16,
            }
        });
        Self {
            links: links.collect(),
        }
    }

    pub fn run(&self, operands: &Operands<'_>) -> OpResult<Value> {
        let inputs = (0..operands.operands.len()).map(|i| operands.float(i));
        let inputs = inputs.collect::<OpResult<Vec<_>>>()?;
        match self.at_once(operands.device, &inputs)? {
            Some(out) => Ok(Value::Float(out)),
            None => self.one_by_one(operands),
        }
    }

    fn one_by_one(&self, operands: &Operands<'_>) -> OpResult<Value> {
        flush()?;
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
        let (mut pointers, mut half_input, mut strides) = ([0; INPUTS], [0; INPUTS], Vec::new());
        for (index, input) in inputs.iter().enumerate() {
            let view = input.broadcast_as(&*dims)?;
            let Some(place) = card.any_place(&view) else {
                return Ok(None);
            };
            pointers[index] = place.pointer;
            half_input[index] = u8::from(place.half);
            strides.push(place.strides);
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
        let mut args = ChainArgs {
            inputs: pointers,
            out: 0,
            extents,
            strides,
            half_input,
            links: [LinkArgs::default(); LINKS],
            gap: 0,
            count: int,
            links_count: self.links.len() as i32,
            half_out: i32::from(half_out),
        };
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
                let (out, pointer) = card.result(&dims)?;
                args.out = pointer;
                out
            }
            false => {
                let out = card.room(count)?;
                args.out = card.pointer(&out);
                card.tensor(CudaStorageSlice::F32(out), dims)
            }
        };
        let kernel = match wide {
            true => Kernel::Chain8,
            false => Kernel::Chain1,
        };
        let blocks = items.div_ceil(THREADS).min(BLOCKS * card.processors);
        // SAFETY: the views have been broadcast to the extents of the result.
        unsafe { card.launch(kernel, [blocks, 1, 1], THREADS, 0, &args)? };
        Ok(Some(out))
    }
}
