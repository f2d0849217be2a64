//! What is true: the models in fp32, and what transformers recorded.
//!
//! [`qwen3_vl`] computes the family in fp32 with candle, [`oracle`] reads what
//! transformers computed, and [`cosine`] compares the two.
#![deny(missing_docs)]

mod error;
mod metrics;
pub mod oracle;
pub mod qwen3_vl;

pub use error::Error;
pub use metrics::cosine;
