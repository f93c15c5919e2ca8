//! Why the engine offers the raw observed address itself.

use std::collections::HashSet;

use futures::StreamExt;
use libp2p::{
    Multiaddr, Swarm, SwarmBuilder, identify,
    multiaddr::Protocol,
    noise,
    swarm::{SwarmEvent, dial_opts::DialOpts},
    tcp, yamux,
};

use crate::world::{TCP, within};

/// A stock libp2p node with identify that listens on loopback; its listen address.
async fn stock() -> (Swarm<identify::Behaviour>, Multiaddr) {
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|keypair| {
            identify::Behaviour::new(identify::Config::new("/test/1".to_owned(), keypair.public()))
        })
        .unwrap()
        .build();
    swarm.listen_on(TCP.parse().unwrap()).unwrap();
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            return (swarm, address);
        }
    }
}

fn port(address: &Multiaddr) -> Option<u16> {
    address.iter().find_map(|part| match part {
        Protocol::Tcp(port) => Some(port),
        _ => None,
    })
}

/// A dial from a new port is what a NAT that changes ports looks like to the other side.
#[tokio::test]
async fn the_published_identify_replaces_the_observed_port_by_the_listen_port() {
    let (mut far, far_address) = stock().await;
    let (mut near, near_address) = stock().await;
    let far_id = *far.local_peer_id();
    tokio::spawn(async move { while far.next().await.is_some() {} });
    let opts = DialOpts::peer_id(far_id).addresses(vec![far_address]).allocate_new_port().build();
    near.dial(opts).unwrap();
    let (mut observed, mut candidates) = (None, HashSet::new());
    within("an observation and a candidate", async {
        while observed.is_none() || candidates.is_empty() {
            match near.select_next_some().await {
                SwarmEvent::Behaviour(identify::Event::Received { info, .. }) => {
                    observed = port(&info.observed_addr);
                }
                SwarmEvent::NewExternalAddrCandidate { address } => {
                    candidates.insert(port(&address));
                }
                _ => {}
            }
        }
    })
    .await;
    let listening = port(&near_address);
    assert_ne!(observed, listening);
    assert_eq!(candidates, HashSet::from([listening]), "the port that was observed is lost");
}
