//! Finds peers at a *meeting point*: a node that the operator names, where whoever wants to be found says where it is, and
//! whoever looks for it asks (libp2p's rendezvous protocol, `/rendezvous/1.0.0`). It is a tracker: simpler than a DHT, and
//! as long as it is there, sure; and it sees who asks for whom.
//!
//! A node registers in a namespace of its own, which its id names; so whoever knows the id finds it, and nobody is told who
//! else is there. What it registers, it has signed. `registry` is the meeting point, and is pure; `server` has it answer in
//! the swarm of a DHT's node; `message` is the protocol.
//!
//! Not libp2p-rendezvous: see `design/decisions/0001-dependencies.md`. Its nodes and ours understand each other.

// Half of it is what a meeting point says.
#[cfg_attr(not(feature = "kad"), allow(dead_code))]
mod message;
#[cfg(feature = "kad")]
mod registry;
#[cfg(feature = "kad")]
pub(crate) mod server;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use libp2p::{
    Multiaddr, PeerId, Swarm,
    core::PeerRecord,
    identity::Keypair,
    request_response::{
        Behaviour, Config as Requests, Event, Message, OutboundRequestId, ProtocolSupport,
    },
    swarm::{self, SwarmEvent},
};

use self::message::{Messages, PROTOCOL, Refusal, Request, Response, Signed};
pub use crate::transport::{Carrier, NoTransport};
use crate::{
    hint::{Hint, Source},
    plans::{Seeking, Telling},
    record::AddressPolicy,
    task::{self, Asker, Finds, Teller, Wish, Wishes},
    transport,
};

/// Meeting points that are used. Of more the first.
pub const POINTS_MAX: usize = 4;

/// Addresses that are registered: as many as a record has that others take.
const TOLD_MAX: usize = 16;

/// Addresses of a peer that are handed on.
const ADDRESSES_MAX: usize = 8;

/// Registrations asked for at once: of a peer's own namespace there is one, unless others say that they are in it.
const ASKED_MAX: u64 = 16;

/// What is found holds no longer, whatever the meeting point says.
const LASTS_MAX: Duration = Duration::from_secs(2 * 3600);

/// For an answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// Nothing was said for so long: the connection is closed. It is opened again when there is something to say.
const IDLE: Duration = Duration::from_secs(60);

/// How a node uses meeting points.
#[derive(Clone)]
pub struct Config {
    /// Who it is.
    pub keypair: Keypair,
    /// Where they are, each with its id at the end.
    pub points: Vec<Multiaddr>,
    /// Which addresses of ours are registered, and of others handed on: circuits too.
    pub policy: Arc<dyn AddressPolicy>,
    /// What carries it.
    pub carrier: Carrier,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config").field("points", &self.points).finish_non_exhaustive()
    }
}

/// Begins; ends when both are dropped. Must be called within a tokio runtime.
///
/// # Errors
/// If the identity cannot be used.
pub(crate) fn start(config: Config) -> Result<(Asker, Teller), NoTransport> {
    let (asker, teller, wanted, finds) = task::ends();
    let client = Client::new(config, finds)?;
    tokio::spawn(client.run(wanted));
    Ok((asker, teller))
}

/// The namespace of a peer, in which it alone is.
fn namespace(peer: PeerId) -> String {
    format!("punchline/peer/{peer}")
}

/// One meeting point.
struct Point {
    peer: PeerId,
    address: Multiaddr,
    telling: Telling,
    /// It did not answer the last time, and that was said.
    fails: bool,
}

/// What was asked of a point, by its place in the list.
enum Asked {
    Register(usize),
    Discover(usize, PeerId),
}

struct Client {
    keypair: Keypair,
    local: PeerId,
    policy: Arc<dyn AddressPolicy>,
    swarm: Swarm<Behaviour<Messages>>,
    points: Vec<Point>,
    seeking: Seeking,
    listening: Vec<Multiaddr>,
    reachable: Vec<Multiaddr>,
    asked: HashMap<OutboundRequestId, Asked>,
    finds: Finds,
}

impl Client {
    fn new(config: Config, finds: Finds) -> Result<Self, NoTransport> {
        let Config { keypair, points, policy, carrier } = config;
        let local = keypair.public().to_peer_id();
        let point = |address: Multiaddr| {
            let (telling, fails) = Default::default();
            Some(Point { peer: transport::peer_of(&address)?, address, telling, fails })
        };
        let points: Vec<Point> = points.into_iter().filter_map(point).take(POINTS_MAX).collect();
        let given = points.iter().map(|point| transport::without_peer(&point.address)).collect();
        // Nobody else is dialled.
        let nobody = Arc::new(|_: &Multiaddr, _: PeerId| false);
        let transport = transport::new(carrier, &keypair, nobody, given)?;
        let requests = Requests::default().with_request_timeout(DEADLINE);
        let behaviour =
            Behaviour::with_codec(Messages, [(PROTOCOL, ProtocolSupport::Outbound)], requests);
        let settings = swarm::Config::with_tokio_executor().with_idle_connection_timeout(IDLE);
        let swarm = Swarm::new(transport, behaviour, local, settings);
        let (seeking, listening, reachable, asked) = Default::default();
        Ok(Self { keypair, local, policy, swarm, points, seeking, listening, reachable, asked, finds })
    }

