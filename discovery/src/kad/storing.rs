//! Stores a record: first the nodes nearest to its key are looked for, then each is asked to keep it.
//!
//! `put_record` of libp2p does both in one, and stores nowhere if the first was not over in time. So whoever names nodes that
//! never answer could keep anything from being stored, and so could a slow network. Here whoever was found until then
//! is asked. They may not be the nearest: what a node says of itself is said again soon in that case.

use std::time::Instant;

use libp2p::kad::{self, QueryResult, Quorum, store::RecordStore as _};
use tokio::sync::oneshot;

use super::{
    RecordError,
    actor::{Actor, Item},
    queries::{Purpose, closest},
};

/// Whom it matters to how many keep it.
pub(super) enum Then {
    /// This node says it of itself, again and again.
    Publish(Item),
    /// Somebody asked for it.
    Put(oneshot::Sender<Result<usize, RecordError>>),
}

impl Actor {
    /// Keeps a record of ours, and begins to store it elsewhere.
    ///
    /// # Errors
    /// Our own store does not take it: nobody else is asked to. Whom it matters to is handed back.
    pub(super) fn store(
        &mut self,
        key: Vec<u8>,
        value: Vec<u8>,
        then: Then,
    ) -> Result<(), (kad::store::Error, Then)> {
        let own = kad::Record { publisher: Some(self.local), ..kad::Record::new(key.clone(), value) };
        let kad = &mut self.swarm.behaviour_mut().guard.kad;
        if let Err(refused) = kad.store_mut().put(own.clone()) {
            return Err((refused, then));
        }
        let id = kad.get_n_closest_peers(key, self.keepers);
        self.wait_for(id, Purpose::Store { record: own, then });
        Ok(())
    }

    /// The nodes nearest to it were looked for.
    pub(super) fn store_with(&mut self, record: kad::Record, then: Then, result: QueryResult) {
        let whole = matches!(result, QueryResult::GetClosestPeers(Ok(_)));
        let nearest: Vec<_> = closest(result).into_iter().map(|peer| peer.peer_id).collect();
        if nearest.is_empty() {
            return match then {
                Then::Publish(item) => self.loops.published(&item, false, Instant::now()),
                Then::Put(reply) => drop(reply.send(Err(RecordError::Nobody))),
            };
        }
        let kad = &mut self.swarm.behaviour_mut().guard.kad;
        let id = kad.put_record_to(record, nearest.into_iter(), Quorum::All);
        self.wait_for(
            id,
            match then {
                Then::Publish(item) => Purpose::Publish { item, whole },
                Then::Put(reply) => Purpose::Put(reply),
            },
        );
    }
}
