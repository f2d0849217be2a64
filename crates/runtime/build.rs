//! Compiles the CUDA kernels, where the feature `cuda` is on.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "cuda")]
    kernels()?;
    Ok(())
}

/// Each file of `backend/cuda/kernels` becomes PTX in a constant of `ptx.rs`.
#[cfg(feature = "cuda")]
fn kernels() -> Result<(), Box<dyn Error>> {
    const FOLDER: &str = "src/backend/cuda/kernels";
    println!("cargo::rerun-if-changed={FOLDER}");
    println!("cargo::rerun-if-env-changed=CUDA_COMPUTE_CAP");
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    let built = cudaforge::KernelBuilder::new()
        .source_dir(FOLDER)
        .arg("-std=c++17")
        .arg("-O3")
        .build_ptx()
        .and_then(|output| output.write(out.join("ptx.rs")));
    built.map_err(|error| {
        format!("{FOLDER} was not compiled: {error}; the feature `cuda` needs nvcc on the PATH")
    })?;
    Ok(())
}
