//! Who waits for what Kademlia looks up.

use std::{collections::BTreeSet, time::Instant};

use libp2p::{
    PeerId,
    kad::{
        self, AddProviderOk, GetClosestPeersError, GetProvidersOk, GetRecordOk, PutRecordError, QueryId,
        QueryResult, QueryStats, Record, RecordKey, PeerInfo,
    },
};
use tokio::sync::oneshot;

use super::{
    RecordError,
    actor::{Actor, Item, Wanted},
    status::{Event, Lookup},
    store::{self, Contact, Namespace},
};

/// What a query is for.
pub(super) enum Purpose {
    /// A look into one bucket, or after ourselves.
    Refresh,
    /// A bootstrap, ours or the library's; whether anybody answered so far.
    Bootstrap { answered: bool },
    /// Something that we say of ourselves.
    Publish(Item),
    /// A sought peer; what it says, newest.
    Sought { peer: PeerId, news: bool },
    /// The members of a namespace that is watched, or asked for.
    Members { namespace: Namespace, shard: Option<u16> },
    /// A peer that was asked for.
    Peer { peer: PeerId, best: Option<Contact>, reply: oneshot::Sender<Option<Contact>> },
    Closest(oneshot::Sender<Vec<PeerId>>),
    Get { best: Option<Vec<u8>>, reply: oneshot::Sender<Option<Vec<u8>>> },
    Put { key: Vec<u8>, reply: oneshot::Sender<Result<usize, RecordError>> },
}

/// A query under way.
pub(super) struct Query {
    pub(super) purpose: Purpose,
    pub(super) begun: Instant,
}

impl Actor {
    pub(super) fn wait_for(&mut self, id: QueryId, purpose: Purpose) {
        self.queries.insert(id, Query { purpose, begun: Instant::now() });
    }

