//! Compiles the two `.proto` files in Rust: whoever builds this needs no protoc.

use std::{error::Error, fs, path::PathBuf};

use tonic_prost_build::Config;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).open_files(["messages.proto"])?;
    let descriptor = PathBuf::from(std::env::var("OUT_DIR")?).join("protowire_descriptor.bin");
    fs::write(descriptor, compiler.encode_file_descriptor_set())?;
    // Fields of type `bytes` become `bytes::Bytes`: decoding a hash or an opaque member
    // then shares the receive buffer and copies nothing.
    tonic_prost_build::configure()
        .bytes(".")
        .compile_fds_with_config(compiler.file_descriptor_set(), Config::new())?;
    Ok(())
}
