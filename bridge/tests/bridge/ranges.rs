//! Ranges that the operator keeps away, at nodes and relays.

use std::{
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use futures::StreamExt as _;
use libp2p::{
    SwarmBuilder, identify, noise,
    swarm::{SwarmEvent, dial_opts::DialOpts},
    tcp, yamux,
};
use punchline_bridge::{
    Config, Event, Events,
    addr::Ranges,
    config::PortMapping,
    error::{CloseCause, OpenError},
    event::{Asked, LimitOwner},
    relay::{External, RelayConfig, StunListen},
};
use tokio::{io::AsyncReadExt as _, net::UdpSocket};

use crate::{
    stun::{REQUEST, listening},
    world::{
        Node, QUIC, RelayNode, TCP, config, exchange, pair, pair_with, relay_config, service, until,
        within,
    },
};

fn deny(net: &str) -> Ranges {
    Ranges::new(Vec::new(), vec![net.parse().unwrap()]).unwrap()
}

fn allow(net: &str) -> Ranges {
    Ranges::new(vec![net.parse().unwrap()], Vec::new()).unwrap()
}

fn at(listen: &str, ranges: Ranges) -> Config {
    Config { ranges, port_mapping: PortMapping::Off, ..config(listen) }
}

/// For an answer to a datagram that may not have been answered; then it is sent again.
const AGAIN: Duration = Duration::from_millis(200);

/// How many the next such event says were not answered.
async fn not_answered(events: &mut Events) -> u64 {
    until(events, "a refusal", |event| match event {
        Event::Refused {
            what: Asked::Connection,
            whose: Some(LimitOwner::Ranges),
            limit: 0,
            count,
            ..
        } => Some(*count),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn a_host_of_a_denied_range_is_not_answered_over_tcp_or_quic() {
    for listen in [TCP, QUIC] {
        let (mut server, client) = pair_with(at(listen, deny("127.0.0.0/8")), config(listen)).await;
        let opened = within("an answer", client.endpoint.open(server.id(), service())).await;
        assert!(matches!(opened, Err(OpenError::NoRouteToDestination { .. })), "{opened:?}");
        assert!(not_answered(&mut server.events).await >= 1);
    }
}

#[tokio::test]
async fn sockets_of_a_denied_range_are_closed_before_the_handshake_and_counted_at_a_pace() {
    const SOCKETS: u64 = 300;
    let mut server = Node::start(at(TCP, deny("127.0.0.0/8"))).await;
    let to = server.endpoint.listening()[0].to_string();
    let port = to.rsplit('/').next().unwrap().parse().unwrap();
    for _ in 0..SOCKETS {
        let socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut socket = tokio::net::TcpStream::from_std(socket).unwrap();
        let said = within("the end of a socket", socket.read(&mut [0; 1])).await;
        assert!(matches!(said, Ok(0) | Err(_)), "nothing was said on it");
    }
    let (mut count, mut events) = (0, 0);
    while count < SOCKETS {
        count += not_answered(&mut server.events).await;
        events += 1;
    }
    assert_eq!(count, SOCKETS);
    assert!(events < SOCKETS / 10, "{events} events");
}

#[tokio::test]
async fn outside_of_what_is_allowed_nobody_is_dialled_but_a_relay_that_was_named() {
    let relay = RelayNode::start(relay_config(TCP)).await;
    let server = Node::start(config(TCP)).await;
    let mut client = Node::start(at(TCP, allow("10.0.0.0/8"))).await;
    client.endpoint.add_addresses(server.id(), server.endpoint.listening().to_vec()).await;
    let opened = within("an answer", client.endpoint.open(server.id(), service())).await;
    let error = opened.unwrap_err().to_string();
    assert!(
        error.contains("127.0.0.1 is outside of the ranges that --allow-net or --net-file allows"),
        "{error}"
    );
    client.reserve(&relay.address).await;
}

#[tokio::test]
async fn a_relay_of_a_denied_range_is_not_dialled_although_it_was_named() {
    let relay = RelayNode::start(relay_config(TCP)).await;
    let mut client = Node::start(at(TCP, deny("127.0.0.1/32"))).await;
    client.endpoint.reserve(relay.address.clone()).await;
    let cause = until(&mut client.events, "a failure", |event| match event {
        Event::ReservationFailed { cause, .. } => Some(cause.clone()),
        _ => None,
    })
    .await;
    assert!(cause.contains("--deny-net"), "{cause}");
}

#[tokio::test]
async fn a_range_that_is_denied_later_closes_its_connections_and_may_come_back() {
    let (mut server, client) = pair(TCP).await;
    exchange(client.open(server.id()).await, b"before").await;
    server.endpoint.keep_to(deny("127.0.0.0/8")).await;
    let cause = until(&mut server.events, "the end of the connection", |event| match event {
        Event::ConnectionClosed { cause, .. } => Some(cause.clone()),
        _ => None,
    })
    .await;
    assert_eq!(cause, CloseCause::Barred);
    let opened = within("an answer", client.endpoint.open(server.id(), service())).await;
    assert!(opened.is_err());
    server.endpoint.keep_to(Ranges::default()).await;
    exchange(client.open(server.id()).await, b"after").await;
}

#[tokio::test]
async fn a_relay_answers_whom_it_is_to_and_closes_those_that_it_no_longer_is_to() {
    let config = RelayConfig { ranges: deny("127.0.0.0/8"), ..relay_config(TCP) };
    let mut relay = RelayNode::start(config).await;
    let mut client = Node::start(at(TCP, Ranges::default())).await;
    client.endpoint.reserve(relay.address.clone()).await;
    assert!(not_answered(&mut relay.events).await >= 1);
    relay.relay.keep_to(Ranges::default()).await;
    client.held().await;
    relay.relay.keep_to(allow("10.0.0.0/8")).await;
    until(&mut client.events, "the loss of the reservation", |event| match event {
        Event::ReservationLost { .. } => Some(()),
        _ => None,
    })
    .await;
}

#[tokio::test]
async fn who_is_of_a_denied_range_gets_no_answer_from_a_relay_by_stun_either() {
    let config = RelayConfig {
        stun: StunListen::At(vec!["127.0.0.1:0".parse().unwrap()]),
        ranges: deny("127.0.0.2/32"),
        ..relay_config(TCP)
    };
    let mut relay = RelayNode::start(config).await;
    let (port, other) = listening(&mut relay.events).await;
    let other = other.unwrap();
    let denied = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    let other_host = UdpSocket::bind("127.0.0.3:0").await.unwrap();
    for port in [port, other] {
        let relay_at = SocketAddr::from(([127, 0, 0, 1], port));
        let mut bytes = [0; 1500];
        for socket in [&denied, &other_host] {
            socket.send_to(&REQUEST, relay_at).await.unwrap();
        }
        // The relay reads in the order of arrival, so what it answers to the first is here before that to the second.
        within("an answer", other_host.recv_from(&mut bytes)).await.unwrap();
        assert!(denied.try_recv_from(&mut bytes).is_err(), "an answer at {port}");
    }
    relay.relay.keep_to(Ranges::default()).await;
    let relay_at = SocketAddr::from(([127, 0, 0, 1], port));
    within("an answer when the range is denied no more", async {
        // The relay takes the order by and by, and says nothing about it.
        loop {
            denied.send_to(&REQUEST, relay_at).await.unwrap();
            let mut bytes = [0; 1500];
            let answer = denied.recv_from(&mut bytes);
            if tokio::time::timeout(AGAIN, answer).await.is_ok() {
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_relay_tells_strangers_its_external_addresses_and_no_others() {
    let external: libp2p::Multiaddr = "/ip4/73.0.0.2/tcp/4001".parse().unwrap();
    let given = External::Given(vec![external.clone()]);
    let relay = RelayNode::start(RelayConfig { external: given, ..relay_config(TCP) }).await;
    let mut stranger = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|keypair| {
            identify::Behaviour::new(identify::Config::new("/stock/1".to_owned(), keypair.public()))
        })
        .unwrap()
        .build();
    let opts = DialOpts::peer_id(relay.address.peer()).addresses(vec![relay.address.address().clone()]);
    stranger.dial(opts.build()).unwrap();
    let told = within("what the relay says of itself", async {
        loop {
            if let SwarmEvent::Behaviour(identify::Event::Received { info, .. }) =
                stranger.select_next_some().await
            {
                return info.listen_addrs;
            }
        }
    })
    .await;
    assert_eq!(told, [external]);
}
