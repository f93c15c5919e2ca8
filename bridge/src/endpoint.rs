//! The public face of a node: open streams to peers, take streams from them, hold reservations.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId, identity::Keypair};
use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    task::JoinHandle,
};

use crate::{
    addr::{HintSource, Ranges, RelayAddr, RelayLocator},
    config::Config,
    engine::{Engine, record::Header},
    error::{OpenError, PingError, ServeError, StartError},
    event::{Event, UpgradeCount},
    incoming::{Arrival, Incoming, Requests},
    net::{listen, transports},
    node::{command::Command, driver::Driver, journal::Journal, requests::Served},
    path::ConnectionId,
    service::Service,
    status::{Pong, Retried, Status},
    stream::{Stream, frame::TICKET_BYTES_MAX},
};

/// Requests to the driver that wait. It takes one per turn of its loop, so a full queue means that
/// the program asks faster than a loop turns; whoever asks then waits.
const COMMANDS_MAX: usize = 1024;

/// For a peer to answer a ping.
const PING_DEADLINE: Duration = Duration::from_secs(5);

/// Events that a subscriber may lag behind before it loses the oldest.
pub(crate) const EVENTS_MAX: usize = 8192;

/// How a stream is opened.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// Presented to the peer: bytes that mean something to its program, read before it answers. At most
    /// [`TICKET_BYTES_MAX`] of them; empty for nothing.
    pub ticket: Bytes,
    /// How long the stream waits for a path, below a year; none: as
    /// [`Config::streams`](crate::Config::streams) says.
    pub patience: Option<Duration>,
}

/// A node on the network. Cheap to clone; all clones are the same node.
///
/// # Drop
/// With the last clone the node ends, as [`Config::when_dropped`](crate::Config::when_dropped) says: by default
/// at once, and streams that still live are reset at both ends.
#[derive(Clone, Debug)]
pub struct Endpoint {
    peer: PeerId,
    listening: std::sync::Arc<[Multiaddr]>,
    commands: mpsc::Sender<Command>,
    // Weak, so that events end with the node and not with its last handle.
    events: broadcast::WeakSender<std::sync::Arc<Event>>,
    sought: watch::Receiver<BTreeSet<PeerId>>,
    unaccepted_max: usize,
    task: std::sync::Arc<std::sync::Mutex<Option<JoinHandle<()>>>>,
}

/// The engine, and the journal of what it is told if there is to be one.
fn engine(local: PeerId, config: Config) -> Result<(Engine, Option<Journal>), StartError> {
    let header = Header { local, seed: rand::random(), config };
    let begin = |path: &PathBuf| {
        Journal::begin(path, &header).map_err(|cause| StartError::Journal { path: path.clone(), cause })
    };
    let journal = header.config.journal.as_ref().map(begin).transpose()?;
    Ok((Engine::new(local, header.config, header.seed), journal))
}

impl Endpoint {
    /// Starts a node. When this returns it listens, and every dial leaves from a port that is
    /// listened on. The [`Events`] begin with the first one. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If a transport cannot be set up, one of the given addresses cannot be listened on, or the journal cannot be
    /// written. Where no address is given, one that can be listened on is enough; the others are told by
    /// [`Event::ListenFailed`].
    pub async fn start(config: Config, keypair: Keypair) -> Result<(Self, Events), StartError> {
        let peer = keypair.public().to_peer_id();
        let mut swarm = transports::node(&config, keypair)?;
        let listening = listen::listen(&mut swarm, &config.listen).await?;
        let addresses = listening.addresses.clone();
        let (commands, requests) = mpsc::channel(COMMANDS_MAX);
        let (events, subscription) = broadcast::channel(EVENTS_MAX);
        let unaccepted_max = config.limits.unaccepted_streams;
        let when_dropped = config.when_dropped;
        let streams = (std::sync::Arc::new(config.streams.clone()), config.relay_mode.carries_streams());
        let engine = engine(peer, config)?;
        let told = events.downgrade();
        let (seeking, sought) = watch::channel(BTreeSet::new());
        let driver = Driver::new(swarm, engine, requests, (events, seeking), streams, when_dropped);
        let task = tokio::spawn(driver.run(listening));
        let endpoint = Self {
            peer,
            listening: addresses.into(),
            commands,
            events: told,
            sought,
            unaccepted_max,
            task: std::sync::Arc::new(std::sync::Mutex::new(Some(task))),
        };
        Ok((endpoint, Events::new(subscription)))
    }

