//! Asks the DHT, and a stranger in this process.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant, SystemTime},
};

use libp2p::PeerId;
use tokio::time::{sleep, timeout};

use super::{Kept, Members, Publish, Read, Table, Timed, Witnesses, judge::hex};
use crate::{
    UnixTime,
    kad::{
        Config, Dht, Health, Status,
        proofs::{Copy, Place, Proof},
    },
    keys::{Namespace, NamespaceId, RecordKey},
    record::{Body, Value},
};

/// For a node to get into the DHT, be it this one or the stranger.
const JOIN: Duration = Duration::from_secs(10);

/// For one question: lookups end after 10 s.
const ANSWER: Duration = Duration::from_secs(12);

/// For a stranger to find what is kept, from when it is in.
const FOUND: Duration = Duration::from_secs(10);

/// Between two looks at something that is waited for.
const AGAIN: Duration = Duration::from_millis(250);

/// What is said for the trial is kept so long. The next trial replaces it.
pub const PROBE_LIFETIME: Duration = Duration::from_secs(300);

/// Under which name that is.
const PROBE: &[u8] = b"punchline-verify";

/// What the DHT and the stranger tell.
#[derive(Clone, Debug)]
pub struct Gathered {
    /// Of step 1.
    pub table: Timed<Table>,
    /// Of step 2.
    pub publish: Timed<Option<Publish>>,
    /// Of step 3.
    pub read: Timed<Option<Read>>,
    /// Of step 6.
    pub members: Timed<Option<Members>>,
    /// Who is in the namespace, as the stranger sees it, this node left out.
    pub found: BTreeSet<PeerId>,
}

/// Takes 45 s at most, since each part has a deadline. `namespace`: the one to look at; none: the first that this node is
/// in, or else one for the trial.
///
/// # Cancellation
/// Dropping it ends the stranger.
pub async fn gather(dht: &Dht, local: PeerId, namespace: Option<Namespace>) -> Gathered {
    let subject = Subject { dht, local };
    let (table, stranger) = timed(subject.table()).await;
    let table = Timed { took: table, found: stranger.0 };
    let Some(config) = stranger.1.filter(|_| !table.found.nodes.is_empty()) else {
        let none = || Duration::ZERO;
        return Gathered {
            table,
            publish: Timed { took: none(), found: None },
            read: Timed { took: none(), found: None },
            members: Timed { took: none(), found: None },
            found: BTreeSet::new(),
        };
    };
    let network = config.network.clone();
    let trial = Namespace::public(&network, &format!("{}/{local}", String::from_utf8_lossy(PROBE)));
    let known = table.found.known();
    let ((published, publish), stranger, place) = tokio::join!(
        timed(subject.publish(known)),
        joined_stranger(config),
        subject.announced(namespace, trial.ok()),
    );
    let (read_took, (read, members, seen)) = match &stranger {
        None => (Duration::ZERO, (Read::default(), place.unseen(), None)),
        Some(stranger) => {
            let (took, (read, members)) = timed(async {
                tokio::join!(subject.read(stranger, &publish), subject.members(stranger, &place))
            })
            .await;
            let (members_took, members, found) = members;
            (took, (read, members, Some((members_took, found))))
        }
    };
    let (members_took, found) = seen.unwrap_or_default();
    Gathered {
        table,
        publish: Timed { took: published, found: Some(publish) },
        read: Timed { took: read_took, found: Some(read) },
        members: Timed { took: members_took, found: Some(members) },
        found,
    }
}

async fn timed<T>(work: impl Future<Output = T>) -> (Duration, T) {
    let begun = Instant::now();
    let done = work.await;
    (begun.elapsed(), done)
}

/// The answer, if it comes.
async fn answer<T>(asked: impl Future<Output = Option<T>>) -> Option<T> {
    timeout(ANSWER, asked).await.ok().flatten()
}

/// How the DHT is once `is` says that this is waited for, or after the deadline.
async fn once(dht: &Dht, is: impl Fn(&Status) -> bool) -> Option<Status> {
    let until = Instant::now() + JOIN;
    loop {
        let status = answer(dht.status()).await?;
        if is(&status) || Instant::now() >= until {
            return Some(status);
        }
        sleep(AGAIN).await;
    }
}

