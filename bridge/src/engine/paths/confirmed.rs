//! Which of our addresses others reach: each public candidate is tested through relays that dial back (AutoNAT v2), and
//! again as long as it is one.
//!
//! ```text
//! untested --reached--> confirmed --3 failures in a row--> withdrawn, and tested ever more rarely
//! ```
//!
//! A relay dials back from its own host, which we spoke with. A NAT that filters by address lets that in and nobody
//! else. So where an address is not this host's own, a dial-back proves that anybody gets in only if it came from a
//! host that we never spoke with; and no proof makes us do without relays.

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId};

use crate::{
    addr::{ip_of, translated::inside},
    engine::{
        Engine,
        input::{Action, Outcome, TestId},
    },
    event::{Event, LetsIn},
    path::ConnectionId,
};

/// Between two tests of an address that is confirmed.
const CONFIRMED_AGAIN: Duration = Duration::from_secs(15 * 60);

/// A confirmed address is withdrawn after so many failures in a row: a dial-back may be lost, and a relay wrong.
const FAILURES_MAX: u32 = 3;

/// Between the failures of a confirmed address: one that is gone is offered for 2 min at most after it was noticed.
const DOUBTED_AGAIN: Duration = Duration::from_secs(60);

/// After the first, second and later failures of an address that is not confirmed.
const UNREACHED_AGAIN: [Duration; 3] =
    [Duration::from_secs(60), Duration::from_secs(5 * 60), Duration::from_secs(15 * 60)];

/// First and longest wait for a server that gave no answer; it doubles in between.
const SERVER_AGAIN: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(16 * 60));

/// For a test to come to an end. The net gives up earlier; this is for an answer that got lost.
const TEST_DEADLINE: Duration = Duration::from_secs(40);

/// Servers that are remembered: links to as many relays as a node uses.
const SERVERS_MAX: usize = 64;

/// Hosts that we spoke with and remember. If there were more, none counts as one that we never spoke with.
const CONTACTS_MAX: usize = 1024;

/// A test to begin.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Begin {
    pub(crate) test: TestId,
    pub(crate) server: PeerId,
    pub(crate) connection: ConnectionId,
    pub(crate) address: Multiaddr,
}

/// What a test changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Confirmed {
        address: Multiaddr,
        server: PeerId,
        lets_in: LetsIn,
    },
    /// `by`: the relay that reaches us no more; none if it is no candidate any more.
    Withdrawn {
        address: Multiaddr,
        by: Option<PeerId>,
    },
    /// It was not confirmed, and this relay does not reach us there.
    Unreached {
        address: Multiaddr,
        server: PeerId,
    },
}

#[derive(Debug)]
struct Tested {
    due: Instant,
    failures: u32,
    lets_in: Option<LetsIn>,
    /// The relay that tested it last: another one comes first.
    last: Option<PeerId>,
}

#[derive(Debug)]
struct Server {
    peer: PeerId,
    free: Instant,
    /// Times in a row that it gave no answer.
    silent: u32,
    asked: Option<Instant>,
}

#[derive(Debug)]
struct UnderWay {
    test: TestId,
    address: Multiaddr,
    connection: ConnectionId,
    until: Instant,
}

/// Our addresses and what their tests said. One test at a time.
#[derive(Debug, Default)]
pub(crate) struct Confirmed {
    all: BTreeMap<Multiaddr, Tested>,
    servers: BTreeMap<ConnectionId, Server>,
    under_way: Option<UnderWay>,
    tests: u64,
}

impl Confirmed {
    /// These are our candidates, and no others. What is no candidate any more is not confirmed either.
    pub(crate) fn candidates(&mut self, candidates: Vec<Multiaddr>, now: Instant) -> Vec<Change> {
        let gone = self.all.extract_if(.., |address, _| !candidates.contains(address));
        let withdrawn = gone.filter(|(_, tested)| tested.lets_in.is_some());
        let changes = withdrawn.map(|(address, _)| Change::Withdrawn { address, by: None }).collect();
        for address in candidates {
            let untested = Tested { due: now, failures: 0, lets_in: None, last: None };
            self.all.entry(address).or_insert(untested);
        }
        changes
    }

