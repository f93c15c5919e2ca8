//! A DHT of nodes like this one: Kademlia on `/punchline/<network>/kad/1.0.0`, in a swarm of its own.
//!
//! Whoever takes part says under its id where it is reached (a *contact*, signed, good for two hours at most), and under
//! the names of the namespaces that it is in, that it is. So a peer is found by its id or by a namespace, wherever it is.
//!
//! The swarm is not that of the node's peers: strangers of the DHT have sockets, connections and limits apart from those
//! that carry streams. It has the node's own identity, because what is published names the node. A *client* only dials
//! out, so it needs no port; a *server* answers, and is in the tables of others. Being reached through a relay makes
//! nobody a server.
//!
//! Reading order: here is the face; `actor` owns the swarm and does what the loops say, `asks` what others ask for;
//! `hears` takes what the swarm says, `queries` knows who waits for what; `own` signs what this node says, and `memory`
//! keeps whom it reached; `proofs` is what a [verification](crate::verify) asks. Pure are `loops` (when to look after
//! ourselves), `wants` (what is looked for), `spaces` (who is in which namespace), `health` (how bootstrap nodes do),
//! `density` (whether our contact is being hidden; `region` looks) and `counts`, beside [`record`](crate::record), [`keys`](crate::keys),
//! [`store`](crate::store), [`admission`](crate::admission) and [`score`](crate::score); `serving` (whether to answer),
//! `candidates` (whom a lookup may ask) and `meter` (how often others are answered) are, too. `behaviour`, `guard` (what
//! Kademlia of libp2p does not look at), `asker` (asks one node), `door` (how many may come from where) and the
//! crate's `transport` are what the swarm is made of.

mod actor;
mod asker;
mod asks;
mod behaviour;
mod candidates;
mod counts;
mod density;
mod door;
mod guard;
mod health;
mod hears;
mod loops;
mod memory;
mod meter;
mod namers;
mod own;
mod policy;
pub(crate) mod proofs;
mod queries;
mod region;
mod serving;
mod spaces;
mod status;
mod storing;
mod wants;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    num::NonZeroU8,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use libp2p::{Multiaddr, PeerId, identity::Keypair};
use tokio::sync::{broadcast, mpsc, oneshot};

use self::actor::Actor;
pub use self::{
    counts::{Percentiles, Traffic},
    health::Health,
    policy::Policy,
    status::{Bootstrap, Bucket, Event, Lookup as LookupKind, Node, Space, Status},
};
pub use crate::transport::{Carrier, NoTransport};
use crate::{
    Network,
    hint::Hint,
    keys::{Namespace, RecordKey},
    record::{Body, Contact, Record},
    source::Lookup,
};

/// Requests that wait for the actor. Whoever asks faster waits.
const COMMANDS_MAX: usize = 64;

/// Hints that nobody has taken yet. One more is dropped: it is looked for again.
const HINTS_MAX: usize = 256;

/// Events that a slow reader may be behind; more are skipped for it.
const EVENTS_MAX: usize = 1024;

/// Whether this node answers others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// If it listens at a public address, or its operator says where it is reached.
    Auto,
    /// It only asks.
    Client,
    /// It does, wherever it listens.
    Server,
}

/// How a node takes part.
#[derive(Clone)]
pub struct Config {
    /// Who it is.
    pub keypair: Keypair,
    /// Which network of nodes. Those of another never meet.
    pub network: Network,
    /// Whether it answers.
    pub mode: Mode,
    /// Where it listens for others; nowhere: it only asks.
    pub listen: Vec<Multiaddr>,
    /// Where others reach it, by its operator's word.
    pub external: Vec<Multiaddr>,
    /// Nodes to begin with, which are dialled as they are; with their ids at the end, if these are known.
    pub bootstrap: Vec<Multiaddr>,
    /// Names of others: TXT records of `_dnsaddr.<name>` say where they are. What these say is dialled as the policy allows.
    /// Followed with the feature `dns` alone.
    pub names: Vec<String>,
    /// What else is dialled, and handed on.
    pub policy: Policy,
    /// Where nodes are remembered, so that the next start does not need the ones above.
    pub memory: Option<PathBuf>,
    /// Where the number of the last record is written down.
    pub number: Option<PathBuf>,
    /// Peers in a bucket of the table; 20 unless said otherwise. 8 save half a MiB.
    pub bucket_size: Option<NonZeroU8>,
    /// Whether a lookup goes three ways that share no peer, so that one liar spoils one of them. Off only to measure what
    /// that is worth.
    pub separate_paths: bool,
    /// What carries it.
    pub carrier: Carrier,
    /// Whether it is a meeting point as well: see [`rendezvous`](crate::rendezvous).
    #[cfg(feature = "rendezvous")]
    pub meeting_point: bool,
}

