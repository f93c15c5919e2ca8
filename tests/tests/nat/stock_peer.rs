//! A program of stock libp2p alone, as its examples combine the behaviours: a client of a relay that lets itself be
//! reached through it, or reaches a peer through it, and leaves the punch to libp2p's dcutr. It prints events, one
//! JSON object a line, and goes on until it is killed.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use futures::StreamExt as _;
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder, dcutr, identify,
    multiaddr::Protocol,
    noise, ping, relay,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use serde_json::{Value, json};

/// The first argument of a stock peer.
pub(crate) const ARGUMENT: &str = "stock-peer";

/// What a stock peer is to do: the relay's address, and the peer that it is to reach through it, if any.
pub(crate) struct Asked {
    relay: String,
    peer: Option<String>,
}

/// What this process is asked by its arguments: `stock-peer RELAY [PEER]`; none if it is to be no stock peer.
pub(crate) fn asked() -> Option<Asked> {
    let mut args = std::env::args().skip(1);
    args.next().filter(|first| first == ARGUMENT)?;
    Some(Asked { relay: args.next().unwrap_or_default(), peer: args.next() })
}

pub(crate) fn run(asked: Asked) -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().context("no runtime");
    match runtime.and_then(|runtime| runtime.block_on(live(asked))) {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

#[derive(NetworkBehaviour)]
struct Stock {
    relay: relay::client::Behaviour,
    ping: ping::Behaviour,
    identify: identify::Behaviour,
    dcutr: dcutr::Behaviour,
}

fn swarm() -> Result<Swarm<Stock>> {
    let swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)?
        .with_quic()
        .with_relay_client(noise::Config::new, yamux::Config::default)?
        .with_behaviour(|keypair, relay| Stock {
            relay,
            ping: ping::Behaviour::default(),
            identify: identify::Behaviour::new(identify::Config::new(
                "/stock/1".to_owned(),
                keypair.public(),
            )),
            dcutr: dcutr::Behaviour::new(keypair.public().to_peer_id()),
        })?;
    Ok(swarm.build())
}

async fn live(asked: Asked) -> Result<std::convert::Infallible> {
    let relay: Multiaddr = asked.relay.parse().context("the relay's address")?;
    let peer: Option<PeerId> = asked.peer.map(|peer| peer.parse()).transpose().context("the peer")?;
    let mut swarm = swarm()?;
    say(json!({ "event": "started", "peer": swarm.local_peer_id().to_string() }));
    for address in ["/ip4/0.0.0.0/udp/0/quic-v1", "/ip4/0.0.0.0/tcp/0"] {
        swarm.listen_on(address.parse()?)?;
    }
    // Of each, loopback and the network.
    for _ in 0..4 {
        until(&mut swarm, |event| matches!(event, SwarmEvent::NewListenAddr { .. })).await?;
    }
    // From this it learns how the relay sees it, which is what it offers for a punch.
    swarm.dial(relay.clone())?;
    until(&mut swarm, |event| {
        matches!(event, SwarmEvent::Behaviour(StockEvent::Identify(identify::Event::Received { .. })))
    })
    .await?;
    let circuit = relay.with(Protocol::P2pCircuit);
    match peer {
        Some(peer) => swarm.dial(circuit.with(Protocol::P2p(peer)))?,
        None => drop(swarm.listen_on(circuit)?),
    }
    loop {
        let event = swarm.select_next_some().await;
        tell(&event);
    }
}

/// Goes on until that has happened, and tells what does.
async fn until(swarm: &mut Swarm<Stock>, is: impl Fn(&SwarmEvent<StockEvent>) -> bool) -> Result<()> {
    loop {
        let event = swarm.select_next_some().await;
        tell(&event);
        if let SwarmEvent::OutgoingConnectionError { error, .. } = &event {
            bail!("the relay cannot be reached: {error}");
        }
        if is(&event) {
            return Ok(());
        }
    }
}

fn tell(event: &SwarmEvent<StockEvent>) {
    let told = match event {
        SwarmEvent::ConnectionEstablished { peer_id, endpoint, .. } => json!({
            "event": "connected",
            "peer": peer_id.to_string(),
            "address": endpoint.get_remote_address().to_string(),
            "relayed": endpoint.is_relayed(),
        }),
        SwarmEvent::Behaviour(StockEvent::Relay(relay::client::Event::ReservationReqAccepted {
            ..
        })) => json!({ "event": "reserved" }),
        SwarmEvent::Behaviour(StockEvent::Dcutr(dcutr::Event { remote_peer_id, result })) => {
            let failure = result.as_ref().err().map(ToString::to_string);
            json!({ "event": "punched", "peer": remote_peer_id.to_string(), "failure": failure })
        }
        other => json!({ "event": "other", "what": format!("{other:?}") }),
    };
    say(told);
}

fn say(event: Value) {
    println!("{event}");
}
