//! Owns the swarm: does what the loops say, and what others ask for.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use libp2p::{
    Multiaddr, PeerId, Swarm,
    identity::Keypair,
    kad::{self, QueryId, Quorum, Record, RecordKey},
    multiaddr::Protocol,
    swarm::dial_opts::{DialOpts, PeerCondition},
};
use tokio::sync::{broadcast, mpsc, oneshot};

use super::{
    Command, Config, Judge, Mode, RECORD_LASTS, RecordError, StartError,
    admission::DialBacks,
    behaviour::{self, Dht},
    health::Targets,
    loops::{Loops, Task},
    memory::Memory,
    queries::{Purpose, Query},
    spaces::{Next, SHARDS, Spaces},
    status::{Bootstrap, Bucket, Event, Status},
    store::{self, Contact, Namespace},
    wants::Wants,
};
use crate::hint::{Hint, Source};

/// Queries that others asked for and that run at once. One more is refused.
const ASKED_MAX: usize = 32;

/// What this node says of itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Item {
    /// Where it is.
    Contact,
    /// That it is in a namespace: under its own key, or that of a shard.
    Member { namespace: Namespace, shard: Option<u16> },
}

/// What is looked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wanted {
    Peer(PeerId),
    Members(Namespace),
}

pub(super) struct Actor {
    pub(super) swarm: Swarm<Dht>,
    pub(super) local: PeerId,
    pub(super) judge: Judge,
    keypair: Keypair,
    pub(super) network: String,
    pub(super) protocol: libp2p::StreamProtocol,
    pub(super) mode: Mode,
    pub(super) begun: Instant,
    pub(super) loops: Loops<Item>,
    pub(super) wants: Wants<Wanted>,
    pub(super) targets: Targets,
    pub(super) spaces: Spaces,
    pub(super) dial_backs: DialBacks,
    pub(super) memory: Memory,
    pub(super) queries: HashMap<QueryId, Query>,
    /// Those who wait for the members of a namespace.
    waiting: Vec<(Namespace, oneshot::Sender<Vec<PeerId>>)>,
    /// What sought peers say of themselves.
    pub(super) contacts: BTreeMap<PeerId, Contact>,
    /// Where others reach this node.
    reached_at: Vec<Multiaddr>,
    pub(super) published: Option<Instant>,
    pub(super) lookups_found: u64,
    pub(super) lookups_missed: u64,
    /// Peers in the table, as was told last.
    pub(super) table: usize,
    commands: mpsc::Receiver<Command>,
    orders: mpsc::UnboundedReceiver<PeerId>,
    hints: mpsc::Sender<Hint>,
    events: broadcast::Sender<Event>,
}

impl Actor {
    pub(super) fn new(
        config: Config,
        commands: mpsc::Receiver<Command>,
        orders: mpsc::UnboundedReceiver<PeerId>,
        hints: mpsc::Sender<Hint>,
        events: broadcast::Sender<Event>,
    ) -> Result<Self, StartError> {
        let network = config.network.clone();
        let protocol = behaviour::protocol(&network).ok_or(StartError::Network { network })?;
        let (local, now) = (config.keypair.public().to_peer_id(), Instant::now());
        let mut swarm = behaviour::swarm(&config, protocol.clone(), store::open(local))?;
        for address in &config.listen {
            let fault = |cause: &dyn std::fmt::Display| StartError::Listen {
                address: address.clone(),
                cause: cause.to_string(),
            };
            swarm.listen_on(address.clone()).map_err(|error| fault(&error))?;
        }
        for address in &config.external {
            swarm.add_external_address(address.clone());
        }
        let mut actor = Self {
            swarm,
            local,
            judge: config.judge,
            keypair: config.keypair,
            network: config.network,
            protocol,
            mode: config.mode,
            begun: now,
            loops: Loops::new(rand::random(), now),
            wants: Wants::new(),
            targets: Targets::new(&config.bootstrap, peer_of, now),
            spaces: Spaces::default(),
            dial_backs: DialBacks::default(),
            memory: Memory::open(config.memory),
            queries: HashMap::new(),
            waiting: Vec::new(),
            contacts: BTreeMap::new(),
            reached_at: Vec::new(),
            published: None,
            lookups_found: 0,
            lookups_missed: 0,
            table: 0,
            commands,
            orders,
            hints,
            events,
        };
        actor.decide_mode();
        Ok(actor)
    }

    pub(super) async fn run(mut self) {
        loop {
            let timeout = self.perform(Instant::now());
            tokio::select! {
                event = self.swarm.select_next_some() => self.hear(event),
                command = self.commands.recv() => match command {
                    Some(Command::Stop { reply }) => {
                        self.memory.save().await;
                        drop(self.swarm);
                        let _ = reply.send(());
                        return;
                    }
                    Some(command) => self.command(command),
                    None => return self.memory.save().await,
                },
                Some(peer) = self.orders.recv() => {
                    self.wants.want(Wanted::Peer(peer), Instant::now());
                }
                () = tokio::time::sleep_until(timeout.into()) => {}
            }
            if self.memory.is_due(Instant::now()) {
                self.memory.save().await;
            }
        }
    }

