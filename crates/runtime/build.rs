//! Compiles the kernels for a card, where they are asked for.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "cuda")]
    kernels();
}

/// Each file of `card/kernels` becomes PTX in a constant of `ptx.rs`.
#[cfg(feature = "cuda")]
fn kernels() {
    const FOLDER: &str = "src/card/kernels";
    println!("cargo::rerun-if-changed={FOLDER}");
    println!("cargo::rerun-if-env-changed=CUDA_COMPUTE_CAP");
    let out = std::env::var_os("OUT_DIR").map(std::path::PathBuf::from);
    let Some(out) = out else {
        panic!("cargo sets OUT_DIR")
    };
    let built = cudaforge::KernelBuilder::new()
        .source_dir(FOLDER)
        .arg("-std=c++17")
        .arg("-O3")
        .build_ptx()
        .and_then(|output| output.write(out.join("ptx.rs")));
    if let Err(error) = built {
        panic!("{FOLDER} was not compiled: {error}; the feature `cuda` needs nvcc on the PATH");
    }
}
