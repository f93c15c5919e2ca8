//! With libp2p's own relay, and with libp2p's own client at the other end of a circuit.

use std::time::{Duration, SystemTime};

use futures::StreamExt;
use libp2p::{
    Multiaddr, Swarm, SwarmBuilder, identify,
    identity::Keypair,
    noise, ping, relay,
    swarm::{NetworkBehaviour, SwarmEvent, dial_opts::DialOpts},
    tcp, yamux,
};
use punchline_bridge::{
    Event, Path, RelayAddr,
    error::{DialFailureReason, OpenError, RelayLimit},
    path::Direction,
    relay::{External, RelayConfig},
};

use crate::{
    open::only_reason,
    world::{
        Node, QUIC, RelayNode, TCP, circuit_opened, exchange, relay_config, service, unpunchable, until,
        within,
    },
};

#[derive(NetworkBehaviour)]
struct StockRelay {
    relay: relay::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
}

/// libp2p's own relay, with its own settings.
async fn stock_relay(settings: relay::Config) -> RelayAddr {
    stock_relay_at(TCP, settings).await
}

async fn stock_relay_at(listen: &str, settings: relay::Config) -> RelayAddr {
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_quic()
        .with_behaviour(|keypair| StockRelay {
            relay: relay::Behaviour::new(keypair.public().to_peer_id(), settings),
            identify: stock_identify(keypair),
            ping: ping::Behaviour::default(),
        })
        .unwrap()
        .build();
    let address = listening(&mut swarm, listen).await;
    swarm.add_external_address(address.clone());
    let address = address.with_p2p(*swarm.local_peer_id()).unwrap();
    tokio::spawn(async move { while swarm.next().await.is_some() {} });
    RelayAddr::new(address).unwrap()
}

fn stock_identify(keypair: &Keypair) -> identify::Behaviour {
    identify::Behaviour::new(identify::Config::new("/stock/1".to_owned(), keypair.public()))
}

async fn listening<B: NetworkBehaviour>(swarm: &mut Swarm<B>, listen: &str) -> Multiaddr {
    swarm.listen_on(listen.parse().unwrap()).unwrap();
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            return address;
        }
    }
}

#[derive(NetworkBehaviour)]
struct StockClient {
    relay: relay::client::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
}

/// libp2p's own client.
fn stock_client() -> Swarm<StockClient> {
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_relay_client(noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|keypair, relay| StockClient {
            relay,
            identify: stock_identify(keypair),
            ping: ping::Behaviour::default(),
        })
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(60)))
        .build()
}

#[tokio::test]
async fn a_circuit_through_an_ordinary_relay_carries_data_and_both_ends_know_its_limits() {
    through_an_ordinary_relay(TCP).await;
}

#[tokio::test]
async fn a_circuit_through_an_ordinary_relay_carries_data_over_quic_too() {
    through_an_ordinary_relay(QUIC).await;
}

async fn through_an_ordinary_relay(listen: &str) {
    let relay = stock_relay_at(listen, relay::Config::default()).await;
    let mut server = Node::start(unpunchable(listen)).await;
    server.endpoint.reserve(relay.clone()).await;
    let (expires, bytes, seconds) = until(&mut server.events, "a reservation", |event| match event {
        Event::ReservationHeld { expires, circuit_bytes_max, circuit_seconds_max, .. } => {
            Some((*expires, *circuit_bytes_max, *circuit_seconds_max))
        }
        _ => None,
    })
    .await;
    let left = expires.unwrap().duration_since(SystemTime::now()).unwrap();
    assert!((3500..=3600).contains(&left.as_secs()), "{left:?}");
    assert_eq!((bytes, seconds), (Some(128 * 1024), Some(120)));
    server.echo().await;
    let mut client = Node::start(unpunchable(listen)).await;
    client.endpoint.add_addresses(server.id(), vec![relay.circuit_to(server.id())]).await;
    let stream = client.open(server.id()).await;
    assert_eq!(stream.path(), Path::Relayed { relay: relay.peer() });
    exchange(stream, &[7; 20 * 1024]).await;
    assert_eq!(
        circuit_opened(&mut client.events).await,
        (Direction::Outbound, Some(128 * 1024), Some(120))
    );
    assert_eq!(
        circuit_opened(&mut server.events).await,
        (Direction::Inbound, Some(128 * 1024), Some(120))
    );
}

