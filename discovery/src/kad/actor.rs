//! Owns the swarm: does what the loops say.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    num::NonZeroUsize,
    time::{Duration, Instant, SystemTime},
};

use futures::StreamExt as _;
use libp2p::{
    Multiaddr, PeerId, Swarm,
    kad::{self, QueryId, RecordKey as Key},
    swarm::dial_opts::{DialOpts, PeerCondition},
};
use tokio::sync::{broadcast, mpsc, oneshot};

use super::{
    Command, Config, Mode, Order, Policy, StartError,
    behaviour::{self, Dht},
    counts::Counts,
    density::Density,
    health::Targets,
    loops::{Loops, Task},
    memory::Memory,
    own::Signer,
    policy::Current,
    proofs,
    queries::{Purpose, Query},
    serving::Serving,
    spaces::{Read, SpaceId, Spaces},
    status::Event,
    storing::Then,
    wants::Wants,
};
use crate::{
    UnixTime,
    admission::{Admission, Settings},
    hint::{Hint, Source},
    keys::{Namespace, RecordKey},
    record::{Body, Contact, Record, Rules},
    store::{Now, Store},
    transport::peer_of,
};

/// What this node says of itself, again and again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Item {
    /// Where it is.
    Contact,
    /// That it is in a namespace.
    Member(SpaceId),
    /// That it has what this key names.
    Provides(Vec<u8>),
}

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wanted {
    Peer(PeerId),
    Members(SpaceId),
}

pub(super) struct Actor {
    pub(super) swarm: Swarm<Dht>,
    pub(super) local: PeerId,
    pub(super) policy: Policy,
    pub(super) current: Current,
    pub(super) rules: Rules,
    pub(super) signer: Signer,
    pub(super) protocol: libp2p::StreamProtocol,
    pub(super) mode: Mode,
    pub(super) serving: Serving,
    /// Nodes that are to keep what this one stores.
    pub(super) keepers: NonZeroUsize,
    /// Where others reach it, by its operator's word.
    pub(super) external: Vec<Multiaddr>,
    pub(super) begun: Instant,
    pub(super) loops: Loops<Item>,
    pub(super) wants: Wants<Wanted>,
    pub(super) targets: Targets,
    pub(super) spaces: Spaces,
    pub(super) admission: Admission,
    /// Peers that a bootstrap node named and that were dialled, with when they may be again.
    pub(super) named: BTreeMap<PeerId, Instant>,
    pub(super) memory: Memory,
    /// Who registered, if this is a meeting point.
    #[cfg(feature = "rendezvous")]
    pub(super) meetings: Option<crate::rendezvous::server::Server>,
    pub(super) queries: HashMap<QueryId, Query>,
    /// Those who wait for the members of a namespace.
    pub(super) waiting: Vec<(SpaceId, oneshot::Sender<Vec<PeerId>>)>,
    /// The shards in which this node announced itself, and of which it does not know yet how crowded they are.
    to_count: BTreeMap<SpaceId, Read>,
    /// What sought peers say of themselves.
    pub(super) contacts: BTreeMap<PeerId, Record>,
    /// What this node says of itself.
    pub(super) own: Contact,
    /// How a stranger would take part, but for where it begins.
    pub(super) stranger: Config,
    pub(super) published: Option<Instant>,
    pub(super) lookups_found: u64,
    pub(super) lookups_missed: u64,
    pub(super) counts: Counts,
    /// How dense the place of this node's contact is.
    pub(super) density: Density,
    /// Peers in the table, as was told last.
    pub(super) table: usize,
    commands: mpsc::Receiver<Command>,
    orders: mpsc::UnboundedReceiver<Order>,
    hints: mpsc::Sender<Hint>,
    events: broadcast::Sender<Event>,
}

