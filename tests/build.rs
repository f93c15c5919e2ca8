//! Compiles the tests' own service, and what they say to a kaspad, in Rust: no protoc.

use std::{error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).open_files(["test.proto"])?;
    let descriptor = PathBuf::from(std::env::var("OUT_DIR")?).join("punchline_test_descriptor.bin");
    fs::write(descriptor, compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure().compile_fds(compiler.file_descriptor_set())?;
    // On its own: the tests' server reflects only what it serves.
    let kaspad = protox::compile(["kaspad.proto"], ["proto"])?;
    tonic_prost_build::configure().build_server(false).compile_fds(kaspad)?;
    let bench = protox::compile(["bench.proto"], ["proto"])?;
    tonic_prost_build::configure().bytes(".bench").compile_fds(bench)?;
    Ok(())
}
