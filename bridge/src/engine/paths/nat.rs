//! What kind of NAT this node is behind: whom to ask, when, and what the answers mean.
//!
//! [`run`] is one run of questions, [`verdict`] what follows from it. The observers are STUN servers: those that our
//! operator named, and those that relays run beside their own ports. Besides, what relays see of the ports that we
//! listen on is evidence about these very ports.
//!
//! A run begins when the first server is known, when the addresses of this host change, and every hour. Servers that
//! become known soon after that join it. What a run found holds until the next one is over, and after that as far as this
//! one could not find it out, unless the network is another one or nobody answered.

mod question;
mod run;
mod verdict;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use libp2p::Multiaddr;

pub(crate) use self::question::{Ask, ProbeId, RunId};
use self::{
    run::{Answer, Findings, Run},
    verdict::{Port, Sight, filtering, mapping},
};
use crate::{
    addr::{
        GlobalScope, socket_of,
        stun::{Host, StunServer},
        transport_of,
    },
    error::Family,
    nat::{NatKind, NatKinds},
    path::{ConnectionId, Transport},
};

/// Routers are replaced, and carriers change their minds.
const REFRESH: Duration = Duration::from_secs(3600);

/// After a run that nobody answered: servers may be down for a moment, or UDP be blocked for good.
const UNANSWERED: Duration = Duration::from_secs(60);

/// Addresses of a host come and go several at once.
const SETTLE: Duration = Duration::from_millis(50);

/// Between two runs for the sake of this host's addresses, once the kind is known: hosts of containers change theirs
/// all the time.
const SPACING: Duration = Duration::from_secs(5);

/// Whoever becomes known so soon after a run began is asked in it, from the same port.
const JOIN: Duration = Duration::from_secs(10);

/// Servers that are remembered: those of our operator, and one of each connection to a relay.
const NAMED_MAX: usize = 8;
const OFFERED_MAX: usize = 16;

/// What relays saw of our own ports, one for each connection to one.
const OBSERVED_MAX: usize = 64;

/// What the driver is to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Ask(Ask),
    Resolve {
        run: RunId,
        server: StunServer,
    },
    /// No further questions come in this run.
    Close(RunId),
}

/// What is known of the NAT for one family of addresses, where that is news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) family: Family,
    pub(crate) kind: NatKind,
    pub(crate) public: Option<IpAddr>,
    pub(crate) observers: u32,
    /// The kind is the first that is known, or another one than before: punches may go otherwise.
    pub(crate) changed: bool,
}

#[derive(Debug)]
struct Server {
    at: StunServer,
    /// The relay that runs it, by our connection to it; none: our operator named it.
    beside: Option<ConnectionId>,
    trusted: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Verdict {
    kind: NatKind,
    public: Option<IpAddr>,
}

impl Verdict {
    /// An observer that is gone does not make what it saw untrue.
    fn or(self, before: Self) -> Self {
        let kind = NatKind {
            mapping: self.kind.mapping.or(before.kind.mapping),
            filtering: self.kind.filtering.or(before.kind.filtering),
        };
        Self { kind, public: self.public.or(before.public) }
    }
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Nat {
    scope: GlobalScope,
    servers: Vec<Server>,
    run: Option<Run>,
    /// Of the run before, while one is under way.
    before: Option<Findings>,
    observed: BTreeMap<ConnectionId, Sight>,
    /// When the next run begins.
    due: Option<Instant>,
    /// Runs in a row that nobody answered.
    unanswered: u32,
    /// Whether anybody answered the run that ended just now.
    ended: Option<bool>,
    /// This host's addresses changed since the latest run began.
    moved: bool,
    /// What was known holds no more, unless it is seen again.
    forget: bool,
    steps: Vec<Step>,
    probes: u64,
    runs: u64,
    told: [Verdict; 2],
    verdicts: [Verdict; 2],
}

impl Nat {
    pub(crate) fn new(servers: &[StunServer], scope: GlobalScope) -> Self {
        let named = |at: &StunServer| Server { at: at.clone(), beside: None, trusted: true };
        Self {
            scope,
            servers: servers.iter().take(NAMED_MAX).map(named).collect(),
            run: None,
            before: None,
            observed: BTreeMap::new(),
            due: None,
            unanswered: 0,
            ended: None,
            moved: false,
            forget: false,
            steps: Vec::new(),
            probes: 0,
            runs: 0,
            told: [Verdict::default(); 2],
            verdicts: [Verdict::default(); 2],
        }
    }

    /// What is known of the NATs.
    pub(crate) fn kinds(&self) -> NatKinds {
        let [v4, v6] = self.verdicts.map(|verdict| verdict.kind);
        NatKinds { v4, v6 }
    }

