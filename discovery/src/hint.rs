//! What sources say.

use std::{fmt, time::Duration};

use libp2p::{Multiaddr, PeerId};

/// Who says where a peer may be found. Declared best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// Our operator.
    Static,
    /// Somebody on this host, by mDNS; the system proves that it is on this host.
    ThisHost,
    /// Somebody on a network of this host, by mDNS; the addresses are of that network, as the system says.
    LocalNetwork,
    /// The peer itself, as nodes of the DHT keep it: it is signed.
    Kad,
    /// This host remembers that it led to the peer.
    Cache,
    /// The peer itself, in what it signed and the 160-bit network keeps.
    Mainline,
    /// The peer itself, in the DNS records that it signed and the 160-bit network keeps.
    Pkarr,
    /// A domain that our operator named.
    Dns,
    /// The peer itself, in what it signed and a meeting point that our operator named keeps.
    Rendezvous,
}

impl Source {
    /// Its name, for people and programs: `static`, `mdns`, `kad`, `mainline`, `cache`, `pkarr`, `dns`, `rendezvous`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::ThisHost | Self::LocalNetwork => "mdns",
            Self::Kad => "kad",
            Self::Cache => "cache",
            Self::Mainline => "mainline",
            Self::Pkarr => "pkarr",
            Self::Dns => "dns",
            Self::Rendezvous => "rendezvous",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A peer may be at these addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// Who.
    pub peer: PeerId,
    /// Where, without the peer's id at the end.
    pub addresses: Vec<Multiaddr>,
    /// Who says so.
    pub source: Source,
    /// How long ago it was known to be so.
    pub age: Duration,
    /// For how long it is worth remembering; none: as long as the process runs.
    pub lasts: Option<Duration>,
}
