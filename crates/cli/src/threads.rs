//! How many threads the runtime computes with.

use std::env;

use anyhow::{Context, Result};
use runtime::ThreadPool;

/// Names the number; without it there are as many as the machine has CPUs.
const VARIABLE: &str = "AIMODEL_THREADS";

/// Sizes the runtime's thread pool as the environment says, before anything
/// uses it.
pub fn set() -> Result<()> {
    let Some(text) = env::var_os(VARIABLE).filter(|text| !text.is_empty()) else {
        return Ok(());
    };
    let threads = text.to_str().and_then(|text| text.parse().ok());
    let threads = threads.filter(|threads: &usize| *threads > 0);
    let threads = threads
        .with_context(|| format!("{VARIABLE} is {text:?}, expected a number of at least 1"))?;
    // False where the pool was running already, which nothing has started yet.
    let _ = ThreadPool::init_global(threads);
    Ok(())
}
