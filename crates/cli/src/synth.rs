//! `synth`: a checkpoint with random weights from a fixed seed.

use crate::progress::{self, Progress};
use anyhow::{Result, bail};
use models::qwen3_vl::Config;
use models::qwen3_vl::synth;
use models::qwen3_vl::synth::Options;
use std::path::{Path, PathBuf};

/// Flags of `synth`.
#[derive(clap::Args)]
pub struct Args {
    /// nano, 2b, 4b or 8b, or the path of a config.json
    shape: String,
    /// The folder to write; it must not exist yet
    #[arg(long)]
    out: PathBuf,
    /// The largest file, in bytes; more weights go into another one
    #[arg(long)]
    shard_bytes: Option<usize>,
}

/// Writes the checkpoint.
pub fn run(args: Args) -> Result<()> {
    let config = config(&args.shape)?;
    let mut options = Options::default();
    if let Some(bytes) = args.shard_bytes {
        options = options.shard_bytes(bytes);
    }
    let progress = Progress::new(format!("synth {}", args.shape));
    let mut written = 0;
    synth::write(&config, &args.out, options, |done, total| {
        written = total;
        progress.at(done, total);
    })?;
    let took = progress.finish();
    progress::print(&format!(
        "{}: {} of weights in {}\n",
        args.out.display(),
        progress::size(written),
        progress::seconds(took)
    ))?;
    Ok(())
}

/// The largest `config.json` that is read, in bytes.
const MAX_CONFIG: u64 = 1 << 20;

fn config(shape: &str) -> Result<Config> {
    if let Some(config) = Config::preset(shape) {
        return Ok(config);
    }
    if !Path::new(shape).is_file() {
        bail!("{shape}: expected nano, 2b, 4b, 8b, or the path of a config.json");
    }
    let json = fsutil::read(Path::new(shape), MAX_CONFIG)?;
    Ok(Config::parse(&json, shape)?)
}