impl Actor {
    pub(super) fn new(
        mut config: Config,
        commands: mpsc::Receiver<Command>,
        orders: mpsc::UnboundedReceiver<Order>,
        hints: mpsc::Sender<Hint>,
        events: broadcast::Sender<Event>,
    ) -> Result<Self, StartError> {
        let (local, now) = (config.keypair.public().to_peer_id(), Instant::now());
        let (current, policy) = Current::new(config.policy);
        config.policy = policy.clone();
        let stranger = proofs::template(&config);
        let rules = Rules { network: config.network.clone(), addresses: policy.hands_on.clone() };
        let protocol = behaviour::protocol(&config.network);
        let store = Store::new(local, rules.clone(), rand::random(), clock);
        let trusted: BTreeSet<PeerId> = config.bootstrap.iter().filter_map(peer_of).collect();
        let mut swarm = behaviour::swarm(&config, protocol.clone(), trusted.clone(), store)?;
        for address in &config.listen {
            swarm.listen_on(address.clone()).map_err(|error| StartError::Listen {
                address: address.clone(),
                cause: error.to_string(),
            })?;
        }
        let keepers = config.bucket_size.map_or(kad::K_VALUE, NonZeroUsize::from);
        let admission = Admission::new(Settings {
            local,
            bucket_size: keepers.get(),
            trusted,
            addresses: policy.dials.clone(),
            exempt: policy.exempt.clone(),
        });
        let mut actor = Self {
            swarm,
            local,
            policy,
            current,
            rules,
            signer: Signer::new(config.keypair, config.network, config.number),
            protocol,
            mode: config.mode,
            serving: Serving::new(),
            keepers,
            external: config.external,
            begun: now,
            loops: Loops::new(rand::random(), keepers.get(), now),
            wants: Wants::new(),
            targets: Targets::new(&config.bootstrap, peer_of, now),
            spaces: Spaces::default(),
            admission,
            named: BTreeMap::new(),
            memory: Memory::open(config.memory),
            #[cfg(feature = "rendezvous")]
            meetings: config.meeting_point.then(|| crate::rendezvous::server::Server::new(now)),
            queries: HashMap::new(),
            waiting: Vec::new(),
            to_count: BTreeMap::new(),
            contacts: BTreeMap::new(),
            own: Contact::default(),
            stranger,
            published: None,
            lookups_found: 0,
            lookups_missed: 0,
            counts: Counts::default(),
            density: Density::default(),
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
                        self.memory.finish().await;
                        drop(self.swarm);
                        let _ = reply.send(());
                        return;
                    }
                    Some(command) => self.command(command),
                    None => return self.memory.finish().await,
                },
                Some(order) = self.orders.recv() => match order {
                    Order::Seek(peer) => self.wants.want(Wanted::Peer(peer), Instant::now()),
                    Order::Forget(peer) => self.wants.forget(&Wanted::Peer(peer)),
                },
                () = tokio::time::sleep_until(timeout.into()) => {}
            }
            self.memory.save(Instant::now());
        }
    }

    /// Does what is due, and returns when there is something next.
    fn perform(&mut self, now: Instant) -> Instant {
        while let Some(target) = self.targets.poll(rand::random(), now) {
            let (peer, address) = (target.peer, target.address.clone());
            self.look_at(peer, address);
        }
        self.healths();
        if self.serving.poll_timeout().is_some_and(|at| at <= now) {
            self.serving.look(now);
            self.decide_mode();
        }
        self.admission.handle_timeout(now);
        self.admit();
        while let Some(task) = self.loops.poll_task(now) {
            self.task(task, now);
        }
        if self.loops.joined() {
            while let Some(wanted) = self.wants.poll(now) {
                self.look_for(wanted);
            }
        }
        let wanted = self.wants.poll_timeout().filter(|_| self.loops.joined());
        let (loops, targets) = (Some(self.loops.poll_timeout()), self.targets.poll_timeout());
        let (admission, serving) = (self.admission.poll_timeout(), self.serving.poll_timeout());
        let all = [loops, wanted, targets, admission, serving, self.memory.due()];
        all.into_iter().flatten().min().unwrap_or(now + Duration::from_secs(60))
    }

    /// A node to begin with is asked who is near to us; it is dialled first unless it is connected.
    fn look_at(&mut self, peer: Option<PeerId>, address: Multiaddr) {
        let is_ours = peer == Some(self.local);
        if is_ours || peer.is_some_and(|peer| self.swarm.behaviour_mut().asker.ask(peer)) {
            return;
        }
        let options = match peer {
            // Also while it is dialled at another address: somebody else may live there.
            Some(peer) => DialOpts::peer_id(peer)
                .addresses(vec![address])
                .condition(PeerCondition::Disconnected)
                .build(),
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
            Task::Bootstrap => match self.swarm.behaviour_mut().guard.kad.bootstrap() {
                Ok(id) => self.wait_for(id, Purpose::Bootstrap { answered: false }),
                Err(kad::NoKnownPeers()) => self.loops.bootstrap_ended(false, now),
            },
            Task::Refresh => self.refresh(),
            Task::Publish(item) => self.publish(item, now),
            Task::Sweep => {
                self.swarm.behaviour_mut().guard.kad.store_mut().sweep();
                let unix = UnixTime::from(SystemTime::now());
                self.contacts.retain(|_, contact| contact.expires() > unix);
                for read in std::mem::take(&mut self.to_count).into_values() {
                    self.read(read, true);
                }
                for (namespace, peer) in self.spaces.sweep(now) {
                    self.report(Event::MemberLost { namespace, peer });
                }
            }
        }
    }

    /// An id that falls into a bucket of the table, each as likely as another; the nearest ones are hard to hit.
    pub(super) fn in_some_bucket(&mut self) -> PeerId {
        let local = kad::KBucketKey::from(self.local);
        let index = |peer: PeerId| local.distance(&kad::KBucketKey::from(peer)).ilog2();
        let kad = &mut self.swarm.behaviour_mut().guard.kad;
        let buckets: Vec<_> = kad.kbuckets().map(|bucket| bucket.range().0.ilog2()).collect();
        let chosen = buckets.get(rand::random_range(0..buckets.len().max(1))).copied().flatten();
        let mut tries = std::iter::repeat_with(PeerId::random).take(64);
        tries.find(|peer| index(*peer) == chosen).unwrap_or_else(PeerId::random)
    }

    fn publish(&mut self, item: Item, now: Instant) {
        let ids: Vec<QueryId> = match &item {
            Item::Contact => return self.publish_contact(now),
            Item::Member(space) => {
                let unix = UnixTime::from(SystemTime::now());
                let (keys, own) = self.spaces.announcements(*space, self.local, unix);
                // Others announce themselves at the same time: it is counted when they have.
                self.to_count.extend(own.map(|read| (*space, read)));
                let kad = &mut self.swarm.behaviour_mut().guard.kad;
                keys.into_iter().filter_map(|key| kad.start_providing(Key::from(key)).ok()).collect()
            }
            Item::Provides(key) => {
                let kad = &mut self.swarm.behaviour_mut().guard.kad;
                kad.start_providing(Key::from(key.clone())).into_iter().collect()
            }
        };
        // The last of them tells how it went.
        match ids.split_last() {
            None => self.loops.published(&item, false, now),
            Some((last, others)) => {
                others.iter().for_each(|id| self.wait_for(*id, Purpose::Refresh));
                self.wait_for(*last, Purpose::Publish { item, whole: true });
            }
        }
    }

    fn publish_contact(&mut self, now: Instant) {
        let signed = match self.signer.sign(Body::Contact(self.own.clone())) {
            Ok(record) => record,
            Err(error) => {
                tracing::warn!(%error, "this node says nothing of itself");
                return self.loops.published(&Item::Contact, false, now);
            }
        };
        let (key, value) = (signed.key().to_bytes(), signed.bytes().to_vec());
        if self.store(key, value, Then::Publish(Item::Contact)).is_err() {
            self.loops.published(&Item::Contact, false, now);
        }
        self.tell_around(&signed);
    }

    fn look_for(&mut self, wanted: Wanted) {
        match wanted {
            Wanted::Peer(peer) => {
                let key = Key::from(RecordKey::Contact(peer).to_bytes());
                let id = self.swarm.behaviour_mut().guard.kad.get_record(key);
                self.wait_for(id, Purpose::Sought { peer, news: false, stale: BTreeSet::new() });
            }
            Wanted::Members(space) => {
                if let Some(namespace) = self.spaces.namespace(space).cloned() {
                    self.look_into(namespace);
                }
            }
        }
    }

    /// Looks for all members of a namespace. What is found meanwhile is told at once.
    pub(super) fn look_into(&mut self, namespace: Namespace) -> Option<SpaceId> {
        let space = self.spaces.look(namespace, UnixTime::from(SystemTime::now())).ok()?;
        self.go_on_looking(space);
        Some(space)
    }

    pub(super) fn go_on_looking(&mut self, space: SpaceId) {
        while let Some(read) = self.spaces.next_read(space) {
            self.read(read, false);
        }
    }

    /// `count`: it is our own shard, to see how deep we should announce ourselves.
    fn read(&mut self, read: Read, count: bool) {
        let id = self.swarm.behaviour_mut().guard.kad.get_providers(Key::from(read.key()));
        self.wait_for(id, Purpose::Members { read, count, found: BTreeSet::new() });
    }

    /// Hands on where a sought peer says that it is.
    pub(super) fn tell(&mut self, record: Record) {
        let Some(contact) = record.contact() else { return };
        let now = UnixTime::from(SystemTime::now());
        let hint = Hint {
            peer: record.signer(),
            addresses: contact.addresses.clone(),
            source: Source::Kad,
            age: now.since(record.issued()),
            lasts: Some(record.expires().since(now)),
        };
        self.contacts.insert(record.signer(), record);
        if self.hints.try_send(hint).is_err() {
            tracing::debug!("a peer was found in the DHT, and nobody takes it");
        }
    }

    pub(super) fn report(&self, event: Event) {
        // Nobody need listen.
        let _ = self.events.send(event);
    }
}

fn clock() -> Now {
    Now { instant: Instant::now(), unix: UnixTime::from(SystemTime::now()) }
}
