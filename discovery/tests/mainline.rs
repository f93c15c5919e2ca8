//! Nodes of the 160-bit network over sockets, each at an address of its own of this host.
#![cfg(feature = "mainline")]
#![allow(clippy::unwrap_used)]

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId, identity::Keypair};
use punchline_discovery::{
    Config, Discovery, Hint, Source,
    mainline::{Config as Settings, Failed, Id, Item, Mainline, MainlineEvent, Network},
};
use tokio::net::UdpSocket;

/// Whatever is waited for, comes within this.
const PATIENCE: Duration = Duration::from_secs(30);

fn settings(host: u8, ways_in: &[SocketAddrV4]) -> Settings {
    let ways_in = ways_in.iter().map(ToString::to_string).collect();
    let mut settings = Settings::new(Network::Private(ways_in));
    (settings.ip, settings.port) = (Ipv4Addr::new(127, 0, 7, host), Some(0));
    settings
}

async fn node(host: u8, ways_in: &[SocketAddrV4]) -> Mainline {
    Mainline::start(settings(host, ways_in)).await.unwrap()
}

/// Until it knows so many.
async fn knows(node: &Mainline, nodes: usize) {
    let mut events = node.events();
    let enough = async {
        while node.routing_table().await.unwrap().nodes < nodes {
            let _ = events.recv().await;
        }
    };
    tokio::time::timeout(PATIENCE, enough).await.expect("it knows enough others");
}

