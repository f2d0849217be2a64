//! What executes an exported model.

use anyhow::Result;
use clap::ValueEnum;
use runtime::candle_core;

/// What a `--device` argument names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Device {
    /// The CPU
    Cpu,
    /// An NVIDIA GPU, in a build with the feature cuda
    Cuda,
    /// A Mac's GPU, in a build with the feature metal
    Metal,
}

impl Device {
    /// The device, ready to be used.
    pub fn open(self) -> Result<candle_core::Device> {
        match self {
            Device::Cpu => Ok(candle_core::Device::Cpu),
            #[cfg(feature = "cuda")]
            Device::Cuda => {
                use anyhow::Context;
                runtime::cuda(0).context("the first CUDA device cannot be used")
            }
            #[cfg(feature = "metal")]
            Device::Metal => {
                use anyhow::Context;
                candle_core::Device::new_metal(0).context("the Mac's GPU cannot be used")
            }
            #[allow(unreachable_patterns)]
            other => anyhow::bail!(
                "--device {other}: this build has no {other}; {}",
                crate::call::build_with(&other.to_string())
            ),
        }
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Device::Cpu => "cpu",
            Device::Cuda => "cuda",
            Device::Metal => "metal",
        })
    }
}
