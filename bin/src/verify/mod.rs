//! Whether discovery works here, found out in six steps: `punchline_discovery::verify` has them.
//!
//! [`Verifier`] has one verification run at a time: soon after the start, every quarter of an hour, and when somebody asks.
//! `ways` tries both directions; `shape` is what is told of it on the control socket, `screen` what people read; `command`
//! is `punchline discovery verify`.

pub(crate) mod command;
pub(crate) mod screen;
pub(crate) mod shape;
#[cfg(test)]
mod tests;
mod ways;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use libp2p::PeerId;
use punchline_bridge::{
    Endpoint,
    addr::{GlobalScope, Ranges},
    proxy::Proxy,
    status::Purpose,
};
use punchline_discovery::{
    Network, UnixTime,
    kad::{self, Dht},
    keys::{Namespace, NamespaceError, NamespaceId},
    verify::{Evidence, Gathered, Peers, Report, Timed, gather, judge},
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use crate::{
    doctor::probe::Means,
    finding::{
        Finder,
        event::{DhtEvent, VerifiedStep},
    },
    report::Reporter,
};

/// Between two verifications, a tenth more or less: one costs a few hundred requests, most of them the stranger's.
const EVERY: Duration = Duration::from_secs(15 * 60);

/// The first one begins when the node is in the DHT and others keep where it is, or else after this.
const FIRST: Duration = Duration::from_secs(60);

/// A node that has nothing to say of itself has the first one so long after it joined.
const SETTLED: Duration = Duration::from_secs(15);

/// Between two looks whether it is time for the first.
const LOOK: Duration = Duration::from_secs(1);

/// What came of a verification is the answer to who asks the same so soon again.
const FRESH: Duration = Duration::from_secs(5);

/// Its parts have deadlines which come to less; this is for what nobody thought of.
const DEADLINE: Duration = Duration::from_secs(75);

/// What is said where there is nothing to verify.
pub(crate) const NO_DHT: &str =
    "this node takes no part in a DHT; start it with --bootstrap <the address of a node of it>";

/// What is to be looked at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Question {
    /// The namespace; none: the first that the node is in, or one for the trial.
    pub(crate) namespace: Option<Namespace>,
    /// The peer that has to be reached; none: some that are connected.
    pub(crate) peer: Option<PeerId>,
}

impl Question {
    fn key(&self) -> (Vec<NamespaceId>, Option<PeerId>) {
        let now = UnixTime::from(SystemTime::now());
        (self.namespace.iter().flat_map(|namespace| namespace.ids(now)).collect(), self.peer)
    }

    fn is_plain(&self) -> bool {
        self.namespace.is_none() && self.peer.is_none()
    }
}

/// What came of a verification.
#[derive(Debug)]
pub(crate) struct Verified {
    pub(crate) report: Report,
    pub(crate) ended: Instant,
    pub(crate) took: Duration,
}

/// Why there is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotVerified {
    #[error("another verification is under way, with another namespace or peer; ask again in a minute")]
    Busy,
    #[error("the verification did not end in {} s", DEADLINE.as_secs())]
    Late,
}

/// What is verified.
pub(crate) struct Subject {
    pub(crate) dht: Dht,
    pub(crate) network: Network,
    pub(crate) endpoint: Endpoint,
    pub(crate) finder: Finder,
    pub(crate) purpose: Purpose,
    pub(crate) proxy: Option<Proxy>,
    pub(crate) global: GlobalScope,
    pub(crate) ranges: Ranges,
    pub(crate) reporter: Reporter,
}

impl Subject {
    fn means(&self) -> Means {
        let (proxy, global, ranges) = (self.proxy.clone(), self.global.clone(), self.ranges.clone());
        Means { proxy, global, ranges }
    }
}

/// Verifies a node. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub(crate) struct Verifier {
    subject: Arc<Subject>,
    turns: Arc<Mutex<Turns>>,
}

type Outcome = Result<Arc<Verified>, NotVerified>;
type Key = (Vec<NamespaceId>, Option<PeerId>);

/// Whose turn it is.
#[derive(Default)]
struct Turns {
    under_way: Option<(Key, watch::Receiver<Option<Outcome>>)>,
    /// What came of the latest one, whatever was asked.
    latest: Option<(Key, Arc<Verified>)>,
    /// What came of the latest one that looked at nothing in particular.
    plain: Option<Arc<Verified>>,
}

/// What to do for somebody who asks.
enum Turn {
    Wait(watch::Receiver<Option<Outcome>>),
    Begin(watch::Sender<Option<Outcome>>, watch::Receiver<Option<Outcome>>),
    Known(Arc<Verified>),
}

impl Turns {
    /// One runs at a time: whoever asks the same waits for it, and whoever asks something else is told to come again.
    fn turn(&mut self, key: &Key, now: Instant) -> Result<Turn, NotVerified> {
        if let Some((of, waiting)) = &self.under_way {
            return if of == key { Ok(Turn::Wait(waiting.clone())) } else { Err(NotVerified::Busy) };
        }
        if let Some((of, verified)) = &self.latest
            && of == key
            && now.saturating_duration_since(verified.ended) < FRESH
        {
            return Ok(Turn::Known(verified.clone()));
        }
        let (sender, receiver) = watch::channel(None);
        self.under_way = Some((key.clone(), receiver.clone()));
        Ok(Turn::Begin(sender, receiver))
    }

    /// It is over. Returns what was known before, if this one is what is known now.
    fn ended(&mut self, key: Key, plain: bool, outcome: &Outcome) -> Option<Option<Arc<Verified>>> {
        self.under_way = None;
        let Ok(verified) = outcome else { return None };
        self.latest = Some((key, verified.clone()));
        plain.then(|| self.plain.replace(verified.clone()))
    }
}

