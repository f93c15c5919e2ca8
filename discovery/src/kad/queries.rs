//! Who waits for what Kademlia looks up.

use std::{
    collections::BTreeSet,
    time::{Instant, SystemTime},
};

use libp2p::{
    PeerId,
    kad::{
        self, AddProviderOk, GetClosestPeersError, GetProvidersOk, GetRecordOk, PeerInfo, PeerRecord,
        PutRecordError, QueryId, QueryResult, QueryStats,
    },
};
use tokio::sync::oneshot;

use super::{
    Found, RecordError,
    actor::{Actor, Item, Wanted},
    proofs::Proving,
    region::Round,
    spaces::Read,
    status::{Event, Lookup},
    storing::Then,
};
use crate::{
    UnixTime,
    keys::{MEMBERS_MAX, RecordKey},
    record::{Accepted, Record, Refusal, accept},
    score::Deed,
};

/// What a query is for.
#[allow(clippy::large_enum_variant, reason = "there are few at once")]
pub(super) enum Purpose {
    /// What tells nobody anything: a refresh of the table, a repair of what others keep.
    Refresh,
    /// The nodes nearest to a place.
    Round {
        place: Vec<u8>,
        of: Round,
    },
    /// A bootstrap, ours or the library's; whether anybody answered so far.
    Bootstrap {
        answered: bool,
    },
    /// The nodes nearest to a record, which are to keep it.
    Store {
        record: kad::Record,
        then: Then,
    },
    /// Something that we say of ourselves. `whole`: all of those who are nearest to it were asked.
    Publish {
        item: Item,
        whole: bool,
    },
    /// A sought peer; whether it said anything new, and who keeps older words of it.
    Sought {
        peer: PeerId,
        news: bool,
        stale: BTreeSet<PeerId>,
    },
    /// The members of a shard. `count`: it is our own, and how many are in it is all that matters.
    Members {
        read: Read,
        count: bool,
        found: BTreeSet<PeerId>,
    },
    /// Something that was asked for; the best of it so far, who keeps that, and who keeps older ones.
    Find {
        key: RecordKey,
        best: Option<Found>,
        keepers: BTreeSet<PeerId>,
        stale: BTreeSet<PeerId>,
        reply: oneshot::Sender<Option<Found>>,
    },
    Closest(oneshot::Sender<Vec<PeerId>>),
    Put(oneshot::Sender<Result<usize, RecordError>>),
    Providers {
        found: BTreeSet<PeerId>,
        reply: oneshot::Sender<Vec<PeerId>>,
    },
    /// Something that a verification asks.
    Proof(Proving),
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
    pub(super) fn progressed(
        &mut self,
        id: QueryId,
        result: QueryResult,
        stats: &QueryStats,
        last: bool,
    ) {
        if let Some(Query { purpose: Purpose::Proof(proving), .. }) = self.queries.get_mut(&id) {
            proving.progressed(&result);
        }
        match &result {
            QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(found))) => self.found(id, found),
            QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { providers, .. })) => {
                self.providers_found(id, providers);
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
            if *answered {
                self.bootstrap_answered(Instant::now());
            }
        }
    }

    /// Somebody keeps something. Nothing is believed of it that its signature does not prove.
    fn found(&mut self, id: QueryId, PeerRecord { peer: keeper, record }: &PeerRecord) {
        let Some(query) = self.queries.get_mut(&id) else { return };
        let now = UnixTime::from(SystemTime::now());
        let signer = match &query.purpose {
            Purpose::Sought { peer, .. } | Purpose::Find { key: RecordKey::Contact(peer), .. } => {
                Some(*peer)
            }
            _ => None,
        };
        let judged = match &mut query.purpose {
            Purpose::Sought { peer, news, stale } => {
                let held = self.contacts.get(peer).map(Record::version);
                let judged = accept(&self.rules, &RecordKey::Contact(*peer), &record.value, held, now);
                match &judged {
                    Ok(Accepted::New(contact)) => {
                        *news = true;
                        let contact = contact.clone();
                        self.tell(contact);
                    }
                    Err(Refusal::Replayed { .. }) => stale.extend(keeper),
                    _ => {}
                }
                judged
            }
            Purpose::Find { key, best, keepers, stale, .. } => {
                let held = match &*best {
                    Some(Found::Record(record)) => Some(record.version()),
                    Some(Found::Content(_)) | None => None,
                };
                let judged = accept(&self.rules, key, &record.value, held, now);
                match &judged {
                    Ok(Accepted::New(newer)) => {
                        stale.append(keepers);
                        *best = Some(Found::Record(newer.clone()));
                        keepers.extend(keeper);
                    }
                    Ok(Accepted::Held) => keepers.extend(keeper),
                    Ok(Accepted::Content) => *best = Some(Found::Content(record.value.clone())),
                    Err(Refusal::Replayed { .. }) => stale.extend(keeper),
                    Err(_) => {}
                }
                judged
            }
            _ => return,
        };
        let guard = &mut self.swarm.behaviour_mut().guard;
        match (judged, keeper, signer) {
            // Both are signed. Whoever keeps one cannot know of the other.
            (Err(Refusal::Equivocation { .. }), _, Some(signer)) => guard.did(signer, Deed::Lied),
            (Err(refusal), Some(keeper), _) if !refusal.is_innocent() => {
                tracing::debug!(%keeper, %refusal, "a node of the DHT keeps what it should not");
                guard.did(*keeper, Deed::BadRecord);
            }
            _ => {}
        }
    }

    fn providers_found<'a>(&mut self, id: QueryId, providers: impl IntoIterator<Item = &'a PeerId>) {
        let Some(query) = self.queries.get_mut(&id) else { return };
        let (read, new) = match &mut query.purpose {
            Purpose::Members { read, found, .. } => {
                let room = MEMBERS_MAX.saturating_sub(found.len());
                let new: Vec<PeerId> = providers.into_iter().take(room).copied().collect();
                found.extend(&new);
                (*read, new)
            }
            Purpose::Providers { found, .. } => {
                let room = MEMBERS_MAX.saturating_sub(found.len());
                return found.extend(providers.into_iter().take(room));
            }
            _ => return,
        };
        let new = self.spaces.seen(read.space, new, Instant::now());
        let Some(namespace) = self.spaces.namespace(read.space).cloned() else { return };
        for peer in new {
            self.report(Event::MemberFound { namespace: namespace.clone(), peer });
        }
    }

    fn ended(&mut self, id: QueryId, result: QueryResult, stats: &QueryStats) {
        let Some(Query { purpose, begun }) = self.queries.remove(&id) else { return };
        let now = Instant::now();
        self.counts.asked(stats.num_requests(), now);
        let lookup = |lookup, found| Event::LookupCompleted {
            lookup,
            found,
            took: now - begun,
            requests: stats.num_requests(),
        };
        match purpose {
            Purpose::Refresh => {}
            Purpose::Store { record, then } => self.store_with(record, then, result),
            Purpose::Round { place, of } => self.looked_round(place, of, result),
            Purpose::Proof(proving) => self.proved(proving, stored(&result, stats)),
            Purpose::Bootstrap { answered } => self.bootstrap_ended(answered, now),
            Purpose::Publish { item, whole } => {
                let nodes = stored(&result, stats);
                if nodes > 0 && item == Item::Contact {
                    self.published = Some(now);
                }
                self.loops.published(&item, nodes > 0 && whole, now);
                self.report(Event::DataStored { nodes });
            }
            Purpose::Sought { peer, news, stale } => {
                self.looked(lookup(Lookup::Peer, self.contacts.contains_key(&peer)));
                if let Some(contact) = self.contacts.get(&peer).cloned() {
                    self.repair(&contact, stale);
                }
                self.wants.ended(&Wanted::Peer(peer), news, now);
            }
            Purpose::Members { read, count: true, found } => {
                if self.spaces.counted(read.space, found.len()) {
                    self.loops.changed(Item::Member(read.space), now);
                }
            }
            Purpose::Members { read, found, .. } => {
                self.looked(lookup(Lookup::Namespace, !found.is_empty()));
                self.read_ended(read, &found, now);
            }
            Purpose::Find { key, best, stale, reply, .. } => {
                let kind =
                    if matches!(key, RecordKey::Contact(_)) { Lookup::Peer } else { Lookup::Value };
                self.looked(lookup(kind, best.is_some()));
                if let Some(Found::Record(record)) = &best {
                    self.repair(record, stale);
                }
                let _ = reply.send(best);
            }
            Purpose::Closest(reply) => {
                let peers = closest(result);
                self.looked(lookup(Lookup::Closest, !peers.is_empty()));
                let _ = reply.send(peers.into_iter().map(|peer| peer.peer_id).collect());
            }
            Purpose::Put(reply) => {
                let nodes = stored(&result, stats);
                self.report(Event::DataStored { nodes });
                let _ = reply.send(if nodes > 0 { Ok(nodes) } else { Err(RecordError::Nobody) });
            }
            Purpose::Providers { found, reply } => {
                self.looked(lookup(Lookup::Value, !found.is_empty()));
                let _ = reply.send(found.into_iter().collect());
            }
        }
    }

    /// Whoever keeps an older record than the one that was found is given that one.
    fn repair(&mut self, record: &Record, stale: BTreeSet<PeerId>) {
        self.give(record, stale.into_iter().collect());
    }

    fn looked(&mut self, event: Event) {
        if let Event::LookupCompleted { found, took, .. } = &event {
            self.counts.looked(*took);
            let count = if *found { &mut self.lookups_found } else { &mut self.lookups_missed };
            *count += 1;
        }
        self.report(event);
    }

    fn read_ended(&mut self, read: Read, found: &BTreeSet<PeerId>, now: Instant) {
        let space = read.space;
        let last = self.spaces.read(read, found);
        self.go_on_looking(space);
        let Some(news) = last.filter(|_| !self.spaces.is_reading(space)) else { return };
        self.spaces.end(space);
        let members = self.spaces.members(space);
        for (of, reply) in std::mem::take(&mut self.waiting) {
            match of == space {
                true => drop(reply.send(members.clone())),
                false => self.waiting.push((of, reply)),
            }
        }
        self.wants.ended(&Wanted::Members(space), news, now);
    }
}

/// How many nodes keep it. Of memberships the library says only how many were asked.
fn stored(result: &QueryResult, stats: &QueryStats) -> usize {
    match result {
        QueryResult::PutRecord(Ok(_)) => stats.num_successes() as usize,
        QueryResult::PutRecord(Err(
            PutRecordError::QuorumFailed { success, .. } | PutRecordError::Timeout { success, .. },
        )) => success.len(),
        QueryResult::StartProviding(Ok(AddProviderOk { .. })) => stats.num_successes() as usize,
        _ => 0,
    }
}

/// Those who answered.
pub(super) fn closest(result: QueryResult) -> Vec<PeerInfo> {
    match result {
        QueryResult::GetClosestPeers(Ok(found)) => found.peers,
        QueryResult::GetClosestPeers(Err(GetClosestPeersError::Timeout { peers, .. })) => peers,
        _ => Vec::new(),
    }
}