    /// A relay tests addresses, over this connection.
    pub(crate) fn offered(&mut self, connection: ConnectionId, peer: PeerId, now: Instant) {
        if self.servers.len() < SERVERS_MAX {
            let server = Server { peer, free: now, silent: 0, asked: None };
            self.servers.entry(connection).or_insert(server);
        }
    }

    /// It does not any more.
    pub(crate) fn gone(&mut self, connection: ConnectionId) {
        self.servers.remove(&connection);
        self.under_way.take_if(|test| test.connection == connection);
    }

    /// The test that is due, if one is.
    pub(crate) fn begin(&mut self, now: Instant) -> Option<Begin> {
        if self.under_way.as_ref().is_some_and(|test| test.until <= now) {
            self.unanswered(now);
        }
        if self.under_way.is_some() {
            return None;
        }
        let (address, tested) = self.all.iter_mut().min_by_key(|(_, tested)| tested.due)?;
        if tested.due > now {
            return None;
        }
        let free = self.servers.iter_mut().filter(|(_, server)| server.free <= now);
        let (connection, server) =
            free.min_by_key(|(_, server)| (Some(server.peer) == tested.last, server.asked))?;
        (server.asked, tested.last) = (Some(now), Some(server.peer));
        self.tests += 1;
        let (test, connection, address) = (TestId(self.tests), *connection, address.clone());
        let until = now + TEST_DEADLINE;
        self.under_way = Some(UnderWay { test, address: address.clone(), connection, until });
        Some(Begin { test, server: server.peer, connection, address })
    }

    /// A test came to an end. `lets_in`: what it proves if the address was reached.
    pub(crate) fn ended(
        &mut self,
        test: TestId,
        outcome: Outcome,
        lets_in: LetsIn,
        now: Instant,
    ) -> Option<Change> {
        self.under_way.as_ref().filter(|under_way| under_way.test == test)?;
        if outcome == Outcome::Unanswered {
            self.unanswered(now);
            return None;
        }
        let UnderWay { address, connection, .. } = self.under_way.take()?;
        let server = self.servers.get_mut(&connection)?;
        server.silent = 0;
        let tested = self.all.get_mut(&address)?;
        match outcome {
            Outcome::Reached { .. } => {
                (tested.failures, tested.due) = (0, now + CONFIRMED_AGAIN);
                let news = tested.lets_in.replace(lets_in) != Some(lets_in);
                news.then_some(Change::Confirmed { address, server: server.peer, lets_in })
            }
            _ => match tested.unreached(now) {
                Unreached::Doubted => None,
                Unreached::Withdrawn => Some(Change::Withdrawn { address, by: Some(server.peer) }),
                Unreached::Still => Some(Change::Unreached { address, server: server.peer }),
            },
        }
    }

    /// It says nothing about the address, which waits for another server, or for this one to have time.
    fn unanswered(&mut self, now: Instant) {
        let Some(UnderWay { connection, .. }) = self.under_way.take() else { return };
        if let Some(server) = self.servers.get_mut(&connection) {
            let wait = SERVER_AGAIN.0 * 2u32.saturating_pow(server.silent);
            server.free = now + wait.min(SERVER_AGAIN.1);
            server.silent = (server.silent + 1).min(8);
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        if let Some(test) = &self.under_way {
            return Some(test.until);
        }
        let due = self.all.values().map(|tested| tested.due).min()?;
        let free = self.servers.values().map(|server| server.free).min()?;
        Some(due.max(free))
    }

    /// It is tested next, whatever was found before.
    pub(crate) fn test_again(&mut self, address: &Multiaddr, now: Instant) {
        if let Some(tested) = self.all.get_mut(address) {
            tested.due = now;
        }
    }

    /// What a test that is under way is about.
    fn address_of(&self, test: TestId) -> Option<Multiaddr> {
        self.under_way
            .as_ref()
            .filter(|under_way| under_way.test == test)
            .map(|test| test.address.clone())
    }
}

/// What one more failure makes of an address.
enum Unreached {
    /// It stays confirmed for now.
    Doubted,
    /// It was confirmed until now.
    Withdrawn,
    /// It was not.
    Still,
}

impl Tested {
    fn unreached(&mut self, now: Instant) -> Unreached {
        self.failures = self.failures.saturating_add(1);
        if self.lets_in.is_some() && self.failures < FAILURES_MAX {
            self.due = now + DOUBTED_AGAIN;
            return Unreached::Doubted;
        }
        let later = (self.failures as usize).saturating_sub(1).min(UNREACHED_AGAIN.len() - 1);
        self.due = now + UNREACHED_AGAIN[later];
        match self.lets_in.take() {
            Some(_) => Unreached::Withdrawn,
            None => Unreached::Still,
        }
    }
}

/// The hosts that we spoke with.
#[derive(Debug, Default)]
pub(crate) struct Contacts {
    hosts: VecDeque<IpAddr>,
    /// There were others: more than are remembered, or dialled by name.
    more: bool,
}

impl Contacts {
    pub(crate) fn note(&mut self, address: &Multiaddr) {
        let Some(ip) = ip_of(address).map(inside) else {
            self.more = true;
            return;
        };
        if !self.hosts.contains(&ip) {
            self.hosts.push_back(ip);
        }
        if self.hosts.len() > CONTACTS_MAX {
            self.hosts.pop_front();
            self.more = true;
        }
    }

