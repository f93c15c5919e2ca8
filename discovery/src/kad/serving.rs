//! Whether this node answers others, if its operator leaves it to us: only where strangers reach it. Pure: `now` is an argument.
//!
//! ```text
//! asks ──an address that may be reached──> trial ──somebody came in──> serves ──nobody for 20 min──> trial
//!   ^────────────nobody came in a minute─────┘
//! ```
//!
//! In a *trial* the node says that it serves, and where. Whoever hears that dials it before it is let into a table, so a
//! trial that leads nowhere harms nobody. A connection that comes in from the internet is the dial-back.
//!
//! An address of this host that is public needs no trial, unless the node's own dial-backs found the host to be dark. A circuit
//! is no address here, so a reservation at a relay makes nobody a server.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, multiaddr::Protocol};

use crate::admission::groups::ip_of;

/// Within this somebody dials back.
pub(super) const TRIAL: Duration = Duration::from_secs(60);

/// After a trial that led nowhere.
pub(super) const TRY_AGAIN: Duration = Duration::from_secs(15 * 60);

/// Somebody comes in so often at least, or it is tried whether anybody does.
pub(super) const PROOF_LASTS: Duration = Duration::from_secs(20 * 60);

/// Addresses where it may be reached.
const CANDIDATES_MAX: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Asks { again: Option<Instant> },
    Trial { until: Instant },
    Serves { proved: Instant },
}

/// Where the node serves.
#[derive(Debug)]
pub(super) struct Serving {
    state: State,
    /// Where the DHT listens.
    listening: Vec<Multiaddr>,
    /// Where dial-backs reached this node's other half, directly; at the end of what they ever did.
    confirmed: Vec<IpAddr>,
    ever: Vec<IpAddr>,
}

impl Serving {
    pub(super) fn new() -> Self {
        let (listening, confirmed, ever) = Default::default();
        Self { state: State::Asks { again: None }, listening, confirmed, ever }
    }

    /// The DHT listens there.
    pub(super) fn listens(&mut self, at: Vec<Multiaddr>, now: Instant) {
        self.listening = at;
        self.look(now);
    }

    /// All addresses at which strangers reached this host just now, as they dialled it back; circuits do not count.
    pub(super) fn confirmed(&mut self, at: &[Multiaddr], now: Instant) {
        let direct = at.iter().filter(|at| !at.iter().any(|part| part == Protocol::P2pCircuit));
        self.confirmed = direct.filter_map(ip_of).take(CANDIDATES_MAX).collect();
        for ip in &self.confirmed {
            if !self.ever.contains(ip) {
                self.ever.push(*ip);
            }
        }
        let surplus = self.ever.len().saturating_sub(CANDIDATES_MAX);
        self.ever.drain(..surplus);
        self.look(now);
    }

    /// Somebody came in from the internet.
    pub(super) fn came(&mut self, now: Instant) {
        if let State::Trial { .. } | State::Serves { .. } = self.state {
            self.state = State::Serves { proved: now };
        }
    }

