//! Compiles the bench's service, as the workspace of the tests does.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=../proto/bench.proto");
    let bench = protox::compile(["bench.proto"], ["../proto"])?;
    tonic_prost_build::configure().bytes(".bench").compile_fds(bench)?;
    Ok(())
}
