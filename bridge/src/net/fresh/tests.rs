#![allow(clippy::unwrap_used)]
use std::{
    future::poll_fn,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::atomic::{AtomicU8, Ordering},
};

use libp2p::{
    core::{Endpoint, transport::PortUse},
    tcp,
};

use super::*;

type Tcp = Fresh<tcp::tokio::Transport>;

fn tcp(source: fn(Family) -> Option<IpAddr>) -> Tcp {
    Fresh::new(|| tcp::tokio::Transport::new(tcp::Config::default()), source)
}

/// The next address that is gained or lost on loopback, and whether it is gained.
async fn next(transport: &mut Tcp) -> (SocketAddr, bool) {
    loop {
        let (address, gained) = match poll_fn(|cx| Pin::new(&mut *transport).poll(cx)).await {
            TransportEvent::NewAddress { listen_addr, .. } => (listen_addr, true),
            TransportEvent::AddressExpired { listen_addr, .. } => (listen_addr, false),
            _ => continue,
        };
        let socket = socket_of(&address).unwrap();
        if socket.ip().is_loopback() {
            return (socket, gained);
        }
    }
}

/// From where a dial to a listener on loopback leaves, while `transport` is driven.
async fn leaves_from(transport: &mut Tcp) -> SocketAddr {
    let target = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = target.local_addr().unwrap().port();
    let address = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
    let opts = DialOpts { role: Endpoint::Dialer, port_use: PortUse::Reuse };
    let _connected = transport.dial(address, opts).unwrap().await.unwrap();
    target.accept().unwrap().1
}

fn listen(transport: &mut Tcp, address: &str) {
    transport.listen_on(ListenerId::next(), address.parse().unwrap()).unwrap();
}

#[tokio::test]
async fn the_first_dial_from_another_address_leaves_from_a_fresh_port_that_is_listened_on() {
    /// Loopback leads to the internet, as far as these tests go, but only from the second look on.
    static LOOKS: AtomicU8 = AtomicU8::new(0);
    let mut transport = tcp(|_| {
        let looks = LOOKS.fetch_add(1, Ordering::Relaxed);
        Some(Ipv4Addr::new(127, 0, 0, if looks == 0 { 9 } else { 1 }).into())
    });
    listen(&mut transport, "/ip4/0.0.0.0/tcp/0");
    let (first, _) = next(&mut transport).await;
    let left = leaves_from(&mut transport).await;
    assert_ne!(left.port(), first.port());
    assert_eq!(next(&mut transport).await, (left, true), "it is listened on and reported");
    assert_eq!(leaves_from(&mut transport).await, left, "the network is the same still");
    for listens in [first, left] {
        tokio::net::TcpStream::connect(listens).await.unwrap();
    }
}

#[tokio::test]
async fn who_comes_back_to_an_address_leaves_it_by_another_port_than_before() {
    static HOST: AtomicU8 = AtomicU8::new(9);
    let mut transport = tcp(|_| Some(Ipv4Addr::new(127, 0, 0, HOST.load(Ordering::Relaxed)).into()));
    listen(&mut transport, "/ip4/0.0.0.0/tcp/0");
    next(&mut transport).await;
    HOST.store(1, Ordering::Relaxed);
    let before = leaves_from(&mut transport).await;
    assert_eq!(next(&mut transport).await, (before, true));
    // What dials from 127.0.0.9 are made of is not the system's choice here; that it was left is noted by a look.
    HOST.store(9, Ordering::Relaxed);
    transport.renew(Family::V4);
    HOST.store(1, Ordering::Relaxed);
    let after = leaves_from(&mut transport).await;
    assert_ne!(after.port(), before.port());
}

#[tokio::test]
async fn an_address_that_was_lost_and_came_again_is_left_by_another_port() {
    let mut transport = tcp(|_| Some(Ipv4Addr::LOCALHOST.into()));
    listen(&mut transport, "/ip4/0.0.0.0/tcp/0");
    let (first, _) = next(&mut transport).await;
    assert_eq!(leaves_from(&mut transport).await, first);
    transport.any_port[0].lost = true;
    let again = leaves_from(&mut transport).await;
    assert_ne!(again.port(), first.port());
    assert_eq!(leaves_from(&mut transport).await, again);
}

#[tokio::test]
async fn a_fresh_port_ends_with_its_address() {
    let mut transport = tcp(|_| Some(Ipv4Addr::LOCALHOST.into()));
    listen(&mut transport, "/ip4/0.0.0.0/tcp/0");
    next(&mut transport).await;
    transport.any_port[0].lost = true;
    let fresh = leaves_from(&mut transport).await;
    assert_eq!(next(&mut transport).await, (fresh, true));
    transport.expired(Ipv4Addr::LOCALHOST.into());
    assert_eq!(next(&mut transport).await, (fresh, false));
    assert!(tokio::net::TcpStream::connect(fresh).await.is_err(), "nobody listens there");
}

#[tokio::test]
async fn a_port_that_was_asked_for_is_kept() {
    static HOST: AtomicU8 = AtomicU8::new(9);
    let mut transport = tcp(|_| Some(Ipv4Addr::new(127, 0, 0, HOST.load(Ordering::Relaxed)).into()));
    let port = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap().local_addr().unwrap().port();
    listen(&mut transport, &format!("/ip4/0.0.0.0/tcp/{port}"));
    next(&mut transport).await;
    HOST.store(1, Ordering::Relaxed);
    assert_eq!(leaves_from(&mut transport).await.port(), port);
}
