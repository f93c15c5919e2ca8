//! The shipped programs behind every pair of NATs: what becomes direct, how soon, and why the rest does not.
//!
//! [`expected`] is written down from what NATs can pass, before anything is measured; [`Cell::run`] measures one
//! cell once; [`Table`] holds one beside the other.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::lab::{Filtering, Mapping, Nat};
use crate::scene::Transport;

mod run;
mod table;

pub use run::Run;
pub use table::Table;

/// Which transports both nodes listen on and dial by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Over {
    /// TCP alone.
    Tcp,
    /// QUIC alone.
    Quic,
    /// Both.
    Both,
}

impl Over {
    /// Each of the three.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Quic, Self::Both];

    /// The transports.
    pub fn transports(self) -> &'static [Transport] {
        match self {
            Self::Tcp => &[Transport::Tcp],
            Self::Quic => &[Transport::Quic],
            Self::Both => &[Transport::Tcp, Transport::Quic],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Quic => "quic",
            Self::Both => "both",
        }
    }
}

impl fmt::Display for Over {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// No such choice of transports.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is no choice of transports: say tcp, quic or both")]
pub struct UnknownTransports(String);

impl FromStr for Over {
    type Err = UnknownTransports;

    fn from_str(name: &str) -> Result<Self, UnknownTransports> {
        let found = Self::ALL.into_iter().find(|over| over.name() == name);
        found.ok_or_else(|| UnknownTransports(name.to_owned()))
    }
}

/// One pair of NATs, and what the nodes behind them speak.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cell {
    /// The NAT of the server.
    pub server: Nat,
    /// The NAT of the client.
    pub client: Nat,
    /// The transports.
    pub over: Over,
}

impl Cell {
    /// Every pair of `nats`, over each of `overs`.
    pub fn all(nats: &[Nat], overs: &[Over]) -> Vec<Self> {
        let pairs = nats.iter().flat_map(|&server| nats.iter().map(move |&client| (server, client)));
        let over =
            |&over: &Over| pairs.clone().map(move |(server, client)| Self { server, client, over });
        overs.iter().flat_map(over).collect()
    }

    /// What physics allows.
    pub fn expected(&self) -> Expected {
        expected(self.server, self.client)
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: server {}, client {}", self.over, self.server, self.client)
    }
}

/// Where a session ends up if everything is done that can be done without guessing ports.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Expected {
    /// On a direct path.
    Direct,
    /// On the relay.
    Relayed,
}

/// What can be had between two NATs, whichever of them the server is behind.
///
/// Both ends learn from the relay at which port the other would be seen. That is enough, unless one of them shows
/// every destination another port *and* the other lets in only ports that its host has sent to: those would
/// have to be guessed. Over TCP it is the same as over QUIC, since the SYNs of both ends may cross.
pub fn expected(a: Nat, b: Nat) -> Expected {
    let unpredictable = |nat: Nat| nat.mapping() == Mapping::EndpointDependent;
    let wants_the_port = |nat: Nat| nat.filtering() == Filtering::AddressAndPortDependent;
    match unpredictable(a) && wants_the_port(b) || unpredictable(b) && wants_the_port(a) {
        true => Expected::Relayed,
        false => Expected::Direct,
    }
}

/// What one run of a cell came to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// A direct connection.
    Direct {
        /// Since the client's first relayed connection to the server; since its first event if it was never relayed.
        took: Duration,
        /// Over which transport.
        transport: String,
    },
    /// The session lives on the relay, and a node said why.
    Relayed {
        /// What it said.
        reason: String,
        /// When, counted as above.
        after: Duration,
    },
    /// The session lives on the relay, and nobody said why.
    Silent,
    /// There was no session.
    Broken {
        /// What failed.
        why: String,
    },
}

impl Outcome {
    /// Whether it is the one that was expected.
    pub fn is(&self, expected: Expected) -> bool {
        match expected {
            Expected::Direct => matches!(self, Self::Direct { .. }),
            Expected::Relayed => matches!(self, Self::Relayed { .. }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_of_the_twenty_five_classic_pairs_can_be_direct() {
        let cells = Cell::all(&Nat::CLASSIC, &[Over::Both]);
        let direct = |cell: &&Cell| cell.expected() == Expected::Direct;
        assert_eq!((cells.len(), cells.iter().filter(direct).count()), (25, 20));
    }

    #[test]
    fn the_roles_do_not_matter_to_what_can_be() {
        for cell in Cell::all(&Nat::ALL, &[Over::Tcp]) {
            assert_eq!(expected(cell.server, cell.client), expected(cell.client, cell.server), "{cell}");
        }
    }

    #[test]
    fn an_open_host_can_be_reached_from_everywhere_and_a_firewall_is_like_a_port_restricted_nat() {
        for nat in Nat::ALL {
            assert_eq!(expected(Nat::Open, nat), Expected::Direct);
            assert_eq!(expected(Nat::Firewall, nat), expected(Nat::PortPreserving, nat));
        }
    }

    #[test]
    fn silence_is_never_what_was_expected() {
        assert!(!Outcome::Silent.is(Expected::Direct) && !Outcome::Silent.is(Expected::Relayed));
    }
}