#[tokio::test]
async fn an_ordinary_relay_that_is_full_refuses_without_saying_whose_limit_it_is() {
    let settings = relay::Config { max_circuits: 0, ..relay::Config::default() };
    let relay = stock_relay(settings).await;
    let mut server = Node::start(unpunchable(TCP)).await;
    server.reserve(&relay).await;
    let client = Node::start(unpunchable(TCP)).await;
    client.endpoint.add_addresses(server.id(), vec![relay.circuit_to(server.id())]).await;
    let error = within("an error", client.endpoint.open(server.id(), service())).await.unwrap_err();
    assert_eq!(only_reason(error), DialFailureReason::RelayFull(RelayLimit::UNKNOWN));
}

#[tokio::test]
async fn an_ordinary_client_dials_us_through_a_relay() {
    let relay = RelayNode::start(relay_config(TCP)).await;
    let mut server = Node::start(unpunchable(TCP)).await;
    let address = server.reserve(&relay.address).await;
    let mut client = stock_client();
    client.dial(DialOpts::peer_id(server.id()).addresses(vec![address.clone()]).build()).unwrap();
    // It hears from us over the circuit under which address we are reached.
    let (mut answered, mut told) = (false, false);
    within("a ping and an identify", async {
        while !(answered && told) {
            match client.select_next_some().await {
                SwarmEvent::Behaviour(StockClientEvent::Ping(ping::Event {
                    peer,
                    result: Ok(_),
                    ..
                })) => {
                    answered |= peer == server.id();
                }
                SwarmEvent::Behaviour(StockClientEvent::Identify(identify::Event::Received {
                    peer_id,
                    info,
                    ..
                })) if peer_id == server.id() => {
                    // rust-libp2p signs what only itself can read, so that others would read nothing at all.
                    assert_eq!(info.signed_peer_record, None);
                    told |= info.listen_addrs.contains(&address);
                }
                _ => {}
            }
        }
    })
    .await;
    let expected = (Direction::Inbound, Some(1 << 30), Some(7200));
    assert_eq!(circuit_opened(&mut server.events).await, expected);
}

/// What somebody else's node reads of a relay that is reached at so many addresses: how many, and whether they are signed.
async fn told_of(addresses: u16, domain: &str) -> (usize, bool) {
    let at = |number| format!("/dns4/relay-{number}.{domain}/tcp/443/tls/ws").parse().unwrap();
    let told: Vec<Multiaddr> = (1..=addresses).map(at).collect();
    let config = RelayConfig { external: External::Given(told.clone()), ..relay_config(TCP) };
    let relay = RelayNode::start(config).await;
    let mut client = stock_client();
    client.dial(relay.address.address().clone()).unwrap();
    let info = within("an identify", async {
        loop {
            if let SwarmEvent::Behaviour(StockClientEvent::Identify(identify::Event::Received {
                info,
                ..
            })) = client.select_next_some().await
            {
                return info;
            }
        }
    })
    .await;
    assert!(info.listen_addrs.iter().all(|address| told.contains(address)), "{info:?}");
    (info.listen_addrs.len(), info.signed_peer_record.is_some())
}

#[tokio::test]
async fn a_relay_says_where_it_is_reached_unsigned_so_that_others_than_rust_can_read_it() {
    assert_eq!(told_of(3, "example.org").await, (3, false));
    let long = format!("{}.example.org", "a".repeat(60));
    assert_eq!(told_of(20, &long).await, (20, false));
}

#[tokio::test]
async fn we_dial_an_ordinary_client_through_a_relay() {
    let relay = RelayNode::start(relay_config(TCP)).await;
    // From this the relay learns its own address, which the other one wants to hear.
    Node::start(unpunchable(TCP)).await.reserve(&relay.address).await;
    let mut server = stock_client();
    let peer = *server.local_peer_id();
    server.listen_on(relay.address.circuit()).unwrap();
    let held = |event: &SwarmEvent<StockClientEvent>| {
        let SwarmEvent::Behaviour(StockClientEvent::Relay(event)) = event else { return false };
        matches!(event, relay::client::Event::ReservationReqAccepted { .. })
    };
    within("a reservation", async { while !held(&server.select_next_some().await) {} }).await;
    tokio::spawn(async move { while server.next().await.is_some() {} });
    let mut client = Node::start(unpunchable(TCP)).await;
    client.endpoint.add_addresses(peer, vec![relay.address.circuit_to(peer)]).await;
    // It is there, and speaks no protocol of ours: we have its word for that over the circuit.
    let error = within("an error", client.endpoint.open(peer, service())).await.unwrap_err();
    assert!(matches!(error, OpenError::Unsupported { .. }), "{error:?}");
    assert_eq!(
        circuit_opened(&mut client.events).await,
        (Direction::Outbound, Some(1 << 30), Some(7200))
    );
}
