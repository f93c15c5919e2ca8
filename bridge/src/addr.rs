//! Reading multiaddrs: which path and transport an address means, and whether it may be offered to others.
//!
//! Everything here is pure. Strings are parsed at the border; past it these types are trusted.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    str::FromStr,
};

use ipnet::IpNet;
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use siphasher::sip::SipHasher13;

use crate::path::{Path, Transport};

/// A relay's address: where it listens, and who must answer there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RelayAddr {
    peer: PeerId,
    address: Multiaddr,
}

/// Why a string is not the address of a relay.
#[derive(Debug, thiserror::Error)]
pub enum RelayAddrError {
    /// It is not a multiaddr.
    #[error(
        "`{text}` is not a multiaddr ({cause}); a relay looks like /ip4/203.0.113.7/tcp/4001/p2p/12D3KooW…"
    )]
    NotAMultiaddr {
        /// What was given.
        text: String,
        /// What the parser said.
        cause: libp2p::multiaddr::Error,
    },
    /// It does not end in the relay's peer id.
    #[error(
        "`{address}` does not end in /p2p/<relay's peer id>; add the id that the relay prints at its start"
    )]
    NoPeer {
        /// What was given.
        address: Multiaddr,
    },
    /// It is itself an address behind a relay.
    #[error(
        "`{address}` is a circuit; a relay must be reachable itself, so leave out /p2p-circuit and what follows"
    )]
    Circuit {
        /// What was given.
        address: Multiaddr,
    },
}

impl RelayAddr {
    /// Takes a multiaddr that ends in `/p2p/<relay>`.
    ///
    /// # Errors
    /// If the peer id is missing or the address is a circuit.
    pub fn new(address: Multiaddr) -> Result<Self, RelayAddrError> {
        if is_circuit(&address) {
            return Err(RelayAddrError::Circuit { address });
        }
        let mut transport = address.clone();
        match transport.pop() {
            Some(Protocol::P2p(peer)) => Ok(Self { peer, address: transport }),
            _ => Err(RelayAddrError::NoPeer { address }),
        }
    }

    /// The relay's identity.
    pub fn peer(&self) -> PeerId {
        self.peer
    }

    /// Where it listens, without its identity.
    pub fn address(&self) -> &Multiaddr {
        &self.address
    }

    /// The address under which `peer` is reached through this relay.
    pub fn circuit_to(&self, peer: PeerId) -> Multiaddr {
        self.circuit().with(Protocol::P2p(peer))
    }

    /// The address to listen on for a reservation.
    pub fn circuit(&self) -> Multiaddr {
        self.address.clone().with(Protocol::P2p(self.peer)).with(Protocol::P2pCircuit)
    }
}

impl FromStr for RelayAddr {
    type Err = RelayAddrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let address = text
            .parse()
            .map_err(|cause| RelayAddrError::NotAMultiaddr { text: text.to_owned(), cause })?;
        Self::new(address)
    }
}

impl fmt::Display for RelayAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/p2p/{}", self.address, self.peer)
    }
}

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
    } else {
        Transport::Tcp
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

/// Which addresses count as public: the globally routable ones, and the ranges an operator adds.
#[derive(Clone, Debug, Default)]
pub struct GlobalScope {
    assumed: Vec<IpNet>,
}

impl GlobalScope {
    /// Treats `assumed` as public too: labs and private networks.
    pub fn with_assumed(assumed: Vec<IpNet>) -> Self {
        Self { assumed }
    }

    /// Whether `ip` may be offered to others as ours.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.assumed.iter().any(|net| net.contains(&ip))
            || match ip {
                IpAddr::V4(ip) => is_global_v4(ip),
                IpAddr::V6(ip) => is_global_v6(ip),
            }
    }
}

/// Source: the IANA IPv4 special-purpose registry (RFC 6890 and updates).
fn is_global_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    !(ip.is_unspecified()
        || ip.is_loopback()
        || ip.is_private()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_documentation()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19)))
}

/// Source: the IANA IPv6 special-purpose registry; only 2000::/3 is handed out, less documentation.
fn is_global_v6(ip: Ipv6Addr) -> bool {
    let [first, second, ..] = ip.segments();
    first & 0xe000 == 0x2000 && !(first == 0x2001 && second == 0x0db8) && first != 0x3fff
}

/// A socket address for programs that insist on one: the same peer always gets the same address,
/// whichever path it came by.
///
/// The prefix `fd50:756e:6368::/48` is unique-local (RFC 4193), so it collides with nothing routable;
/// the other 80 bits and the port are a keyed hash of the peer id alone.
pub fn synthetic_socket_addr(peer: &PeerId) -> SocketAddr {
    let high = stable_hash(peer, 0);
    let low = stable_hash(peer, 1);
    let ip = Ipv6Addr::new(
        0xfd50,
        0x756e,
        0x6368,
        segment(high, 0),
        segment(high, 1),
        segment(high, 2),
        segment(high, 3),
        segment(low, 0),
    );
    // Port 0 means "any" to many programs, so it is left out.
    let port = segment(low, 1).max(1);
    SocketAddr::V6(SocketAddrV6::new(ip, port, 0, 0))
}

fn segment(hash: u64, index: u32) -> u16 {
    (hash >> (16 * index)) as u16
}

fn stable_hash(peer: &PeerId, salt: u64) -> u64 {
    SipHasher13::new_with_keys(0x7075_6e63_686c_696e, salt).hash(&peer.to_bytes())
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
    fn a_relay_address_without_a_peer_id_is_refused_with_the_remedy() {
        let error = "/ip4/1.2.3.4/tcp/4001".parse::<RelayAddr>().unwrap_err();
        assert!(error.to_string().contains("/p2p/<relay's peer id>"), "{error}");
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
    fn private_ranges_are_public_only_when_the_operator_says_so() {
        let strict = GlobalScope::default();
        for private in [
            "10.0.0.1",
            "192.168.1.1",
            "127.0.0.1",
            "100.64.0.1",
            "198.18.0.1",
            "fe80::1",
            "fd00::1",
            "::1",
        ] {
            assert!(!strict.contains(private.parse().unwrap()), "{private}");
        }
        for public in ["73.0.0.1", "8.8.8.8", "2a00::1"] {
            assert!(strict.contains(public.parse().unwrap()), "{public}");
        }
        let lab = GlobalScope::with_assumed(vec!["10.0.0.0/8".parse().unwrap()]);
        assert!(lab.contains("10.0.0.1".parse().unwrap()));
        assert!(!lab.contains("192.168.1.1".parse().unwrap()));
    }

    #[test]
    fn a_peer_always_gets_the_same_synthetic_address_and_others_get_another() {
        let fixed: PeerId = RELAY.parse().unwrap();
        assert_eq!(synthetic_socket_addr(&fixed).to_string(), synthetic_socket_addr(&fixed).to_string());
        let mut seen = std::collections::HashSet::new();
        for seed in 0..200 {
            let address = synthetic_socket_addr(&peer(seed));
            assert!(address.ip().to_string().starts_with("fd50:756e:6368:"), "{address}");
            assert!(seen.insert(address.ip()));
        }
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
