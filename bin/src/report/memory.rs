//! What is remembered of each peer, for whoever asks why it is reached as it is. Pure: events and the time come in.
//!
//! Of each peer the latest steps are kept, by topic, so that many of one kind hide none of another; and what became of
//! each service last. There is room for so many peers: those that our program wants displace those that it lets in, and
//! these displace those that only came by.

mod step;

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    time::{Duration, Instant},
};

use libp2p::PeerId;
use punchline_bridge::{
    Event as BridgeEvent, Service,
    error::{Family, OpenError, Refusal},
    event::MappingFault,
    nat::NatKind,
    path::Direction,
};

pub(crate) use self::step::{Step, TOPICS};
use super::{Event, Failure, SessionEvent};
use crate::{gateway::event::GatewayEvent, node::KASPA_SERVICE};

/// Peers that are remembered: with all that may be kept of each, some 10 MB.
const PEERS_MAX: usize = 256;

/// Steps of one topic that are kept of one peer: some rounds of punches.
const STEPS_MAX: usize = 12;

/// Services of one peer: a stranger may ask for any name.
const SERVICES_MAX: usize = 8;

/// What is remembered.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Bounded by [`PEERS_MAX`].
    peers: BTreeMap<PeerId, Remembered>,
    surroundings: Surroundings,
}

/// Of this node, beside what its status says.
#[derive(Debug, Default)]
pub(crate) struct Surroundings {
    /// How others see this host over IPv4, and over IPv6.
    pub(crate) public: [Option<IpAddr>; 2],
    /// Why ports that the router forwards are of no use, unless a later one is.
    pub(crate) unusable_mapping: Option<MappingFault>,
}

/// Of one peer.
#[derive(Debug)]
pub(crate) struct Remembered {
    /// By topic, the oldest first; each bounded by [`STEPS_MAX`].
    steps: [VecDeque<Moment>; TOPICS],
    /// What became of each service last; bounded by [`SERVICES_MAX`].
    uses: BTreeMap<Service, Use>,
    /// What the peer is behind, as it says.
    pub(crate) nat: Option<NatKind>,
    standing: Standing,
    last: Instant,
}

/// What a peer is to our program. The order is that of who displaces whom, and the highest that it ever was counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// It only came by, as anybody can.
    CameBy,
    /// It was let in. Where everybody is, that takes no more than an identity.
    LetIn,
    /// Our program is to reach it.
    Wanted,
}

/// Something happened, once or several times in a row.
#[derive(Debug)]
pub(crate) struct Moment {
    pub(crate) step: Step,
    /// The last time.
    pub(crate) at: Instant,
    pub(crate) count: u32,
}

/// What became of a service last.
#[derive(Debug)]
pub(crate) struct Use {
    pub(crate) outcome: Outcome,
    /// The last time.
    pub(crate) at: Instant,
    /// How often in a row.
    pub(crate) count: u32,
}

/// What became of a stream for a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was opened.
    Opened,
    /// The peer refused it to us.
    RefusedThere(Refusal),
    /// Nobody serves it here.
    RefusedHere(Refusal),
    /// The peer may not use it here.
    Denied(String),
    /// The peer was let in, but the program behind the service was not reached.
    TargetFailed { target: String, reason: String },
    /// The stream was open, and the session on it did not come about.
    HandshakeFailed(String),
}

/// What an event says of a peer.
enum Heard {
    /// Our program is to reach it.
    Wanted,
    Step(Step),
    Use(Service, Outcome, Direction),
}

impl Memory {
    /// Remembers what is worth it.
    pub(crate) fn hear(&mut self, event: &Event, now: Instant) {
        if let Event::Bridge(event) = event {
            self.surroundings.hear(event);
        }
        let Some((peer, heard)) = Heard::of(event) else { return };
        let standing = heard.standing();
        let Some(remembered) = self.room_for(peer, standing, now) else { return };
        remembered.standing = remembered.standing.max(standing);
        remembered.last = now;
        remembered.hear(heard, now);
    }

    pub(crate) fn of(&self, peer: PeerId) -> Option<&Remembered> {
        self.peers.get(&peer)
    }

