//! A stranger that wants us to look around for it: in our network, on our host, or anywhere, a thousand times.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol, SwarmBuilder,
    identity::Keypair,
    noise, relay,
    swarm::{NetworkBehaviour, dial_opts::DialOpts},
    tcp, yamux,
};
use libp2p_stream as stream;
use prost::Message;
use punchline_bridge::{Config, Endpoint, Event, RelayAddr, addr::GlobalScope, config::DialLimits};
use tokio::net::TcpListener;

use crate::world::{Node, RelayNode, TCP, config, relay_config, until, within};

const PROTOCOL: StreamProtocol = StreamProtocol::new("/libp2p/dcutr");
const CONNECT: i32 = 100;
const SYNC: i32 = 300;

/// Addresses that the stranger names each time: as many as fit into a message.
const NAMED: usize = 400;

/// What the operator of the victim takes for public.
const PUBLIC: &str = "127.77.0.0/16";

#[derive(Clone, PartialEq, Message)]
struct HolePunch {
    #[prost(int32, required, tag = "1")]
    kind: i32,
    #[prost(bytes = "vec", repeated, tag = "2")]
    addresses: Vec<Vec<u8>>,
}

async fn say(io: &mut Stream, message: &HolePunch) -> std::io::Result<()> {
    io.write_all(&message.encode_length_delimited_to_vec()).await?;
    io.flush().await
}

async fn hear(io: &mut Stream) -> Option<HolePunch> {
    let mut bytes = Vec::new();
    loop {
        let mut byte = [0];
        if io.read(&mut byte).await.ok()? == 0 {
            return None;
        }
        bytes.push(byte[0]);
        if let Ok(message) = HolePunch::decode_length_delimited(&bytes[..]) {
            return Some(message);
        }
    }
}

#[derive(NetworkBehaviour)]
struct Stranger {
    relay: relay::client::Behaviour,
    stream: stream::Behaviour,
}

