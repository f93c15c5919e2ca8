//! Every setting of a relay: its effect, its default, its price.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId, relay};

use super::pace::Pace;
use crate::{addr::GlobalScope, error::StartError};

/// Every setting of a relay. The defaults fit a small machine that serves a few hundred nodes.
#[derive(Clone, Debug)]
pub struct RelayConfig {
    /// Where to accept connections. Empty: every interface, TCP and QUIC, free ports.
    pub listen: Vec<Multiaddr>,
    /// Addresses that clients reach it under; without one it hands out no reservations.
    pub external: External,
    /// Which observed addresses may become external ones. Default: globally routable ones only.
    pub global: GlobalScope,
    /// Reservations held at once. Each costs a connection. Default 1,024.
    pub reservations: usize,
    /// Reservations of one peer at once. Default 4.
    pub reservations_per_peer: usize,
    /// How long a reservation lasts unless renewed, whole seconds. Default 1 h.
    pub reservation_duration: Duration,
    /// Circuits at once. Each costs two buffers of 8 KiB and two substreams. Default 256.
    pub circuits: usize,
    /// Circuits of one peer at once. Default 16.
    pub circuits_per_peer: usize,
    /// Bytes that one circuit forwards, both directions added up; 0 is no limit. Default 1 GiB.
    pub circuit_bytes: u64,
    /// How long one circuit lives, whole seconds. Default 2 h.
    pub circuit_duration: Duration,
    /// Requests of one peer, for reservations and circuits each. Default 120 an hour.
    pub requests_per_peer: Rate,
    /// Requests from one IP address, likewise: many nodes may share one. Default 3,600 an hour.
    pub requests_per_ip: Rate,
    /// Connections in all. Default 4,096.
    pub connections: u32,
    /// Connections of one peer. Default 8.
    pub connections_per_peer: u32,
    /// Inbound connections still shaking hands. Default 512.
    pub pending_inbound: u32,
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

    fn interval(self) -> Duration {
        Duration::from_secs(3600) / self.per_hour.get()
    }
}

const PEER_RATE: NonZeroU32 = NonZeroU32::new(120).expect("120 is not 0");
const IP_RATE: NonZeroU32 = NonZeroU32::new(3_600).expect("3,600 is not 0");

/// libp2p panics on a circuit duration of more seconds than a u32 holds; a year is for ever.
const CIRCUIT_DURATION_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

impl Default for RelayConfig {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            external: External::Given(Vec::new()),
            global: GlobalScope::default(),
            reservations: 1024,
            reservations_per_peer: 4,
            reservation_duration: Duration::from_secs(3600),
            circuits: 256,
            circuits_per_peer: 16,
            circuit_bytes: 1 << 30,
            circuit_duration: Duration::from_secs(2 * 3600),
            requests_per_peer: Rate::per_hour(PEER_RATE),
            requests_per_ip: Rate::per_hour(IP_RATE),
            connections: 4096,
            connections_per_peer: 8,
            pending_inbound: 512,
        }
    }
}

impl RelayConfig {
    /// Checks what libp2p would take for something else, or panic on.
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

    pub(crate) fn to_libp2p(&self) -> relay::Config {
        let mut config = relay::Config {
            max_reservations: self.reservations,
            // libp2p lets one more through than it is told.
            max_reservations_per_peer: self.reservations_per_peer.saturating_sub(1),
            reservation_duration: self.reservation_duration,
            max_circuits: self.circuits,
            max_circuits_per_peer: self.circuits_per_peer.saturating_sub(1),
            max_circuit_duration: self.circuit_duration,
            max_circuit_bytes: self.circuit_bytes,
            ..relay::Config::default()
        };
        config.reservation_rate_limiters.clear();
        let mut pace = Pace::default();
        config.circuit_src_rate_limiters =
            vec![Box::new(move |_: PeerId, _: &Multiaddr, now: Instant| pace.allows(now))];
        let (peer, ip) = (self.requests_per_peer, self.requests_per_ip);
        config
            .reservation_rate_per_peer(peer.per_hour, peer.interval())
            .reservation_rate_per_ip(ip.per_hour, ip.interval())
            .circuit_src_per_peer(peer.per_hour, peer.interval())
            .circuit_src_per_ip(ip.per_hour, ip.interval())
    }
}