async fn joined_stranger(config: Config) -> Option<Dht> {
    let stranger =
        Dht::start(config).inspect_err(|error| tracing::debug!(%error, "no stranger")).ok()?;
    once(&stranger, |status| status.joined).await?;
    Some(stranger)
}

struct Subject<'a> {
    dht: &'a Dht,
    local: PeerId,
}

/// The namespace that is looked at.
struct Announced {
    members: Members,
    namespace: Option<Namespace>,
    key: Option<Vec<u8>>,
}

impl Announced {
    /// There is no stranger who could see it.
    fn unseen(&self) -> Members {
        self.members.clone()
    }
}

impl Subject<'_> {
    async fn table(&self) -> (Table, Option<Config>) {
        // A bootstrap node that failed its first look, or is of another network, makes nobody wait.
        let hopeless = |status: &Status| {
            let foreign = |node: &crate::kad::Bootstrap| {
                let other = node.network.as_ref().is_some_and(|of| of.as_str() != status.network);
                node.health == Health::Down || other
            };
            !status.bootstraps.is_empty() && status.bootstraps.iter().all(foreign)
        };
        let is_there = |status: &Status| status.joined || (status.table() == 0 && hopeless(status));
        let Some(status) = once(self.dht, is_there).await else { return Default::default() };
        let (network, bootstraps) = (status.network.clone(), status.bootstraps.clone());
        let nodes = answer(self.dht.prove(|reply| Proof::Nodes { reply })).await.unwrap_or_default();
        let answered = match nodes.is_empty() {
            true => Vec::new(),
            false => timeout(ANSWER, self.dht.closest_peers(self.local)).await.unwrap_or_default(),
        };
        let answered = answered.into_iter().filter(|peer| *peer != self.local).collect();
        let nodes = nodes.into_iter().collect();
        let stranger = answer(self.dht.prove(|reply| Proof::Stranger { reply })).await;
        (Table { network, nodes, answered, bootstraps }, stranger)
    }

    async fn publish(&self, known: usize) -> Publish {
        let bytes: [u8; 16] = rand::random();
        let body = Body::Value(Value { name: PROBE.to_vec(), bytes: bytes.to_vec() });
        let (lasts, own) = (PROBE_LIFETIME, RecordKey::Contact(self.local));
        let said = answer(self.dht.prove(|reply| Proof::Say { body, lasts, reply })).await;
        let taken = match said {
            None => Err("no answer came in time".to_owned()),
            Some(Err(error)) => Err(error.to_string()),
            Some(Ok(nodes)) => Ok(nodes),
        };
        let (probe, contact) =
            tokio::join!(copies(self.dht, self.probe_key()), copies(self.dht, own.clone()));
        let ours = |copies: &[Copy]| {
            copies.iter().find(|copy| copy.keeper.is_none()).map(|copy| copy.bytes.clone())
        };
        let probe_bytes = ours(&probe).unwrap_or_default();
        let contact = ours(&contact).map(|bytes| kept(own.to_bytes(), &contact, &bytes, self.local));
        let probe = kept(self.probe_key().to_bytes(), &probe, &probe_bytes, self.local);
        Publish { taken, probe, contact, known }
    }

    fn probe_key(&self) -> RecordKey {
        RecordKey::value(self.local, PROBE)
    }

    /// Until the stranger finds what this node has of itself, or has looked long enough.
    async fn read(&self, stranger: &Dht, publish: &Publish) -> Read {
        let until = Instant::now() + FOUND;
        let own = RecordKey::Contact(self.local);
        let probe = self.own(self.probe_key()).await;
        let contact = match &publish.contact {
            None => None,
            Some(_) => Some(self.own(own.clone()).await),
        };
        loop {
            let (of_probe, of_contact) =
                tokio::join!(copies(stranger, self.probe_key()), copies(stranger, own.clone()));
            let table = answer(stranger.status()).await.map(|status| status.table());
            let read = Read {
                table: table.unwrap_or_default(),
                probe: kept(self.probe_key().to_bytes(), &of_probe, &probe, self.local),
                contact: contact
                    .as_ref()
                    .map(|bytes| kept(own.to_bytes(), &of_contact, bytes, self.local)),
            };
            let all = read.contact.iter().chain([&read.probe]).all(|kept| !kept.by.is_empty());
            if all || Instant::now() >= until {
                return read;
            }
            sleep(AGAIN).await;
        }
    }

    /// This node's own copy.
    async fn own(&self, key: RecordKey) -> Vec<u8> {
        let copies = copies(self.dht, key).await;
        copies.into_iter().find(|copy| copy.keeper.is_none()).map(|copy| copy.bytes).unwrap_or_default()
    }

    /// Which namespace is looked at, announced if it is the one for the trial.
    async fn announced(&self, namespace: Option<Namespace>, trial: Option<Namespace>) -> Announced {
        let wanted = namespace.clone();
        let place = answer(self.dht.prove(|reply| Proof::Place { namespace: wanted, reply })).await;
        let Place { joined, key } = place.unwrap_or(Place { joined: Vec::new(), key: None });
        let names = |joined: &[Namespace]| joined.iter().map(|one| one.name().to_owned()).collect();
        let Some(namespace) = namespace.or_else(|| joined.first().cloned()) else {
            return self.trial(trial).await;
        };
        let same_name = joined.iter().any(|one| one.name() == namespace.name());
        let members = Members {
            name: Some(namespace.name().to_owned()),
            id: today(&namespace).map(|id| hex(id.as_bytes())).unwrap_or_default(),
            key: key.clone().unwrap_or_default(),
            joined: key.is_some(),
            other_secret: key.is_none() && same_name,
            all: names(&joined),
            ..Members::default()
        };
        Announced { members, namespace: Some(namespace), key }
    }

    async fn trial(&self, trial: Option<Namespace>) -> Announced {
        let id = trial.as_ref().and_then(today);
        let key = id.and_then(|id| Some(id.key(*id.shards_of(self.local).first()?).to_vec()));
        if let Some(key) = key.clone() {
            answer(self.dht.prove(|reply| Proof::Announce { key, reply })).await;
        }
        let members = Members {
            id: id.map(|id| hex(id.as_bytes())).unwrap_or_default(),
            key: key.clone().unwrap_or_default(),
            joined: true,
            ..Members::default()
        };
        Announced { members, namespace: trial, key }
    }

    async fn members(
        &self,
        stranger: &Dht,
        announced: &Announced,
    ) -> (Duration, Members, BTreeSet<PeerId>) {
        let begun = Instant::now();
        let mut members = announced.members.clone();
        let mut found = BTreeSet::new();
        if let (Some(namespace), Some(key)) = (&announced.namespace, &announced.key) {
            let (of, ask) = (self.local, key.clone());
            let (all, witnesses) = tokio::join!(
                timeout(ANSWER, stranger.members(namespace.clone())),
                answer(stranger.prove(|reply| Proof::Witnesses { key: ask, of, reply })),
            );
            found = all.unwrap_or_default().into_iter().collect();
            members.witnesses = witnesses.unwrap_or(Witnesses::default());
            members.seen = found.remove(&self.local) || members.witnesses.telling > 0;
        }
        (begun.elapsed(), members, found)
    }
}

fn today(namespace: &Namespace) -> Option<NamespaceId> {
    namespace.ids(UnixTime::from(SystemTime::now())).first().copied()
}

async fn copies(dht: &Dht, key: RecordKey) -> Vec<Copy> {
    answer(dht.prove(|reply| Proof::Copies { key, reply })).await.unwrap_or_default()
}

/// Who else keeps these bytes.
fn kept(key: Vec<u8>, copies: &[Copy], bytes: &[u8], local: PeerId) -> Kept {
    let mut kept = Kept { key, ..Kept::default() };
    for copy in copies {
        match copy.keeper.filter(|keeper| *keeper != local) {
            _ if copy.bytes != bytes => kept.others += 1,
            None => kept.by_us = true,
            Some(keeper) => drop(kept.by.insert(keeper)),
        }
    }
    kept
}
