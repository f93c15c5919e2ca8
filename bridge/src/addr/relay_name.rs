//! Relays that are named by DNS: their addresses and identities stand in TXT records of `_dnsaddr.<name>`.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use serde::{Deserialize, Serialize};

use super::{RelayAddr, RelayAddrError, is_circuit, peer_of};

/// Longest name in DNS (RFC 1035, section 2.3.4), and `_dnsaddr.` before it.
const NAME_BYTES_MAX: usize = 253 - "_dnsaddr.".len();

/// Longest label of one.
const LABEL_BYTES_MAX: usize = 63;

/// A name in DNS that stands for one or several relays: each TXT record of `_dnsaddr.<name>` says `dnsaddr=` and an
/// address that ends in the relay's identity.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RelayName(String);

/// Why a string is no name of relays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RelayNameError {
    /// DNS has no such names.
    #[error(
        "`{text}` is neither a multiaddr nor a name; a relay looks like /ip4/203.0.113.7/tcp/4001/p2p/12D3KooW…, or like \
         relay.example.org if TXT records of _dnsaddr.relay.example.org say that"
    )]
    NotAName {
        /// What was given.
        text: String,
    },
    /// One word, which is more often a slip than a name.
    #[error(
        "`{text}` is one word; a name of relays looks like relay.example.org, and if yours has no dot, say /dnsaddr/{text}"
    )]
    OneWord {
        /// What was given.
        text: RelayName,
    },
    /// It is an IP address, which says neither the port nor who must answer there.
    #[error("`{ip}` lacks the port and the relay's identity; say {}/tcp/<port>/p2p/<relay's peer id>", Multiaddr::from(*ip))]
    Ip {
        /// What was given.
        ip: IpAddr,
    },
    /// It lacks the identity: who must answer there.
    #[error("`{socket}` does not say who must answer there; say {}/tcp/{}/p2p/<relay's peer id>", Multiaddr::from(socket.ip()), socket.port())]
    Socket {
        /// What was given.
        socket: SocketAddr,
    },
    /// It is an identity, which does not say where the relay is.
    #[error("`{peer}` does not say where that relay is; say /ip4/<address>/tcp/<port>/p2p/{peer}")]
    Peer {
        /// What was given.
        peer: PeerId,
    },
}

impl RelayName {
    /// The name, without `_dnsaddr.` before it, in small letters.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address under which `peer` is reached through whatever relays the name stands for.
    pub fn circuit_to(&self, peer: PeerId) -> Multiaddr {
        self.address().with(Protocol::P2pCircuit).with(Protocol::P2p(peer))
    }

    fn address(&self) -> Multiaddr {
        Protocol::Dnsaddr(self.0.as_str().into()).into()
    }
}

impl FromStr for RelayName {
    type Err = RelayNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(ip) = text.parse() {
            return Err(RelayNameError::Ip { ip });
        }
        if let Ok(socket) = text.parse() {
            return Err(RelayNameError::Socket { socket });
        }
        if let Ok(peer) = text.parse() {
            return Err(RelayNameError::Peer { peer });
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let is_label = |label: &str| {
            (1..=LABEL_BYTES_MAX).contains(&label.len())
                && label.bytes().all(is_letter)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        match name.len() <= NAME_BYTES_MAX && name.split('.').all(is_label) {
            true => Ok(Self(name)),
            false => Err(RelayNameError::NotAName { text: text.to_owned() }),
        }
    }
}

impl TryFrom<String> for RelayName {
    type Error = RelayNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<RelayName> for String {
    fn from(name: RelayName) -> Self {
        name.0
    }
}

impl fmt::Display for RelayName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How relays are given: by an address that ends in the relay's identity, or by a name that DNS knows both of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RelayLocator {
    /// One relay.
    At(RelayAddr),
    /// One or several.
    Named(RelayName),
}

impl RelayLocator {
    /// Takes a relay's address, or `/dnsaddr/<name>` alone.
    ///
    /// # Errors
    /// As [`RelayAddr::new`], or if it is no name.
    pub fn new(address: Multiaddr) -> Result<Self, RelayAddrError> {
        match name_alone(&address) {
            Some(name) => Ok(Self::Named(name?)),
            None => RelayAddr::new(address).map(Self::At),
        }
    }

    /// The relay's identity; none of a name, which DNS has to be asked for.
    pub fn peer(&self) -> Option<PeerId> {
        match self {
            Self::At(relay) => Some(relay.peer()),
            Self::Named(_) => None,
        }
    }

    /// As a multiaddr, with the relay's identity if that is known.
    pub fn address(&self) -> Multiaddr {
        match self {
            Self::At(relay) => relay.address().clone().with(Protocol::P2p(relay.peer())),
            Self::Named(name) => name.address(),
        }
    }

