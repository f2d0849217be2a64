//! The loops that the CPU spends its time in.
//!
//! Each is written once, over sixteen lanes (`lanes.rs`), and compiled for
//! each set of instructions that a CPU may have. Sums run in a fixed order, so
//! that a result is the same however wide the vectors are and however many
//! threads there are.

mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod dot;
mod elementwise;
mod f16_matmul;
mod fixed;
mod lanes;
mod level;
mod scalar;
#[cfg(test)]
mod tests;
mod tile;
mod weight_matrix;

pub(crate) use attention::{AttentionShape, Cache, attention};
pub(crate) use elementwise::{Pairwise, binary, norm, rotate, silu, to_f16, to_f32};
pub(crate) use f16_matmul::multiply_f16;
pub(crate) use weight_matrix::WeightMatrix;
