//! Has the GPU's kernels compiled, where a feature asks for them.

fn main() {
    println!("cargo::rerun-if-changed=src/candle/gpu/kernels");
    #[cfg(feature = "cuda")]
    cuda();
    #[cfg(feature = "cuda-emulated")]
    emulated();
}

/// With `nvcc`, to PTX for the GPU that `CUDA_COMPUTE_CAP` or `nvidia-smi` says.
#[cfg(feature = "cuda")]
fn cuda() {
    let to = std::path::PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it"));
    let compiled = cudaforge::KernelBuilder::new()
        .source_files(["src/candle/gpu/kernels/kernels.cu"])
        .arg("-std=c++17")
        .arg("-O3")
        .build_ptx()
        .expect("nvcc compiles the kernels");
    compiled
        .write(to.join("kernels.rs"))
        .expect("OUT_DIR is writable");
}

/// With the host's C++ compiler.
#[cfg(feature = "cuda-emulated")]
fn emulated() {
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .define("VLMBENCH_EMULATED", None)
        .flag("-Wno-unknown-pragmas")
        .opt_level(2)
        .file("src/candle/gpu/kernels/emulator.cpp")
        .compile("vlmbench-emulated");
}