impl Config {
    /// A node that only asks, and knows nobody yet.
    pub fn new(keypair: Keypair, network: Network, policy: Policy) -> Self {
        Self {
            keypair,
            network,
            mode: Mode::Auto,
            listen: Vec::new(),
            external: Vec::new(),
            bootstrap: Vec::new(),
            names: Vec::new(),
            policy,
            memory: None,
            number: None,
            bucket_size: None,
            separate_paths: true,
            carrier: Carrier::Sockets,
            #[cfg(feature = "rendezvous")]
            meeting_point: false,
        }
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { network, mode, listen, external, bootstrap, memory, .. } = self;
        let Self { bucket_size, separate_paths, carrier, .. } = self;
        f.debug_struct("Config")
            .field("network", network)
            .field("mode", mode)
            .field("listen", listen)
            .field("external", external)
            .field("bootstrap", bootstrap)
            .field("memory", memory)
            .field("bucket_size", bucket_size)
            .field("separate_paths", separate_paths)
            .field("carrier", carrier)
            .finish_non_exhaustive()
    }
}

/// Why there is no DHT.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No sockets.
    #[error(transparent)]
    Transport(#[from] NoTransport),
    /// The address is not listened on.
    #[error("the DHT does not listen on {address}: {cause}")]
    Listen {
        /// Which.
        address: Multiaddr,
        /// Why.
        cause: String,
    },
}

/// Why a value is not stored, or not found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Nobody keeps it.
    #[error("nobody keeps it")]
    Nobody,
    /// It is no value that this DHT keeps.
    #[error("it is not kept: {reason}")]
    Refused {
        /// What is wrong with it.
        reason: String,
    },
    /// The DHT has ended.
    #[error("the DHT has ended")]
    Ended,
}

/// What is found under a key.
#[allow(clippy::large_enum_variant, reason = "taken apart where it is found")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// What its owner signed.
    Record(Record),
    /// What the key is the hash of.
    Content(Vec<u8>),
}

/// What a [`Dht`] asks for.
pub(crate) enum Command {
    Says {
        contact: Contact,
    },
    Confirmed {
        addresses: Vec<Multiaddr>,
    },
    KeepTo {
        policy: Policy,
    },
    #[cfg(feature = "dns")]
    BeginsWith {
        addresses: Vec<Multiaddr>,
    },
    Join {
        namespace: Namespace,
    },
    Watch {
        namespace: Namespace,
    },
    Reached {
        peer: PeerId,
    },
    Missed {
        peer: PeerId,
    },
    Find {
        key: RecordKey,
        reply: oneshot::Sender<Option<Found>>,
    },
    Members {
        namespace: Namespace,
        reply: oneshot::Sender<Vec<PeerId>>,
    },
    Closest {
        to: PeerId,
        reply: oneshot::Sender<Vec<PeerId>>,
    },
    Say {
        body: Body,
        reply: oneshot::Sender<Result<usize, RecordError>>,
    },
    Put {
        key: RecordKey,
        value: Vec<u8>,
        reply: oneshot::Sender<Result<usize, RecordError>>,
    },
    Kept {
        key: RecordKey,
        reply: oneshot::Sender<Option<Vec<u8>>>,
    },
    Provide {
        key: Vec<u8>,
    },
    Providers {
        key: Vec<u8>,
        reply: oneshot::Sender<Vec<PeerId>>,
    },
    Status {
        reply: oneshot::Sender<Status>,
    },
    Nodes {
        reply: oneshot::Sender<Vec<Node>>,
    },
    Proof(proofs::Proof),
    Stop {
        reply: oneshot::Sender<()>,
    },
}

