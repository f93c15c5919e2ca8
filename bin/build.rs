//! Compiles the load service in Rust: no protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(["load.proto"], ["proto"])?;
    Ok(tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?)
}
