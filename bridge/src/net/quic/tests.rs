#![allow(clippy::unwrap_used)]
mod silence;
mod substreams;

use std::{future::poll_fn, io, net::UdpSocket, time::Duration};

use futures::{
    AsyncReadExt as _, AsyncWriteExt as _,
    future::{Either, join, select},
};
use libp2p::{
    core::{
        Endpoint as Role,
        muxing::{StreamMuxerBox, StreamMuxerExt as _},
        transport::Boxed,
    },
    identity::Keypair,
    quic as stock,
};
use tokio::time::timeout;

use super::*;
use crate::net::{
    cause::{Kept, find_cause},
    secure::Secure,
    watched::Watched,
};

/// Each of them is over in a moment, unless the machine is slow.
const SOON: Duration = Duration::from_secs(30);

const LOOPBACK: [&str; 2] = ["/ip4/127.0.0.1/udp/0/quic-v1", "/ip6/::1/udp/0/quic-v1"];

const OPTS: DialOpts = DialOpts { role: Role::Dialer, port_use: PortUse::Reuse };

/// Who dials and who is dialled.
type Pair = fn() -> [(Any, PeerId); 2];

type Made = (PeerId, StreamMuxerBox);

/// Of ours or of libp2p.
type Any = Boxed<Made>;

fn ours() -> (Quic, PeerId) {
    watching(Watched::default())
}

fn watching(watched: Watched) -> (Quic, PeerId) {
    let keypair = Keypair::generate_ed25519();
    let config = Config::new(&Secure::new(&keypair).unwrap(), watched).unwrap();
    (Quic::new(config), keypair.public().to_peer_id())
}

fn boxed(quic: Quic) -> Any {
    quic.map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer))).map_err(Kept).boxed()
}

fn our_own() -> (Any, PeerId) {
    let (quic, id) = ours();
    (boxed(quic), id)
}

fn of_libp2p() -> (Any, PeerId) {
    let keypair = Keypair::generate_ed25519();
    let quic = stock::tokio::Transport::new(stock::Config::new(&keypair));
    let quic = quic.map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    (quic.boxed(), keypair.public().to_peer_id())
}

async fn next<T: Transport + Unpin>(transport: &mut T) -> TransportEvent<T::ListenerUpgrade, T::Error> {
    let event = poll_fn(|cx| Pin::new(&mut *transport).poll(cx));
    timeout(SOON, event).await.expect("the transport says nothing")
}

/// Listens there, and says where it is reached.
async fn listen<T: Transport + Unpin>(transport: &mut T, address: &str) -> (ListenerId, Multiaddr) {
    let id = ListenerId::next();
    assert!(transport.listen_on(id, address.parse().unwrap()).is_ok());
    match next(transport).await {
        TransportEvent::NewAddress { listener_id, listen_addr } if listener_id == id => {
            (id, listen_addr)
        }
        _ => panic!("no address"),
    }
}

/// Who comes next, and from where.
async fn comes<T: Transport + Unpin>(transport: &mut T) -> (T::ListenerUpgrade, Multiaddr) {
    match next(transport).await {
        TransportEvent::Incoming { upgrade, send_back_addr, .. } => (upgrade, send_back_addr),
        _ => panic!("nobody comes"),
    }
}

/// Both ends of a connection, and from where it came.
async fn connected(
    near: &mut Any,
    far: &mut Any,
    address: &Multiaddr,
    opts: DialOpts,
) -> (Made, Made, Multiaddr) {
    let dial = near.dial(address.clone(), opts).unwrap();
    let accepted = async {
        let (upgrade, from) = comes(far).await;
        (upgrade.await.unwrap(), from)
    };
    let both = join(async { dial.await.unwrap() }, accepted);
    let (dialled, (accepted, from)) = timeout(SOON, both).await.expect("no connection");
    (dialled, accepted, from)
}

