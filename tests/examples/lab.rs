//! A lab to walk into: two private machines behind NATs and a relay's machine, until this program is ended.
//!
//! `cargo run -p punchline-tests --example lab` as root; `changing` for each router that is to change ports:
//! `… --example lab -- preserving changing`.

#![allow(clippy::print_stdout)]

use anyhow::{Context as _, Result, bail};
use punchline_tests::lab::{Lab, LabSpec, Nat, capability};

/// The public ports of routers that change them.
const CHANGED_PORT: u16 = 35_000;

#[tokio::main]
async fn main() -> Result<()> {
    capability()?;
    let named: Vec<String> = std::env::args().skip(1).collect();
    let nats = named.iter().map(|name| nat(name)).collect::<Result<Vec<_>>>()?;
    let nats = if nats.is_empty() { vec![Nat::PortPreserving; 2] } else { nats };
    let lab = Lab::build(&LabSpec::new(nats.iter().copied()))?;
    println!("relay: {}, enter it with: ip netns exec {} sh", lab.relay().address(), lab.relay().name());
    for (index, nat) in nats.iter().enumerate() {
        let (host, router) = (lab.host(index), lab.router(index));
        println!("host {index}: {}, behind {} ({nat:?})", host.address(), router.address());
        println!("  enter it with: ip netns exec {} sh", host.name());
        println!("  its router with: ip netns exec {} sh", router.name());
    }
    println!("Ctrl-C takes it all down");
    tokio::signal::ctrl_c().await.context("cannot wait for Ctrl-C")?;
    Ok(())
}

fn nat(name: &str) -> Result<Nat> {
    match name {
        "preserving" => Ok(Nat::PortPreserving),
        "changing" => Ok(Nat::PortChanging { port: CHANGED_PORT }),
        _ => bail!("`{name}` is no NAT; say preserving or changing, once for each router"),
    }
}