    /// Whether we may have sent something there.
    fn may_know(&self, ip: IpAddr) -> bool {
        self.more || self.hosts.contains(&inside(ip))
    }
}

impl Engine {
    /// A relay of ours tests addresses. One that a peer named is not believed.
    pub(in crate::engine) fn tests_offered(&mut self, connection: ConnectionId, now: Instant) {
        if let Some(found) = self.connections.get(connection)
            && found.path.is_direct()
            && self.relays.is_chosen(found.peer)
        {
            self.confirmed.offered(connection, found.peer, now);
        }
    }

    pub(in crate::engine) fn test_ended(&mut self, test: TestId, outcome: Outcome, now: Instant) {
        let lets_in = match (self.confirmed.address_of(test), outcome) {
            (Some(address), Outcome::Reached { from })
                if !self.is_own(&address) && self.contacts.may_know(from) =>
            {
                LetsIn::WhoWasSpokenTo
            }
            _ => LetsIn::Anybody,
        };
        let change = self.confirmed.ended(test, outcome, lets_in, now);
        self.confirmations(change);
    }

    /// Begins the test that is due.
    pub(in crate::engine) fn test_addresses(&mut self, now: Instant) {
        if let Some(candidates) = self.candidates.take_changed() {
            let changes = self.confirmed.candidates(candidates, now);
            self.confirmations(changes);
        }
        if self.stopping.is_none()
            && let Some(Begin { test, server, connection, address }) = self.confirmed.begin(now)
        {
            self.actions.push_back(Action::TestAddress { test, peer: server, connection, address });
        }
    }

    /// No NAT is before an address that this host has itself.
    fn is_own(&self, address: &Multiaddr) -> bool {
        ip_of(address).is_some_and(|ip| self.candidates.here().interfaces.contains(&ip))
    }

    fn confirmations(&mut self, changes: impl IntoIterator<Item = Change>) {
        for change in changes {
            match change {
                Change::Confirmed { address, server, lets_in } => {
                    let opens = self.candidates.confirmed(&address, Some(lets_in));
                    let confirm = Action::Confirm { address: address.clone(), confirmed: true };
                    self.actions.push_back(confirm);
                    self.events.push_back(Event::AddressConfirmed { address, server, lets_in });
                    if opens {
                        self.outlook_improved();
                    }
                }
                Change::Withdrawn { address, by } => self.withdrawn(address, by),
                Change::Unreached { address, server } => self.found_nobody(address, server),
            }
        }
    }

    /// What our operator states is told to others all the same.
    fn withdrawn(&mut self, address: Multiaddr, by: Option<PeerId>) {
        self.candidates.confirmed(&address, None);
        if !self.candidates.is_stated(&address) {
            self.actions.push_back(Action::Confirm { address: address.clone(), confirmed: false });
        }
        self.events.push_back(Event::AddressWithdrawn { address: address.clone() });
        if let Some(by) = by {
            self.found_nobody(address, by);
        }
    }
}
