//! Ways to a peer that failed under load: they come up, answer pings, and carry nothing.
//!
//! A router that drops large packets lets a TCP connection be made and stalls it with the first full segment.
//! Such a connection would be the best again and again. So a kind of connection on which streams met silence
//! twice, each time soon after they had come to it, ranks behind all others for a while.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use libp2p::PeerId;

use super::{Connection, Connections};
use crate::{
    addr::ip_of,
    path::{ConnectionId, Transport},
};

/// A stream that met silence so soon after it came to a connection speaks against that kind of connection;
/// later, the path has died as paths do.
const SOON: Duration = Duration::from_secs(20);

/// How long a kind of connection ranks last: doubled each time, from the first to the longest. Longer, and a
/// way that was mended is not used; shorter, and streams stall again and again.
const DEMOTED: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(600));

/// After so long without another failure, those before are forgotten.
const MEMORY: Duration = Duration::from_secs(1200);

/// Kinds of connections that are remembered; the one that failed longest ago makes room.
const DEMOTIONS_MAX: usize = 1024;

/// What is judged: all connections to one peer over one transport, relayed or to one host. A peer that is in another
/// network is reached by another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    peer: PeerId,
    quic: bool,
    /// Where the peer is; none through relays.
    host: Option<IpAddr>,
}

#[derive(Debug)]
struct Demotion {
    failures: u32,
    last: Instant,
    until: Option<Instant>,
}

/// Which kinds of connections rank last, and since when streams are where they are.
#[derive(Debug, Default)]
pub(super) struct Demotions {
    all: BTreeMap<Kind, Demotion>,
}

impl Kind {
    fn of(connection: &Connection) -> Self {
        Self {
            peer: connection.peer,
            quic: connection.transport == Transport::Quic,
            host: ip_of(&connection.address).filter(|_| connection.path.is_direct()),
        }
    }
}

impl Connections {
    /// A stream that had come to a connection at `came` met silence there.
    pub(crate) fn met_silence(&mut self, id: ConnectionId, came: Instant, now: Instant) {
        let Some(connection) = self.all.get(&id) else { return };
        if now.saturating_duration_since(came) > SOON {
            return;
        }
        let kind = Kind::of(connection);
        self.demotions.make_room(kind);
        let demotion =
            self.demotions.all.entry(kind).or_insert(Demotion { failures: 0, last: now, until: None });
        // Several streams meet the same silence at once.
        if demotion.failures > 0 && demotion.last > came {
            return;
        }
        if now.saturating_duration_since(demotion.last) > MEMORY {
            demotion.failures = 0;
        }
        demotion.failures = demotion.failures.saturating_add(1);
        demotion.last = now;
        if let Some(again) = demotion.failures.checked_sub(2) {
            let time = DEMOTED.0.saturating_mul(1 << again.min(8)).min(DEMOTED.1);
            demotion.until = Some(now + time);
        }
    }

    /// This host is in another network: what failed there says nothing of here. Returns the peers that it was about.
    pub(crate) fn forget_demotions(&mut self) -> Vec<PeerId> {
        std::mem::take(&mut self.demotions.all).into_keys().map(|kind| kind.peer).collect()
    }

    pub(super) fn is_demoted(&self, connection: &Connection) -> bool {
        self.demotions.all.get(&Kind::of(connection)).is_some_and(|found| found.until.is_some())
    }

    /// Peers of which a kind of connection has served its time.
    pub(crate) fn take_promoted(&mut self, now: Instant) -> Vec<PeerId> {
        let due = |(kind, demotion): (&Kind, &mut Demotion)| {
            demotion.until.take_if(|until| *until <= now).map(|_| kind.peer)
        };
        self.demotions.all.iter_mut().filter_map(due).collect()
    }

    /// When the next one has.
    pub(crate) fn next_promotion(&self) -> Option<Instant> {
        self.demotions.all.values().filter_map(|demotion| demotion.until).min()
    }
}

impl Demotions {
    fn make_room(&mut self, kind: Kind) {
        if self.all.len() >= DEMOTIONS_MAX
            && !self.all.contains_key(&kind)
            && let Some(oldest) =
                self.all.iter().min_by_key(|(_, demotion)| demotion.last).map(|(kind, _)| *kind)
        {
            self.all.remove(&oldest);
        }
    }
}
