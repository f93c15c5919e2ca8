//! Looks whether the place of this node's contact is too dense, and tells others near it while it is.
//!
//! At each light refresh of the table one lookup more: a place that is drawn while it is not known how large the network is,
//! and the place of the contact from then on. [`density`](super::density) judges.
//!
//! While it is too dense, the contact is also given to the nearest nodes of the table, each of which a dial of ours reached, and to
//! those that are found beside the place. Whoever looks for the contact asks such nodes on its way, and takes the answer.

use std::time::Instant;

use libp2p::{
    PeerId,
    kad::{self, KBucketKey, QueryResult, Quorum},
};

use super::{
    actor::{Actor, Item},
    density::{Change, NEAREST, beside, share},
    queries::{Purpose, closest},
    status::Event,
};
use crate::{keys::RecordKey, record::Record};

/// Nodes of the table that are told beside the nearest ones, while those are too dense.
pub(super) const OF_TABLE_MAX: usize = 32;

/// A place that was drawn nearer to us than this says nothing of the size of the network: whoever crowds round our own id is
/// not to be heard, and the few nodes there would be counted again and again.
const APART: f64 = 1.0 / 16.0;

/// What the nodes nearest to a place are looked up for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Round {
    /// The place was drawn: they tell how many nodes there are.
    Drawn,
    /// This node's contact is kept there: they are judged.
    Contact,
    /// It is beside that: they are told.
    Beside(Box<Record>),
}

impl Actor {
    /// Looks for ourselves and for some place, so that the table is fresh; and for a third one, see above.
    pub(super) fn refresh(&mut self) {
        let id = self.swarm.behaviour_mut().guard.kad.get_closest_peers(self.local);
        self.wait_for(id, Purpose::Refresh);
        let some = self.in_some_bucket();
        self.look_round(some.to_bytes(), Round::Drawn);
        // Who says nothing of itself cannot be hidden.
        if self.published.is_none() {
            return;
        }
        match self.density.nodes() {
            None => self.look_round(PeerId::random().to_bytes(), Round::Drawn),
            Some(_) => self.look_round(RecordKey::Contact(self.local).to_bytes(), Round::Contact),
        }
    }

    fn look_round(&mut self, place: Vec<u8>, of: Round) {
        let id = self.swarm.behaviour_mut().guard.kad.get_closest_peers(place.clone());
        self.wait_for(id, Purpose::Round { place, of });
    }

    /// Such a lookup is over. Of what it found only those who answered are left.
    pub(super) fn looked_round(&mut self, place: Vec<u8>, of: Round, result: QueryResult) {
        let whole = matches!(result, QueryResult::GetClosestPeers(Ok(_)));
        let place = KBucketKey::new(place);
        let distance = |peer: PeerId| share(place.distance(&KBucketKey::from(peer)));
        let peers = closest(result).into_iter().map(|peer| peer.peer_id);
        let mut nearest: Vec<(f64, PeerId)> = peers.map(|peer| (distance(peer), peer)).collect();
        nearest.sort_unstable_by(|(one, _), (other, _)| one.total_cmp(other));
        nearest.truncate(NEAREST);
        let (distances, peers): (Vec<f64>, Vec<PeerId>) = nearest.into_iter().unzip();
        match of {
            Round::Drawn if whole && distance(self.local) >= APART => self.density.sampled(&distances),
            Round::Drawn => {}
            Round::Contact => {
                if let Some(change) = self.density.judge(&distances, whole) {
                    self.density_changed(change, Instant::now());
                }
            }
            Round::Beside(record) => self.give(&record, peers),
        }
    }

    pub(super) fn density_changed(&mut self, change: Change, now: Instant) {
        let event = match change {
            Change::Began { expected, nodes } => {
                // Others are told at once.
                self.loops.changed(Item::Contact, now);
                Event::DensityAlarmRaised { expected, nodes: nodes.round() as u64 }
            }
            Change::Ended => Event::DensityAlarmEnded,
        };
        self.report(event);
    }

    /// While the place of this record is too dense, others are given it besides the nearest nodes.
    pub(super) fn tell_around(&mut self, record: &Record) {
        let Some(radius) = self.density.radius() else { return };
        let key = KBucketKey::new(record.key().to_bytes());
        let kad = &mut self.swarm.behaviour_mut().guard.kad;
        let near = kad.get_closest_local_peers(&key).take(OF_TABLE_MAX);
        let near = near.map(KBucketKey::into_preimage).collect();
        self.give(record, near);
        for place in beside(&key, radius, rand::random) {
            self.look_round(place, Round::Beside(Box::new(record.clone())));
        }
    }

    /// These nodes are asked to keep the record.
    pub(super) fn give(&mut self, record: &Record, to: Vec<PeerId>) {
        if to.is_empty() {
            return;
        }
        let given = kad::Record {
            publisher: Some(record.signer()),
            ..kad::Record::new(record.key().to_bytes(), record.bytes().to_vec())
        };
        let kad = &mut self.swarm.behaviour_mut().guard.kad;
        // With less libp2p stops when so many have taken it.
        let id = kad.put_record_to(given, to.into_iter(), Quorum::All);
        self.wait_for(id, Purpose::Refresh);
    }
}