    /// This host has got or lost an address.
    pub(crate) fn network_changed(&mut self, now: Instant) {
        self.moved = true;
        // Nobody can be asked anew.
        self.forget |= self.servers.is_empty();
        self.begin_at(self.spaced(now + SETTLE));
    }

    /// `at`, or when a run for the sake of this host's addresses may begin, if that is later.
    fn spaced(&self, at: Instant) -> Instant {
        let known = self.run.as_ref().filter(|_| self.kinds().main().mapping.is_some());
        known.map_or(at, |run| at.max(run.began + SPACING))
    }

    fn begin_at(&mut self, at: Instant) {
        if !self.servers.is_empty() {
            self.due = Some(self.due.map_or(at, |due| due.min(at)));
        }
    }

    /// A relay answers STUN at this port of the host that it is dialled at. One word of each connection counts.
    pub(crate) fn offered(
        &mut self,
        connection: ConnectionId,
        relay: &Multiaddr,
        port: u16,
        trusted: bool,
        now: Instant,
    ) {
        let mut offered = self.servers.iter().filter_map(|server| server.beside);
        let known = offered.clone().any(|beside| beside == connection);
        let Some(at) = StunServer::beside(relay, port).filter(|_| !known) else { return };
        if offered.by_ref().count() >= OFFERED_MAX {
            return;
        }
        self.servers.push(Server { at: at.clone(), beside: Some(connection), trusted });
        match &self.run {
            // What the run has found out is of the network that this host has left.
            _ if self.moved => self.begin_at(self.spaced(now)),
            Some(run) if now < run.began + JOIN && !run.closed => self.enter(&at, trusted, now),
            _ => self.begin_at(now),
        }
    }

    /// A relay sees us come from there, on this connection.
    pub(crate) fn observed(&mut self, connection: ConnectionId, observed: &Multiaddr, trusted: bool) {
        let Some(mapped) = socket_of(observed).filter(|mapped| self.scope.contains(mapped.ip())) else {
            return;
        };
        // An IPv4 address in IPv6 clothes tells of IPv4.
        let mapped = SocketAddr::new(mapped.ip().to_canonical(), mapped.port());
        let port = match transport_of(observed) {
            Transport::Quic => Port::Quic,
            Transport::Tcp | Transport::Websocket => Port::Tcp,
        };
        if self.observed.len() < OBSERVED_MAX || self.observed.contains_key(&connection) {
            self.observed.insert(connection, Sight { mapped, port, trusted });
        }
    }

    /// Over which family of addresses a relay sees us on this connection, once it has said so.
    pub(crate) fn seen_over(&self, connection: ConnectionId) -> Option<Family> {
        self.observed.get(&connection).map(|sight| Family::of(sight.mapped.ip()))
    }

    pub(crate) fn closed(&mut self, connection: ConnectionId) {
        self.observed.remove(&connection);
        self.servers.retain(|server| server.beside != Some(connection));
    }

    /// What the name of a server stands for; nothing if it could not be resolved.
    pub(crate) fn resolved(&mut self, run: RunId, server: &StunServer, ips: &[IpAddr], now: Instant) {
        let trusted = self.servers.iter().any(|known| known.at == *server && known.trusted);
        let latest = |latest: &&mut Run| latest.id == run && !latest.closed;
        let Some(run) = self.run.as_mut().filter(latest) else { return };
        run.resolving.remove(server);
        for v6 in [false, true] {
            if let Some(ip) = ips.iter().find(|ip| ip.is_ipv6() == v6) {
                run.join(SocketAddr::new(*ip, server.port), trusted, &mut self.probes, now);
            }
        }
    }

    pub(crate) fn answered(
        &mut self,
        probe: ProbeId,
        from: SocketAddr,
        mapped: SocketAddr,
        other: Option<SocketAddr>,
        now: Instant,
    ) {
        if let Some(run) = &mut self.run {
            run.answered(probe, from, Answer { mapped, other }, &mut self.probes, now);
        }
    }

    pub(crate) fn refused(&mut self, probe: ProbeId) {
        if let Some(run) = &mut self.run {
            run.refused(probe);
        }
    }

    /// What is due at `now`.
    pub(crate) fn poll(&mut self, now: Instant) -> Vec<Step> {
        if self.due.is_some_and(|due| due <= now) {
            self.begin(now);
        }
        if let Some(run) = &mut self.run {
            self.steps.extend(run.poll(&mut self.probes, now).into_iter().map(Step::Ask));
            if run.is_over() && !std::mem::replace(&mut run.concluded, true) {
                let unanswered = run.findings.is_empty();
                self.forget |= run.forgets || unanswered;
                self.conclude(unanswered, now);
            }
        }
        if let Some(run) = self.run.as_mut().filter(|run| closes(run).is_some_and(|at| at <= now)) {
            run.closed = true;
            self.steps.push(Step::Close(run.id));
        }
        std::mem::take(&mut self.steps)
    }

