//! Stands for the CUDA backend where the crate is built without it.

use std::sync::Arc;

use candle_core::{Device, Tensor};

use super::Backend;
use crate::error::OpResult;

/// Nothing is collected.
pub(crate) fn flush() -> OpResult<()> {
    Ok(())
}

pub(crate) fn backend(_device: &Device) -> OpResult<Option<Arc<dyn Backend>>> {
    Ok(None)
}

pub(crate) fn prepare(_device: &Device) {}

pub(crate) fn argmax(_values: &Tensor) -> OpResult<Option<u32>> {
    Ok(None)
}