/// How the other end sees that a connection ended.
async fn end(muxer: &mut StreamMuxerBox) -> io::Error {
    timeout(SOON, poll_fn(|cx| muxer.poll_inbound_unpin(cx))).await.expect("no end").err().unwrap()
}

/// What is written at one end, closed there, and read at the other.
async fn echo(near: &mut StreamMuxerBox, far: &mut StreamMuxerBox) {
    let sent: Vec<u8> = (0..300_000_u32).map(|byte| byte as u8).collect();
    let asks = async {
        let mut substream = poll_fn(|cx| near.poll_outbound_unpin(cx)).await.unwrap();
        substream.write_all(&sent).await.unwrap();
        substream.close().await.unwrap();
        let mut back = Vec::new();
        substream.read_to_end(&mut back).await.unwrap();
        substream.close().await.unwrap();
        back
    };
    let answers = async {
        let mut substream = poll_fn(|cx| far.poll_inbound_unpin(cx)).await.unwrap();
        let mut heard = Vec::new();
        substream.read_to_end(&mut heard).await.unwrap();
        substream.write_all(&heard).await.unwrap();
        substream.close().await.unwrap();
    };
    let (back, ()) = timeout(SOON, join(asks, answers)).await.expect("no echo");
    assert!(back == sent, "other bytes came back");
}

#[tokio::test]
async fn ours_and_stock_libp2p_reach_each_other_in_both_roles_over_both_families_and_part_in_order() {
    let pairs: [Pair; 3] =
        [|| [our_own(), our_own()], || [our_own(), of_libp2p()], || [of_libp2p(), our_own()]];
    for (which, place) in (0..pairs.len()).flat_map(|which| LOOPBACK.map(|place| (which, place))) {
        let [(mut near, near_id), (mut far, far_id)] = pairs[which]();
        let (_, address) = listen(&mut far, place).await;
        let ((there, mut dialled), (here, mut accepted), _) =
            connected(&mut near, &mut far, &address, OPTS).await;
        assert_eq!((there, here), (far_id, near_id));
        echo(&mut dialled, &mut accepted).await;
        echo(&mut accepted, &mut dialled).await;
        // Who closes is the stock end, where there is one: ours has to understand it.
        let (mut closes, mut hears) = if which == 2 { (dialled, accepted) } else { (accepted, dialled) };
        poll_fn(|cx| closes.poll_close_unpin(cx)).await.unwrap();
        assert!(find_cause(&end(&mut hears).await).is_some_and(is_in_order));
    }
}

#[tokio::test]
async fn a_substream_that_the_peer_let_go_of_is_closed_in_order_and_not_written_any_more() {
    let ((mut near, _), (mut far, _)) = (our_own(), our_own());
    let (_, address) = listen(&mut far, LOOPBACK[0]).await;
    let ((_, mut dialled), (_, mut accepted), _) = connected(&mut near, &mut far, &address, OPTS).await;
    for writes in [false, true] {
        let mut substream = poll_fn(|cx| dialled.poll_outbound_unpin(cx)).await.unwrap();
        substream.write_all(b"anybody there?").await.unwrap();
        substream.flush().await.unwrap();
        drop(poll_fn(|cx| accepted.poll_inbound_unpin(cx)).await.unwrap());
        // The end of what the peer writes leaves with the word that it reads no more.
        let mut rest = Vec::new();
        timeout(SOON, substream.read_to_end(&mut rest)).await.expect("no end").unwrap();
        if writes {
            let stopped = substream.write_all(&[0; 1000]).await.unwrap_err();
            assert_eq!(stopped.kind(), io::ErrorKind::ConnectionReset);
        } else {
            substream.close().await.unwrap();
        }
    }
}

