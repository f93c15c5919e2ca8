//! Addresses of nodes that relays dial back (AutoNAT v2), with nodes and relays of ours and of rust-libp2p.

use std::{net::Ipv4Addr, time::Duration};

use futures::StreamExt as _;
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder,
    autonat::v2 as autonat,
    identify,
    identity::Keypair,
    noise, relay,
    swarm::{NetworkBehaviour, SwarmEvent, dial_opts::DialOpts},
    tcp, yamux,
};
use prost::Message;
use punchline_bridge::{
    Config, Event, Events, RelayAddr,
    addr::GlobalScope,
    config::PortMapping,
    event::{Asked, LetsIn, LimitOwner},
    relay::RelayConfig,
};
use tokio::{
    net::{TcpListener, TcpSocket},
    task::JoinHandle,
};

use crate::{
    circuit_wire::{read, write},
    relay_hand::Hand,
    world::{Node, QUIC, RelayNode, TCP, config, relay_config, until, within},
};

const DIAL_REQUEST: StreamProtocol = StreamProtocol::new("/libp2p/autonat/2/dial-request");

const REJECTED: i32 = 100;
const DIAL_REFUSED: i32 = 101;
const DIALLED: i32 = 200;
const DIAL_ERROR: i32 = 100;

#[derive(Clone, PartialEq, Message)]
struct Words {
    #[prost(message, optional, tag = "1")]
    request: Option<DialRequest>,
    #[prost(message, optional, tag = "2")]
    response: Option<DialResponse>,
    #[prost(message, optional, tag = "3")]
    data_request: Option<DataRequest>,
    #[prost(message, optional, tag = "4")]
    data: Option<Data>,
}

#[derive(Clone, PartialEq, Message)]
struct DialRequest {
    #[prost(bytes = "vec", repeated, tag = "1")]
    addrs: Vec<Vec<u8>>,
    #[prost(fixed64, tag = "2")]
    nonce: u64,
}

#[derive(Clone, PartialEq, Message)]
struct DialResponse {
    #[prost(int32, tag = "1")]
    status: i32,
    #[prost(uint32, tag = "2")]
    addr_index: u32,
    #[prost(int32, tag = "3")]
    dial_status: i32,
}

