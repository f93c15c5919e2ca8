//! One run of questions to STUN servers, all from one port that nothing was sent from before.
//!
//! ```text
//! each server:  asked --answer, with its other address--> answers from there asked for --came in, or silence--.
//!                 '------------------------- silence, or refused ----------------------------------------- v
//! then, unless servers at two addresses answered:                        each one's other address asked too
//! ```
//! In this order, since a question to the other address would open the filter that the answers from there are to test.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{
    question::{Ask, ProbeId, RunId},
    verdict::{LetIn, Port, Sight},
};
use crate::{
    addr::{GlobalScope, stun::StunServer},
    nat::AnswerFrom,
};

/// When a question is asked again, counted from the first time. RFC 8489 begins with 500 ms and doubles; here people
/// wait, and a lost answer costs little.
const SENDS: [Duration; 3] = [Duration::ZERO, Duration::from_millis(200), Duration::from_millis(500)];

/// After this a question counts as unanswered.
const DEADLINE: Duration = Duration::from_millis(1500);

/// After the last time that a server was asked for an answer from elsewhere, so many times what its other answer took,
/// and at least so long: what has not come in by then was kept out.
const ROUND_TRIPS: u32 = 3;
const PATIENCE_MIN: Duration = Duration::from_millis(200);

/// Servers that are asked in one run, each of which costs up to four questions.
const SERVERS_MAX: usize = 8;

/// What was found out. Servers by the address that was asked.
#[derive(Debug, Default)]
pub(super) struct Findings {
    seen: BTreeMap<SocketAddr, Sight>,
    /// Over IPv4, over IPv6.
    let_in: [LetIn; 2],
}

impl Findings {
    /// How servers of one family see us.
    pub(super) fn seen(&self, v6: bool) -> impl Iterator<Item = Sight> {
        self.seen.values().copied().filter(move |sight| sight.mapped.is_ipv6() == v6)
    }

    pub(super) fn let_in(&self, v6: bool) -> LetIn {
        self.let_in[usize::from(v6)]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }
}

/// What a server says: how it sees us, and its other address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) mapped: SocketAddr,
    pub(super) other: Option<SocketAddr>,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
struct Question {
    to: SocketAddr,
    answer_from: AnswerFrom,
    trusted: bool,
    /// The address is one of those that were given; else it is another address of a server.
    given: bool,
}

/// A question that has not been answered.
#[derive(Debug)]
struct Probe {
    question: Question,
    since: Instant,
    sent: usize,
    deadline: Instant,
}

impl Probe {
    fn next(&self) -> Instant {
        SENDS.get(self.sent).map_or(self.deadline, |after| (self.since + *after).min(self.deadline))
    }
}

#[derive(Debug)]
pub(super) struct Run {
    pub(super) id: RunId,
    pub(super) began: Instant,
    pub(super) findings: Findings,
    /// Servers whose names are looked up.
    pub(super) resolving: BTreeSet<StunServer>,
    /// What was known before is of another network.
    pub(super) forgets: bool,
    /// What follows from its end has been done.
    pub(super) concluded: bool,
    /// Its port is given back, and nothing can be asked any more.
    pub(super) closed: bool,
    /// Which other addresses of servers may be gone to.
    scope: GlobalScope,
    probes: BTreeMap<ProbeId, Probe>,
    /// Where anything was sent to: an answer from there proves nothing about the filter.
    asked: BTreeSet<SocketAddr>,
    servers: BTreeSet<SocketAddr>,
    /// The servers that answered and their other addresses, to be asked at the end.
    others: Vec<(SocketAddr, Question)>,
}

impl Run {
    pub(super) fn new(id: RunId, forgets: bool, scope: GlobalScope, now: Instant) -> Self {
        Self {
            id,
            began: now,
            findings: Findings::default(),
            resolving: BTreeSet::new(),
            forgets,
            concluded: false,
            closed: false,
            scope,
            probes: BTreeMap::new(),
            asked: BTreeSet::new(),
            servers: BTreeSet::new(),
            others: Vec::new(),
        }
    }

    /// Asks one more server.
    pub(super) fn join(&mut self, server: SocketAddr, trusted: bool, ids: &mut u64, now: Instant) {
        if self.servers.len() < SERVERS_MAX && self.servers.insert(server) {
            let question = Question { to: server, answer_from: AnswerFrom::Here, trusted, given: true };
            self.ask(question, DEADLINE, ids, now);
        }
    }

    /// Whether there is nothing to wait for.
    pub(super) fn is_over(&self) -> bool {
        self.probes.is_empty() && self.others.is_empty() && self.resolving.is_empty()
    }

    fn ask(&mut self, question: Question, patience: Duration, ids: &mut u64, now: Instant) {
        *ids += 1;
        self.asked.insert(question.to);
        let probe = Probe { question, since: now, sent: 0, deadline: now + patience };
        self.probes.insert(ProbeId(*ids), probe);
    }

