//! The loops that the processor spends its time in.
//!
//! Each is written once, over sixteen lanes (`lanes.rs`), and compiled for
//! each set of instructions that a processor may have. Sums run in a fixed
//! order, so that a result is the same however wide the vectors are and
//! however many threads there are.

mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod dot;
mod elementwise;
mod fixed;
mod halves;
mod lanes;
mod rows;
mod scalar;
#[cfg(test)]
mod tests;
mod tile;

pub(crate) use attention::{AttentionShape, Cache, attention};
pub(crate) use elementwise::{Pairwise, binary, norm, rotate, silu, to_halves, to_single};
pub(crate) use halves::multiply_halves;
pub(crate) use rows::Rows;