    async fn run(mut self, mut wanted: Wishes) {
        loop {
            self.ask(Instant::now());
            let timeout = self.timeout();
            tokio::select! {
                event = self.swarm.select_next_some() => {
                    if let SwarmEvent::Behaviour(event) = event {
                        self.hear(event, Instant::now());
                    }
                }
                wish = wanted.recv() => match wish {
                    Some(wish) => self.wish(wish, Instant::now()),
                    None => return,
                },
                () = sleep_until(timeout) => {}
            }
        }
    }

    fn timeout(&self) -> Option<Instant> {
        let tellings = self.points.iter().filter_map(|point| point.telling.poll_timeout());
        tellings.chain(self.seeking.poll_timeout()).min()
    }

    fn wish(&mut self, wish: Wish, now: Instant) {
        match wish {
            Wish::Seek(peer) => return self.seeking.seek(peer, now),
            Wish::Forget { peer, .. } => return self.seeking.forget(peer),
            Wish::Listening(addresses) => self.listening = addresses,
            Wish::Reachable(addresses) => self.reachable = addresses,
        }
        let mut told: Vec<Multiaddr> = Vec::new();
        for address in self.reachable.iter().chain(&self.listening) {
            if !told.contains(address) && self.policy.admits(address, self.local) {
                told.push(address.clone());
            }
        }
        told.truncate(TOLD_MAX);
        self.points.iter_mut().for_each(|point| point.telling.changed(told.clone(), now));
    }

    /// Says and asks what is due.
    fn ask(&mut self, now: Instant) {
        for at in 0..self.points.len() {
            let Some(addresses) = self.points[at].telling.next(now).map(<[_]>::to_vec) else { continue };
            match PeerRecord::new(&self.keypair, addresses) {
                Ok(record) => {
                    let signed = record.into_signed_envelope().into_protobuf_encoding();
                    let namespace = namespace(self.local);
                    let request = Request::Register { namespace, signed, seconds: None };
                    self.send(Asked::Register(at), request);
                }
                Err(error) => {
                    tracing::warn!(%error, "this node is not registered at its meeting points")
                }
            }
        }
        while let Some(peer) = self.seeking.next(now) {
            for at in 0..self.points.len() {
                let (cookie, limit) = (Vec::new(), Some(ASKED_MAX));
                let request = Request::Discover { namespace: namespace(peer), cookie, limit };
                self.send(Asked::Discover(at, peer), request);
            }
        }
    }

    fn send(&mut self, asked: Asked, request: Request) {
        let (Asked::Register(at) | Asked::Discover(at, _)) = asked;
        let Point { peer, address, .. } = &self.points[at];
        let addresses = vec![transport::without_peer(address)];
        let requests = self.swarm.behaviour_mut();
        let id = requests.send_request_with_addresses(peer, request, addresses);
        self.asked.insert(id, asked);
    }

    fn hear(&mut self, event: Event<Request, Response>, now: Instant) {
        match event {
            Event::Message { message: Message::Response { request_id, response }, .. } => {
                if let Some(asked) = self.asked.remove(&request_id) {
                    self.answered(&asked, response, now);
                }
            }
            Event::OutboundFailure { request_id, error, .. } => {
                let Some(asked) = self.asked.remove(&request_id) else { return };
                self.failed(&asked, &error, now);
            }
            _ => {}
        }
    }

    fn answered(&mut self, asked: &Asked, response: Response, now: Instant) {
        match (asked, response) {
            (Asked::Register(at), Response::Registered(Ok(seconds))) => {
                let point = &mut self.points[*at];
                tracing::debug!(point = %point.peer, seconds, "registered at a meeting point");
                point.fails = false;
                point.telling.told(true, now);
            }
            (Asked::Discover(at, peer), Response::Discovered(Ok((found, _)))) => {
                self.points[*at].fails = false;
                for one in found {
                    self.found(*peer, &one.signed, Duration::from_secs(one.seconds));
                }
            }
            (_, Response::Registered(Err(refusal)) | Response::Discovered(Err(refusal))) => {
                self.failed(asked, &Refused(refusal), now);
            }
            _ => self.failed(asked, &Refused(Refusal::Internal), now),
        }
    }

    fn failed(&mut self, asked: &Asked, error: &dyn std::fmt::Display, now: Instant) {
        let (Asked::Register(at) | Asked::Discover(at, _)) = asked;
        let point = &mut self.points[*at];
        if matches!(asked, Asked::Register(_)) {
            point.telling.told(false, now);
        }
        // It is tried again all the time, and said once.
        match std::mem::replace(&mut point.fails, true) {
            true => tracing::debug!(point = %point.address, %error, "a meeting point is of no use"),
            false => tracing::warn!(point = %point.address, %error, "a meeting point is of no use now"),
        }
    }

    /// Hands on where a sought peer says that it is.
    fn found(&self, peer: PeerId, signed: &[u8], lasts: Duration) {
        let Some(signed) = Signed::read(signed).filter(|signed| signed.peer == peer) else { return };
        let admitted = signed.addresses.into_iter().map(|address| transport::without_peer(&address));
        let admitted = admitted.filter(|address| self.policy.admits(address, peer));
        let addresses: Vec<Multiaddr> = admitted.take(ADDRESSES_MAX).collect();
        if addresses.is_empty() {
            return;
        }
        let (source, lasts) = (Source::Rendezvous, Some(lasts.min(LASTS_MAX)));
        self.finds.hand_on(Hint { peer, addresses, source, age: Duration::ZERO, lasts });
    }
}

#[derive(Debug, thiserror::Error)]
#[error("it refuses: {0:?}")]
struct Refused(Refusal);

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(all(test, feature = "kad"))]
mod tests;
