//! The operations: their names in a file, and what they compute.

mod arith;
mod composite;
mod gather;
mod matmul;
mod operands;
mod reduce;
mod shape;
mod window;

use std::sync::Arc;

use aimodel::{Approximate, ElementType, PaddingMode};

use crate::{
    backend::{Backend, FusedOp},
    error::{OpResult, refuse},
    options::Accumulate,
    value::Value,
};

pub(crate) use arith::{Binary, Unary};
pub(crate) use composite::{Angles, Composite};
pub(crate) use matmul::dequantize;
pub(crate) use operands::Operands;
pub(crate) use reduce::Reduce;
pub(crate) use shape::{Bounds, bounds, write_slice};

/// One operation.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Binary(Binary),
    Unary(Unary),
    Not,
    Where,
    Cast(ElementType),
    Gelu(Approximate),
    Silu,
    Softmax,
    Reduce(Reduce),
    MatMul(Accumulate),
    BlockwiseShiftScale,
    GetShape,
    Reshape,
    Transpose,
    Slice,
    SliceUpdate,
    Concat,
    ExpandDims,
    ShrinkDims,
    BroadcastTo,
    BroadcastInDims,
    BroadcastShapes,
    Range,
    Pad(PaddingMode),
    Tile,
    Convolve,
    GatherNd,
    GatherAlongAxis,
    CreateToken,
    ReadHandle,
    WriteHandle,
    /// A slice update of a state in place; the slot of its handle.
    UpdateHandle(usize),
    /// Runs another graph.
    Invoke(usize),
    /// A composite graph, computed directly.
    Composite(Arc<Composite>),
    /// Several operations that a backend computes as one.
    Fused(Arc<dyn FusedOp>),
}

impl Op {
    /// The operation of a stored name, where it has no attributes.
    pub fn by_name(name: &str) -> Option<Self> {
        let plain = name
            .strip_prefix("primitive.")
            .or_else(|| name.strip_prefix("decomposable."))
            .or_else(|| name.strip_prefix("dataflow."))
            .unwrap_or(name);
        let plain = plain.strip_prefix("broadcasting_").unwrap_or(plain);
        let mut named = Self::named().into_iter();
        named.find_map(|(name, op)| (name == plain).then_some(op))
    }

