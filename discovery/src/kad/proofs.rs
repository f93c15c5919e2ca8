//! What a verification asks of the actor: who keeps something, who tells of us, and how a stranger would begin.
//!
//! [`verify`](crate::verify) puts these questions. Each of them is a lookup at most, and none changes what this node says
//! of itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

use libp2p::{
    Multiaddr, PeerId,
    identity::Keypair,
    kad::{self, GetProvidersOk, GetRecordOk, PeerRecord, QueryResult, RecordKey as Key},
};
use tokio::sync::oneshot;

use super::{
    Command, Config, Dht, Mode, RecordError,
    actor::Actor,
    queries::Purpose,
    spaces::{SPACES_MAX, id_of},
};
use crate::{
    UnixTime,
    keys::{Namespace, RecordKey},
    record::Body,
};

/// Copies of one record that are compared: at 20 nodes it is kept, and a few more may hand it on.
pub(crate) const COPIES_MAX: usize = 64;

/// Nodes of the table that are told, and those with which a stranger begins beside the bootstrap nodes.
pub(crate) const NODES_MAX: usize = 1024;
const STRANGER_NODES: usize = 8;

/// A copy of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Copy {
    /// Who keeps it; none: this node.
    pub(crate) keeper: Option<PeerId>,
    /// Its bytes, as they came.
    pub(crate) bytes: Vec<u8>,
}

/// Who tells, of those that were asked, that a peer is among the providers of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Witnesses {
    /// Nodes that answered.
    pub asked: usize,
    /// Those of them that named the peer.
    pub telling: usize,
}

/// How this node stands in a namespace.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// All in which it is.
    pub(crate) joined: Vec<Namespace>,
    /// The key of the smallest group there in which it announces itself; none if it is no member.
    pub(crate) key: Option<Vec<u8>>,
}

/// A question.
pub(crate) enum Proof {
    /// Signs this, which holds for so long, and has it kept.
    Say { body: Body, lasts: Duration, reply: oneshot::Sender<Result<usize, RecordError>> },
    /// All copies of a record, whatever is in them.
    Copies { key: RecordKey, reply: oneshot::Sender<Vec<Copy>> },
    /// Says once that this node is among the providers of a key, and tells how many were told.
    Announce { key: Vec<u8>, reply: oneshot::Sender<usize> },
    /// Who tells of a peer.
    Witnesses { key: Vec<u8>, of: PeerId, reply: oneshot::Sender<Witnesses> },
    /// How this node stands in a namespace; none: in the first one that it is in.
    Place { namespace: Option<Namespace>, reply: oneshot::Sender<Place> },
    /// The nodes of the table.
    Nodes { reply: oneshot::Sender<Vec<PeerId>> },
    /// How a stranger begins in the same network.
    Stranger { reply: oneshot::Sender<Config> },
}

/// A lookup for one of them.
pub(super) enum Proving {
    Copies { found: Vec<Copy>, reply: oneshot::Sender<Vec<Copy>> },
    Announced { key: Vec<u8>, reply: oneshot::Sender<usize> },
    Witnesses { of: PeerId, found: Witnesses, reply: oneshot::Sender<Witnesses> },
}

impl Proving {
    /// What a lookup says on its way.
    pub(super) fn progressed(&mut self, result: &QueryResult) {
        match (self, result) {
            (
                Self::Copies { found, .. },
                QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(PeerRecord { peer, record }))),
            ) if found.len() < COPIES_MAX => {
                found.push(Copy { keeper: *peer, bytes: record.value.clone() });
            }
            // One for each node that answers.
            (
                Self::Witnesses { of, found, .. },
                QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { providers, .. })),
            ) => {
                found.asked += 1;
                found.telling += usize::from(providers.contains(of));
            }
            _ => {}
        }
    }
}