    /// Our identity.
    pub fn peer_id(&self) -> PeerId {
        self.peer
    }

    /// Where we listen, with the real ports, as of the start.
    pub fn listening(&self) -> &[Multiaddr] {
        &self.listening
    }

    /// Remembers where a peer may be found, on the operator's word: direct addresses, or circuit addresses
    /// of the form `<relay>/p2p/<relay id>/p2p-circuit`, or `/dnsaddr/<name>/p2p-circuit` where a name stands for the
    /// relays. All of them are dialled, private ones too. Bounded
    /// by [`Limits`](crate::config::Limits).
    pub async fn add_addresses(&self, peer: PeerId, addresses: Vec<Multiaddr>) {
        let _ = self.commands.send(Command::Learn { peer, addresses }).await;
    }

    /// As [`add_addresses`](Self::add_addresses), but on the peer's own word, as a ticket carries it: private
    /// ones are dialled only if they are in a network of this host, and all of them only so often.
    pub async fn add_addresses_of_peer(&self, peer: PeerId, addresses: Vec<Multiaddr>) {
        let _ = self.commands.send(Command::Hear { peer, addresses }).await;
    }

    /// As [`add_addresses`](Self::add_addresses), but on the word of somebody who need not be the peer. It counts only for
    /// peers that this program uses, or that a service would let in: say [`hold`](Self::hold) before. The addresses are
    /// judged as those that the peer itself names, dialled only so often, and at most 8 of a peer remembered. One that is
    /// wanted and not reached directly is dialled there at once.
    pub async fn hint(&self, peer: PeerId, addresses: Vec<Multiaddr>, source: HintSource) {
        let _ = self.commands.send(Command::Hint { peer, addresses, source }).await;
    }

    /// Somebody finds peers from now on, by these `sources` (`mdns`, `kad` and so on): whoever is in the [`Sought`] that
    /// this returns. Then [`open`](Self::open) does not fail for want of a way before a `patience` is over that begins
    /// with it: what [`hint`](Self::hint) says meanwhile is dialled at once. Without sources nobody finds peers any more.
    pub async fn found_by(&self, sources: Vec<String>, patience: Duration) -> Sought {
        let _ = self.commands.send(Command::SoughtBy { sources, patience }).await;
        Sought(self.sought.clone())
    }

    /// Says which peers a service would let in, in place of those said before. Private addresses of this
    /// host are named to such a peer for hole punching, and its own are dialled if it is in the same
    /// network. Peers whose streams were accepted need not be named. Bounded by
    /// [`Limits::familiar_peers`](crate::config::Limits::familiar_peers); more are refused, and told as an
    /// event.
    pub async fn welcome(&self, service: Service, peers: Vec<PeerId>) {
        let _ = self.commands.send(Command::Welcome { service, peers }).await;
    }

    /// Lets hole punches be made, or not any more. What is under way goes on. Where
    /// [`Config::upgrades`](crate::Config::upgrades) says so, none is made before this is called; connections
    /// that are relayed then are upgraded now.
    pub async fn allow_upgrades(&self, allowed: bool) {
        let _ = self.commands.send(Command::AllowUpgrades { allowed }).await;
    }

    /// Dials and answers these ranges from now on, and no others. Connections to others are closed.
    pub async fn keep_to(&self, ranges: Ranges) {
        let _ = self.commands.send(Command::KeepTo { ranges }).await;
    }

    /// Opens a stream to a peer's service on the best connection there is; if there is none, reaches
    /// the peer by every address that is known of it, and by those that whoever finds peers finds meanwhile
    /// ([`found_by`](Self::found_by)).
    ///
    /// # Errors
    /// Always ends: with a stream, a typed error, or at
    /// [`Deadlines::open`](crate::config::Deadlines::open).
    ///
    /// # Cancellation
    /// Dropping the future lets go of the stream; a connection made for it stays for its grace.
    pub async fn open(&self, peer: PeerId, service: Service) -> Result<Stream, OpenError> {
        self.open_with(peer, service, OpenOptions::default()).await
    }