/// So many nodes, of which each knows some; all but the first join through it.
async fn network(count: u8) -> Vec<Mainline> {
    let mut nodes = vec![node(1, &[]).await];
    let way_in = nodes[0].local_address();
    for host in 2..=count {
        nodes.push(node(host, &[way_in]).await);
    }
    for node in &nodes {
        knows(node, usize::from(count.min(8)) - 1).await;
    }
    nodes
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_nodes_find_within_seconds_what_any_of_them_stores_and_announces() {
    let began = Instant::now();
    let nodes = network(50).await;
    let mut events = nodes[7].events();
    let item = Item::signed(&Keypair::generate_ed25519(), b"salt", 1, b"value").unwrap();
    let stored = nodes[7].store(item.clone()).await.unwrap();
    assert!(stored >= 8, "at {stored} nodes");
    let hash = item.target();
    assert!(nodes[8].announce(hash, Some(4000)).await.unwrap() >= 8);
    for node in nodes.iter().step_by(10) {
        assert_eq!(node.find_value(item.target(), b"salt").await.unwrap(), Some(item.clone()));
        let peer = SocketAddrV4::new(*nodes[8].local_address().ip(), 4000);
        assert_eq!(node.find_peers(hash).await.unwrap(), [peer]);
        assert!(node.find_node(hash, None).await.unwrap().len() >= 8);
    }
    let mut told = Vec::new();
    while let Ok(event) = events.try_recv() {
        told.push(event);
    }
    let completed = |event: &MainlineEvent| matches!(event, MainlineEvent::LookupCompleted { target, .. } if *target == hash);
    assert!(told.iter().any(completed));
    assert!(told.contains(&MainlineEvent::DataStored { target: hash, nodes: Some(stored) }));
    assert!(began.elapsed() < PATIENCE);
}

#[tokio::test]
async fn a_peer_is_found_by_its_id_through_what_it_signed() {
    let first = node(60, &[]).await;
    let started = |host| {
        let key = Keypair::generate_ed25519();
        let mut config = Config::silent(key.public().to_peer_id());
        config.mainline = Some((settings(host, &[first.local_address()]), key));
        let peer = config.local;
        (Discovery::start(config).unwrap(), peer)
    };
    let ((sought, _hints), peer) = started(61);
    let ((seeker, mut hints), _) = started(62);
    let listening: Vec<Multiaddr> = vec!["/ip4/10.7.7.7/tcp/4001".parse().unwrap()];
    let reachable: Vec<Multiaddr> =
        vec![format!("/ip4/10.8.8.8/tcp/4001/p2p/{}/p2p-circuit", PeerId::random()).parse().unwrap()];
    sought.publish(listening.clone()).await;
    sought.reachable(reachable.clone()).await;
    let mut events = first.events();
    let stored = async { while !matches!(events.recv().await, Ok(MainlineEvent::DataStored { .. })) {} };
    tokio::time::timeout(PATIENCE, stored).await.expect("it tells where it is");
    assert_eq!(seeker.seek(peer, Vec::new()).await, Ok(Vec::new()));
    let Hint { source, addresses, lasts, .. } =
        tokio::time::timeout(PATIENCE, hints.next()).await.expect("it is found").unwrap();
    assert_eq!((source, addresses), (Source::Mainline, [reachable, listening].concat()));
    assert!(lasts.is_some_and(|lasts| lasts > Duration::from_secs(7000)));
}

/// A program of others, with the crate `pkarr`, in the same network: it says by its key where it is, and finds us by ours.
#[cfg(feature = "pkarr")]
#[tokio::test(flavor = "multi_thread")]
async fn who_knows_pkarr_alone_is_found_and_finds_us() {
    use pkarr::{Keypair as TheirKey, PublicKey, SignedPacket, dns::rdata::RData};
    use punchline_discovery::mainline::Mutable;

    let nodes = network(8).await;
    let way_in = nodes[0].local_address();
    let theirs = TheirKey::from_secret_key(&[9; 32]);
    let peer = punchline_discovery::pkarr::peer_of(&theirs.to_z32()).unwrap().unwrap();
    let text = format!("dnsaddr=/ip4/127.0.0.1/tcp/4001/p2p/{peer}");
    let packet = SignedPacket::builder()
        .txt("_dnsaddr".try_into().unwrap(), text.as_str().try_into().unwrap(), 600)
        .sign(&theirs)
        .unwrap();
    let bytes = packet.encoded_packet();
    let item = Item::Mutable(Mutable {
        key: theirs.public_key().to_bytes(),
        salt: Vec::new(),
        seq: packet.timestamp().as_u64() as i64,
        signature: packet.signature().to_bytes(),
        value: [format!("{}:", bytes.len()).as_bytes(), &bytes].concat(),
    });
    assert!(nodes[1].store(item).await.unwrap() > 0);

    let key = Keypair::generate_ed25519();
    let ours = key.public().to_peer_id();
    let mut config = Config::silent(ours);
    config.mainline = Some((settings(60, &[way_in]), key));
    let (discovery, mut hints) = Discovery::start(config).unwrap();
    let at: Multiaddr = "/ip4/127.0.0.1/tcp/4002".parse().unwrap();
    discovery.publish(vec![at.clone()]).await;
    discovery.seek(peer, Vec::new()).await.unwrap();
    let hint = tokio::time::timeout(PATIENCE, hints.next()).await.expect("it is found").unwrap();
    assert_eq!((hint.peer, hint.source), (peer, Source::Pkarr));
    assert_eq!(hint.addresses, ["/ip4/127.0.0.1/tcp/4001".parse::<Multiaddr>().unwrap()]);

    let key = PublicKey::try_from(punchline_discovery::pkarr::key_of(ours).unwrap()).unwrap();
    let (bytes, signature) = (key.to_bytes(), [0; 64]);
    let (salt, value) = (Vec::new(), Vec::new());
    let target = Item::Mutable(Mutable { key: bytes, salt, seq: 0, signature, value }).target();
    let mut events = nodes[2].events();
    let found = async {
        loop {
            if let Some(Item::Mutable(item)) = nodes[2].find_value(target, &[]).await.unwrap() {
                return item;
            }
            let _ = events.recv().await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, found).await.expect("it says where it is");
    let value = Item::Mutable(found.clone());
    let time = (found.seq as u64).to_be_bytes();
    let payload = [&found.signature[..], &time, value.bytes().unwrap()].concat();
    let packet = SignedPacket::from_relay_payload(&key, &payload.into()).unwrap();
    let mut texts = packet.resource_records("_dnsaddr").filter_map(|record| match &record.rdata {
        RData::TXT(text) => String::try_from(text.clone()).ok(),
        _ => None,
    });
    assert_eq!(texts.next(), Some(format!("dnsaddr={at}/p2p/{ours}")));
}

/// A query for the nodes near to something.
fn query() -> Vec<u8> {
    format!("d1:ad2:id20:{0}6:target20:{0}e1:q9:find_node2:roi1e1:t2:aa1:y1:qe", "x".repeat(20))
        .into_bytes()
}

#[tokio::test]
async fn a_flood_from_one_host_is_answered_at_a_pace_and_another_host_at_once() {
    let node = node(70, &[]).await;
    let host = async |last: u8| UdpSocket::bind((Ipv4Addr::new(127, 0, 7, last), 0)).await.unwrap();
    let (flood, other) = (host(71).await, host(72).await);
    let refused = async || node.routing_table().await.unwrap().refused;
    let mut sent = 0u32;
    while refused().await < 1000 && sent < 50_000 {
        for _ in 0..50 {
            flood.send_to(&query(), node.local_address()).await.unwrap();
        }
        sent += 50;
    }
    assert!(refused().await >= 1000);
    let mut packet = [0; 1500];
    other.send_to(&query(), node.local_address()).await.unwrap();
    let (length, _) =
        tokio::time::timeout(PATIENCE, other.recv_from(&mut packet)).await.unwrap().unwrap();
    assert!(
        packet[..length].ends_with(b"1:t2:aa1:v4:PL\x00\x011:y1:re"),
        "the transaction is sent back as it was"
    );
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_and_one_that_was_left_is_free() {
    let first = node(80, &[]).await;
    let mut settings = settings(80, &[]);
    settings.port = Some(first.local_address().port());
    let error = Mainline::start(settings.clone()).await.unwrap_err();
    assert_eq!(error.address, first.local_address());
    first.stop().await;
    assert_eq!(first.find_node(Id::new([1; 20]), None).await, Err(Failed::Stopped));
    let second = Mainline::start(settings).await.unwrap();
    let asker = node(81, &[]).await;
    let found = asker.find_node(Id::new([1; 20]), Some(second.local_address())).await.unwrap();
    assert_eq!(found.len(), 1, "whom it was told to ask");
}

#[tokio::test]
async fn one_value_too_many_to_be_stored_again_is_refused() {
    let node = node(90, &[]).await;
    let store = async |number: u8| node.store(Item::immutable(&[number]).unwrap()).await;
    for number in 0..64 {
        assert_eq!(store(number).await, Ok(0));
    }
    assert_eq!(store(64).await, Err(Failed::Full { limit: 64 }));
    assert_eq!(store(1).await, Ok(0), "what is kept already is stored again");
}
