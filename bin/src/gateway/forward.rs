//! Standing in for a peer's service: every local connection is one stream to it.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId};
use punchline_bridge::{
    Endpoint, OpenOptions, RelayLocator, Service, Stream, addr,
    error::{OpenError, Refusal},
    stream::frame::Code,
};
#[cfg(feature = "kad")]
use punchline_discovery::{kad, keys::Namespace};
#[cfg(feature = "kad")]
use tokio::sync::broadcast::error::RecvError;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::{
    Closing, Findable,
    event::GatewayEvent,
    local::Listener,
    socket::Socket,
    splice::{End, splice},
    whom::{Candidates, Whom},
};
use crate::{
    Unusable,
    cli::{self, Patience, SocketName},
    control::Forwarded,
    finding::Finder,
    names::NamesFile,
    node::Node,
    report::{Failure, Reporter},
    stop,
};

/// After a failure to accept, such as having no file descriptor left: what ends meanwhile frees some.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Between attempts for a stream while a limit is in the way: doubles from the first to the longest.
const BUSY_PAUSE: (Duration, Duration) = (Duration::from_millis(25), Duration::from_millis(800));

/// A service that is to be forwarded.
#[derive(Clone, Debug)]
pub(super) struct Forwarding {
    pub(super) whom: Whom,
    pub(super) service: Service,
    pub(super) local: SocketName,
    /// Where the peer may be found, by our own operator.
    pub(super) addresses: Vec<Multiaddr>,
    /// Where it may be found by its own word, in a ticket.
    said: Vec<Multiaddr>,
    /// What to present; empty for nothing.
    proof: Bytes,
    /// None: as many as one peer may have streams.
    pub(super) max_connections: Option<usize>,
    /// None: the node's.
    patience: Option<Duration>,
    /// From a local connection to its stream.
    pub(super) within: Duration,
}

impl Forwarding {
    /// What the flags or a table of `forward` ask for. A ticket says what they leave out, and adds to
    /// the ways that they name.
    pub(super) fn of(
        way: &cli::Way,
        relays: &[RelayLocator],
        myself: PeerId,
        names: &NamesFile,
        found: &Findable,
    ) -> Result<Self, Unusable> {
        #[cfg(feature = "kad")]
        if way.peer.is_none() && way.ticket.is_none() && !found.namespaces.is_empty() {
            return Self::of_members(way, found.namespaces.clone());
        }
        let ticket = way.ticket.as_ref();
        let named = way.peer.as_ref().map(|peer| names.resolve(peer)).transpose();
        let named = named.map_err(|error| Unusable(format!("--peer: {error}")))?;
        let peer = one("peer", named, ticket.map(|ticket| ticket.peer()))?;
        let service = ticket.map(|ticket| ticket.service().clone());
        let service = one("service", way.service.clone(), service)?;
        if peer == myself {
            let remedy = "is this node's own id; give the id of another node, or another --identity";
            return Err(Unusable(format!("--peer {peer} {remedy}")));
        }
        let mut addresses = cli::all(&way.addr);
        for address in &addresses {
            if let Some(other) = addr::peer_of(address).filter(|other| *other != peer) {
                return Err(Unusable(format!(
                    "--addr {address} leads to {other}, not to --peer {peer}"
                )));
            }
        }
        let (mut said, mut proof) = (Vec::new(), Bytes::new());
        if let Some(ticket) = ticket {
            said.extend(ticket.addrs().iter().cloned());
            said.extend(ticket.relays().iter().map(|relay| relay.circuit_to(peer)));
            proof = Bytes::copy_from_slice(ticket.proof());
        }
        addresses.extend(relays.iter().map(|relay| relay.circuit_to(peer)));
        if addresses.is_empty() && said.is_empty() && !found.peers {
            let remedy = "say where the peer is: --relay <the relay it has a reservation with>, --addr, or --ticket; \
                          nothing looks for it, neither --mdns nor --peer-cache nor --bootstrap";
            return Err(Unusable(remedy.to_owned()));
        }
        let max_connections = way.max_connections.map(NonZeroUsize::get);
        let local = way.local.clone();
        let (whom, patience, within) = (Whom::Peer(peer), None, way.connect_timeout.duration());
        Ok(Self { whom, service, local, addresses, said, proof, max_connections, patience, within })
    }