/// A node's part in the DHT. Cheap to clone; all clones are the same.
///
/// # Drop
/// With the last clone, and the finder, it ends.
#[derive(Clone, Debug)]
pub struct Dht {
    commands: mpsc::Sender<Command>,
    events: broadcast::Sender<Event>,
    /// What happened since the start, for whoever asks for events first.
    first: Arc<Mutex<Option<broadcast::Receiver<Event>>>>,
}

/// Finds peers by their ids.
pub(crate) struct Finder {
    orders: mpsc::UnboundedSender<Order>,
    found: mpsc::Receiver<Hint>,
}

/// Whom to look for, or no longer.
pub(crate) enum Order {
    Seek(PeerId),
    Forget(PeerId),
}

/// Takes part from now on. Must be called within a tokio runtime.
///
/// # Errors
/// If it cannot listen where it is to.
pub(crate) fn start(config: Config) -> Result<(Dht, Finder), StartError> {
    let (commands, requests) = mpsc::channel(COMMANDS_MAX);
    // One for each peer that is sought, of which the book bounds the number.
    let (orders, wanted) = mpsc::unbounded_channel();
    let (hints, found) = mpsc::channel(HINTS_MAX);
    let (events, first) = broadcast::channel(EVENTS_MAX);
    let first = Arc::new(Mutex::new(Some(first)));
    #[cfg(feature = "dns")]
    let names = config.names.clone();
    let actor = Actor::new(config, requests, wanted, hints, events.clone())?;
    tokio::spawn(actor.run());
    #[cfg(feature = "dns")]
    if !names.is_empty() {
        // It ends with the last handle of the DHT.
        let commands = commands.downgrade();
        tokio::spawn(crate::dns::follow_bootstraps(names, async move |addresses| {
            let Some(commands) = commands.upgrade() else { return false };
            commands.send(Command::BeginsWith { addresses }).await.is_ok()
        }));
    }
    Ok((Dht { commands, events, first }, Finder { orders, found }))
}

impl Lookup for Finder {
    fn seek(&mut self, _: &BTreeSet<PeerId>, new: PeerId) {
        let _ = self.orders.send(Order::Seek(new));
    }

    fn forget(&mut self, _: &BTreeSet<PeerId>, gone: PeerId) {
        let _ = self.orders.send(Order::Forget(gone));
    }