    /// As [`open`](Self::open), with [`OpenOptions`].
    ///
    /// # Errors
    /// As [`open`](Self::open), and [`OpenError::Ticket`] if the ticket is too long.
    ///
    /// # Cancellation
    /// As [`open`](Self::open).
    pub async fn open_with(
        &self,
        peer: PeerId,
        service: Service,
        options: OpenOptions,
    ) -> Result<Stream, OpenError> {
        let OpenOptions { ticket, patience } = options;
        let (length, limit) = (ticket.len(), TICKET_BYTES_MAX);
        if length > limit {
            return Err(OpenError::Ticket { length, limit });
        }
        let (reply, answer) = oneshot::channel();
        let command = Command::Open { peer, service, ticket, patience, reply };
        self.commands.send(command).await.map_err(|_| OpenError::Shutdown)?;
        answer.await.unwrap_or(Err(OpenError::Shutdown))
    }

    /// Keeps a connection to the peer from now on: makes one, keeps the best one although no stream
    /// uses it, and makes another whenever it is lost, with backoff. How it goes is told by
    /// [`Event::ConnectionOpened`] and [`Event::PeerUnreachable`]. Bounded by
    /// [`Limits::holds`](crate::config::Limits::holds); one more is refused, and told as an event.
    pub async fn hold(&self, peer: PeerId) {
        let _ = self.commands.send(Command::Hold { peer }).await;
    }

    /// Undoes [`hold`](Self::hold). Streams to the peer go on; without any, its connections are closed after their grace.
    pub async fn let_go(&self, peer: PeerId) {
        let _ = self.commands.send(Command::LetGo { peer }).await;
    }

    /// Answers for a service: its streams arrive at what is returned, until that is dropped.
    ///
    /// # Errors
    /// If somebody in this process answers for it already, or the node is shut down.
    pub async fn incoming(&self, service: Service) -> Result<Incoming, ServeError> {
        Ok(Incoming::new(self.serve(service, false, None).await?))
    }

    /// As [`incoming`](Self::incoming), but the program decides on each stream before the peer is
    /// answered.
    ///
    /// # Errors
    /// As [`incoming`](Self::incoming).
    pub async fn requests(&self, service: Service) -> Result<Requests, ServeError> {
        self.requests_with(service, None).await
    }

    /// As [`requests`](Self::requests); the streams of this service wait for a path for as long as `patience`
    /// says, below a year; none: as [`Config::streams`](crate::Config::streams) says.
    ///
    /// # Errors
    /// As [`incoming`](Self::incoming).
    pub async fn requests_with(
        &self,
        service: Service,
        patience: Option<Duration>,
    ) -> Result<Requests, ServeError> {
        Ok(Requests::new(self.serve(service, true, patience).await?))
    }

    async fn serve(
        &self,
        service: Service,
        ask: bool,
        patience: Option<Duration>,
    ) -> Result<mpsc::Receiver<Arrival>, ServeError> {
        let (queue, arrivals) = mpsc::channel(self.unaccepted_max.max(1));
        let (reply, answer) = oneshot::channel();
        let command = Command::Serve { service, served: Served { queue, ask, patience }, reply };
        self.commands.send(command).await.map_err(|_| ServeError::Shutdown)?;
        answer.await.unwrap_or(Err(ServeError::Shutdown))?;
        Ok(arrivals)
    }

    /// Holds a reservation with a relay from now on: asks for it, renews it, and asks again with
    /// backoff whenever it is lost. How it goes is told by [`Event::ReservationHeld`] and
    /// [`Event::ReservationLost`].
    pub async fn reserve(&self, relay: RelayAddr) {
        let _ = self.commands.send(Command::Reserve { relay }).await;
    }

    /// As [`reserve`](Self::reserve) for each of these. Several addresses of one relay are dialled together, those over TCP
    /// first, those over QUIC and over WebSockets a moment later each, and the first that answers is used. A name stands for
    /// one or several relays, as the TXT records of `_dnsaddr.<name>` say: whoever writes these chooses the relays. It is
    /// looked up again whenever one of them is dialled again, and tried for ever, as [`Event::RelayNameFailed`] tells.
    pub async fn reserve_all<R: Into<RelayLocator>>(&self, relays: Vec<R>) {
        let relays = relays.into_iter().map(Into::into).collect();
        let _ = self.commands.send(Command::ReserveAll(relays)).await;
    }