    /// Does what is due, and returns when there is something next.
    fn perform(&mut self, now: Instant) -> Instant {
        while let Some(target) = self.targets.poll(rand::random(), now) {
            let (peer, address) = (target.peer, target.address.clone());
            self.look_at(peer, address);
        }
        while let Some(task) = self.loops.poll_task(now) {
            self.task(task, now);
        }
        if self.loops.joined() {
            while let Some(wanted) = self.wants.poll(now) {
                self.look_for(wanted);
            }
        }
        let wanted = self.wants.poll_timeout().filter(|_| self.loops.joined());
        let all = [Some(self.loops.poll_timeout()), wanted, self.targets.poll_timeout(), self.memory.due()];
        all.into_iter().flatten().min().unwrap_or(now + Duration::from_secs(60))
    }

    /// A node to begin with is dialled, unless it is connected: then its pings tell how it does.
    fn look_at(&mut self, peer: Option<PeerId>, address: Multiaddr) {
        if peer.is_some_and(|peer| peer == self.local || self.swarm.is_connected(&peer)) {
            return;
        }
        let options = match peer {
            Some(peer) => DialOpts::peer_id(peer).addresses(vec![address]).build(),
            None => DialOpts::unknown_peer_id().address(address).build(),
        };
        if let Err(error) = self.swarm.dial(options) {
            tracing::debug!(%error, "a bootstrap node is not dialled");
        }
    }

    fn task(&mut self, task: Task<Item>, now: Instant) {
        match task {
            Task::DialRemembered => {
                for (peer, addresses) in self.memory.some() {
                    let condition = PeerCondition::DisconnectedAndNotDialing;
                    let dial = DialOpts::peer_id(peer).addresses(addresses).condition(condition);
                    let _ = self.swarm.dial(dial.build());
                }
            }
            Task::Bootstrap => match self.swarm.behaviour_mut().kad.bootstrap() {
                Ok(id) => self.wait_for(id, Purpose::Bootstrap { answered: false }),
                Err(kad::NoKnownPeers()) => self.loops.bootstrap_ended(false, now),
            },
            Task::Refresh => {
                for target in [self.local, self.in_some_bucket()] {
                    let id = self.swarm.behaviour_mut().kad.get_closest_peers(target);
                    self.wait_for(id, Purpose::Refresh);
                }
            }
            Task::Publish(item) => self.publish(item, now),
            Task::Sweep => {
                store::sweep(self.swarm.behaviour_mut().kad.store_mut(), now);
                self.spaces.sweep(now).into_iter().for_each(|event| self.report(event));
            }
        }
    }

    /// An id that falls into a bucket of the table, each as likely as another; the nearest ones are hard to hit.
    fn in_some_bucket(&mut self) -> PeerId {
        let local = kad::KBucketKey::from(self.local);
        let index = |peer: PeerId| local.distance(&kad::KBucketKey::from(peer)).ilog2();
        let buckets: Vec<Option<u32>> = {
            let kad = &mut self.swarm.behaviour_mut().kad;
            kad.kbuckets().map(|bucket| bucket.range().0.ilog2()).collect()
        };
        let chosen = buckets.get(rand::random_range(0..buckets.len().max(1))).copied().flatten();
        let mut tries = std::iter::repeat_with(PeerId::random).take(64);
        tries.find(|peer| index(*peer) == chosen).unwrap_or_else(PeerId::random)
    }

    fn publish(&mut self, item: Item, now: Instant) {
        let kad = &mut self.swarm.behaviour_mut().kad;
        let begun = match &item {
            Item::Contact => store::sign(&self.keypair, &self.reached_at).and_then(|value| {
                let mut record = Record::new(store::contact_key(&self.local), value);
                record.expires = Some(now + RECORD_LASTS);
                kad.put_record(record, Quorum::All).ok()
            }),
            Item::Member { namespace, shard } => {
                kad.start_providing(store::member_key(&self.network, namespace, *shard)).ok()
            }
        };
        match begun {
            Some(id) => self.wait_for(id, Purpose::Publish(item)),
            None => self.loops.published(&item, false, now),
        }
    }

    fn look_for(&mut self, wanted: Wanted) {
        match wanted {
            Wanted::Peer(peer) => {
                let id = self.swarm.behaviour_mut().kad.get_record(store::contact_key(&peer));
                self.wait_for(id, Purpose::Sought { peer, news: false });
            }
            Wanted::Members(namespace) => self.look_into(&namespace),
        }
    }

    fn look_into(&mut self, namespace: &Namespace) {
        if self.spaces.begin(namespace) {
            self.ask_members(namespace, None);
        }
    }

    fn ask_members(&mut self, namespace: &Namespace, shard: Option<u16>) {
        let key = store::member_key(&self.network, namespace, shard);
        let id = self.swarm.behaviour_mut().kad.get_providers(key);
        self.wait_for(id, Purpose::Members { namespace: namespace.clone(), shard });
    }