/// A listener that counts who comes.
async fn listener(ip: &str) -> (Multiaddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((ip, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    (Multiaddr::from(address.ip()).with(libp2p::multiaddr::Protocol::Tcp(address.port())), count)
}

/// The stranger's circuit to its victim, again and again; each time it names `addresses`, as often as the
/// victim asks. Returns how often it was told to dial.
async fn scan(keypair: &Keypair, relay: &RelayAddr, victim: PeerId, addresses: &[Multiaddr]) -> usize {
    let mut swarm = SwarmBuilder::with_existing_identity(keypair.clone())
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_relay_client(noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|_, relay| Stranger { relay, stream: stream::Behaviour::new() })
        .unwrap()
        .build();
    let mut asked = swarm.behaviour().stream.new_control().accept(PROTOCOL).unwrap();
    let opts = DialOpts::peer_id(victim).addresses(vec![relay.circuit_to(victim)]).build();
    swarm.dial(opts).unwrap();
    let serving = tokio::spawn(async move { while swarm.next().await.is_some() {} });
    let message =
        HolePunch { kind: CONNECT, addresses: addresses.iter().map(Multiaddr::to_vec).collect() };
    let mut synchronised = 0;
    // The victim asks thrice and then no more.
    for _ in 0..3 {
        let next = tokio::time::timeout(Duration::from_secs(20), asked.next()).await;
        let Ok(Some((_, mut io))) = next else { break };
        let offer = within("the victim's addresses", hear(&mut io)).await.unwrap();
        assert_eq!(offer.kind, CONNECT);
        assert!(offer.addresses.len() <= 1, "a stranger is told more than the public address");
        say(&mut io, &message).await.unwrap();
        if within("what the victim wants", hear(&mut io)).await.is_some_and(|said| said.kind == SYNC) {
            synchronised += 1;
        }
    }
    serving.abort();
    synchronised
}

async fn victim(change: impl FnOnce(&mut Config)) -> (RelayNode, Node) {
    let relay = RelayNode::start(relay_config(TCP)).await;
    let global = GlobalScope::with_assumed(vec![PUBLIC.parse().unwrap()]);
    let mut config = Config { global, ..config("/ip4/0.0.0.0/tcp/0") };
    change(&mut config);
    let mut victim = Node::start(config).await;
    victim.reserve(&relay.address).await;
    (relay, victim)
}

/// Addresses that lead to `port` of this host or would lead into a private network.
fn inside(port: u16, endpoint: &Endpoint) -> Vec<Multiaddr> {
    let ips = ["127.0.0.1", "127.0.0.2", "10.9.9.9", "192.168.7.7", "172.17.0.1", "100.64.0.1"];
    let forbidden = ["169.254.169.254", "169.254.1.1", "0.0.0.0"];
    let mut named: Vec<Multiaddr> = ips
        .iter()
        .chain(&forbidden)
        .map(|ip| format!("/ip4/{ip}/tcp/{port}").parse().unwrap())
        .collect();
    named.extend(["::1", "::ffff:127.0.0.1"].map(|ip| format!("/ip6/{ip}/tcp/{port}").parse().unwrap()));
    named.push(format!("/dns4/localhost/tcp/{port}").parse().unwrap());
    // The victim's own addresses, whatever they are here.
    for own in endpoint.listening() {
        let ip = own.iter().next().unwrap();
        named.push(Multiaddr::empty().with(ip).with(libp2p::multiaddr::Protocol::Tcp(port)));
    }
    named
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_that_names_four_hundred_private_addresses_has_none_of_them_dialled() {
    let (relay, mut victim) = victim(|_| {}).await;
    let (address, seen) = listener("0.0.0.0").await;
    let port: u16 = address.to_string().rsplit('/').next().unwrap().parse().unwrap();
    let (open, came) = listener("127.0.0.1").await;
    let mut named = inside(port, &victim.endpoint);
    named.push(open);
    let kinds = named.len();
    let named: Vec<_> = named.into_iter().cycle().take(NAMED.min(kinds * 12)).collect();
    for _ in 0..3 {
        let stranger = Keypair::generate_ed25519();
        assert_eq!(scan(&stranger, &relay.address, victim.id(), &named).await, 0, "nobody was to dial");
    }
    let refused = until(&mut victim.events, "a refusal", |event| match event {
        Event::CandidatesRefused { allowed: 0, refused, .. } => Some(refused.total()),
        _ => None,
    })
    .await;
    assert_eq!(refused as usize, named.len());
    assert_eq!((seen.load(Ordering::SeqCst), came.load(Ordering::SeqCst)), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_has_eight_public_addresses_dialled_a_punch_and_no_more_than_an_hour_allows() {
    const OF_STRANGER: usize = 20;
    let limits = DialLimits { of_stranger: OF_STRANGER as u32, ..DialLimits::default() };
    let (relay, victim) = victim(|config| config.limits.dials = limits).await;
    let mut listeners = Vec::new();
    for host in 1..=100 {
        listeners.push(listener(&format!("127.77.0.{host}")).await);
    }
    let named: Vec<Multiaddr> = listeners.iter().map(|(address, _)| address.clone()).collect();
    let dialled = || listeners.iter().map(|(_, count)| count.load(Ordering::SeqCst)).sum::<usize>();
    let stranger = Keypair::generate_ed25519();
    assert!(scan(&stranger, &relay.address, victim.id(), &named).await >= 1);
    let hit = listeners.iter().filter(|(_, count)| count.load(Ordering::SeqCst) > 0).count();
    assert!((1..=8).contains(&hit), "{hit} of a hundred");
    let all = async {
        while dialled() < OF_STRANGER {
            tokio::task::yield_now().await;
        }
    };
    within("all that an hour allows", all).await;
    assert_eq!(scan(&stranger, &relay.address, victim.id(), &named).await, 0, "the hour is used up");
    assert_eq!(dialled(), OF_STRANGER);
}