    /// The address under which `peer` is reached through it.
    pub fn circuit_to(&self, peer: PeerId) -> Multiaddr {
        match self {
            Self::At(relay) => relay.circuit_to(peer),
            Self::Named(name) => name.circuit_to(peer),
        }
    }
}

impl From<RelayAddr> for RelayLocator {
    fn from(relay: RelayAddr) -> Self {
        Self::At(relay)
    }
}

impl From<RelayName> for RelayLocator {
    fn from(name: RelayName) -> Self {
        Self::Named(name)
    }
}

impl FromStr for RelayLocator {
    type Err = RelayAddrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !text.starts_with('/') {
            let name: RelayName = text.parse()?;
            return match name.as_str().contains('.') {
                true => Ok(Self::Named(name)),
                false => Err(RelayNameError::OneWord { text: name }.into()),
            };
        }
        let address = text
            .parse()
            .map_err(|cause| RelayAddrError::NotAMultiaddr { text: text.to_owned(), cause })?;
        Self::new(address)
    }
}

impl fmt::Display for RelayLocator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(relay) => relay.fmt(f),
            Self::Named(name) => write!(f, "/dnsaddr/{name}"),
        }
    }
}

/// Splits a circuit address whose relay is known by name alone into that name and the peer behind it (absent in a listen
/// address). None if it is no such address.
pub fn split_named_circuit(address: &Multiaddr) -> Option<(RelayName, Option<PeerId>)> {
    if !is_circuit(address) {
        return None;
    }
    let before: Multiaddr = address.iter().take_while(|part| *part != Protocol::P2pCircuit).collect();
    Some((name_alone(&before)?.ok()?, peer_of(address)))
}

/// The name, if an address is nothing else.
fn name_alone(address: &Multiaddr) -> Option<Result<RelayName, RelayNameError>> {
    let mut parts = address.iter();
    match (parts.next(), parts.next()) {
        (Some(Protocol::Dnsaddr(name)), None) => Some(name.parse()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const RELAY: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

    #[test]
    fn a_relay_is_given_by_an_address_with_its_identity_or_by_a_name_alone() {
        for text in ["relay.example.org", "Relay.Example.org.", "/dnsaddr/relay.example.org"] {
            let relay: RelayLocator = text.parse().unwrap();
            assert_eq!(relay, RelayLocator::Named("relay.example.org".parse().unwrap()), "{text}");
            assert_eq!(relay.to_string(), "/dnsaddr/relay.example.org");
            assert_eq!(relay.to_string().parse::<RelayLocator>().unwrap(), relay);
        }
        for text in ["/ip4/1.2.3.4/tcp/4001", "/dns4/relay.lab/tcp/4001", "/dnsaddr/relay.lab"] {
            let full = format!("{text}/p2p/{RELAY}");
            let relay: RelayLocator = full.parse().unwrap();
            assert!(matches!(relay, RelayLocator::At(_)), "whoever names the identity pins it: {text}");
            assert_eq!(relay.to_string(), full);
        }
    }

    #[test]
    fn what_is_neither_an_address_nor_a_name_is_refused_with_what_to_write() {
        for text in
            ["relay:4001", "http://relay.lab", "a..b", "-a.lab", "relay lab", "", &"a".repeat(64)]
        {
            let error = text.parse::<RelayLocator>().unwrap_err().to_string();
            assert!(error.contains("_dnsaddr.relay.example.org"), "{text}: {error}");
        }
        let error = "203.0.113.7".parse::<RelayLocator>().unwrap_err().to_string();
        assert!(error.contains("/ip4/203.0.113.7/tcp/<port>/p2p/<relay's peer id>"), "{error}");
        let error = "203.0.113.7:4001".parse::<RelayLocator>().unwrap_err().to_string();
        assert!(error.contains("/ip4/203.0.113.7/tcp/4001/p2p/<relay's peer id>"), "{error}");
        let error = RELAY.parse::<RelayLocator>().unwrap_err().to_string();
        assert!(error.contains(&format!("/tcp/<port>/p2p/{RELAY}")), "{error}");
        let error = "/ip4/1.2.3.4/tcp/4001".parse::<RelayLocator>().unwrap_err().to_string();
        assert!(error.contains("/p2p/<relay's peer id>"), "{error}");
    }

    #[test]
    fn a_circuit_through_a_name_is_split_into_the_name_and_the_peer() {
        let (name, peer): (RelayName, _) = ("relay.lab".parse().unwrap(), RELAY.parse().unwrap());
        let circuit = name.circuit_to(peer);
        assert_eq!(split_named_circuit(&circuit), Some((name.clone(), Some(peer))));
        let listen = "/dnsaddr/relay.lab/p2p-circuit".parse().unwrap();
        assert_eq!(split_named_circuit(&listen), Some((name, None)));
        for other in ["/dnsaddr/relay.lab", "/ip4/1.2.3.4/tcp/1/p2p-circuit"] {
            assert_eq!(split_named_circuit(&other.parse().unwrap()), None, "{other}");
        }
    }
}
