//! Where a relay is reached, and who must answer there.

use std::{fmt, str::FromStr};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

use super::{RelayNameError, is_circuit};

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
    /// It is no name of relays either.
    #[error(transparent)]
    Name(#[from] RelayNameError),
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_relay_address_without_a_peer_id_is_refused_with_the_remedy() {
        let error = "/ip4/1.2.3.4/tcp/4001".parse::<RelayAddr>().unwrap_err();
        assert!(error.to_string().contains("/p2p/<relay's peer id>"), "{error}");
    }
}
