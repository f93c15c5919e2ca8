//! Addresses: what a multiaddr means, and which addresses this node may offer and dial.
//!
//! Everything here is pure. Strings are parsed at the border; past it these types are trusted.
//!
//! Here multiaddrs are read: which path and transport one means, which socket. `scope` says which IP
//! addresses are public, `ranges` which ones the operator lets us speak with, `translated` which IPv4 address is in one of
//! IPv6; `policy` judges by all of it at four gates: what is said of us, remembered, dialled, answered. `relay` is a
//! relay's address, `relay_name` a name that stands for relays, `synthetic` an address that stands for a peer, `dialable` what our transports can do,
//! `web` the addresses of WebSockets, `place` which addresses count as one host or one network, `stun` where a STUN
//! server is.

mod dialable;
pub(crate) mod place;
pub(crate) mod policy;
pub(crate) mod ranges;
mod relay;
mod relay_name;
pub(crate) mod scope;
pub(crate) mod stun;
mod synthetic;
pub(crate) mod translated;
pub(crate) mod web;

use std::net::{IpAddr, SocketAddr};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

pub use self::{
    dialable::{Undialable, dialable, listenable, peer_dialable, relay_listenable},
    policy::{HintSource, RefusedAddresses},
    ranges::{Ranges, UnclearRange},
    relay::{RelayAddr, RelayAddrError},
    relay_name::{RelayLocator, RelayName, RelayNameError, split_named_circuit},
    scope::GlobalScope,
    stun::{STUN_PORT, StunServer, StunServerError},
    synthetic::synthetic_socket_addr,
    web::is_web as is_websocket,
};
use crate::path::{Path, Transport};

/// Splits a circuit address into its relay and the peer behind it (absent in a listen address).
///
/// # Errors
/// If the part before `/p2p-circuit` is not a relay's address.
pub fn split_circuit(
    address: &Multiaddr,
) -> Result<Option<(RelayAddr, Option<PeerId>)>, RelayAddrError> {
    if !is_circuit(address) {
        return Ok(None);
    }
    let before = address.iter().take_while(|part| *part != Protocol::P2pCircuit).collect();
    Ok(Some((RelayAddr::new(before)?, peer_of(address))))
}

/// The peer id an address ends with, if it does.
pub fn peer_of(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => Some(peer),
        _ => None,
    }
}

/// The names in an address, which are looked up before it is dialled.
pub(crate) fn names(address: &Multiaddr) -> Vec<String> {
    let name = |part| match part {
        Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) | Protocol::Dnsaddr(name) => {
            Some(name.into_owned())
        }
        _ => None,
    };
    address.iter().filter_map(name).collect()
}

/// Whether the address leads through a relay.
pub fn is_circuit(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::P2pCircuit)
}

/// The path that a connection with this address takes.
pub(crate) fn path_of(address: &Multiaddr) -> Path {
    let mut last = None;
    for part in address {
        match part {
            Protocol::P2p(peer) => last = Some(peer),
            Protocol::P2pCircuit => return last.map_or(Path::Direct, |relay| Path::Relayed { relay }),
            _ => {}
        }
    }
    Path::Direct
}

/// What carries the packets of a connection with this address.
pub(crate) fn transport_of(address: &Multiaddr) -> Transport {
    if address.iter().any(|part| matches!(part, Protocol::QuicV1 | Protocol::Quic)) {
        Transport::Quic
    } else if web::is_web(address) {
        Transport::Websocket
    } else {
        Transport::Tcp
    }
}

/// The IP address and port that packets to this address go to; none for a name.
pub(crate) fn endpoint_of(address: &Multiaddr) -> Option<SocketAddr> {
    socket_of(address).or_else(|| web::WebPlace::of(address)?.socket())
}

/// The IP address in front of a multiaddr.
pub(crate) fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}

/// The IP address and port of a plain `/ip/…/tcp` or `/ip/…/udp/…/quic-v1` address; none for anything else.
pub(crate) fn socket_of(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip: IpAddr = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    let port = match (parts.next()?, parts.next()) {
        (Protocol::Tcp(port), None | Some(Protocol::P2p(_))) => port,
        (Protocol::Udp(port), Some(Protocol::QuicV1)) => port,
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const RELAY: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

    fn peer(seed: u8) -> PeerId {
        libp2p::identity::Keypair::ed25519_from_bytes([seed; 32]).unwrap().public().to_peer_id()
    }

    #[test]
    fn a_circuit_is_split_into_relay_and_peer() {
        let relay: RelayAddr = format!("/ip4/1.2.3.4/tcp/4001/p2p/{RELAY}").parse().unwrap();
        let target = peer(1);
        let (found, behind) = split_circuit(&relay.circuit_to(target)).unwrap().unwrap();
        assert_eq!((found, behind), (relay.clone(), Some(target)));
        let (found, behind) = split_circuit(&relay.circuit()).unwrap().unwrap();
        assert_eq!((found, behind), (relay.clone(), None));
        assert_eq!(path_of(&relay.circuit_to(target)), Path::Relayed { relay: relay.peer() });
        assert_eq!(path_of(relay.address()), Path::Direct);
    }

    #[test]
    fn only_plain_ip_addresses_have_a_socket() {
        for (text, socket) in [
            ("/ip4/1.2.3.4/tcp/5", Some("1.2.3.4:5")),
            ("/ip4/1.2.3.4/udp/5/quic-v1", Some("1.2.3.4:5")),
            ("/ip6/2a00::1/tcp/5", Some("[2a00::1]:5")),
            ("/dns4/example.org/tcp/5", None),
            ("/ip4/1.2.3.4/udp/5", None),
            ("/ip4/1.2.3.4/tcp/5/ws", None),
        ] {
            let found = socket_of(&text.parse().unwrap());
            assert_eq!(found, socket.map(|text| text.parse().unwrap()), "{text}");
        }
    }
}
