//! A program of stock libp2p alone that is on a local network: it finds others there by libp2p's mDNS, as they find it.
//! It prints events, one JSON object a line, and goes on until it is killed.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use libp2p::{SwarmBuilder, mdns, noise, swarm::SwarmEvent, tcp, yamux};
use serde_json::{Value, json};

/// The first argument of such a program.
pub(crate) const ARGUMENT: &str = "stock-neighbour";

/// Whether this process is to be one.
pub(crate) fn asked() -> bool {
    std::env::args().nth(1).is_some_and(|first| first == ARGUMENT)
}

pub(crate) fn run() -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().context("no runtime");
    match runtime.and_then(|runtime| runtime.block_on(live())) {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn live() -> Result<std::convert::Infallible> {
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
        .with_behaviour(|keypair| {
            mdns::tokio::Behaviour::new(mdns::Config::default(), keypair.public().to_peer_id())
                .map_err(Into::into)
        })?
        .build();
    swarm.listen_on("/ip4/0.0.0.0/tcp/0".parse()?)?;
    say(json!({ "event": "started", "peer": swarm.local_peer_id().to_string() }));
    loop {
        if let SwarmEvent::Behaviour(mdns::Event::Discovered(found)) = swarm.select_next_some().await {
            for (peer, address) in found {
                let (peer, address) = (peer.to_string(), address.to_string());
                say(json!({ "event": "discovered", "peer": peer, "address": address }));
            }
        }
    }
}

fn say(event: Value) {
    println!("{event}");
}