#[tokio::test]
async fn over_loopback_one_size_of_packets_is_tried_and_that_is_the_largest() {
    let ((mut near, _), (mut far, _)) = (ours(), our_own());
    let (_, address) = listen(&mut far, LOOPBACK[0]).await;
    let dial = near.dial(address, OPTS).unwrap();
    let accepted = async { comes(&mut far).await.0.await.unwrap() };
    let (dialled, _accepted) = timeout(SOON, join(dial, accepted)).await.expect("no connection");
    let (_, dialled) = dialled.unwrap();
    let path = || dialled.link().lock().inner.stats().path;
    let mut looks = tokio::time::interval(Duration::from_millis(5));
    let grown = async {
        while path().current_mtu == 1200 {
            looks.tick().await;
        }
    };
    timeout(SOON, grown).await.expect("packets stay small");
    // Only Linux says what loopback carries; elsewhere some more are tried.
    if cfg!(target_os = "linux") {
        assert_eq!((path().current_mtu, path().sent_plpmtud_probes), (32_400, 1));
    }
}

/// Connections over one pair of sockets, and so packets of several in each reception.
const MANY: usize = 24;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_connections_over_one_socket_carry_their_bytes_at_once() {
    let ((mut near, _), (mut far, _)) = (our_own(), our_own());
    let (_, own) = listen(&mut near, LOOPBACK[0]).await;
    let (_, address) = listen(&mut far, LOOPBACK[0]).await;
    let mut echoes = Vec::new();
    for _ in 0..MANY {
        let ((_, mut dialled), (_, mut accepted), from) =
            connected(&mut near, &mut far, &address, OPTS).await;
        assert_eq!(from, own);
        echoes.push(tokio::spawn(async move { echo(&mut dialled, &mut accepted).await }));
    }
    for echo in echoes {
        echo.await.unwrap();
    }
}

#[test]
fn a_runtime_that_ends_leaves_no_socket_behind() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let place = runtime.block_on(async {
        let ((mut near, _), (mut far, _)) = (our_own(), our_own());
        let (_, address) = listen(&mut far, LOOPBACK[0]).await;
        let made = connected(&mut near, &mut far, &address, OPTS).await;
        // Whoever holds it when the runtime ends.
        (socket_of(&address).unwrap(), made, near, far)
    });
    drop(runtime);
    let (place, made, near, far) = place;
    drop((made, near, far));
    UdpSocket::bind(place).expect("the port is free");
}

#[tokio::test]
async fn who_dials_leaves_from_the_port_that_it_listens_on_and_from_another_one_if_it_is_to() {
    let ((mut near, _), (mut far, _)) = (our_own(), our_own());
    for place in LOOPBACK {
        let (_, own) = listen(&mut near, place).await;
        let (_, address) = listen(&mut far, place).await;
        let (_a, _b, from) = connected(&mut near, &mut far, &address, OPTS).await;
        assert_eq!(from, own);
        let opts = DialOpts { port_use: PortUse::New, ..OPTS };
        let (_a, _b, from) = connected(&mut near, &mut far, &address, opts).await;
        assert_ne!(from, own);
    }
}

#[tokio::test]
async fn whoever_listens_on_every_interface_dials_loopback_from_there_too() {
    let ((mut near, _), (mut far, _)) = (ours(), our_own());
    let id = ListenerId::next();
    near.listen_on(id, "/ip4/0.0.0.0/udp/0/quic-v1".parse().unwrap()).unwrap();
    let own = loop {
        let event = next(&mut near).await;
        let TransportEvent::NewAddress { listener_id, listen_addr } = event else {
            panic!("no address")
        };
        assert_eq!(listener_id, id);
        if socket_of(&listen_addr).unwrap().ip().is_loopback() {
            break listen_addr;
        }
    };
    let (_, address) = listen(&mut far, LOOPBACK[0]).await;
    let (_a, _b, from) = connected(&mut boxed(near), &mut far, &address, OPTS).await;
    assert_eq!(from, own);
}