    /// What a query has found so far, or in the end.
    pub(super) fn progressed(&mut self, id: QueryId, result: QueryResult, stats: &QueryStats, last: bool) {
        match &result {
            QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(found))) => self.found(id, &found.record),
            QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { providers, .. })) => {
                self.members_found(id, providers);
            }
            QueryResult::Bootstrap(_) => self.bootstrapping(id, stats),
            _ => {}
        }
        if last {
            self.ended(id, result, stats);
        }
    }

    /// A bootstrap goes on, or one that the library began by itself.
    fn bootstrapping(&mut self, id: QueryId, stats: &QueryStats) {
        if !self.queries.contains_key(&id) {
            self.loops.bootstrap_began();
            self.wait_for(id, Purpose::Bootstrap { answered: false });
        }
        if let Some(Query { purpose: Purpose::Bootstrap { answered }, .. }) = self.queries.get_mut(&id) {
            *answered |= stats.num_successes() > 0;
        }
    }

    /// Somebody keeps a value. Nothing is believed of it that its signature does not prove.
    fn found(&mut self, id: QueryId, record: &Record) {
        let Some(query) = self.queries.get_mut(&id) else { return };
        match &mut query.purpose {
            Purpose::Sought { peer, news } => {
                if let Some(contact) = store::accept(*peer, &record.value) {
                    let known = self.contacts.get(peer);
                    *news |= known.is_none_or(|known| known.issued < contact.issued);
                    if *news {
                        self.tell(contact);
                    }
                }
            }
            Purpose::Peer { peer, best, .. } => {
                let contact = store::accept(*peer, &record.value);
                let newer = |contact: &Contact| best.as_ref().is_none_or(|best| best.issued < contact.issued);
                if let Some(contact) = contact.filter(newer) {
                    *best = Some(contact);
                }
            }
            Purpose::Get { best, .. } => {
                best.get_or_insert_with(|| record.value.clone());
            }
            _ => {}
        }
    }

    fn ended(&mut self, id: QueryId, result: QueryResult, stats: &QueryStats) {
        let Some(Query { purpose, begun }) = self.queries.remove(&id) else { return };
        let now = Instant::now();
        let lookup = |lookup, found| Event::LookupCompleted {
            lookup,
            found,
            took: now - begun,
            requests: stats.num_requests(),
        };
        match purpose {
            Purpose::Refresh => {}
            Purpose::Bootstrap { answered } => self.bootstrap_ended(answered, now),
            Purpose::Publish(item) => {
                let stored = stored(&result, stats);
                if stored > 0 && item == Item::Contact {
                    self.published = Some(now);
                }
                self.loops.published(&item, stored > 0, now);
                if let QueryResult::PutRecord(_) | QueryResult::StartProviding(Ok(AddProviderOk { .. })) = &result {
                    let key = key_of(&result).map(|key| key.to_vec()).unwrap_or_default();
                    self.report(Event::DataStored { key, nodes: stored });
                }
            }
            Purpose::Sought { peer, news } => {
                self.looked(lookup(Lookup::Peer, self.contacts.contains_key(&peer)));
                self.wants.ended(&Wanted::Peer(peer), news, now);
            }
            Purpose::Members { namespace, shard } => {
                self.looked(lookup(Lookup::Namespace, true));
                self.members_ended(namespace, shard, now);
            }
            Purpose::Peer { best, reply, .. } => {
                self.looked(lookup(Lookup::Peer, best.is_some()));
                let _ = reply.send(best);
            }
            Purpose::Closest(reply) => {
                let peers = closest(result);
                self.looked(lookup(Lookup::Closest, !peers.is_empty()));
                let _ = reply.send(peers.into_iter().map(|peer| peer.peer_id).collect());
            }
            Purpose::Get { best, reply } => {
                self.looked(lookup(Lookup::Value, best.is_some()));
                let _ = reply.send(best);
            }
            Purpose::Put { key, reply } => {
                let nodes = stored(&result, stats);
                if nodes > 0 {
                    self.report(Event::DataStored { key, nodes });
                }
                let _ = reply.send(if nodes > 0 { Ok(nodes) } else { Err(RecordError::Nobody) });
            }
        }
    }

    fn looked(&mut self, event: Event) {
        if let Event::LookupCompleted { found, .. } = &event {
            let count = if *found { &mut self.lookups_found } else { &mut self.lookups_missed };
            *count += 1;
        }
        self.report(event);
    }

    fn members_found<'a>(&mut self, id: QueryId, providers: impl IntoIterator<Item = &'a PeerId>) {
        let Some(Query { purpose: Purpose::Members { namespace, shard }, .. }) = self.queries.get(&id) else {
            return;
        };
        let (namespace, shard) = (namespace.clone(), *shard);
        let providers: BTreeSet<PeerId> = providers.into_iter().copied().collect();
        let new = self.spaces.found(&namespace, shard, &providers, Instant::now());
        if self.spaces.is_watched(&namespace) {
            for peer in new {
                self.report(Event::MemberFound { namespace: namespace.clone(), peer });
            }
        }
    }
}

/// How many nodes keep it. Of memberships the library says only how many were asked.
fn stored(result: &QueryResult, stats: &QueryStats) -> usize {
    match result {
        QueryResult::PutRecord(Ok(_)) => stats.num_successes() as usize,
        QueryResult::PutRecord(Err(
            PutRecordError::QuorumFailed { success, .. } | PutRecordError::Timeout { success, .. },
        )) => success.len(),
        QueryResult::StartProviding(Ok(_)) => stats.num_successes() as usize,
        _ => 0,
    }
}

fn key_of(result: &QueryResult) -> Option<&RecordKey> {
    match result {
        QueryResult::PutRecord(Ok(kad::PutRecordOk { key })) => Some(key),
        QueryResult::PutRecord(Err(error)) => Some(error.key()),
        QueryResult::StartProviding(Ok(AddProviderOk { key })) => Some(key),
        _ => None,
    }
}

fn closest(result: QueryResult) -> Vec<PeerInfo> {
    match result {
        QueryResult::GetClosestPeers(Ok(found)) => found.peers,
        QueryResult::GetClosestPeers(Err(GetClosestPeersError::Timeout { peers, .. })) => peers,
        _ => Vec::new(),
    }
}