    /// Any member that answers for the service will do.
    #[cfg(feature = "kad")]
    fn of_members(way: &cli::Way, namespaces: Vec<Namespace>) -> Result<Self, Unusable> {
        if !way.addr.is_empty() {
            let remedy =
                "is of no use without --peer: members of a namespace say themselves where they are";
            return Err(Unusable(format!("--addr {remedy}")));
        }
        Ok(Self {
            whom: Whom::Members(namespaces),
            service: one("service", way.service.clone(), None)?,
            local: way.local.clone(),
            addresses: Vec::new(),
            said: Vec::new(),
            proof: Bytes::new(),
            max_connections: way.max_connections.map(NonZeroUsize::get),
            patience: None,
            within: way.connect_timeout.duration(),
        })
    }

    /// The relays that lead to the peer.
    pub(super) fn relays(&self) -> Vec<PeerId> {
        let ways = self.addresses.iter().chain(&self.said);
        ways.filter_map(|way| Some(addr::split_circuit(way).ok()??.0.peer())).collect()
    }

    /// What a table asks for; `relays` are those at the top of the file.
    pub(super) fn of_table(
        table: &cli::ForwardTable,
        relays: &[RelayLocator],
        myself: PeerId,
        names: &NamesFile,
        found: &Findable,
    ) -> Result<Self, Unusable> {
        let relays = [cli::all(&table.relay), relays.to_vec()].concat();
        let patience = table.patience.map(Patience::duration);
        Ok(Self { patience, ..Self::of(&table.way, &relays, myself, names, found)? })
    }
}

/// What a flag or a ticket says; both must agree.
fn one<T: PartialEq + std::fmt::Display>(
    flag: &str,
    said: Option<T>,
    written: Option<T>,
) -> Result<T, Unusable> {
    match (said, written) {
        (Some(said), Some(written)) if said != written => Err(Unusable(format!(
            "--{flag} says {said} and the ticket {written}; leave --{flag} out, or use the right ticket"
        ))),
        (Some(one), _) | (None, Some(one)) => Ok(one),
        (None, None) => Err(Unusable(format!(
            "--{flag} is missing: say it, or use --ticket with what `punchline ticket new` printed there"
        ))),
    }
}

/// How a forward goes.
#[derive(Default)]
struct Going {
    /// Where it listens, with the real port.
    local: Option<SocketName>,
    connections: usize,
    /// Why the last connection came to nothing, if none has got its stream since.
    last_error: Option<String>,
}

/// A forwarded service.
pub(super) struct Forward {
    forwarding: Forwarding,
    candidates: Candidates,
    going: Mutex<Going>,
    endpoint: Endpoint,
    finder: Finder,
    reporter: Reporter,
    closing: Closing,
}

impl Forward {
    pub(super) fn new(
        forwarding: Forwarding,
        node: &Node,
        reporter: Reporter,
        closing: Closing,
    ) -> Self {
        let (endpoint, finder) = (node.endpoint.clone(), node.finder.clone());
        let candidates = Candidates::new(forwarding.whom.peer());
        Self { forwarding, candidates, going: Mutex::default(), endpoint, finder, reporter, closing }
    }

    /// How it goes, for those who ask.
    pub(super) fn forwarded(&self) -> Forwarded {
        let Forwarding { service, local, max_connections, .. } = &self.forwarding;
        let Going { local: real, connections, last_error } = &*self.going();
        Forwarded {
            peer: self.candidates.last(),
            service: service.clone(),
            local: real.as_ref().unwrap_or(local).to_string(),
            connections: *connections,
            connections_max: *max_connections,
            last_error: last_error.clone(),
        }
    }