#[tokio::test]
async fn two_ends_that_dial_each_other_at_once_have_a_connection_each_way() {
    let ((mut near, near_id), (mut far, far_id)) = (our_own(), our_own());
    let (_, at_near) = listen(&mut near, LOOPBACK[0]).await;
    let (_, at_far) = listen(&mut far, LOOPBACK[0]).await;
    let begins = DialOpts { role: Role::Listener, ..OPTS };
    let there = tokio::spawn(near.dial(at_far, begins).unwrap());
    let back = tokio::spawn(far.dial(at_near, OPTS).unwrap());
    let ((from_near, _), (from_far, _)) = (comes(&mut far).await, comes(&mut near).await);
    let all = join(join(there, back), join(from_near, from_far));
    let ((there, back), (from_near, from_far)) = timeout(SOON, all).await.unwrap();
    assert_eq!((there.unwrap().unwrap().0, back.unwrap().unwrap().0), (far_id, near_id));
    assert_eq!((from_near.unwrap().0, from_far.unwrap().0), (near_id, far_id));
}

#[tokio::test]
async fn a_listener_that_is_removed_takes_nobody_and_its_connections_stay() {
    let ((mut near, _), (mut far, far_id)) = (our_own(), our_own());
    let (id, address) = listen(&mut far, LOOPBACK[0]).await;
    let ((_, mut dialled), (_, mut accepted), _) = connected(&mut near, &mut far, &address, OPTS).await;
    assert!(far.remove_listener(id));
    let closed = next(&mut far).await;
    assert!(
        matches!(closed, TransportEvent::ListenerClosed { listener_id, reason: Ok(()) } if listener_id == id)
    );
    assert!(!far.remove_listener(id));
    echo(&mut dialled, &mut accepted).await;
    let error = near.dial(address, OPTS).unwrap().await.err().unwrap();
    assert!(matches!(find_cause(&error), Some(quinn_proto::ConnectionError::TimedOut)), "{error:?}");
    // It listens again, elsewhere.
    let (_, address) = listen(&mut far, LOOPBACK[0]).await;
    let ((there, _), _, _) = connected(&mut near, &mut far, &address, OPTS).await;
    assert_eq!(there, far_id);
}

#[tokio::test]
async fn two_cannot_listen_on_one_port_and_ipv6_leaves_the_port_of_ipv4_alone() {
    let (mut near, _) = ours();
    let (_, address) = listen(&mut near, "/ip6/::1/udp/0/quic-v1").await;
    let port = socket_of(&address).unwrap().port();
    let refused = near.listen_on(ListenerId::next(), address).unwrap_err();
    let TransportError::Other(Error::Socket(error)) = refused else { panic!("{refused:?}") };
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    let (_, v4) = listen(&mut near, &format!("/ip4/127.0.0.1/udp/{port}/quic-v1")).await;
    assert_eq!(socket_of(&v4).unwrap().port(), port);
}

#[tokio::test]
async fn addresses_of_other_transports_are_handed_back() {
    let (mut near, _) = ours();
    let places = [
        "/ip4/127.0.0.1/tcp/1",
        "/ip4/127.0.0.1/udp/1",
        "/ip4/127.0.0.1/udp/1/quic",
        "/dns4/a.b/udp/1/quic-v1",
    ];
    for place in places.map(|place| place.parse::<Multiaddr>().unwrap()) {
        let dialled = near.dial(place.clone(), OPTS).err().unwrap();
        assert!(matches!(dialled, TransportError::MultiaddrNotSupported(address) if address == place));
        let listened = near.listen_on(ListenerId::next(), place.clone()).unwrap_err();
        assert!(matches!(listened, TransportError::MultiaddrNotSupported(address) if address == place));
    }
    for nowhere in ["/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/0.0.0.0/udp/1/quic-v1"] {
        assert!(near.dial(nowhere.parse().unwrap(), OPTS).is_err(), "{nowhere}");
    }
}

