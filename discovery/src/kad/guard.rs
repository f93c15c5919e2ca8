//! Kademlia of libp2p, with what it does not look at: whom answers name, how often others ask, who stores what is false, and
//! where peers are not.
//!
//! Events of its handler pass through here before it sees them. So an answer loses the peers that a lookup may not ask
//! ([`Candidates`]), all of them if those that the same node named before were not there ([`Namers`]), the addresses at which
//! somebody else was found ([`Bans`]) and those who are shunned ([`Scores`]); and a question too many is refused, or dropped if
//! it has no answer ([`Meter`]).

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    net::IpAddr,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    kad::{self, KadPeer, QueryId, QueryResult},
    swarm::{
        ConnectionDenied, ConnectionId, DialError, DialFailure, FromSwarm, NetworkBehaviour,
        NotifyHandler, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
        behaviour::{ConnectionClosed, ConnectionEstablished},
    },
};

use super::{
    candidates::{Candidates, TABLE_MIN},
    meter::Meter,
    namers::Namers,
};
use crate::{
    admission::{ADDRESSES_MAX, groups::ip_of},
    record::Refusal,
    score::{Bans, Deed, Scores},
    store::{PutRefusal, Store},
};

type Kad = kad::Behaviour<Store>;
type Heard = THandlerOutEvent<Kad>;
type Order = THandlerInEvent<Kad>;

/// Kademlia, guarded.
pub(super) struct Guarded {
    pub(super) kad: Kad,
    /// How peers behave.
    pub(super) scores: Scores,
    /// Where which peer is not.
    pub(super) bans: Bans,
    /// Peers in the table, as the driver says.
    pub(super) table: usize,
    candidates: Candidates<QueryId>,
    namers: Namers,
    passed_over: u64,
    meter: Meter,
    /// Questions that were not answered, since there were too many.
    refused: u64,
    /// Who is shunned from now on, for the driver.
    shunned: VecDeque<PeerId>,
    refusals: VecDeque<(PeerId, ConnectionId, Order)>,
    connections: HashMap<ConnectionId, Multiaddr>,
    trusted: BTreeSet<PeerId>,
    exempt: Arc<dyn Fn(IpAddr) -> bool + Send + Sync>,
}

impl Guarded {
    /// `trusted`: peers that our operator named. `exempt`: addresses of no part of the internet.
    pub(super) fn new(
        kad: Kad,
        trusted: BTreeSet<PeerId>,
        exempt: Arc<dyn Fn(IpAddr) -> bool + Send + Sync>,
    ) -> Self {
        Self {
            kad,
            scores: Scores::default(),
            bans: Bans::default(),
            table: 0,
            candidates: Candidates::new(),
            namers: Namers::default(),
            passed_over: 0,
            meter: Meter::new(),
            refused: 0,
            shunned: VecDeque::new(),
            refusals: VecDeque::new(),
            connections: HashMap::new(),
            trusted,
            exempt,
        }
    }