impl Actor {
    pub(super) fn prove(&mut self, proof: Proof) {
        let kad = &mut self.swarm.behaviour_mut().guard.kad;
        match proof {
            Proof::Say { body, lasts, reply } => match self.signer.sign_for(body, lasts) {
                Ok(record) => self.put(record.key().to_bytes(), record.bytes().to_vec(), reply),
                Err(error) => {
                    let _ = reply.send(Err(RecordError::Refused { reason: error.to_string() }));
                }
            },
            Proof::Copies { key, reply } => {
                let id = kad.get_record(Key::from(key.to_bytes()));
                self.wait_for(id, Purpose::Proof(Proving::Copies { found: Vec::new(), reply }));
            }
            Proof::Announce { key, reply } => {
                // Where there is no place for an own key, the end of the reply tells that nobody was told.
                if let Ok(id) = kad.start_providing(Key::from(key.clone())) {
                    self.wait_for(id, Purpose::Proof(Proving::Announced { key, reply }));
                }
            }
            Proof::Witnesses { key, of, reply } => {
                let id = kad.get_providers(Key::from(key));
                let found = Witnesses::default();
                self.wait_for(id, Purpose::Proof(Proving::Witnesses { of, found, reply }));
            }
            Proof::Place { namespace, reply } => drop(reply.send(self.place(namespace))),
            Proof::Nodes { reply } => {
                let nodes = self.nodes().into_iter().map(|(peer, _)| peer).take(NODES_MAX);
                drop(reply.send(nodes.collect()));
            }
            Proof::Stranger { reply } => drop(reply.send(self.stranger())),
        }
    }

    /// A lookup is over; `told`: nodes that were given what was said.
    pub(super) fn proved(&mut self, proving: Proving, told: usize) {
        match proving {
            Proving::Copies { found, reply } => drop(reply.send(found)),
            Proving::Announced { key, reply } => {
                // It was said once, and is not said again.
                self.swarm.behaviour_mut().guard.kad.stop_providing(&Key::from(key));
                let _ = reply.send(told);
            }
            Proving::Witnesses { found, reply, .. } => drop(reply.send(found)),
        }
    }

    fn place(&self, namespace: Option<Namespace>) -> Place {
        let joined: Vec<Namespace> = self.spaces.joined().take(SPACES_MAX).cloned().collect();
        let space = namespace.as_ref().or(joined.first()).and_then(id_of);
        let now = UnixTime::from(SystemTime::now());
        let own = space.and_then(|space| self.spaces.announcements(space, self.local, now).1);
        Place { key: own.map(|own| own.key()), joined }
    }

    fn nodes(&mut self) -> Vec<(PeerId, Vec<Multiaddr>)> {
        let mut nodes = BTreeMap::new();
        for bucket in self.swarm.behaviour_mut().guard.kad.kbuckets() {
            for entry in bucket.iter() {
                let addresses = entry.node.value.iter().cloned().collect();
                nodes.insert(*entry.node.key.preimage(), addresses);
            }
        }
        nodes.into_iter().collect()
    }

    /// It knows the same bootstrap nodes, and some nodes of the table for when those are gone; this node itself only where
    /// nobody else is known.
    fn stranger(&mut self) -> Config {
        let mut begin: BTreeSet<Multiaddr> = self.stranger.bootstrap.iter().cloned().collect();
        for (peer, addresses) in self.nodes().into_iter().take(STRANGER_NODES) {
            begin.extend(addresses.into_iter().filter_map(|address| address.with_p2p(peer).ok()));
        }
        if begin.is_empty() && self.swarm.behaviour_mut().guard.kad.mode() == kad::Mode::Server {
            let local = self.local;
            let own = self.swarm.listeners().cloned().filter_map(|at| at.with_p2p(local).ok());
            begin.extend(own);
        }
        let bootstrap = begin.into_iter().collect();
        Config { keypair: Keypair::generate_ed25519(), bootstrap, ..self.stranger.clone() }
    }
}

/// What of a node's settings a stranger shares.
pub(super) fn template(config: &Config) -> Config {
    Config {
        mode: Mode::Client,
        listen: Vec::new(),
        external: Vec::new(),
        memory: None,
        number: None,
        ..config.clone()
    }
}

impl Dht {
    /// Puts a question; none if the DHT has ended, or has too many lookups.
    pub(crate) async fn prove<T>(&self, proof: impl FnOnce(oneshot::Sender<T>) -> Proof) -> Option<T> {
        self.ask(|reply| Command::Proof(proof(reply))).await
    }
}