#[derive(Clone, PartialEq, Message)]
struct DataRequest {
    #[prost(uint32, tag = "1")]
    addr_index: u32,
    #[prost(uint64, tag = "2")]
    bytes: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Data {
    #[prost(bytes = "vec", tag = "1")]
    data: Vec<u8>,
}

/// Asks for a test of these addresses: the first words of the answer.
async fn ask(hand: &mut Hand, addresses: &[&str]) -> (Words, libp2p::Stream) {
    let addrs = addresses.iter().map(|text| text.parse::<Multiaddr>().unwrap().to_vec()).collect();
    ask_in_bytes(hand, addrs).await
}

async fn ask_in_bytes(hand: &mut Hand, addrs: Vec<Vec<u8>>) -> (Words, libp2p::Stream) {
    let mut io = hand.substream(DIAL_REQUEST).await;
    write(&mut io, &Words { request: Some(DialRequest { addrs, nonce: 7 }), ..Words::default() })
        .await
        .unwrap();
    (within("an answer", read(&mut io)).await.unwrap(), io)
}

async fn response(hand: &mut Hand, addresses: &[&str]) -> DialResponse {
    ask(hand, addresses).await.0.response.unwrap()
}

async fn confirmed(events: &mut Events) -> (Multiaddr, PeerId, LetsIn) {
    until(events, "a confirmed address", |event| match event {
        Event::AddressConfirmed { address, server, lets_in } => {
            Some((address.clone(), *server, *lets_in))
        }
        _ => None,
    })
    .await
}

async fn dial_back_refused(events: &mut Events) -> (u64, Option<LimitOwner>) {
    until(events, "a refusal", |event| match event {
        Event::Refused { what: Asked::DialBack, limit, whose, .. } => Some((*limit, *whose)),
        _ => None,
    })
    .await
}

fn quiet(listen: &str) -> Config {
    Config { port_mapping: PortMapping::Off, ..config(listen) }
}

#[tokio::test]
async fn a_node_that_a_relay_reaches_has_its_address_confirmed_over_tcp_and_quic() {
    for listen in [TCP, QUIC] {
        let relay = RelayNode::start(relay_config(listen)).await;
        let mut node = Node::start(quiet(listen)).await;
        node.endpoint.reserve(relay.address.clone()).await;
        let (address, server, lets_in) = confirmed(&mut node.events).await;
        assert_eq!(address, node.endpoint.listening()[0]);
        assert_eq!((server, lets_in), (relay.address.peer(), LetsIn::Anybody));
    }
}

#[tokio::test]
async fn a_node_that_the_relay_does_not_reach_has_no_address_confirmed() {
    let relay = RelayNode::start(relay_config(TCP)).await;
    // Whoever comes is not answered, as behind a NAT that lets nobody in.
    let mut settings = quiet(TCP);
    settings.listen.push(TCP.parse().unwrap());
    settings.limits.pending_inbound = 0;
    let mut node = Node::start(settings).await;
    node.endpoint.reserve(relay.address.clone()).await;
    // One address is tested at a time: once the second is dialled, the answer about the first was heard.
    for which in ["first", "second"] {
        let dialled_back = until(&mut node.events, "a dial-back", |event| match event {
            Event::AddressConfirmed { .. } => panic!("{event:?}"),
            Event::Refused { what, count, .. } => Some((*what, *count)),
            _ => None,
        });
        assert_eq!(dialled_back.await, (Asked::Connection, 1), "the relay dials the {which} address");
    }
    node.endpoint.shutdown().await;
    while let Some(event) = node.events.next().await {
        assert!(!matches!(event, Event::AddressConfirmed { .. }), "{event:?}");
    }
}

#[tokio::test]
async fn a_relay_dials_the_first_address_that_it_may_and_none_that_is_private_or_a_name() {
    let mut hand_config = relay_config(TCP);
    hand_config.global = GlobalScope::with_assumed(vec!["127.0.0.1/32".parse().unwrap()]);
    let relay = RelayNode::start(hand_config).await;
    let mut hand = Hand::new(&relay);
    let forbidden = [
        "/ip4/10.0.0.1/tcp/1",
        "/ip4/127.0.0.2/tcp/1",
        "/ip4/169.254.169.254/tcp/80",
        "/ip6/::ffff:10.0.0.1/tcp/1",
        "/dns4/localhost/tcp/1",
        "/ip4/127.0.0.1/tcp/80/ws",
    ];
    let answer = response(&mut hand, &forbidden).await;
    assert_eq!(answer.status, DIAL_REFUSED, "nothing is dialled");
    let answer = response(&mut hand, &[&forbidden[..3], &["/ip4/127.0.0.1/tcp/1"]].concat()).await;
    assert_eq!((answer.status, answer.addr_index, answer.dial_status), (DIALLED, 3, DIAL_ERROR));
    // After those that are looked at, none is.
    let answer =
        response(&mut hand, &[&["/ip4/10.0.0.1/tcp/1"; 8][..], &["/ip4/127.0.0.1/tcp/1"]].concat())
            .await;
    assert_eq!(answer.status, DIAL_REFUSED);
}

#[tokio::test]
async fn an_address_of_a_kind_that_the_relay_does_not_know_hides_none_that_follow() {
    let relay = RelayNode::start(relay_config(TCP)).await;
    let mut hand = Hand::new(&relay);
    let known: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
    let unknown = vec![0xff, 0xff, 0x03];
    let (words, _) = ask_in_bytes(&mut hand, vec![unknown, known.to_vec()]).await;
    let answer = words.response.unwrap();
    assert_eq!((answer.status, answer.addr_index, answer.dial_status), (DIALLED, 1, DIAL_ERROR));
}

#[tokio::test]
async fn an_address_of_another_host_costs_the_client_more_than_that_host_and_the_relay_s_own_are_not_dialled()
 {
    let mut settings: RelayConfig = relay_config(TCP);
    settings.listen.push("/ip4/127.0.0.3/tcp/0".parse().unwrap());
    let relay = RelayNode::start(settings).await;
    let mut hand = Hand::new(&relay);
    let (words, mut io) = ask(&mut hand, &["/ip4/127.0.0.2/tcp/1"]).await;
    let wanted = words.data_request.expect("data is asked for first").bytes;
    assert!((30_000..=100_000).contains(&wanted), "{wanted}");
    let mut left = wanted as usize;
    while left > 0 {
        let data = vec![0; left.min(4096)];
        left -= data.len();
        write(&mut io, &Words { data: Some(Data { data }), ..Words::default() }).await.unwrap();
    }
    let answer: Words = within("an answer", read(&mut io)).await.unwrap();
    assert_eq!(answer.response.unwrap().dial_status, DIAL_ERROR);
    let neighbour = response(&mut hand, &["/ip4/127.0.0.3/tcp/1"]).await;
    assert_eq!(neighbour.status, DIAL_REFUSED, "a client elsewhere does not look around on the relay");
}

#[tokio::test]
async fn a_client_has_twelve_dial_backs_a_minute_and_its_host_twice_that() {
    let mut relay = RelayNode::start(relay_config(TCP)).await;
    let (mut allowed, mut last) = (Vec::new(), 0);
    for _ in 0..3 {
        let mut hand = Hand::new(&relay);
        let mut dialled = 0;
        for _ in 0..13 {
            last = response(&mut hand, &["/ip4/127.0.0.1/tcp/1"]).await.status;
            dialled += usize::from(last == DIALLED);
        }
        allowed.push(dialled);
    }
    assert_eq!((allowed, last), (vec![12, 12, 0], REJECTED));
    assert_eq!(dial_back_refused(&mut relay.events).await, (12, Some(LimitOwner::Peer)));
}

/// Hosts of this machine.
const HOSTS: [Ipv4Addr; 3] =
    [Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3)];