    /// Time passes.
    pub(super) fn look(&mut self, now: Instant) {
        let candidates = !self.candidates().is_empty();
        self.state = match self.state {
            _ if !candidates => State::Asks { again: None },
            State::Asks { again } if again.is_none_or(|at| at <= now) => {
                State::Trial { until: now + TRIAL }
            }
            State::Trial { until } if until <= now => State::Asks { again: Some(now + TRY_AGAIN) },
            State::Serves { proved } if proved + PROOF_LASTS <= now => {
                State::Trial { until: now + TRIAL }
            }
            state => state,
        };
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Asks { again } => again,
            State::Trial { until } => Some(until),
            State::Serves { proved } => Some(proved + PROOF_LASTS),
        }
    }

    /// Where it is to say that it serves. `is_public`: whether strangers may reach an address of this host.
    pub(super) fn addresses(&self, is_public: impl Fn(&Multiaddr) -> bool) -> Vec<Multiaddr> {
        let dark = |at: &Multiaddr| {
            ip_of(at).is_some_and(|ip| self.ever.contains(&ip) && !self.confirmed.contains(&ip))
        };
        let own = self.listening.iter().filter(|at| is_public(at) && !dark(at)).cloned();
        let beyond = match self.state {
            State::Trial { .. } | State::Serves { .. } => self.candidates(),
            State::Asks { .. } => Vec::new(),
        };
        let mut all: Vec<Multiaddr> = own.chain(beyond.into_iter().filter(|at| is_public(at))).collect();
        all.dedup();
        all
    }

    /// The port that the DHT listens at, where strangers reached this host, if that is no address of its own.
    fn candidates(&self) -> Vec<Multiaddr> {
        let own: Vec<IpAddr> = self.listening.iter().filter_map(ip_of).collect();
        let of = |ip: &IpAddr| {
            let ip = *ip;
            let family = self.listening.iter().filter(move |at| {
                ip_of(at).is_some_and(|own| own.is_ipv4() == ip.is_ipv4() && !own.is_loopback())
            });
            let there =
                family.map(move |at| Multiaddr::from(ip).into_iter().chain(at.iter().skip(1)).collect());
            there.collect::<Vec<Multiaddr>>()
        };
        let mut all: Vec<Multiaddr> =
            self.confirmed.iter().filter(|ip| !own.contains(ip)).flat_map(of).collect();
        all.sort();
        all.dedup();
        all.truncate(CANDIDATES_MAX);
        all
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn at(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    fn public(address: &Multiaddr) -> bool {
        ip_of(address).is_some_and(|ip| ip.to_string().starts_with("203."))
    }

    fn behind_a_nat(now: Instant) -> Serving {
        let mut serving = Serving::new();
        serving.listens(vec![at("/ip4/127.0.0.1/tcp/4001"), at("/ip4/10.0.0.2/tcp/4001")], now);
        serving
    }

    #[test]
    fn whom_strangers_dialled_back_directly_tries_whether_they_reach_its_port_of_the_dht_and_serves_there()
     {
        let now = Instant::now();
        let mut serving = behind_a_nat(now);
        assert_eq!(serving.addresses(public), [] as [Multiaddr; 0]);
        serving.confirmed(&[at("/ip4/203.0.113.7/udp/9999/quic-v1")], now);
        let there = [at("/ip4/203.0.113.7/tcp/4001")];
        assert_eq!(serving.addresses(public), there, "a trial");
        serving.came(now + S);
        serving.look(now + PROOF_LASTS);
        assert_eq!(serving.addresses(public), there);
    }

    #[test]
    fn a_reservation_makes_nobody_a_server() {
        let now = Instant::now();
        let mut serving = behind_a_nat(now);
        let relay = libp2p::PeerId::random();
        serving.confirmed(&[at(&format!("/ip4/203.0.113.9/tcp/1/p2p/{relay}/p2p-circuit"))], now);
        serving.came(now);
        assert_eq!(serving.addresses(public), [] as [Multiaddr; 0]);
    }

    #[test]
    fn whom_nobody_dials_back_only_asks_and_tries_again_in_a_quarter_of_an_hour() {
        let now = Instant::now();
        let mut serving = behind_a_nat(now);
        serving.confirmed(&[at("/ip4/203.0.113.7/tcp/9999")], now);
        assert_eq!(serving.poll_timeout(), Some(now + TRIAL));
        serving.look(now + TRIAL);
        assert!(serving.addresses(public).is_empty());
        serving.came(now + TRIAL);
        assert!(serving.addresses(public).is_empty(), "no trial is under way");
        serving.look(now + TRIAL + TRY_AGAIN);
        assert_eq!(serving.addresses(public).len(), 1);
    }

    #[test]
    fn an_address_that_goes_dark_is_served_at_no_more() {
        let now = Instant::now();
        let mut serving = behind_a_nat(now);
        serving.confirmed(&[at("/ip4/203.0.113.7/tcp/9999")], now);
        serving.came(now);
        // Nobody comes in any more.
        serving.look(now + PROOF_LASTS);
        serving.look(now + PROOF_LASTS + TRIAL);
        assert!(serving.addresses(public).is_empty());
        // Dial-backs fail at a public address of this host.
        let mut serving = Serving::new();
        serving.listens(vec![at("/ip4/203.0.113.7/tcp/4001")], now);
        assert_eq!(serving.addresses(public).len(), 1, "it is taken for reachable");
        serving.confirmed(&[at("/ip4/203.0.113.7/tcp/9999")], now);
        assert_eq!(serving.addresses(public).len(), 1);
        serving.confirmed(&[], now);
        assert!(serving.addresses(public).is_empty());
    }
}