    fn begin(&mut self, now: Instant) {
        self.due = None;
        if self.servers.is_empty() {
            return;
        }
        self.runs += 1;
        let forgets = std::mem::take(&mut self.moved);
        let run = Run::new(RunId(self.runs), forgets, self.scope.clone(), now);
        let ended = self.run.replace(run);
        if let Some(ended) = ended.filter(Run::is_over) {
            self.before = Some(ended.findings);
        }
        let servers: Vec<_> =
            self.servers.iter().map(|server| (server.at.clone(), server.trusted)).collect();
        for (at, trusted) in servers {
            self.enter(&at, trusted, now);
        }
    }

    /// A server takes part in the run that is under way.
    fn enter(&mut self, server: &StunServer, trusted: bool, now: Instant) {
        let Some(run) = &mut self.run else { return };
        run.concluded = false;
        match &server.host {
            Host::Ip(ip) => {
                run.join(SocketAddr::new(*ip, server.port), trusted, &mut self.probes, now);
            }
            Host::Name(_) => {
                if run.resolving.insert(server.clone()) {
                    self.steps.push(Step::Resolve { run: run.id, server: server.clone() });
                }
            }
        }
    }

    fn conclude(&mut self, unanswered: bool, now: Instant) {
        self.before = None;
        self.ended = Some(!unanswered);
        self.unanswered = if unanswered { self.unanswered + 1 } else { 0 };
        let wait = match self.unanswered {
            0 => REFRESH,
            times => UNANSWERED.saturating_mul(1 << (times - 1).min(16)).min(REFRESH),
        };
        self.begin_at(now + wait);
    }

    /// Whether anybody answered a run that ended since this was asked.
    pub(crate) fn take_ended(&mut self) -> Option<bool> {
        self.ended.take()
    }

    /// Connections to relays that say that they answer.
    pub(crate) fn offering(&self) -> impl Iterator<Item = ConnectionId> {
        self.servers.iter().filter_map(|server| server.beside)
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let run = self.run.as_ref();
        let (asks, closes) = (run.and_then(Run::next_deadline), run.and_then(closes));
        [self.due, asks, closes].into_iter().flatten().min()
    }

    /// What is known now and was not told yet; while a run is under way nothing, for it may find out more. `ours` are the
    /// addresses of this host.
    pub(crate) fn news(&mut self, ours: &[IpAddr]) -> Vec<Found> {
        let over = self.run.as_ref().is_none_or(Run::is_over);
        let mut news = Vec::new();
        for (at, family) in [Family::V4, Family::V6].into_iter().enumerate() {
            let (mut verdict, observers) = self.judge(family, ours);
            if !self.forget {
                verdict = verdict.or(self.verdicts[at]);
            }
            self.verdicts[at] = verdict;
            if over && verdict != self.told[at] {
                let told = std::mem::replace(&mut self.told[at], verdict);
                let changed = told.kind != verdict.kind;
                let Verdict { kind, public } = verdict;
                news.push(Found { family, kind, public, observers, changed });
            }
        }
        self.forget &= !over;
        news
    }

    /// What follows from all that is seen, and how many see it.
    fn judge(&self, family: Family, ours: &[IpAddr]) -> (Verdict, u32) {
        let v6 = family == Family::V6;
        let run = self.run.as_ref();
        let latest = run.map(|run| &run.findings);
        let before = self.before.as_ref().filter(|before| !before.is_empty());
        let findings = if run.is_some_and(Run::is_over) { latest } else { before.or(latest) };
        let mut seen: Vec<Sight> = findings.map(|found| found.seen(v6).collect()).unwrap_or_default();
        seen.extend(self.observed.values().filter(|sight| sight.mapped.is_ipv6() == v6));
        // Who was chosen by our operator is believed first; the order of the others is kept.
        seen.sort_by_key(|sight| !sight.trusted);
        let kind = NatKind {
            mapping: mapping(&seen, ours, &self.scope),
            filtering: findings.and_then(|found| filtering(found.let_in(v6))),
        };
        let known = kind != NatKind::default();
        let public = seen.iter().map(|sight| sight.mapped.ip()).find(|ip| self.scope.contains(*ip));
        let observers = u32::try_from(seen.len()).unwrap_or(u32::MAX);
        (Verdict { kind, public: public.filter(|_| known) }, observers)
    }
}

/// When the port of a run is given back: whatever strangers send there would be read, else.
fn closes(run: &Run) -> Option<Instant> {
    (run.is_over() && !run.closed).then(|| run.began + JOIN)
}

#[cfg(test)]
mod tests;