    pub(crate) fn surroundings(&self) -> &Surroundings {
        &self.surroundings
    }

    /// Those that our program wants, or let in.
    pub(crate) fn familiar(&self) -> impl Iterator<Item = PeerId> {
        let familiar = |(_, of): &(&PeerId, &Remembered)| of.standing > Standing::CameBy;
        self.peers.iter().filter(familiar).map(|(peer, _)| *peer)
    }

    /// The peer, if there is room for it: of the lowest standing that there is, whoever was not heard of for longest goes.
    fn room_for(&mut self, peer: PeerId, standing: Standing, now: Instant) -> Option<&mut Remembered> {
        if !self.peers.contains_key(&peer) && self.peers.len() >= PEERS_MAX {
            let least = |(_, of): &(&PeerId, &Remembered)| (of.standing, of.last);
            let (least, of) = self.peers.iter().min_by_key(least)?;
            if of.standing > standing {
                return None;
            }
            let least = *least;
            self.peers.remove(&least);
        }
        Some(self.peers.entry(peer).or_insert_with(|| Remembered::new(now)))
    }
}

impl Surroundings {
    fn hear(&mut self, event: &BridgeEvent) {
        match event {
            BridgeEvent::NatFound { family, public_address, .. } => {
                self.public[usize::from(*family == Family::V6)] = *public_address;
            }
            BridgeEvent::PortMapped { .. } => self.unusable_mapping = None,
            BridgeEvent::PortMappingUnusable { cause, .. } => self.unusable_mapping = Some(*cause),
            _ => {}
        }
    }
}

impl Remembered {
    fn new(now: Instant) -> Self {
        let steps = std::array::from_fn(|_| VecDeque::new());
        Self { steps, uses: BTreeMap::new(), nat: None, standing: Standing::CameBy, last: now }
    }

    fn hear(&mut self, heard: Heard, now: Instant) {
        match heard {
            Heard::Wanted => {}
            Heard::Step(step) => {
                self.nat = step.nat().filter(|nat| *nat != NatKind::default()).or(self.nat);
                self.step(step, now);
            }
            Heard::Use(service, outcome, _) => self.used(service, outcome, now),
        }
    }

    fn step(&mut self, step: Step, now: Instant) {
        let steps = &mut self.steps[step.topic()];
        if let Some(last) = steps.back_mut().filter(|last| last.step.is_repeated_by(&step)) {
            last.count = last.count.saturating_add(1);
            last.at = now;
            return last.step.repeat(step);
        }
        if steps.len() >= STEPS_MAX {
            steps.pop_front();
        }
        steps.push_back(Moment { step, at: now, count: 1 });
    }

    fn used(&mut self, service: Service, outcome: Outcome, now: Instant) {
        if !self.uses.contains_key(&service) && self.uses.len() >= SERVICES_MAX {
            // Names that were only asked for go before those that were ever used.
            let least = |(_, of): &(&Service, &Use)| (of.outcome == Outcome::Opened, of.at);
            let least = self.uses.iter().min_by_key(least).map(|(service, _)| service.clone());
            least.map(|least| self.uses.remove(&least));
        }
        let before = self.uses.get(&service).filter(|of| of.outcome == outcome).map_or(0, |of| of.count);
        self.uses.insert(service, Use { outcome, at: now, count: before.saturating_add(1) });
    }

    /// All steps, the oldest first.
    pub(crate) fn steps(&self) -> Vec<&Moment> {
        let mut all: Vec<&Moment> = self.steps.iter().flatten().collect();
        all.sort_by_key(|moment| moment.at);
        all
    }

    pub(crate) fn uses(&self) -> impl Iterator<Item = (&Service, &Use)> {
        self.uses.iter()
    }
}

impl Heard {
    fn of(event: &Event) -> Option<(PeerId, Self)> {
        match event {
            Event::Bridge(event) => Self::of_bridge(event),
            Event::Gateway(event) => Self::of_gateway(event),
            Event::Session(event) => Self::of_session(event),
            #[cfg(feature = "kad")]
            Event::Dht(_) => None,
            Event::Report(_) => None,
        }
    }

