#![allow(clippy::unwrap_used)]
use std::{
    future::poll_fn,
    net::{IpAddr, Ipv4Addr, TcpListener},
    sync::Arc,
};

use libp2p::{
    core::{Endpoint, transport::PortUse},
    identity::Keypair,
};

use super::*;
use crate::net::{
    direct, quic,
    reset::Sockets,
    secure::Secure,
    unread::{POOL_BYTES, Pool},
    watched::Watched,
};

const OPTS: DialOpts = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };

const fn host(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))
}

fn address(text: impl AsRef<str>) -> Multiaddr {
    text.as_ref().parse().unwrap()
}

fn pool() -> Arc<Pool> {
    Pool::new(POOL_BYTES)
}

/// The hosts of these tests are on loopback.
fn permits() -> Permits {
    let loopback =
        GlobalScope::with_assumed(vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]);
    Permits::new(loopback, crate::addr::Ranges::default())
}

fn connections(keypair: &Keypair) -> Resolve {
    let secure = Secure::new(keypair).unwrap();
    let quic = quic::Config::new(&secure, Watched::default()).unwrap();
    direct::connections(&secure, quic, &pool(), &permits(), None, &Sockets::default()).unwrap()
}

fn dials(ask: fn(&str) -> io::Result<Vec<IpAddr>>) -> Resolve {
    let mut resolve = connections(&Keypair::generate_ed25519());
    resolve.names = Names::asking(ask);
    resolve
}

/// A peer on 127.0.0.2 that answers whoever dials it; its id and port.
async fn peer() -> (PeerId, u16) {
    let keypair = Keypair::generate_ed25519();
    let id = keypair.public().to_peer_id();
    let mut transport = connections(&keypair);
    transport.listen_on(ListenerId::next(), address("/ip4/127.0.0.2/tcp/0")).unwrap();
    let event = poll_fn(|cx| Pin::new(&mut transport).poll(cx)).await;
    let port = crate::addr::socket_of(&event.into_new_address().unwrap()).unwrap().port();
    tokio::spawn(async move {
        loop {
            let event = poll_fn(|cx| Pin::new(&mut transport).poll(cx)).await;
            if let Some((upgrade, _)) = event.into_incoming() {
                tokio::spawn(upgrade);
            }
        }
    });
    (id, port)
}

#[tokio::test]
async fn the_next_address_of_a_name_is_tried_when_one_refuses() {
    let (id, port) = peer().await;
    let mut resolve = dials(|_| Ok(vec![host(1), host(2)]));
    let dial = resolve.dial(address(format!("/dns4/two.example/tcp/{port}")), OPTS).unwrap();
    assert_eq!(dial.await.unwrap().0, id);
}

#[tokio::test]
async fn the_next_address_of_a_name_is_tried_when_one_keeps_silent() {
    let (id, port) = peer().await;
    // Takes connections and says nothing.
    let _silent = TcpListener::bind((host(1), port)).unwrap();
    let mut resolve = dials(|_| Ok(vec![host(1), host(2)]));
    let dial = resolve.dial(address(format!("/dns/two.example/tcp/{port}")), OPTS).unwrap();
    assert_eq!(dial.await.unwrap().0, id);
}

#[test]
fn families_take_turns_beginning_with_the_one_that_the_system_puts_first() {
    for (found, tried) in [
        (
            &["2a00::1", "2a00::2", "2a00::3", "8.8.8.8"][..],
            &["2a00::1", "8.8.8.8", "2a00::2", "2a00::3"][..],
        ),
        (&["8.8.8.8", "8.8.4.4", "2a00::1"], &["8.8.8.8", "2a00::1", "8.8.4.4"]),
        (&[], &[]),
    ] {
        let at = |ips: &[&str]| -> Vec<Multiaddr> {
            ips.iter().map(|ip| ip.parse::<IpAddr>().unwrap().into()).collect()
        };
        assert_eq!(interleaved(at(found)).collect::<Vec<_>>(), at(tried));
    }
}

#[tokio::test]
async fn a_name_that_nobody_answers_for_says_what_each_address_said() {
    let closed = TcpListener::bind((host(1), 0)).unwrap().local_addr().unwrap().port();
    let mut resolve = dials(|_| Ok(vec![host(1), host(2)]));
    let dial = resolve.dial(address(format!("/dns4/two.example/tcp/{closed}")), OPTS).unwrap();
    let error = dial.await.unwrap_err().to_string();
    assert!(error.contains("/ip4/127.0.0.1") && error.contains("/ip4/127.0.0.2"), "{error}");
    assert_eq!(error.matches("Connection refused").count(), 2, "{error}");
}

#[tokio::test]
async fn an_address_without_a_name_is_dialled_as_it_is() {
    let (id, port) = peer().await;
    let mut resolve = dials(|_| panic!("nothing to look up"));
    let dial = resolve.dial(address(format!("/ip4/127.0.0.2/tcp/{port}")), OPTS).unwrap();
    assert_eq!(dial.await.unwrap().0, id);
}

#[tokio::test]
async fn a_name_with_a_hundred_addresses_is_dialled_at_a_few() {
    let names = Names::asking(|_| Ok((1..=100).map(host).collect()));
    let found = resolve(&names, address("/dns4/many.example/tcp/1")).await.unwrap();
    assert_eq!(found.len(), ADDRESSES_MAX);
}

#[tokio::test]
async fn a_name_that_stands_for_a_clouds_credentials_is_not_dialled() {
    let names = Names::asking(|_| Ok(vec![[169, 254, 169, 254].into()]));
    let error = resolve(&names, address("/dns4/evil.example/tcp/80")).await.unwrap_err();
    assert_eq!(error, NameError::Forbidden { address: address("/ip4/169.254.169.254/tcp/80") });
}

#[tokio::test]
async fn an_address_with_too_many_names_is_refused() {
    let names = Names::asking(|_| Ok(vec![host(1), host(2), host(3)]));
    let asked = address("/dns4/a.example/tcp/1/dns4/b.example/tcp/2/dns4/c.example/tcp/3");
    let error = resolve(&names, asked.clone()).await.unwrap_err();
    assert_eq!(error, NameError::TooManyLookups { address: asked, limit: LOOKUPS_PER_DIAL_MAX });
}