    /// An answer came from `from`. One from where it cannot come is not waited for any less.
    pub(super) fn answered(
        &mut self,
        id: ProbeId,
        from: SocketAddr,
        answer: Answer,
        ids: &mut u64,
        now: Instant,
    ) {
        let Some(Probe { question: Question { to, answer_from, .. }, .. }) = self.probes.get(&id) else {
            return;
        };
        match answer_from {
            AnswerFrom::Here if from == *to && answer.mapped.is_ipv6() == to.is_ipv6() => {
                self.seen(id, answer, ids, now);
            }
            // It does not know what it was asked for, and answers as always.
            AnswerFrom::OtherPort | AnswerFrom::OtherAddress if from == *to => self.refused(id),
            AnswerFrom::OtherPort if from.ip() == to.ip() && !self.asked.contains(&from) => {
                self.settled(id, true);
            }
            AnswerFrom::OtherAddress if !self.is_asked(from) => self.settled(id, true),
            _ => {}
        }
    }

    /// A server does not answer this, or cannot be asked from here.
    pub(super) fn refused(&mut self, id: ProbeId) {
        self.probes.remove(&id);
    }

    fn seen(&mut self, id: ProbeId, answer: Answer, ids: &mut u64, now: Instant) {
        let Some(Probe { question, since, .. }) = self.probes.remove(&id) else { return };
        let Question { to, trusted, given, .. } = question;
        self.findings.seen.insert(to, Sight { mapped: answer.mapped, port: Port::Stun, trusted });
        let other = answer.other.filter(|_| given).and_then(|other| self.usable(other, to, trusted));
        let Some(other) = other else { return };
        let round_trip = now.saturating_duration_since(since);
        let [.., last] = SENDS;
        let patience = (last + (round_trip * ROUND_TRIPS).max(PATIENCE_MIN)).min(DEADLINE);
        let from = |answer_from| Question { to, answer_from, trusted, given: false };
        if !self.asked.contains(&SocketAddr::new(to.ip(), other.port())) {
            self.ask(from(AnswerFrom::OtherPort), patience, ids, now);
        }
        if !self.is_asked(other) {
            self.ask(from(AnswerFrom::OtherAddress), patience, ids, now);
        }
        self.others.push((to, Question { to: other, ..from(AnswerFrom::Here) }));
    }

    /// Whether anything was sent to that host.
    fn is_asked(&self, at: SocketAddr) -> bool {
        self.asked.iter().any(|asked| asked.ip() == at.ip())
    }

    /// An answer from elsewhere came in, or did not.
    fn settled(&mut self, id: ProbeId, came_in: bool) {
        let Some(Probe { question, .. }) = self.probes.remove(&id) else { return };
        let let_in = &mut self.findings.let_in[usize::from(question.to.is_ipv6())];
        let found = match question.answer_from {
            AnswerFrom::Here => return,
            AnswerFrom::OtherPort => &mut let_in.other_port,
            AnswerFrom::OtherAddress => &mut let_in.other_address,
        };
        *found = Some(came_in || *found == Some(true));
    }

    /// What is to be asked now.
    pub(super) fn poll(&mut self, ids: &mut u64, now: Instant) -> Vec<Ask> {
        let silent = self.probes.iter().filter(|(_, probe)| probe.deadline <= now);
        for id in silent.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.settled(id, false);
        }
        if self.probes.is_empty() {
            self.ask_others(ids, now);
        }
        let run = self.id;
        let due = self.probes.iter_mut().filter(|(_, probe)| probe.next() <= now);
        due.map(|(probe, Probe { question: Question { to, answer_from, .. }, sent, .. })| {
            *sent += 1;
            Ask { probe: *probe, run, to: *to, answer_from: *answer_from }
        })
        .collect()
    }

    /// Where no two hosts saw us, two ports of one must do.
    fn ask_others(&mut self, ids: &mut u64, now: Instant) {
        let hosts = |v6: bool| {
            let seen = self.findings.seen.keys().filter(|server| server.is_ipv6() == v6);
            seen.map(SocketAddr::ip).collect::<BTreeSet<_>>().len()
        };
        let enough = [hosts(false) >= 2, hosts(true) >= 2];
        for (server, question) in std::mem::take(&mut self.others) {
            let known = self.findings.seen.contains_key(&question.to);
            if !enough[usize::from(server.is_ipv6())] && !known {
                self.ask(question, DEADLINE, ids, now);
            }
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.probes.values().map(Probe::next).min()
    }

    /// The other address of a server, as far as we go there because the server says so: to another port of the same
    /// host, whatever address it believes to have; to another host only for a server that our operator chose.
    fn usable(&self, other: SocketAddr, server: SocketAddr, trusted: bool) -> Option<SocketAddr> {
        let alike = other.is_ipv6() == server.is_ipv6();
        let elsewhere = trusted && alike && self.scope.contains(other.ip());
        let other = if elsewhere { other } else { SocketAddr::new(server.ip(), other.port()) };
        // Only the port is of use where the address is the same, and both are where it is not.
        (other.port() != server.port() && other.port() != 0).then_some(other)
    }
}