    fn going(&self) -> MutexGuard<'_, Going> {
        self.going.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a connection to the peer, and carries local ones until the process is told to stop; then
    /// those that are there already. When it carries as many as it may, further ones wait in the queue of
    /// the system: a program that waits is better off than one that is turned away.
    pub(super) async fn serve(self: Arc<Self>, listener: Listener) {
        let Forwarding { whom, addresses, said, max_connections, .. } = &self.forwarding;
        let seats = max_connections.unwrap_or(usize::MAX);
        let mut connections = JoinSet::new();
        if let Some(peer) = whom.peer() {
            self.endpoint.add_addresses_of_peer(peer, said.clone()).await;
            self.finder.seek(peer, addresses.clone()).await;
        }
        #[cfg(feature = "kad")]
        if let Whom::Members(namespaces) = whom {
            let following = self.clone().follow(namespaces.clone(), listener.name().ok());
            tokio::spawn(async move {
                tokio::select! {
                    () = following => {}
                    () = stop::told() => {}
                }
            });
        }
        self.announce(whom.peer(), listener.name().ok());
        loop {
            self.going().connections = connections.len();
            tokio::select! {
                biased;
                () = stop::told() => break,
                // Before the next is accepted, so that those that have ended do not count.
                Some(_) = connections.join_next() => {}
                accepted = listener.accept(), if connections.len() < seats => match accepted {
                    Ok(socket) => {
                        connections.spawn(self.clone().carry(socket));
                        if connections.len() == seats {
                            self.full(seats);
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a local connection could not be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
        drop(listener);
        while connections.join_next().await.is_some() {}
    }

    fn full(&self, limit: usize) {
        let Some(peer) = self.candidates.last() else { return };
        let service = self.forwarding.service.clone();
        self.reporter.report(GatewayEvent::ForwardFull { peer, service, limit });
    }

    /// Looks for members from now on. The first one that is found makes the forward one to somebody.
    #[cfg(feature = "kad")]
    async fn follow(self: Arc<Self>, namespaces: Vec<Namespace>, local: Option<SocketName>) {
        let Some(dht) = self.finder.dht().cloned() else { return };
        let mut events = dht.events();
        for namespace in &namespaces {
            dht.watch(namespace.clone()).await;
        }
        loop {
            let peer = match events.recv().await {
                Ok(kad::Event::MemberFound { namespace, peer })
                    if namespaces.iter().any(|ours| ours.name() == namespace.name()) =>
                {
                    peer
                }
                Err(RecvError::Closed) => return,
                Ok(_) | Err(RecvError::Lagged(_)) => continue,
            };
            let first = self.candidates.last().is_none();
            if peer != self.endpoint.peer_id() && self.candidates.add(peer) {
                self.reporter.knows([peer]);
                self.finder.seek(peer, Vec::new()).await;
                if first {
                    self.announce(Some(peer), local.clone());
                }
            }
        }
    }

    fn announce(&self, peer: Option<PeerId>, local: Option<SocketName>) {
        let Forwarding { service, local: wanted, proof, .. } = &self.forwarding;
        let local = local.unwrap_or_else(|| wanted.clone());
        self.going().local = Some(local.clone());
        let Some(peer) = peer else {
            return tracing::info!(
                "looking for members of the namespace; then `{service}` is at {local}"
            );
        };
        if proof.is_empty() {
            tracing::info!("the other side lets this node in with: --allow {}", self.endpoint.peer_id());
        }
        if let SocketName::Tcp { host, .. } = &local
            && !host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
        {
            tracing::warn!("everybody who reaches {local} can use `{service}` in this node's name");
        }
        let (service, local) = (service.clone(), local.to_string());
        self.reporter.report(GatewayEvent::ForwardListening { peer, service, local });
    }

    /// One connection, from the stream to its end.
    async fn carry(self: Arc<Self>, mut socket: Socket) {
        let opened = tokio::select! {
            opened = self.open() => opened,
            () = self.closing.closed() => return,
        };
        let mut stream = match opened {
            Ok(stream) => stream,
            Err(reason) => return self.failed(reason),
        };
        self.going().last_error = None;
        let end = tokio::select! {
            end = splice(&mut socket, &mut stream, || true) => end,
            () = self.closing.closed() => return stream.reset(Code::Shutdown),
        };
        match end {
            End::Finished => socket.settle(),
            End::Near(error) => {
                tracing::debug!(%error, "the local program broke its connection");
                stream.reset(Code::Cancelled);
            }
            End::Far(error) => tracing::debug!(%error, "the peer's stream broke"),
            End::Cut => {}
        }
    }

    /// A stream, or why there is none. A limit that was reached is tried again: others end meanwhile, and
    /// the far side may learn later than we do that one did. So is a peer that may still be found. Of several that would do
    /// the next has its turn when one does not answer.
    async fn open(&self) -> Result<Stream, Failure> {
        let within = self.forwarding.within;
        let end = Instant::now() + within;
        let mut pause = BUSY_PAUSE.0;
        loop {
            let status = match self.forwarding.whom.peer() {
                Some(_) => None,
                None => self.endpoint.status().await,
            };
            let candidates = self.candidates.in_order(status.as_ref());
            let mut failure = None;
            for (place, peer) in candidates.iter().enumerate() {
                let others = (candidates.len() - place) as u32;
                let patience = end.saturating_duration_since(Instant::now()) / others;
                match self.open_to(*peer, Instant::now() + patience).await {
                    Ok(stream) => return Ok(stream),
                    Err(error) => failure = Some(error),
                }
            }
            let passes = failure.as_ref().is_none_or(|failure| self.may_pass(failure));
            if !passes || Instant::now() + pause >= end {
                return Err(failure.unwrap_or(Failure::Late { deadline: within, awaits: Vec::new() }));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(BUSY_PAUSE.1);
        }
    }

    async fn open_to(&self, peer: PeerId, end: Instant) -> Result<Stream, Failure> {
        let Forwarding { service, proof, patience, .. } = &self.forwarding;
        let options = OpenOptions { ticket: proof.clone(), patience: *patience };
        let opening = self.endpoint.open_with(peer, service.clone(), options);
        let failure = match timeout_at(end, opening).await {
            Ok(Ok(stream)) => {
                self.candidates.answered(peer);
                return Ok(stream);
            }
            Ok(Err(error)) => error.into(),
            Err(_) => self.late(peer).await,
        };
        self.candidates.failed(peer);
        Err(failure)
    }

    /// Whether it may be otherwise in a moment.
    fn may_pass(&self, failure: &Failure) -> bool {
        let Failure::Open(error) = failure else { return false };
        is_busy(error) || matches!(error, OpenError::NoAddress { .. }) && self.finder.finds()
    }

    /// Nothing came of it in time. The node knows what it waits for.
    async fn late(&self, peer: PeerId) -> Failure {
        let waits = self.endpoint.status().await.map(|status| status.waits).unwrap_or_default();
        let awaits = waits.into_iter().filter(|wait| wait.peer == peer).flat_map(|wait| wait.awaits);
        let awaits: Vec<_> = awaits.collect();
        Failure::Late { deadline: self.forwarding.within, awaits }
    }

    fn failed(&self, reason: Failure) {
        let service = self.forwarding.service.clone();
        self.going().last_error = Some(reason.to_string());
        let Some(peer) = self.candidates.last() else {
            return tracing::warn!(
                "a connection to `{service}` came to nothing: no member of the namespace is found yet"
            );
        };
        self.reporter.report(GatewayEvent::ForwardFailed { peer, service, reason });
    }
}

/// Whether a limit was in the way that others may make room under.
fn is_busy(error: &OpenError) -> bool {
    let refused = matches!(error, OpenError::Refused { reason: Refusal::Busy, .. });
    refused || matches!(error, OpenError::Busy { .. } | OpenError::StreamsOfPeer { .. })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    const PEER: &str = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
    const OTHER: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

    fn forwarding(args: &[&str]) -> Result<Forwarding, Unusable> {
        let command = cli::Forward::augment_args(clap::Command::new("forward"));
        let command = command.mut_args(|flag| flag.env(None::<&'static str>));
        let args = ["forward", "--local", "127.0.0.1:0"].iter().chain(args);
        let matches = command.try_get_matches_from(args).unwrap();
        let forward = cli::Forward::from_arg_matches(&matches).unwrap();
        Forwarding::of(
            &forward.way,
            &cli::all(&forward.node.relay),
            OTHER.parse().unwrap(),
            &NamesFile::default(),
            &Findable {
                peers: false,
                #[cfg(feature = "kad")]
                namespaces: Vec::new(),
            },
        )
    }

    #[test]
    fn what_is_missing_is_named() {
        let relay = format!("/ip4/203.0.113.7/tcp/4001/p2p/{OTHER}");
        let astray = format!("/ip4/203.0.113.7/tcp/1/p2p/{OTHER}");
        for (args, hint) in [
            (&["--service", "kaspad", "--relay", &relay][..], "--peer is missing"),
            (&["--peer", PEER, "--relay", &relay], "--service is missing"),
            (&["--peer", PEER, "--service", "kaspad"], "say where the peer is"),
            (&["--peer", OTHER, "--service", "kaspad", "--relay", &relay], "this node's own id"),
            (&["--peer", PEER, "--service", "kaspad", "--addr", &astray], "leads to"),
        ] {
            let error = forwarding(args).unwrap_err().to_string();
            assert!(error.contains(hint), "{args:?}: {error}");
        }
        let whole = forwarding(&["--peer", PEER, "--service", "kaspad", "--relay", &relay]).unwrap();
        let circuit = relay.parse::<RelayLocator>().unwrap().circuit_to(PEER.parse().unwrap());
        assert_eq!((whole.addresses, whole.said), (vec![circuit], Vec::new()));
        assert!(whole.proof.is_empty());
    }
}