    fn of_bridge(event: &BridgeEvent) -> Option<(PeerId, Self)> {
        Some(match event {
            BridgeEvent::StreamOpened { peer, service, direction, .. } => {
                (*peer, Self::Use(service.clone(), Outcome::Opened, *direction))
            }
            BridgeEvent::StreamRefused { peer, service, reason, direction } => {
                let outcome = match direction {
                    Direction::Outbound => Outcome::RefusedThere(*reason),
                    Direction::Inbound => Outcome::RefusedHere(*reason),
                };
                (*peer, Self::Use(service.clone(), outcome, *direction))
            }
            BridgeEvent::PeerUnreachable { peer, reason, retry_in_ms, .. } => {
                (*peer, Self::not_reached(reason.clone().into(), Some(*retry_in_ms)))
            }
            event => {
                let (peer, step) = Step::of(event)?;
                (peer, Self::Step(step))
            }
        })
    }

    fn of_gateway(event: &GatewayEvent) -> Option<(PeerId, Self)> {
        Some(match event {
            GatewayEvent::AccessRefused { peer, service, reason } => {
                (*peer, Self::Use(service.clone(), Outcome::Denied(reason.clone()), Direction::Inbound))
            }
            GatewayEvent::TargetFailed { peer, service, target, reason } => {
                let (target, reason) = (target.clone(), reason.clone());
                let outcome = Outcome::TargetFailed { target, reason };
                (*peer, Self::Use(service.clone(), outcome, Direction::Inbound))
            }
            GatewayEvent::ForwardListening { peer, .. } => (*peer, Self::Wanted),
            GatewayEvent::ForwardFailed { peer, reason, .. } => (*peer, Self::failed(reason, None)),
            GatewayEvent::AccessRevoked { .. }
            | GatewayEvent::AccessReloaded { .. }
            | GatewayEvent::ForwardFull { .. }
            | GatewayEvent::PeerFound { .. }
            | GatewayEvent::Refused { .. } => return None,
        })
    }

    fn of_session(event: &SessionEvent) -> Option<(PeerId, Self)> {
        // A stream that was opened has told already who wanted whom.
        let used = |outcome| Some(Self::Use(KASPA_SERVICE.parse().ok()?, outcome, Direction::Inbound));
        Some(match event {
            SessionEvent::SessionReady { peer, .. } => (*peer, used(Outcome::Opened)?),
            SessionEvent::HandshakeFailed { peer, reason, .. } => {
                (*peer, used(Outcome::HandshakeFailed(reason.clone()))?)
            }
            SessionEvent::DialFailed { peer, reason, retry_in_ms } => {
                (*peer, Self::failed(reason, *retry_in_ms))
            }
            SessionEvent::SessionEnded { .. }
            | SessionEvent::LoadDone { .. }
            | SessionEvent::StreamTraffic { .. }
            | SessionEvent::SessionPinged { .. } => return None,
        })
    }

    /// A refusal is told by an event of its own, which names the service.
    fn failed(failure: &Failure, retry_in_ms: Option<u64>) -> Self {
        match failure {
            Failure::Open(OpenError::Refused { .. }) => Self::Wanted,
            failure => Self::not_reached(failure.clone(), retry_in_ms),
        }
    }

    fn not_reached(failure: Failure, retry_in_ms: Option<u64>) -> Self {
        Self::Step(Step::NotReached { failure, retry: retry_in_ms.map(Duration::from_millis) })
    }

    /// What this shows the peer to be. Strangers can cause much of it.
    fn standing(&self) -> Standing {
        match self {
            Self::Wanted
            | Self::Step(Step::NotReached { .. })
            | Self::Use(_, Outcome::RefusedThere(_), _)
            | Self::Use(_, Outcome::Opened, Direction::Outbound) => Standing::Wanted,
            Self::Use(_, Outcome::Opened | Outcome::TargetFailed { .. }, _) => Standing::LetIn,
            Self::Step(_) | Self::Use(..) => Standing::CameBy,
        }
    }
}

#[cfg(test)]
mod tests;
