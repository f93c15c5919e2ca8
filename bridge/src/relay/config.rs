//! Every setting of a relay: its effect, its default, its price.

use std::{
    net::SocketAddr,
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use libp2p::Multiaddr;

use crate::{
    addr::{GlobalScope, Ranges},
    error::StartError,
    net::{circuit::wire::Limit, web::Certificate},
};

/// Every setting of a relay. The defaults fit a small machine that serves a few hundred nodes.
#[derive(Clone, Debug)]
pub struct RelayConfig {
    /// Where to accept connections. Empty: every interface, TCP and QUIC, free ports.
    pub listen: Vec<Multiaddr>,
    /// What it shows on `/tls/ws` and `/wss`, which it cannot listen on without. Nodes of ours take any.
    pub certificate: Option<Certificate>,
    /// Addresses that clients reach it under; without one it hands out no reservations.
    pub external: External,
    /// Where to answer STUN, by which clients learn what kind of NAT they are behind. Default: everywhere.
    pub stun: StunListen,
    /// Which observed addresses may become external ones. Default: globally routable ones only.
    pub global: GlobalScope,
    /// Which ranges are dialled and answered; [`Relay::keep_to`](super::Relay::keep_to) changes them. Default: all.
    pub ranges: Ranges,
    /// Reservations held at once. Each costs a connection. Default 1,024.
    pub reservations: usize,
    /// Reservations of one peer at once; a node of ours has one whatever this says. Default 4.
    pub reservations_per_peer: usize,
    /// Reservations of one IPv4 address or IPv6 /64 at once, places kept for its peers included; a /24 or
    /// /48 gets twice that. Default: a quarter of all, but at least 16. More lets one address take what
    /// others need; less turns away offices and carriers where many share one.
    pub reservations_per_ip: Option<NonZeroUsize>,
    /// How long a reservation lasts unless renewed, whole seconds. Default 1 h.
    pub reservation_duration: Duration,
    /// A peer whose connection ended finds its place again for as long as it held it, and at most for
    /// this. Meanwhile nobody else gets it. Default 5 min.
    pub places_kept: Duration,
    /// Circuits at once, those that are being set up included. Each costs two substreams, and up to 128 KiB
    /// while bytes flow. Default 1,024.
    pub circuits: usize,
    /// Circuits that one peer asked for at once. Default 16.
    pub circuits_per_peer: usize,
    /// Circuits that were asked for from one IPv4 address or IPv6 /64 at once; a /24 or /48 gets twice that.
    /// Default: a quarter of all, but at least 64.
    pub circuits_per_ip: Option<NonZeroUsize>,
    /// Bytes that one circuit forwards, both directions added up; 0 is no limit. Default 1 GiB.
    pub circuit_bytes: u64,
    /// How long one circuit lives, whole seconds. Default 2 h.
    pub circuit_duration: Duration,
    /// Requests of one peer, for reservations and circuits each. Refused ones do not count. Default 120 an
    /// hour.
    pub requests_per_peer: Rate,
    /// Requests from one IP address, likewise: many nodes may share one. Renewals do not count. Default
    /// 3,600 an hour.
    pub requests_per_ip: Rate,
    /// Requests from one IP address for a circuit to a peer that holds no reservation, and peers that its
    /// clients want to be told of; they count for nothing else. Default 36,000 an hour: ten a second.
    pub lookups_per_ip: Rate,
    /// Connections in all. Default 4,096.
    pub connections: u32,
    /// Connections of one peer. Default 8.
    pub connections_per_peer: u32,
    /// Connections of one IPv4 address or IPv6 /64; a /24 or /48 gets twice that. Default: a quarter of
    /// all, but at least 64.
    pub connections_per_ip: Option<NonZeroUsize>,
    /// Inbound connections still shaking hands; one address gets a quarter, but at least 64. Each costs a
    /// socket and some kilobytes. Default 1,024.
    pub pending_inbound: u32,
    /// A connection whose peer neither says what it is nor asks for anything is closed after this. Default
    /// 20 s.
    pub silence: Duration,
}

/// Where clients reach a relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum External {
    /// At these addresses.
    Given(Vec<Multiaddr>),
    /// Wherever the first peers say they see it. Only for a relay whose peers are trusted: they could
    /// name any address.
    Observed,
}