/// A client that comes to the relay from that host: by way of a task, since libp2p lets the system choose.
async fn hand_from(host: Ipv4Addr, relay: &RelayNode) -> Hand {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let way_in = listener.local_addr().unwrap();
    let address = relay.address.address().to_string();
    let to = address.trim_start_matches("/ip4/").replace("/tcp/", ":").parse().unwrap();
    tokio::spawn(async move {
        // One after the other: a client that is not let in comes again.
        while let Ok((mut inner, _)) = listener.accept().await {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind((host, 0).into()).unwrap();
            let mut outer = socket.connect(to).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut inner, &mut outer).await;
        }
    });
    let way_in = format!("/ip4/127.0.0.1/tcp/{}", way_in.port()).parse().unwrap();
    Hand::at(relay.relay.peer_id(), way_in)
}

/// Has the relay asked for a dial-back to this port of that host, from there.
async fn asked_from(host: Ipv4Addr, port: u16, relay: &RelayNode) -> JoinHandle<DialResponse> {
    let mut hand = hand_from(host, relay).await;
    let address = format!("/ip4/{host}/tcp/{port}");
    tokio::spawn(async move { response(&mut hand, &[&address]).await })
}

/// Takes sockets, and says nothing on them.
async fn silent() -> (TcpListener, u16) {
    let silent = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    (silent, port)
}

#[tokio::test]
async fn one_dial_back_of_a_host_and_two_of_all_are_under_way_at_once() {
    let mut relay = RelayNode::start(relay_config(TCP)).await;
    let [one, two, three] = HOSTS;
    let ((silent, port), mut waiting, mut sockets) = (silent().await, Vec::new(), Vec::new());
    for (host, limit, whose) in [(one, 1, LimitOwner::Address), (two, 2, LimitOwner::Relay)] {
        waiting.push(asked_from(host, port, &relay).await);
        sockets.push(within("a dial", silent.accept()).await.unwrap());
        let refused = if whose == LimitOwner::Address { host } else { three };
        let refusal = asked_from(refused, port, &relay).await.await.unwrap();
        assert_eq!(refusal.status, REJECTED, "{refused}");
        assert_eq!(dial_back_refused(&mut relay.events).await, (limit, Some(whose)));
    }
    for answer in waiting {
        let answer = within("an answer", answer).await.unwrap();
        assert_eq!((answer.status, answer.dial_status), (DIALLED, DIAL_ERROR), "it gives up");
    }
    drop(sockets);
    for host in [one, two] {
        let dialled = asked_from(host, 1, &relay).await.await.unwrap();
        assert_eq!(dialled.status, DIALLED, "their places are free");
    }
}

