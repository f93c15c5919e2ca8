//! Compiles the service in Rust: no protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=greeter.proto");
    let descriptors = protox::compile(["greeter.proto"], ["."])?;
    Ok(tonic_prost_build::configure().compile_fds(descriptors)?)
}