    /// The operations that have no attributes, by their stored names without
    /// the prefix.
    fn named() -> [(&'static str, Self); 41] {
        [
            ("add_v1", Self::Binary(Binary::Add)),
            ("sub_v1", Self::Binary(Binary::Sub)),
            ("mul_v1", Self::Binary(Binary::Mul)),
            ("divide_v1", Self::Binary(Binary::Divide)),
            ("floor_divide_v1", Self::Binary(Binary::FloorDivide)),
            ("maximum_v1", Self::Binary(Binary::Maximum)),
            ("minimum_v1", Self::Binary(Binary::Minimum)),
            ("greater_v1", Self::Binary(Binary::Greater)),
            ("rsqrt_v1", Self::Unary(Unary::Rsqrt)),
            ("exp_v1", Self::Unary(Unary::Exp)),
            ("sin_v1", Self::Unary(Unary::Sin)),
            ("cos_v1", Self::Unary(Unary::Cos)),
            ("not_v1", Self::Not),
            ("where_v1", Self::Where),
            ("silu_v1", Self::Silu),
            ("softmax_v1", Self::Softmax),
            ("reduce_mean_v1", Self::Reduce(Reduce::Mean)),
            ("reduce_sum_v1", Self::Reduce(Reduce::Sum)),
            ("reduce_product_v1", Self::Reduce(Reduce::Product)),
            ("batch_matmul_v1", Self::MatMul(Accumulate::F32)),
            ("transpose_v1", Self::Transpose),
            ("slice_v1", Self::Slice),
            ("slice_update_v1", Self::SliceUpdate),
            ("concat_v1", Self::Concat),
            ("expand_dims_v1", Self::ExpandDims),
            ("shrink_dims_v1", Self::ShrinkDims),
            ("broadcast_to_v1", Self::BroadcastTo),
            ("broadcast_in_dims_v1", Self::BroadcastInDims),
            ("broadcast_shapes_v1", Self::BroadcastShapes),
            ("range_v1", Self::Range),
            ("tile_v2", Self::Tile),
            ("conv2d_v1", Self::Convolve),
            ("conv3d_v1", Self::Convolve),
            ("gather_nd_v1", Self::GatherNd),
            ("gather_along_axis_v1", Self::GatherAlongAxis),
            ("create_token_v1", Self::CreateToken),
            ("read_handle_v1", Self::ReadHandle),
            ("write_handle_v1", Self::WriteHandle),
            ("reshape_v2", Self::Reshape),
            ("get_shape_v2", Self::GetShape),
            ("blockwise_shift_scale_v2", Self::BlockwiseShiftScale),
        ]
    }

    /// Whether the result may be a view of an operand.
    pub fn may_share(&self) -> bool {
        matches!(
            self,
            Self::Reshape
                | Self::Transpose
                | Self::Slice
                | Self::ExpandDims
                | Self::ShrinkDims
                | Self::BroadcastTo
                | Self::BroadcastInDims
                | Self::Cast(_)
                | Self::Concat
                | Self::Pad(_)
                | Self::Tile
                | Self::Where
                | Self::Invoke(_)
        )
    }

    /// Computes it, where it has one result and no state.
    pub fn run(&self, backend: &dyn Backend, operands: &[&Value]) -> OpResult<Value> {
        let context = Operands { backend, operands };
        match self {
            Self::Binary(op) => arith::binary(*op, &context),
            Self::Unary(op) => arith::unary(*op, &context),
            Self::Not => arith::not(&context),
            Self::Where => arith::select(&context),
            Self::Cast(element) => arith::cast(*element, &context),
            Self::Gelu(approximate) => arith::gelu(*approximate, &context),
            Self::Silu => arith::silu(&context),
            Self::Softmax => reduce::softmax(&context),
            Self::Reduce(op) => reduce::reduce(*op, &context),
            Self::MatMul(how) => matmul::batch_matmul(*how, &context),
            Self::BlockwiseShiftScale => matmul::blockwise_shift_scale(&context),
            Self::GetShape => shape::get_shape(&context),
            Self::Reshape => shape::reshape(&context),
            Self::Transpose => shape::transpose(&context),
            Self::Slice => shape::slice(&context),
            Self::SliceUpdate => shape::slice_update(&context),
            Self::Concat => shape::concat(&context),
            Self::ExpandDims => shape::expand_dims(&context),
            Self::ShrinkDims => shape::shrink_dims(&context),
            Self::BroadcastTo => shape::broadcast_to(&context),
            Self::BroadcastInDims => shape::broadcast_in_dims(&context),
            Self::BroadcastShapes => shape::broadcast_shapes(&context),
            Self::Range => shape::range(&context),
            Self::Pad(mode) => window::pad(*mode, &context),
            Self::Tile => window::tile(&context),
            Self::Convolve => window::convolve(&context),
            Self::GatherNd => gather::gather_nd(&context),
            Self::GatherAlongAxis => gather::gather_along_axis(&context),
            Self::CreateToken => Ok(Value::Token),
            Self::Composite(composite) => composite.run(&context),
            Self::Fused(fused) => fused.run(&context),
            Self::ReadHandle | Self::WriteHandle | Self::UpdateHandle(_) | Self::Invoke(_) => {
                refuse("it needs the states or the graphs of a call")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, path::Path};

    /// What the fixture cannot hold, and why.
    const NOT_RECORDED: &[(&str, &str)] = &[
        (
            "broadcast_to_v1",
            "the library stores it within decompositions, which do not run; its cases \
             `broadcast_to_*` are stored as `broadcast_in_dims`",
        ),
        (
            "broadcast_shapes_v1",
            "the library stores it within decompositions, which do not run",
        ),
        (
            "create_token_v1",
            "only beside states, and a case is one call without any",
        ),
        (
            "read_handle_v1",
            "as create_token_v1; engine/tests/nano.rs runs states",
        ),
        (
            "write_handle_v1",
            "as create_token_v1; engine/tests/nano.rs runs states",
        ),
    ];

    /// `tests/ops.rs` compares what the fixture has with Core AI's runtime. An
    /// operation that it does not have is compared with nothing.
    #[test]
    fn every_operation_is_recorded() {
        let asset = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/ops.aimodel");
        let asset = aimodel::open_asset(asset).unwrap();
        let mut recorded = BTreeSet::new();
        for view in aimodel::graphs(&asset.module).unwrap() {
            for op in view.operations() {
                let name = view.op_name(op).unwrap();
                let plain = name.strip_prefix("primitive.").unwrap_or(name);
                let plain = plain.strip_prefix("broadcasting_").unwrap_or(plain);
                recorded.insert(plain.to_owned());
            }
        }
        let with_attributes = ["cast_v1", "gelu_v1", "pad_v1"];
        let names = Op::named().map(|(name, _)| name);
        let excepted = |name: &str| NOT_RECORDED.iter().any(|(one, _)| *one == name);
        let wrong: Vec<&str> = names
            .into_iter()
            .chain(with_attributes)
            .filter(|name| recorded.contains(*name) == excepted(name))
            .collect();
        assert!(
            wrong.is_empty(),
            "{wrong:?}: add cases to conformance/make_op_cases.py and record them, or name the \
             operations in NOT_RECORDED with the reason; those that are recorded are not in it"
        );
    }
}
