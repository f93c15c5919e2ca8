//! Where the operator says that others reach us: at ports that were forwarded by hand, of which nobody else knows.
//!
//! ```text
//! unchecked --reached--> confirmed --3 failures in a row--> unanswered --reached--> confirmed
//! unchecked --not reached--> unanswered
//! ```
//!
//! They are candidates from the start, and relays test them as they test all ([`confirmed`](super::confirmed)). The
//! operator's word stands against a relay's, which may be wrong or lie: an address at which nobody answers is offered all the
//! same. But it is said to the operator, and peers are not told any more that it lets anybody in.

use std::time::Instant;

use libp2p::{Multiaddr, PeerId};

use crate::{
    addr::{
        dialable, is_circuit,
        policy::{Nearness, without_peer},
        socket_of, transport_of,
    },
    config::EXTERNAL_MAX,
    engine::{Engine, input::Action},
    error::Family,
    event::{CandidateSource, Event},
    status::{ExternalState, ExternalStatus},
};

#[derive(Debug)]
struct One {
    address: Multiaddr,
    /// Since when it is offered; none before this node listens.
    since: Option<Instant>,
    /// The relay that found nobody there, until one finds us.
    unanswered: Option<PeerId>,
}

/// The addresses.
#[derive(Debug)]
pub(crate) struct Stated(Vec<One>);

impl Stated {
    /// What nobody can dial is left out, and so is what is too much.
    pub(crate) fn new(addresses: &[Multiaddr]) -> Self {
        let usable = |address: &&Multiaddr| {
            dialable(address).is_ok() && socket_of(address).is_some() && !is_circuit(address)
        };
        let mut all: Vec<One> = Vec::new();
        for address in addresses.iter().filter(usable).map(without_peer) {
            if all.len() < EXTERNAL_MAX && all.iter().all(|known| known.address != address) {
                all.push(One { address, since: None, unanswered: None });
            }
        }
        Self(all)
    }

    /// Those that are offered, and since when.
    pub(super) fn offered(&self) -> impl Iterator<Item = (&Multiaddr, Instant)> {
        self.0.iter().filter_map(|one| Some((&one.address, one.since?)))
    }

    /// Whether the operator states it.
    pub(super) fn contains(&self, address: &Multiaddr) -> bool {
        self.0.iter().any(|one| one.address == *address)
    }

    /// Those that may be said to let anybody in.
    pub(super) fn open(&self) -> impl Iterator<Item = &Multiaddr> {
        let open = |one: &&One| one.since.is_some() && one.unanswered.is_none();
        self.0.iter().filter(open).map(|one| &one.address)
    }

    /// Offers them from now on. Returns them the first time.
    pub(super) fn begin(&mut self, now: Instant) -> Vec<Multiaddr> {
        let new = self.0.iter_mut().filter(|one| one.since.is_none());
        new.map(|one| {
            one.since = Some(now);
            one.address.clone()
        })
        .collect()
    }

    /// A relay found us there.
    pub(super) fn answered(&mut self, address: &Multiaddr) {
        if let Some(one) = self.0.iter_mut().find(|one| one.address == *address) {
            one.unanswered = None;
        }
    }

    /// This relay found nobody there; true if it is the first to say so.
    pub(super) fn unanswered(&mut self, address: &Multiaddr, relay: PeerId) -> bool {
        let one = self.0.iter_mut().find(|one| one.address == *address);
        one.is_some_and(|one| one.unanswered.replace(relay).is_none())
    }

    /// How each does. `confirmed`: whether a relay reaches us there.
    pub(super) fn states(
        &self,
        confirmed: impl Fn(&Multiaddr) -> bool,
    ) -> impl Iterator<Item = (&Multiaddr, ExternalState)> {
        self.0.iter().map(move |one| {
            let state = match one.unanswered {
                Some(relay) => ExternalState::Unanswered { relay },
                None if confirmed(&one.address) => ExternalState::Confirmed,
                None => ExternalState::Unchecked,
            };
            (&one.address, state)
        })
    }
}

impl Engine {
    /// This node listens, so it can be reached where its operator says. The first time, that is said and told to others.
    pub(in crate::engine) fn begin_stated(&mut self, now: Instant) {
        for address in self.candidates.begin_stated(now) {
            if self.candidates.policy().is_public(&address) {
                self.actions.push_back(Action::Confirm { address: address.clone(), confirmed: true });
            }
            let source = CandidateSource::Operator;
            self.events.push_back(Event::CandidateFound { address, source });
        }
    }

    /// A relay found nobody at an address of ours. That is worth saying of what the operator states.
    pub(in crate::engine) fn found_nobody(&mut self, address: Multiaddr, relay: PeerId) {
        if self.candidates.stated_unanswered(&address, relay) {
            let listener = self.behind(&address);
            self.events.push_back(Event::ExternalUnanswered { address, relay, listener });
        }
    }

    /// What the operator states is tested now: in another network, or because somebody mended what was wrong.
    pub(in crate::engine) fn test_stated(&mut self, now: Instant) {
        for (address, _) in self.candidates.stated() {
            self.confirmed.test_again(address, now);
        }
    }

    /// What the operator states, and how it does.
    pub(in crate::engine) fn external_status(&self) -> Vec<ExternalStatus> {
        let each = |(address, state): (&Multiaddr, _)| ExternalStatus {
            address: address.clone(),
            state,
            listener: self.behind(address),
        };
        self.candidates.stated().map(each).collect()
    }

    /// Where this host is to be sent what comes to an address outside, if that can be said.
    fn behind(&self, address: &Multiaddr) -> Option<Multiaddr> {
        let kind = |at: &Multiaddr| Some((transport_of(at), Family::of(socket_of(at)?.ip())));
        let policy = self.candidates.policy();
        let alike = self.candidates.listening_at().filter(|at| kind(at) == kind(address));
        let seen = alike.filter_map(|at| Some((at, policy.shows(at)?)));
        seen.min_by_key(|(_, nearness)| *nearness == Nearness::ThisHost).map(|(at, _)| at.clone())
    }
}