#[tokio::test]
async fn a_dial_back_keeps_its_place_until_it_ends_also_when_its_client_has_left() {
    // Who comes after the client is let in only when the relay knows that it has left.
    let relay = RelayNode::start(RelayConfig { connections: 1, ..relay_config(TCP) }).await;
    let (silent, port) = silent().await;
    let asked = asked_from(HOSTS[0], port, &relay).await;
    let (mut socket, _) = within("a dial", silent.accept()).await.unwrap();
    asked.abort();
    let left = within("the end of the client", asked).await;
    assert!(left.unwrap_err().is_cancelled());
    let again = asked_from(HOSTS[0], port, &relay).await.await.unwrap();
    assert_eq!(again.status, REJECTED);
    // Whether in order or by a reset.
    let _ = within("the end of the dial", tokio::io::copy(&mut socket, &mut tokio::io::sink())).await;
    let again = asked_from(HOSTS[0], 1, &relay).await.await.unwrap();
    assert_eq!(again.status, DIALLED);
}

#[derive(NetworkBehaviour)]
struct StockClient {
    identify: identify::Behaviour,
    autonat: autonat::client::Behaviour,
}

#[derive(NetworkBehaviour)]
struct StockServer {
    identify: identify::Behaviour,
    relay: relay::Behaviour,
    autonat: autonat::server::Behaviour,
}

fn stock<B: NetworkBehaviour>(behaviour: impl FnOnce(&Keypair) -> B) -> Swarm<B> {
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|keypair| behaviour(keypair))
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(600)))
        .build()
}

fn identify(keypair: &Keypair) -> identify::Behaviour {
    identify::Behaviour::new(identify::Config::new("/stock/1".to_owned(), keypair.public()))
}

async fn listening<B: NetworkBehaviour>(swarm: &mut Swarm<B>) -> Multiaddr {
    swarm.listen_on(TCP.parse().unwrap()).unwrap();
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            return address;
        }
    }
}

#[tokio::test]
async fn a_stock_client_has_its_address_confirmed_by_a_relay_of_ours() {
    let relay = RelayNode::start(relay_config(TCP)).await;
    let mut client = stock(|keypair| StockClient {
        identify: identify(keypair),
        autonat: autonat::client::Behaviour::default(),
    });
    let address = within("an address", listening(&mut client)).await;
    let opts = DialOpts::peer_id(relay.address.peer()).addresses(vec![relay.address.address().clone()]);
    client.dial(opts.build()).unwrap();
    let confirmed = within("a confirmed address", async {
        loop {
            match client.select_next_some().await {
                SwarmEvent::ExternalAddrConfirmed { address } => return address,
                SwarmEvent::Behaviour(StockClientEvent::Autonat(event)) => event.result.unwrap(),
                _ => {}
            }
        }
    })
    .await;
    assert_eq!(confirmed, address);
}

#[tokio::test]
async fn a_node_of_ours_has_its_address_confirmed_by_a_stock_server() {
    let mut server = stock(|keypair| StockServer {
        identify: identify(keypair),
        relay: relay::Behaviour::new(keypair.public().to_peer_id(), relay::Config::default()),
        autonat: autonat::server::Behaviour::default(),
    });
    let address = within("an address", listening(&mut server)).await;
    server.add_external_address(address.clone());
    let server_id = *server.local_peer_id();
    tokio::spawn(async move { while server.next().await.is_some() {} });
    let mut node = Node::start(quiet(TCP)).await;
    let relay = RelayAddr::new(address.with_p2p(server_id).unwrap()).unwrap();
    node.endpoint.reserve(relay).await;
    let (confirmed, by, lets_in) = confirmed(&mut node.events).await;
    assert_eq!((confirmed, by), (node.endpoint.listening()[0].clone(), server_id));
    assert_eq!(lets_in, LetsIn::Anybody);
}
