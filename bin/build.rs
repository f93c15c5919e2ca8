//! Compiles the services in Rust: no protoc.

use std::{env, fs, path::Path};

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(["load.proto", "node.proto"], ["proto"])?;
    // For whoever asks a node which services it has, and for JSON.
    let control = protox::compile(["node.proto"], ["proto"])?;
    let out = env::var_os("OUT_DIR").ok_or("cargo did not say where to write")?;
    fs::write(Path::new(&out).join("node.bin"), control.encode_to_vec())?;
    // A relay does not answer all that a node does.
    Ok(tonic_prost_build::configure()
        .bytes(".")
        .generate_default_stubs(true)
        .compile_fds(descriptors)?)
}