/// Where a relay answers STUN.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StunListen {
    /// On every interface, IPv4 and IPv6, at port 3478 and the next one. Where the port is taken the relay says so,
    /// by [`Event::ListenFailed`](crate::Event::ListenFailed), and goes on without.
    #[default]
    Everywhere,
    /// At these addresses, each also at the port that follows.
    At(Vec<SocketAddr>),
    /// Nowhere.
    Off,
}

/// So many requests at once, refilled evenly over an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Requests per hour, and the largest burst.
    pub per_hour: NonZeroU32,
}

impl Rate {
    /// `requests` an hour.
    pub const fn per_hour(requests: NonZeroU32) -> Self {
        Self { per_hour: requests }
    }

    /// Between two requests, once the burst is used up.
    pub(super) fn interval(self) -> Duration {
        Duration::from_secs(3600) / self.per_hour.get()
    }
}

const PEER_RATE: NonZeroU32 = NonZeroU32::new(120).expect("120 is not 0");
const IP_RATE: NonZeroU32 = NonZeroU32::new(3_600).expect("3,600 is not 0");
const LOOKUP_RATE: NonZeroU32 = NonZeroU32::new(36_000).expect("36,000 is not 0");

/// The wire has 32 bits for seconds; a year is for ever.
const CIRCUIT_DURATION_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

impl Default for RelayConfig {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            certificate: None,
            external: External::Given(Vec::new()),
            stun: StunListen::default(),
            global: GlobalScope::default(),
            ranges: Ranges::default(),
            reservations: 1024,
            reservations_per_peer: 4,
            reservations_per_ip: None,
            reservation_duration: Duration::from_secs(3600),
            places_kept: Duration::from_secs(300),
            circuits: 1024,
            circuits_per_peer: 16,
            circuits_per_ip: None,
            circuit_bytes: 1 << 30,
            circuit_duration: Duration::from_secs(2 * 3600),
            requests_per_peer: Rate::per_hour(PEER_RATE),
            requests_per_ip: Rate::per_hour(IP_RATE),
            lookups_per_ip: Rate::per_hour(LOOKUP_RATE),
            connections: 4096,
            connections_per_peer: 8,
            connections_per_ip: None,
            pending_inbound: 1024,
            silence: Duration::from_secs(20),
        }
    }
}

impl RelayConfig {
    /// Checks what cannot be announced, or would refuse everybody.
    ///
    /// # Errors
    /// Names the setting, its range and the value.
    pub fn check(&self) -> Result<(), StartError> {
        let year = 1..=CIRCUIT_DURATION_MAX.as_secs();
        let durations = [
            ("the duration of circuits", self.circuit_duration),
            ("the duration of reservations", self.reservation_duration),
        ];
        for (setting, duration) in durations {
            if !year.contains(&duration.as_secs()) {
                let value = format!("{} s", duration.as_secs());
                return Err(StartError::Setting { setting, range: "1 second to 366 days", value });
            }
        }
        for (setting, count) in [
            ("reservations per peer", self.reservations_per_peer),
            ("circuits per peer", self.circuits_per_peer),
        ] {
            if count == 0 {
                return Err(StartError::Setting { setting, range: "at least 1", value: "0".into() });
            }
        }
        Ok(())
    }

    pub(super) fn reservations_share(&self) -> usize {
        share(self.reservations_per_ip, self.reservations, 16)
    }

    pub(super) fn circuits_share(&self) -> usize {
        share(self.circuits_per_ip, self.circuits, 64)
    }

    pub(super) fn connections_share(&self) -> usize {
        share(self.connections_per_ip, self.connections as usize, 64)
    }

    pub(super) fn handshakes_share(&self) -> usize {
        share(None, self.pending_inbound as usize, 64)
    }

    /// What one circuit may carry, as it is announced.
    pub(super) fn circuit_limit(&self) -> Limit {
        Limit {
            duration: u32::try_from(self.circuit_duration.as_secs()).ok(),
            data: (self.circuit_bytes > 0).then_some(self.circuit_bytes),
        }
    }
}

/// What one address gets of `all`: what was set, else a quarter, but so many that a household or an office
/// fits in.
fn share(set: Option<NonZeroUsize>, all: usize, least: usize) -> usize {
    set.map_or((all / 4).max(least), NonZeroUsize::get)
}
