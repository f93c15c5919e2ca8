//! What others ask of the actor.

use std::{
    collections::BTreeSet,
    time::{Instant, SystemTime},
};

use libp2p::kad::{self, RecordKey as Key, store::RecordStore as _};
use tokio::sync::oneshot;

use super::{
    Command, RecordError,
    actor::{Actor, Item, Wanted},
    health::Target,
    queries::Purpose,
    status::{Bootstrap, Bucket, Node, Status},
    storing::Then,
};
#[cfg(feature = "dns")]
use crate::transport::peer_of;
use crate::{UnixTime, transport::without_peer};

/// Queries at once, our own included. What is asked for beyond is refused; what we look for ourselves has limits of its own.
const QUERIES_MAX: usize = 256;

/// Keys that this node says it has what they name.
const PROVIDED_MAX: usize = 256;

impl Actor {
    pub(super) fn command(&mut self, command: Command) {
        let now = Instant::now();
        match command {
            Command::Says { contact } => {
                if contact != self.own {
                    self.own = contact;
                    self.loops.changed(Item::Contact, now);
                }
            }
            #[cfg(feature = "dns")]
            Command::BeginsWith { addresses } => self.targets.named(&addresses, peer_of, now),
            Command::Confirmed { addresses } => {
                self.serving.confirmed(&addresses, now);
                self.decide_mode();
            }
            Command::KeepTo { policy } => {
                self.current.set(policy);
                self.leave_the_barred();
                self.decide_mode();
            }
            Command::Join { namespace } => match self.spaces.join(namespace) {
                Ok(space) => self.loops.changed(Item::Member(space), now),
                Err(full) => tracing::warn!(%full, "this node is not said to be in a namespace"),
            },
            Command::Watch { namespace } => match self.spaces.watch(namespace) {
                Ok(space) => self.wants.want(Wanted::Members(space), now),
                Err(full) => tracing::warn!(%full, "a namespace is not watched"),
            },
            Command::Provide { key } if self.loops.items() < PROVIDED_MAX => {
                self.loops.changed(Item::Provides(key), now);
            }
            Command::Provide { .. } => tracing::warn!("{PROVIDED_MAX} keys are provided already"),
            Command::Reached { peer } => self.wants.satisfied(&Wanted::Peer(peer), now),
            Command::Missed { peer } => self.wants.missed(&Wanted::Peer(peer), now),
            Command::Kept { key, reply } => {
                let store = self.swarm.behaviour_mut().guard.kad.store_mut();
                let kept = store.get(&Key::from(key.to_bytes()));
                let _ = reply.send(kept.map(|record| record.value.clone()));
            }
            Command::Status { reply } => drop(reply.send(self.status())),
            Command::Nodes { reply } => drop(reply.send(self.in_table())),
            // It ends the loop.
            Command::Stop { .. } => {}
            asked if self.queries.len() < QUERIES_MAX => self.asked(asked),
            // Whoever asks in vain is answered by the end of the reply.
            _ => tracing::debug!("a lookup is refused: there are too many"),
        }
    }

    fn asked(&mut self, command: Command) {
        let kad = &mut self.swarm.behaviour_mut().guard.kad;
        match command {
            Command::Find { key, reply } => {
                let id = kad.get_record(Key::from(key.to_bytes()));
                let (best, stale) = (None, BTreeSet::new());
                self.wait_for(id, Purpose::Find { key, best, keepers: BTreeSet::new(), stale, reply });
            }
            Command::Members { namespace, reply } => {
                if let Some(space) = self.look_into(namespace) {
                    self.waiting.push((space, reply));
                }
            }
            Command::Closest { to, reply } => {
                let id = kad.get_closest_peers(to);
                self.wait_for(id, Purpose::Closest(reply));
            }
            Command::Say { body, reply } => match self.signer.sign(body) {
                Ok(record) => self.put(record.key().to_bytes(), record.bytes().to_vec(), reply),
                Err(error) => refuse(reply, &error),
            },
            Command::Put { key, value, reply } => self.put(key.to_bytes(), value, reply),
            Command::Providers { key, reply } => {
                let id = kad.get_providers(Key::from(key));
                self.wait_for(id, Purpose::Providers { found: BTreeSet::new(), reply });
            }
            Command::Proof(proof) => self.prove(proof),
            _ => {}
        }
    }

    pub(super) fn put(
        &mut self,
        key: Vec<u8>,
        value: Vec<u8>,
        reply: oneshot::Sender<Result<usize, RecordError>>,
    ) {
        let Err((error, then)) = self.store(key, value, Then::Put(reply)) else { return };
        let Then::Put(reply) = then else { return };
        match self.swarm.behaviour_mut().guard.kad.store_mut().put_refusal() {
            Some(refusal) => refuse(reply, refusal),
            None => refuse(reply, &error),
        }
    }

    fn status(&mut self) -> Status {
        let now = Instant::now();
        let ago = |at: Instant| now.saturating_duration_since(at);
        let bootstrap = |target: &Target| Bootstrap {
            address: target.address.clone(),
            peer: target.peer,
            health: target.health,
            round_trip: target.round_trip,
            last_answer: target.last_answer.map(ago),
            misses: target.misses,
            network: target.network.clone(),
        };
        let listening = self.swarm.listeners().cloned().collect();
        let connections = self.swarm.network_info().connection_counters().num_established() as usize;
        let guard = &mut self.swarm.behaviour_mut().guard;
        let ((passed_over, refused_questions), banned) = (guard.counts(), guard.bans.count(now));
        let kad = &mut guard.kad;
        let bucket = |bucket: kad::KBucketRef<'_, _, _>| Bucket {
            index: bucket.range().0.ilog2().unwrap_or_default(),
            peers: bucket.num_entries(),
        };
        let buckets = kad.kbuckets().map(bucket).collect();
        let announced = kad.store_mut().announced();
        let (kept, refused) = (kad.store_mut().usage(), kad.store_mut().refusals().clone());
        Status {
            network: self.rules.network.to_string(),
            server: kad.mode() == kad::Mode::Server,
            joined: self.loops.joined(),
            buckets,
            listening,
            connections,
            bootstraps: self.targets.all().iter().map(bootstrap).collect(),
            published: self.published.map(ago),
            kept,
            refused,
            denied: self.admission.denials().clone(),
            passed_over,
            refused_questions,
            banned,
            nodes_estimated: self.density.nodes().map(|nodes| nodes.round() as u64),
            density_alarm: self.density.alarm(),
            lookups_found: self.lookups_found,
            lookups_missed: self.lookups_missed,
            traffic: self.counts.traffic(self.begun, now),
            namespaces: self.spaces.all(self.local, UnixTime::from(SystemTime::now())),
            announced,
        }
    }

    /// The nearest first.
    fn in_table(&mut self) -> Vec<Node> {
        let mut nodes = Vec::new();
        for bucket in self.swarm.behaviour_mut().guard.kad.kbuckets() {
            nodes.extend(bucket.iter().map(|entry| Node {
                peer: *entry.node.key.preimage(),
                addresses: entry.node.value.iter().map(without_peer).collect(),
            }));
        }
        nodes
    }
}

fn refuse(reply: oneshot::Sender<Result<usize, RecordError>>, reason: &dyn std::fmt::Display) {
    let _ = reply.send(Err(RecordError::Refused { reason: reason.to_string() }));
}