    /// Closes one connection. Streams on it move to another, or wait for one.
    pub async fn close(&self, connection: ConnectionId) {
        let _ = self.commands.send(Command::Close { connection }).await;
    }

    /// What the upgrades of relayed connections came to since the start, one row for each outcome that there was; none
    /// once the node has ended, which tells them as [`Event::UpgradesCounted`].
    pub async fn upgrade_counts(&self) -> Vec<UpgradeCount> {
        let (reply, answer) = oneshot::channel();
        let asked = self.commands.send(Command::CountUpgrades { reply }).await;
        if asked.is_err() {
            return Vec::new();
        }
        answer.await.unwrap_or_default()
    }

    /// Asks the peer for an answer on the connection where new streams would go, and tells how long it took. Peers that
    /// do not speak `/punchline/control/1` do not answer.
    ///
    /// # Errors
    /// If there is no connection to the peer, or no answer within 5 s.
    pub async fn ping(&self, peer: PeerId) -> Result<Pong, PingError> {
        let (reply, answer) = oneshot::channel();
        let asked = self.commands.send(Command::Ping { peer, reply }).await;
        asked.map_err(|_| PingError::Shutdown)?;
        match tokio::time::timeout(PING_DEADLINE, answer).await {
            Ok(Ok(Some(pong))) => Ok(pong),
            Ok(Ok(None)) => Err(PingError::NotConnected),
            Ok(Err(_)) => Err(PingError::Shutdown),
            Err(_) => Err(PingError::Unanswered { deadline: PING_DEADLINE }),
        }
    }

    /// Tries now what waits for its next attempt, for this peer or relay, or for all: direct paths to peers that are
    /// relayed, relays that are down or refused a place, held peers that are missing. Once in 5 s; none if the node has
    /// ended.
    pub async fn retry(&self, peer: Option<PeerId>) -> Option<Retried> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Retry { peer, reply }).await.ok()?;
        answer.await.ok()
    }

    /// How the node is now; none if it has ended.
    pub async fn status(&self) -> Option<Status> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Status { reply }).await.ok()?;
        answer.await.ok()
    }

    /// What happens from now on; nothing if the node has ended.
    pub fn events(&self) -> Events {
        let ended = || broadcast::channel(1).1;
        Events::new(self.events.upgrade().map_or_else(ended, |events| events.subscribe()))
    }

    /// Closes every connection and ends the node. Streams that are still open are cut: finish them
    /// first. Returns when everything is closed, at the latest after
    /// [`Deadlines::shutdown`](crate::config::Deadlines::shutdown).
    pub async fn shutdown(&self) {
        let _ = self.commands.send(Command::Shutdown).await;
        let task = self.task.lock().ok().and_then(|mut task| task.take());
        if let Some(task) = task {
            // It ends by itself; a panic in it has been reported by the runtime.
            let _ = task.await;
        }
    }
}

/// What happens to a node, in order.
#[derive(Debug)]
pub struct Events(broadcast::Receiver<std::sync::Arc<Event>>);

/// Whom a node's program opens streams to while no connection leads there: those are to be found, and nobody else.
#[derive(Clone, Debug)]
pub struct Sought(watch::Receiver<BTreeSet<PeerId>>);

impl Sought {
    /// Who it is, as soon as that is otherwise than when it was asked last; none after the node has ended. At most
    /// [`Limits::opens`](crate::config::Limits::opens) peers.
    pub async fn changed(&mut self) -> Option<BTreeSet<PeerId>> {
        self.0.changed().await.ok()?;
        Some(self.0.borrow_and_update().clone())
    }
}

impl Events {
    pub(crate) fn new(events: broadcast::Receiver<std::sync::Arc<Event>>) -> Self {
        Self(events)
    }

    /// The next event; none after the node has ended. A reader that falls more than 8,192 events
    /// behind loses the oldest, and a warning is logged.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            match self.0.recv().await {
                Ok(event) => return Some(std::sync::Arc::unwrap_or_clone(event)),
                Err(broadcast::error::RecvError::Lagged(lost)) => {
                    tracing::warn!(lost, "events were lost: their reader is too slow");
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}
