#![allow(clippy::unwrap_used)]
use std::{
    io::Read as _,
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
};

use rustix::net::listen;

use super::*;

fn tcp(port: u16) -> Place {
    Place { protocol: Protocol::Tcp, address: (Ipv4Addr::LOCALHOST, port).into() }
}

/// Listens as libp2p does: others may join.
fn listens_and_shares() -> (TcpListener, u16) {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, Some(ipproto::TCP)).unwrap();
    sockopt::set_socket_reuseaddr(&socket, true).unwrap();
    sockopt::set_socket_reuseport(&socket, true).unwrap();
    bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    listen(&socket, 1).unwrap();
    let listener = TcpListener::from(socket);
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

fn in_use_by_us(failure: &ListenFailure) -> bool {
    let own = |occupant: &Occupant| occupant.pid == std::process::id();
    matches!(failure, ListenFailure::InUse { occupant, .. } if occupant.as_ref().is_some_and(own))
}

#[tokio::test]
async fn a_port_that_another_socket_would_share_is_refused_and_its_program_named() {
    let (_listener, port) = listens_and_shares();
    assert!(in_use_by_us(&tcp(port).claim().await.unwrap_err()));
    let everywhere = Place { protocol: Protocol::Tcp, address: (Ipv4Addr::UNSPECIFIED, port).into() };
    assert!(in_use_by_us(&everywhere.claim().await.unwrap_err()));
}

#[tokio::test]
async fn a_taken_udp_port_is_refused_in_the_same_words() {
    let taken = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let place = Place { protocol: Protocol::Udp, address: taken.local_addr().unwrap() };
    let failure = place.claim().await.unwrap_err();
    let port = taken.local_addr().unwrap().port();
    assert!(failure.to_string().contains(&format!("UDP port {port} is taken by ")), "{failure}");
    assert!(in_use_by_us(&failure));
}

#[tokio::test]
async fn one_port_may_be_listened_on_over_tcp_and_udp() {
    let (_listener, port) = listens_and_shares();
    let place = Place { protocol: Protocol::Udp, address: (Ipv4Addr::LOCALHOST, port).into() };
    place.claim().await.unwrap();
}

#[tokio::test]
async fn a_port_whose_connections_have_just_ended_is_free() {
    let (listener, port) = listens_and_shares();
    let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    // Who closes first remembers the connection for a minute.
    drop((accepted, listener));
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    tcp(port).claim().await.unwrap();
}

#[tokio::test]
async fn an_address_of_another_host_is_refused_with_those_of_this_one() {
    let place = Place { protocol: Protocol::Tcp, address: (Ipv4Addr::new(203, 0, 113, 7), 4001).into() };
    let failure = place.claim().await.unwrap_err();
    let ListenFailure::NotOurs { error, ours } = &failure else { panic!("{failure}") };
    assert_eq!(error.0, Errno::ADDRNOTAVAIL.raw_os_error());
    assert!(ours.contains(&Ipv4Addr::LOCALHOST.into()) && ours.iter().all(IpAddr::is_ipv4), "{ours:?}");
    assert!(failure.to_string().contains("os error 99") && failure.to_string().contains("/ip4/0.0.0.0"));
}

#[test]
fn a_privileged_port_is_told_from_other_denials() {
    let failure = |port| tcp(port).failure(Errno::ACCESS);
    assert!(failure(443).to_string().contains("CAP_NET_BIND_SERVICE"));
    let error = SystemError(Errno::ACCESS.raw_os_error());
    assert_eq!(failure(4001), ListenFailure::System { error });
}

#[test]
fn a_missing_family_is_named() {
    let place = Place { protocol: Protocol::Tcp, address: "[::]:4001".parse().unwrap() };
    let text = place.failure(Errno::AFNOSUPPORT).to_string();
    assert!(text.contains("this host has no IPv6"), "{text}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn of_two_that_claim_a_port_the_second_waits_for_the_first() {
    let (_, port) = listens_and_shares();
    let first = tcp(port).claim().await.unwrap();
    let second = tokio::spawn(async move { tcp(port).claim().await.unwrap() });
    tokio::task::yield_now().await;
    assert!(!second.is_finished());
    drop(first);
    assert!(second.await.unwrap()._name.is_some());
}

#[cfg(target_os = "linux")]
#[tokio::test(start_paused = true)]
async fn who_never_gives_up_its_turn_does_not_keep_others_from_listening() {
    let (_, port) = listens_and_shares();
    let _stuck = tcp(port).claim().await.unwrap();
    let start = Instant::now();
    assert!(tcp(port).claim().await.unwrap()._name.is_none());
    assert!(start.elapsed() >= TURN_DEADLINE);
}