    /// Peers that lookups passed over, since others of their network were asked; and questions of others that were refused.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.passed_over, self.refused)
    }

    /// Counts what a peer did.
    pub(super) fn did(&mut self, peer: PeerId, deed: Deed) {
        if self.scores.count(peer, deed, Instant::now()) {
            self.shunned.push_back(peer);
        }
    }

    /// Who is shunned, and was not when this was asked last.
    pub(super) fn next_shunned(&mut self) -> Option<PeerId> {
        self.shunned.pop_front()
    }

    /// Connections, and where their other ends are.
    pub(super) fn connections(&self) -> impl Iterator<Item = (ConnectionId, &Multiaddr)> {
        self.connections.iter().map(|(id, address)| (*id, address))
    }

    /// Of those that an answer names, the ones that the lookup may ask.
    fn admissible(&mut self, namer: PeerId, lookup: QueryId, named: Vec<KadPeer>) -> Vec<KadPeer> {
        let now = Instant::now();
        self.namers.answered(&namer, now);
        if !self.namers.believes(&namer, now) {
            self.passed_over += named.len() as u64;
            return Vec::new();
        }
        let admitted = named.into_iter().filter_map(|peer| self.admitted(lookup, peer, now));
        let admitted: Vec<KadPeer> = admitted.collect();
        admitted.iter().for_each(|peer| self.namers.named(namer, peer.node_id, now));
        admitted
    }

    fn admitted(&mut self, lookup: QueryId, mut peer: KadPeer, now: Instant) -> Option<KadPeer> {
        let id = peer.node_id;
        if self.scores.is_shunned(&id, now) {
            return None;
        }
        let bans = &self.bans;
        peer.multiaddrs.retain(|address| !bans.is_banned(id, address, now));
        peer.multiaddrs.truncate(ADDRESSES_MAX);
        if self.table >= TABLE_MIN && !self.trusted.contains(&id) {
            let counts = |ip| !(self.exempt)(ip);
            if !self.candidates.admits(lookup, id, &peer.multiaddrs, counts) {
                self.passed_over += 1;
                return None;
            }
        }
        Some(peer)
    }

    /// Whether a question is answered, or something kept.
    fn lets(&mut self, peer: PeerId, connection: ConnectionId) -> bool {
        let now = Instant::now();
        let from = self.connections.get(&connection).and_then(ip_of);
        let from = from.filter(|ip| !(self.exempt)(*ip));
        let lets = !self.scores.is_shunned(&peer, now) && self.meter.lets(peer, from, now);
        self.refused += u64::from(!lets);
        lets
    }

    /// What Kademlia is to hear of an event; nothing if a question too many was refused.
    fn judged(&mut self, peer: PeerId, connection: ConnectionId, event: Heard) -> Option<Heard> {
        Some(match event {
            Heard::FindNodeRes { closer_peers, query_id } => {
                self.did(peer, Deed::Answered);
                Heard::FindNodeRes {
                    closer_peers: self.admissible(peer, query_id, closer_peers),
                    query_id,
                }
            }
            Heard::GetProvidersRes { closer_peers, provider_peers, query_id } => {
                self.did(peer, Deed::Answered);
                let closer_peers = self.admissible(peer, query_id, closer_peers);
                Heard::GetProvidersRes { closer_peers, provider_peers, query_id }
            }
            Heard::GetRecordRes { record, closer_peers, query_id } => {
                self.did(peer, Deed::Answered);
                let closer_peers = self.admissible(peer, query_id, closer_peers);
                Heard::GetRecordRes { record, closer_peers, query_id }
            }
            Heard::QueryError { error, query_id } => {
                self.namers.unreached(&peer, Instant::now());
                Heard::QueryError { error, query_id }
            }
            Heard::FindNodeReq { request_id, .. }
            | Heard::GetProvidersReq { request_id, .. }
            | Heard::GetRecord { request_id, .. }
            | Heard::PutRecord { request_id, .. }
                if !self.lets(peer, connection) =>
            {
                self.refusals.push_back((peer, connection, refusing(Order::Reset(request_id))));
                return None;
            }
            Heard::AddProvider { .. } if !self.lets(peer, connection) => return None,
            other => other,
        })
    }

    fn unkept(&mut self) -> u64 {
        self.kad.store_mut().refusals().values().sum()
    }

    /// Whether the record that was refused last is one that no honest peer brings. Of two with one number nobody who brings
    /// one can know.
    fn is_bad(&mut self) -> bool {
        match self.kad.store_mut().put_refusal() {
            Some(PutRefusal::Record(Refusal::Equivocation { .. })) => false,
            Some(PutRefusal::Record(refusal)) => !refusal.is_innocent(),
            _ => false,
        }
    }

    fn heard_of(&mut self, event: &FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            }) => {
                let address = endpoint.get_remote_address().clone();
                if endpoint.is_dialer() {
                    self.bans.reached(*peer_id, &address);
                }
                self.connections.insert(*connection_id, address);
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. }) => {
                self.connections.remove(connection_id);
            }
            FromSwarm::DialFailure(DialFailure { peer_id: Some(peer), error, .. }) => match error {
                DialError::DialPeerConditionFalse(_) => {}
                DialError::WrongPeerId { address, .. } => {
                    self.bans.wrong_identity(*peer, address, Instant::now());
                    self.unreached(peer);
                }
                _ => self.unreached(peer),
            },
            _ => {}
        }
    }

    fn unreached(&mut self, peer: &PeerId) {
        self.candidates.unreached(peer);
        self.namers.unreached(peer, Instant::now());
    }

    /// A bootstrap is one lookup after the other by one name.
    fn done(&mut self, event: &kad::Event) {
        if let kad::Event::OutboundQueryProgressed { id, result, step, .. } = event
            && (step.last || matches!(result, QueryResult::Bootstrap(_)))
        {
            self.candidates.end(id);
        }
    }
}

/// A refusal instead of a reset: nobody is named. To who wrote a record that is no answer, so that it knows.
///
/// libp2p-kad 0.49 does not wake the stream that it resets. So the asker waits 10 s for it, and once there are 32 such streams
/// the connection hears no question any more.
fn refusing(order: Order) -> Order {
    match order {
        Order::Reset(request_id) => Order::FindNodeRes { closer_peers: Vec::new(), request_id },
        other => other,
    }
}

impl NetworkBehaviour for Guarded {
    type ConnectionHandler = <Kad as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = kad::Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.kad.handle_established_inbound_connection(connection, peer, local, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let found = self.kad.handle_pending_outbound_connection(connection, peer, addresses, role);
        let mut found = found?;
        if let Some(peer) = peer {
            let now = Instant::now();
            found.retain(|address| !self.bans.is_banned(peer, address, now));
        }
        Ok(found)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.kad.handle_established_outbound_connection(connection, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.heard_of(&event);
        self.kad.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        let Some(event) = self.judged(peer, connection, event) else { return };
        let stores = matches!(event, Heard::PutRecord { .. });
        let before = self.unkept();
        self.kad.on_connection_handler_event(peer, connection, event);
        if stores && self.unkept() > before && self.is_bad() {
            self.did(peer, Deed::BadRecord);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<kad::Event, THandlerInEvent<Self>>> {
        if let Some((peer_id, connection, event)) = self.refusals.pop_front() {
            let handler = NotifyHandler::One(connection);
            return Poll::Ready(ToSwarm::NotifyHandler { peer_id, handler, event });
        }
        let polled = self.kad.poll(cx);
        if let Poll::Ready(ToSwarm::GenerateEvent(event)) = &polled {
            self.done(event);
        }
        polled.map(|polled| polled.map_in(refusing))
    }
}