/// The first packet of a dial to a socket that does not answer.
async fn first_packet(near: &mut Quic) -> Vec<u8> {
    let trap = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = address_of(trap.local_addr().unwrap());
    let dial = near.dial(address, OPTS).unwrap();
    let first = async {
        let mut packet = vec![0; 2048];
        let length = trap.recv(&mut packet).await.unwrap();
        packet.truncate(length);
        packet
    };
    match timeout(SOON, select(dial, std::pin::pin!(first))).await.expect("no packet") {
        Either::Right((packet, _)) => packet,
        Either::Left(_) => panic!("the dial is over"),
    }
}

#[tokio::test]
async fn first_packets_in_the_names_of_others_are_taken_up_to_the_limit_and_whoever_proves_its_address_comes_in()
 {
    let ((mut near, near_id), (mut far, _)) = (ours(), our_own());
    let (_, address) = listen(&mut far, LOOPBACK[0]).await;
    let spoofer = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..config::UNPROVED_MAX + 8 {
        let packet = first_packet(&mut near).await;
        spoofer.send_to(&packet, socket_of(&address).unwrap()).unwrap();
    }
    let honest = near.dial(address, OPTS).unwrap();
    let honest = tokio::spawn(async move { honest.await.map(|(peer, _)| peer) });
    let from_spoofer = address_of(spoofer.local_addr().unwrap());
    let mut taken = Vec::new();
    let upgrade = loop {
        let (upgrade, from) = comes(&mut far).await;
        match from == from_spoofer {
            true => taken.push(upgrade),
            false => break upgrade,
        }
    };
    assert_eq!(taken.len(), config::UNPROVED_MAX);
    assert_eq!(timeout(SOON, upgrade).await.unwrap().unwrap().0, near_id);
    assert!(honest.await.unwrap().is_ok());
}

#[tokio::test]
async fn who_shows_no_certificate_of_libp2p_is_refused_in_both_roles() {
    use futures_rustls::rustls::{
        ClientConfig, ServerConfig, crypto::aws_lc_rs::default_provider, pki_types::PrivatePkcs8KeyDer,
        version::TLS13,
    };
    let provider = Arc::new(default_provider());
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.key_pair.serialize_der());
    let server = ServerConfig::builder_with_provider(provider.clone());
    let server = server.with_protocol_versions(&[&TLS13]).unwrap().with_no_client_auth();
    let mut server = server.with_single_cert(vec![made.cert.der().clone()], key.into()).unwrap();
    server.alpn_protocols = vec![b"libp2p".to_vec()];
    let server = quinn::crypto::rustls::QuicServerConfig::try_from(server).unwrap();
    let server = quinn::ServerConfig::with_crypto(Arc::new(server));
    let stranger = quinn::Endpoint::server(server, "127.0.0.1:0".parse().unwrap()).unwrap();
    let (mut near, _) = our_own();
    let dial = near.dial(address_of(stranger.local_addr().unwrap()), OPTS).unwrap();
    let accepted = async { stranger.accept().await.unwrap().await };
    let (dialled, _) = timeout(SOON, join(dial, accepted)).await.unwrap();
    assert!(dialled.is_err());

    // It shows nothing at all.
    let (mut far, _) = our_own();
    let (_, address) = listen(&mut far, LOOPBACK[0]).await;
    let (_, verifier) = Secure::new(&Keypair::generate_ed25519()).unwrap().quic_client().unwrap();
    let client =
        ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13]).unwrap();
    let client = client.dangerous().with_custom_certificate_verifier(verifier);
    let mut client = client.with_no_client_auth();
    client.alpn_protocols = vec![b"libp2p".to_vec()];
    let client = quinn::crypto::rustls::QuicClientConfig::try_from(client).unwrap();
    let client = quinn::ClientConfig::new(Arc::new(client));
    let connecting = stranger.connect_with(client, socket_of(&address).unwrap(), "0.0.0.0").unwrap();
    let accepted = async { comes(&mut far).await.0.await };
    let (_, accepted) = timeout(SOON, join(connecting, accepted)).await.unwrap();
    assert!(accepted.is_err());
}