impl Verifier {
    pub(crate) fn new(subject: Subject) -> Self {
        Self { subject: Arc::new(subject), turns: Arc::default() }
    }

    /// Verifies, or waits for the verification that is under way.
    ///
    /// # Errors
    /// If another one is under way, or it does not end.
    ///
    /// # Cancellation
    /// The verification goes on.
    pub(crate) async fn verify(&self, question: Question) -> Outcome {
        let turn = self.turns().turn(&question.key(), Instant::now())?;
        let mut waiting = match turn {
            Turn::Known(verified) => return Ok(verified),
            Turn::Wait(waiting) => waiting,
            Turn::Begin(sender, waiting) => {
                tokio::spawn(self.clone().run(question, sender));
                waiting
            }
        };
        let outcome = waiting.wait_for(Option::is_some).await;
        outcome.ok().and_then(|outcome| outcome.clone()).unwrap_or(Err(NotVerified::Late))
    }

    /// The namespace of this name in the node's network.
    ///
    /// # Errors
    /// If there cannot be such a one.
    pub(crate) fn namespace(
        &self,
        name: Option<&str>,
        secret: Option<&[u8]>,
    ) -> Result<Option<Namespace>, NamespaceError> {
        let network = &self.subject.network;
        let of = |name| match secret {
            Some(secret) => Namespace::secret(network, name, secret),
            None => Namespace::public(network, name),
        };
        name.map(of).transpose()
    }

    /// What came of the latest one that looked at nothing in particular.
    pub(crate) fn last(&self) -> Option<Arc<Verified>> {
        self.turns().plain.clone()
    }

    /// Verifies soon after the start, and then again and again.
    pub(crate) async fn keep_verifying(self) {
        self.settled().await;
        loop {
            // Whoever has something else looked at meanwhile is not disturbed.
            let _ = self.verify(Question::default()).await;
            sleep(EVERY.mul_f64(0.9 + rand::random::<f64>() / 5.0)).await;
        }
    }

    async fn settled(&self) {
        let begun = Instant::now();
        let mut joined = None;
        while begun.elapsed() < FIRST {
            let Some(status) = self.subject.dht.status().await else { return };
            if status.joined {
                let joined = *joined.get_or_insert_with(Instant::now);
                if status.published.is_some() || joined.elapsed() >= SETTLED {
                    return;
                }
            }
            sleep(LOOK).await;
        }
    }

    async fn run(self, question: Question, sender: watch::Sender<Option<Outcome>>) {
        let begun = Instant::now();
        let report = timeout(DEADLINE, self.subject.look(&question)).await;
        let ended = Instant::now();
        let outcome = match report {
            Ok(report) => Ok(Arc::new(Verified { report, ended, took: ended - begun })),
            Err(_) => Err(NotVerified::Late),
        };
        let before = self.turns().ended(question.key(), question.is_plain(), &outcome);
        if let (Some(before), Ok(verified)) = (before, &outcome) {
            let before = before.as_ref().map(|verified| &verified.report);
            if let Some(event) = change(before, &verified.report) {
                self.subject.reporter.report(event);
            }
        }
        let _ = sender.send(Some(outcome));
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first report, and one in which a step has another verdict, are told.
fn change(before: Option<&Report>, now: &Report) -> Option<DhtEvent> {
    let verdicts = |report: &Report| report.steps.each_ref().map(|step| step.verdict);
    if before.is_some_and(|before| verdicts(before) == verdicts(now)) {
        return None;
    }
    let steps = now.steps.iter().map(|finding| VerifiedStep {
        step: finding.step.number(),
        name: finding.step.name(),
        verdict: finding.verdict.name(),
        found: finding.found.clone(),
        advice: finding.advice.clone(),
    });
    Some(DhtEvent::DiscoveryVerified { verdict: now.verdict().name(), steps: steps.collect() })
}

impl Subject {
    async fn look(&self, question: &Question) -> Report {
        let local = self.endpoint.peer_id();
        let begun = Instant::now();
        let (gathered, directions) = tokio::join!(
            gather(&self.dht, local, question.namespace.clone()),
            ways::directions(self, question.peer),
        );
        let Gathered { table, publish, read, members, found } = gathered;
        let looked = Instant::now();
        let peers = Timed { found: self.peers(&table.found, found).await, took: looked.elapsed() };
        tracing::debug!(took = ?begun.elapsed(), "discovery was verified");
        judge(&Evidence { table, publish, read, peers, directions, members })
    }

    /// Who was found, by source.
    async fn peers(&self, table: &punchline_discovery::verify::Table, found: BTreeSet<PeerId>) -> Peers {
        let local = self.endpoint.peer_id();
        let mut by_source = BTreeMap::<String, BTreeSet<PeerId>>::new();
        let nodes = table.nodes.union(&table.answered).copied().collect();
        by_source.insert("kad".to_owned(), nodes);
        by_source.insert("namespace".to_owned(), found);
        for known in self.finder.known().await {
            for source in known.sources {
                by_source.entry(source.to_string()).or_default().insert(known.peer);
            }
        }
        let status = self.endpoint.status().await;
        let connected = status.into_iter().flat_map(|status| status.peers);
        let connected = connected.filter(|peer| peer.familiar).map(|peer| peer.peer);
        by_source.insert("connected".to_owned(), connected.collect());
        for found in by_source.values_mut() {
            found.remove(&local);
        }
        let bootstraps = &table.bootstraps;
        let bootstraps = bootstraps.iter().filter_map(|node: &kad::Bootstrap| node.peer).collect();
        Peers { by_source, bootstraps }
    }
}