    pub(super) fn members_ended(&mut self, namespace: Namespace, shard: Option<u16>, now: Instant) {
        match self.spaces.ended(&namespace, shard) {
            Next::Wait => {}
            Next::Shards => (0..SHARDS).for_each(|shard| self.ask_members(&namespace, Some(shard))),
            Next::Over { news } => {
                let members = self.spaces.members(&namespace);
                for (of, reply) in std::mem::take(&mut self.waiting) {
                    match of == namespace {
                        true => drop(reply.send(members.clone())),
                        false => self.waiting.push((of, reply)),
                    }
                }
                self.wants.ended(&Wanted::Members(namespace), news, now);
            }
        }
    }

    fn command(&mut self, command: Command) {
        let now = Instant::now();
        match command {
            Command::ReachedAt { addresses } => {
                if addresses != self.reached_at {
                    self.reached_at = addresses;
                    self.loops.changed(Item::Contact, now);
                }
            }
            Command::Join { namespace } => {
                let shard = Some(store::shard_of(&self.local));
                for shard in [None, shard] {
                    self.loops.changed(Item::Member { namespace: namespace.clone(), shard }, now);
                }
            }
            Command::Watch { namespace } => match self.spaces.watch(namespace.clone()) {
                true => self.wants.want(Wanted::Members(namespace), now),
                false => tracing::warn!(%namespace, "a namespace is not watched: there are too many"),
            },
            Command::Reached { peer } => self.wants.satisfied(&Wanted::Peer(peer), now),
            Command::Missed { peer } => self.wants.missed(&Wanted::Peer(peer), now),
            Command::Status { reply } => drop(reply.send(self.status())),
            // It ends the loop.
            Command::Stop { .. } => {}
            // Whoever asks in vain is answered by the end of the reply.
            asked if self.queries.len() < ASKED_MAX + 64 => self.asked(asked),
            _ => tracing::debug!("a lookup is refused: there are too many"),
        }
    }

    fn asked(&mut self, command: Command) {
        let kad = &mut self.swarm.behaviour_mut().kad;
        match command {
            Command::FindPeer { peer, reply } => {
                let id = kad.get_record(store::contact_key(&peer));
                self.wait_for(id, Purpose::Peer { peer, best: None, reply });
            }
            Command::Members { namespace, reply } => {
                self.waiting.push((namespace.clone(), reply));
                self.look_into(&namespace);
            }
            Command::Closest { to, reply } => {
                let id = kad.get_closest_peers(to);
                self.wait_for(id, Purpose::Closest(reply));
            }
            Command::Get { key, reply } => {
                let id = kad.get_record(RecordKey::from(key));
                self.wait_for(id, Purpose::Get { best: None, reply });
            }
            Command::Put { key, value, reply } => {
                let mut record = Record::new(key.clone(), value);
                record.expires = Some(Instant::now() + RECORD_LASTS);
                match kad.put_record(record, Quorum::All) {
                    Ok(id) => self.wait_for(id, Purpose::Put { key, reply }),
                    Err(error) => {
                        let _ = reply.send(Err(RecordError::Refused { reason: error.to_string() }));
                    }
                }
            }
            _ => {}
        }
    }

    /// Hands on where a sought peer says that it is.
    pub(super) fn tell(&mut self, contact: Contact) {
        let age = contact.age();
        let hint = Hint {
            peer: contact.peer,
            addresses: contact.addresses.clone(),
            source: Source::Kad,
            age,
            lasts: RECORD_LASTS.checked_sub(age),
        };
        self.contacts.insert(contact.peer, contact);
        if self.hints.try_send(hint).is_err() {
            tracing::debug!("a peer was found in the DHT, and nobody takes it");
        }
    }

    pub(super) fn report(&self, event: Event) {
        // Nobody need listen.
        let _ = self.events.send(event);
    }

    fn status(&mut self) -> Status {
        let now = Instant::now();
        let ago = |at: Instant| now.saturating_duration_since(at);
        let bootstrap = |target: &super::health::Target| Bootstrap {
            address: target.address.clone(),
            peer: target.peer,
            health: target.health,
            round_trip: target.round_trip,
            last_answer: target.last_answer.map(ago),
            misses: target.misses,
        };
        let listening = self.swarm.listeners().cloned().collect();
        let connections = self.swarm.network_info().connection_counters().num_established() as usize;
        let kad = &mut self.swarm.behaviour_mut().kad;
        let bucket = |bucket: kad::KBucketRef<'_, _, _>| Bucket {
            index: bucket.range().0.ilog2().unwrap_or_default(),
            peers: bucket.num_entries(),
        };
        Status {
            network: self.network.clone(),
            server: kad.mode() == kad::Mode::Server,
            joined: self.loops.joined(),
            buckets: kad.kbuckets().map(bucket).collect(),
            listening,
            connections,
            bootstraps: self.targets.all().iter().map(bootstrap).collect(),
            published: self.published.map(ago),
            records: store::records(kad.store_mut()),
            lookups_found: self.lookups_found,
            lookups_missed: self.lookups_missed,
        }
    }
}

/// The id at the end of an address.
pub(super) fn peer_of(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => Some(peer),
        _ => None,
    }
}
