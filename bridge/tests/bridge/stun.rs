//! What kind of NAT a node is behind: relays answer STUN and say so, nodes ask.

use std::net::{Ipv4Addr, SocketAddr};

use punchline_bridge::{
    Config, Event, Events,
    error::ListenFailure,
    nat::{Filtering, Mapping},
    relay::{RelayConfig, StunListen},
};
use tokio::net::UdpSocket;

use crate::world::{Node, QUIC, RelayNode, TCP, TCP6, config, relay_config, until, within};

/// A relay that answers STUN on loopback.
fn answering(listen: &str, stun: &str) -> RelayConfig {
    RelayConfig { stun: StunListen::At(vec![stun.parse().unwrap()]), ..relay_config(listen) }
}

/// Where a relay answers STUN, and its other port.
pub(crate) async fn listening(events: &mut Events) -> (u16, Option<u16>) {
    until(events, "STUN", |event| match event {
        Event::StunListening { address, other_port } => {
            let port = address.to_string().rsplit('/').next()?.parse().ok()?;
            Some((port, *other_port))
        }
        _ => None,
    })
    .await
}

async fn found(events: &mut Events) -> (Option<Mapping>, Option<Filtering>, u32) {
    until(events, "the kind of NAT", |event| match event {
        Event::NatFound { mapping, filtering: Some(filtering), observers, .. } => {
            Some((*mapping, Some(*filtering), *observers))
        }
        _ => None,
    })
    .await
}

/// On loopback there is no NAT, and what comes from another port is let in.
const OPEN: (Option<Mapping>, Option<Filtering>) =
    (Some(Mapping::None), Some(Filtering::AddressDependent));

#[tokio::test]
async fn a_node_learns_from_its_relay_what_kind_of_nat_it_is_behind() {
    for (listen, stun) in [(TCP, "127.0.0.1:0"), (QUIC, "0.0.0.0:0"), (TCP6, "[::1]:0")] {
        let relay = RelayNode::start(answering(listen, stun)).await;
        let mut node = Node::start(config(listen)).await;
        node.endpoint.reserve(relay.address.clone()).await;
        let (mapping, filtering, _) = found(&mut node.events).await;
        assert_eq!((mapping, filtering), OPEN, "{listen} {stun}");
    }
}

#[tokio::test]
async fn a_node_asks_the_server_that_it_is_given_by_name_without_any_relay() {
    let mut relay = RelayNode::start(answering(TCP, "0.0.0.0:0")).await;
    let (port, _) = listening(&mut relay.events).await;
    let server = format!("stun:localhost:{port}").parse().unwrap();
    let mut node = Node::start(Config { stun_servers: vec![server], ..config(TCP) }).await;
    let (mapping, filtering, _) = found(&mut node.events).await;
    assert_eq!((mapping, filtering), OPEN);
}

/// RFC 8489's Binding request, with a transaction id.
pub(crate) const REQUEST: [u8; 20] =
    [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

#[tokio::test]
async fn an_answer_comes_from_where_it_was_asked_for_and_garbage_gets_none() {
    let mut relay = RelayNode::start(answering(TCP, "0.0.0.0:0")).await;
    let (port, other_port) = listening(&mut relay.events).await;
    let other_port = other_port.unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    // Another address of the relay's host than the one that a route would leave from.
    let relay_at = |port| SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), port));
    let mut other = [&REQUEST[..], &[0, 3, 0, 4, 0, 0, 0, 2]].concat();
    other[3] = 8;
    for (request, asked, answers) in [
        (&REQUEST[..], port, port),
        (&other[..], port, other_port),
        (&REQUEST[..], other_port, other_port),
        (&other[..], other_port, port),
    ] {
        socket.send_to(b"no word of STUN", relay_at(asked)).await.unwrap();
        socket.send_to(&REQUEST[..19], relay_at(asked)).await.unwrap();
        socket.send_to(request, relay_at(asked)).await.unwrap();
        let mut bytes = [0; 1500];
        let (length, from) = within("an answer", socket.recv_from(&mut bytes)).await.unwrap();
        assert_eq!(from, relay_at(answers));
        assert_eq!((&bytes[..2], &bytes[4..20]), (&[1, 1][..], &REQUEST[4..]));
        assert!(length <= 68, "{length} bytes");
    }
}

#[tokio::test]
async fn a_relay_whose_stun_port_is_taken_says_so_once_where_it_was_not_told_to_use_it() {
    let taken = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let given = RelayConfig { stun: StunListen::At(vec![address]), ..relay_config(TCP) };
    let refused =
        punchline_bridge::relay::Relay::start(given, libp2p::identity::Keypair::generate_ed25519());
    assert!(refused.await.is_err(), "an address that was given must work");
    // Whether or not this machine has the port, the second relay cannot have it too.
    let everywhere = || RelayConfig { stun: StunListen::Everywhere, ..relay_config(TCP) };
    let _first = RelayNode::start(everywhere()).await;
    let mut second = RelayNode::start(everywhere()).await;
    let cause = until(&mut second.events, "a failure", |event| match event {
        Event::ListenFailed { address, cause } if address.to_string() == "/ip4/0.0.0.0/udp/3478" => {
            Some(cause.clone())
        }
        _ => None,
    })
    .await;
    assert!(matches!(cause, ListenFailure::InUse { port: 3478, .. }), "{cause}");
    let mut node = Node::start(config(TCP)).await;
    node.reserve(&second.address).await;
}

#[tokio::test]
async fn a_relay_listens_where_it_is_told_also_at_a_port_that_stun_would_take() {
    // Below the ports that a system gives away by itself, at an address that no other test uses.
    let config = answering("/ip4/127.3.4.78/udp/20001/quic-v1", "127.3.4.78:20000");
    let mut relay = RelayNode::start(config).await;
    assert_eq!(relay.relay.listening()[0].to_string(), "/ip4/127.3.4.78/udp/20001/quic-v1");
    let (port, other_port) = listening(&mut relay.events).await;
    assert_eq!(port, 20000);
    assert!(other_port.is_some_and(|other| other != 20001), "{other_port:?}");
}
