#![allow(clippy::unwrap_used)]
use std::{
    future::poll_fn,
    net::{Ipv4Addr, TcpListener},
    sync::Mutex,
};

use libp2p::{
    core::{Endpoint, transport::PortUse},
    tcp,
};

use super::*;

const LOCAL: [IpAddr; 3] = [host(1), host(2), host(3)];

const fn host(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))
}

fn tcp_on(look: fn() -> BTreeSet<IpAddr>) -> Each<tcp::tokio::Transport> {
    Each::new(|| tcp::tokio::Transport::new(tcp::Config::default()), look)
}

fn both() -> BTreeSet<IpAddr> {
    BTreeSet::from([LOCAL[0], LOCAL[1]])
}

async fn next<T: Transport + Unpin>(transport: &mut T) -> Event<T> {
    poll_fn(|cx| Pin::new(&mut *transport).poll(cx)).await
}

fn listen(transport: &mut Each<tcp::tokio::Transport>, address: &str) -> ListenerId {
    let listener = ListenerId::next();
    transport.listen_on(listener, address.parse().unwrap()).unwrap();
    listener
}

/// The socket of the next event, which must be an address that `listener` has got.
async fn gained(
    transport: &mut Each<tcp::tokio::Transport>,
    listener: ListenerId,
) -> std::net::SocketAddr {
    match next(transport).await {
        TransportEvent::NewAddress { listener_id, listen_addr } if listener_id == listener => {
            socket_of(&listen_addr).unwrap()
        }
        _ => panic!("no new address"),
    }
}

#[tokio::test]
async fn every_address_of_the_family_is_listened_on_at_one_port() {
    let mut transport = tcp_on(both);
    let listener = listen(&mut transport, "/ip4/0.0.0.0/tcp/0");
    let first = gained(&mut transport, listener).await;
    let second = gained(&mut transport, listener).await;
    assert_eq!([first.ip(), second.ip()], LOCAL[..2]);
    assert!(first.port() == second.port() && first.port() != 0);
    for socket in [first, second] {
        std::net::TcpStream::connect(socket).unwrap();
        let event = next(&mut transport).await;
        let incoming = |id: &ListenerId| *id == listener;
        assert!(matches!(event, TransportEvent::Incoming { listener_id, .. } if incoming(&listener_id)));
    }
}

#[tokio::test(start_paused = true)]
async fn an_address_that_comes_is_listened_on_and_one_that_goes_is_told() {
    static CURRENT: Mutex<Vec<IpAddr>> = Mutex::new(Vec::new());
    let look = || CURRENT.lock().unwrap().iter().copied().collect();
    *CURRENT.lock().unwrap() = LOCAL[..2].to_vec();
    let mut transport = tcp_on(look);
    let listener = listen(&mut transport, "/ip4/0.0.0.0/tcp/0");
    let port = gained(&mut transport, listener).await.port();
    gained(&mut transport, listener).await;

    *CURRENT.lock().unwrap() = LOCAL[1..].to_vec();
    let TransportEvent::AddressExpired { listen_addr, .. } = next(&mut transport).await else {
        panic!("the address that went was not told")
    };
    assert_eq!(socket_of(&listen_addr).unwrap(), (LOCAL[0], port).into());
    assert_eq!(gained(&mut transport, listener).await, (LOCAL[2], port).into());
}

#[tokio::test(start_paused = true)]
async fn a_host_without_addresses_of_the_family_listens_when_one_comes() {
    static CURRENT: Mutex<Vec<IpAddr>> = Mutex::new(Vec::new());
    let look = || CURRENT.lock().unwrap().iter().copied().collect();
    let mut transport = tcp_on(look);
    let listener = listen(&mut transport, "/ip4/0.0.0.0/tcp/0");
    *CURRENT.lock().unwrap() = LOCAL[..2].to_vec();
    let ports = [gained(&mut transport, listener).await, gained(&mut transport, listener).await];
    assert_eq!(ports[0].port(), ports[1].port());
}

#[tokio::test]
async fn an_address_of_another_transport_is_handed_back_as_it_was_asked_for() {
    let mut transport = tcp_on(both);
    let asked: Multiaddr = "/ip4/0.0.0.0/udp/0/quic-v1".parse().unwrap();
    let refused = transport.listen_on(ListenerId::next(), asked.clone());
    assert!(matches!(refused, Err(TransportError::MultiaddrNotSupported(address)) if address == asked));
}

#[tokio::test]
async fn a_dial_leaves_from_the_port_that_is_listened_on() {
    let mut transport = tcp_on(both);
    let listener = listen(&mut transport, "/ip4/0.0.0.0/tcp/0");
    let own = gained(&mut transport, listener).await;
    let peer = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = peer.local_addr().unwrap().port();
    let opts = DialOpts { role: Endpoint::Dialer, port_use: PortUse::Reuse };
    let dial = transport.dial(format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap(), opts).unwrap();
    let _stream = dial.await.unwrap();
    assert_eq!(peer.accept().unwrap().1, own);
}

#[tokio::test]
async fn more_addresses_than_the_limit_are_left_out() {
    let many = || (1..=255).map(host).collect();
    let mut transport = tcp_on(many);
    listen(&mut transport, "/ip4/0.0.0.0/tcp/0");
    assert_eq!(transport.places.len(), PLACES_MAX);
}

#[tokio::test]
async fn a_removed_listener_closes_all_of_its_places() {
    let mut transport = tcp_on(both);
    let listener = listen(&mut transport, "/ip4/0.0.0.0/tcp/0");
    let socket = gained(&mut transport, listener).await;
    gained(&mut transport, listener).await;
    assert!(transport.remove_listener(listener));
    let event = next(&mut transport).await;
    assert!(
        matches!(event, TransportEvent::ListenerClosed { listener_id, .. } if listener_id == listener)
    );
    assert!(std::net::TcpStream::connect(socket).is_err());
    assert!(!transport.remove_listener(listener));
}