    fn poll_hint(&mut self, cx: &mut Context<'_>) -> Poll<Hint> {
        match self.found.poll_recv(cx) {
            Poll::Ready(Some(hint)) => Poll::Ready(hint),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

impl Dht {
    /// Takes part, and finds nobody for anybody else.
    ///
    /// # Errors
    /// As of [`Discovery::start`](crate::Discovery::start).
    pub fn start(config: Config) -> Result<Self, StartError> {
        start(config).map(|(dht, _)| dht)
    }

    /// What this node says of itself from now on, once it has joined: above all, where it is reached.
    pub async fn says(&self, contact: Contact) {
        let _ = self.commands.send(Command::Says { contact }).await;
    }

    /// All addresses at which strangers just dialled this host back, directly: a node in [`Mode::Auto`] answers others only
    /// where they reach it.
    pub async fn confirmed(&self, addresses: Vec<Multiaddr>) {
        let _ = self.commands.send(Command::Confirmed { addresses }).await;
    }

    /// This policy holds from now on. Connections with whom it does not let through end, and they leave the table.
    pub async fn keep_to(&self, policy: Policy) {
        let _ = self.commands.send(Command::KeepTo { policy }).await;
    }

    /// This node is a member of the namespace from now on, and says so.
    pub async fn join(&self, namespace: Namespace) {
        let _ = self.commands.send(Command::Join { namespace }).await;
    }

    /// Members of the namespace are looked for from now on, and told by [`Event::MemberFound`].
    pub async fn watch(&self, namespace: Namespace) {
        let _ = self.commands.send(Command::Watch { namespace }).await;
    }

    /// What was found of a peer led to it.
    pub(crate) fn reached(&self, peer: PeerId) {
        let _ = self.commands.try_send(Command::Reached { peer });
    }

    /// What was found of a peer leads nowhere, or not any more.
    pub(crate) fn missed(&self, peer: PeerId) {
        let _ = self.commands.try_send(Command::Missed { peer });
    }

    /// What a peer says of itself, at the nodes that keep it; none if nobody does.
    pub async fn find_peer(&self, peer: PeerId) -> Option<Record> {
        match self.find(RecordKey::Contact(peer)).await? {
            Found::Record(record) => Some(record),
            Found::Content(_) => None,
        }
    }

    /// Who speaks for an authority, by its own word; none if nobody keeps that.
    pub async fn find_authority(&self, authority: PeerId) -> Option<PeerId> {
        match self.find(RecordKey::Authority(authority)).await? {
            Found::Record(record) => match record.body() {
                Body::Delegation(delegation) => Some(delegation.to),
                Body::Contact(_) | Body::Value(_) => None,
            },
            Found::Content(_) => None,
        }
    }

    /// What is under a key, the newest of what all that were asked keep; none if nobody keeps anything that is right.
    pub async fn find(&self, key: RecordKey) -> Option<Found> {
        self.ask(|reply| Command::Find { key, reply }).await.flatten()
    }

    /// The members of a namespace, ourselves included.
    pub async fn members(&self, namespace: Namespace) -> Vec<PeerId> {
        self.ask(|reply| Command::Members { namespace, reply }).await.unwrap_or_default()
    }

    /// The nodes whose ids are closest to an id, 20 at most.
    pub async fn closest_peers(&self, to: PeerId) -> Vec<PeerId> {
        self.ask(|reply| Command::Closest { to, reply }).await.unwrap_or_default()
    }

    /// Signs this as its own, has it kept, and says by how many nodes. It lasts for two hours.
    ///
    /// # Errors
    /// If it is none that the DHT keeps, or nobody keeps it.
    pub async fn say(&self, body: Body) -> Result<usize, RecordError> {
        self.ask(|reply| Command::Say { body, reply }).await.unwrap_or(Err(RecordError::Ended))
    }

    /// Has something kept that somebody signed elsewhere, or content, and says by how many nodes.
    ///
    /// # Errors
    /// If it is none that the DHT keeps, or nobody keeps it.
    pub async fn put(&self, key: RecordKey, value: Vec<u8>) -> Result<usize, RecordError> {
        let stored = self.ask(|reply| Command::Put { key, value, reply }).await;
        stored.unwrap_or(Err(RecordError::Ended))
    }

    /// What this node itself keeps under a key, for others or of its own; nobody else is asked.
    pub async fn kept(&self, key: RecordKey) -> Option<Vec<u8>> {
        self.ask(|reply| Command::Kept { key, reply }).await.flatten()
    }

    /// This node has what the key names, and says so from now on: see [`content_key`](crate::keys::content_key).
    pub async fn provide(&self, key: Vec<u8>) {
        let _ = self.commands.send(Command::Provide { key }).await;
    }

    /// Who has it.
    pub async fn providers(&self, key: Vec<u8>) -> Vec<PeerId> {
        self.ask(|reply| Command::Providers { key, reply }).await.unwrap_or_default()
    }

    /// How it is; none once it has ended.
    pub async fn status(&self) -> Option<Status> {
        self.ask(|reply| Command::Status { reply }).await
    }

    /// The nodes in its table, the nearest first; none once it has ended.
    pub async fn nodes(&self) -> Vec<Node> {
        self.ask(|reply| Command::Nodes { reply }).await.unwrap_or_default()
    }

    /// What happens from now on; whoever asks first is told what happened since the start as well.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        first.unwrap_or_else(|| self.events.subscribe())
    }

    /// Ends, and returns when what is to be remembered is written down.
    pub async fn stop(&self) {
        self.ask(|reply| Command::Stop { reply }).await;
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.ok()?;
        answer.await.ok()
    }
}
