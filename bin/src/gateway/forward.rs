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
use tokio::{
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::{
    Closing,
    event::GatewayEvent,
    local::Listener,
    socket::Socket,
    splice::{End, splice},
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

/// From a local connection to its stream. 8 s: kaspad gives up on a peer after 10 s without an answer
/// and stays away for 30 s and more, so it is told before.
const OPEN_DEADLINE: Duration = Duration::from_secs(8);

/// After a failure to accept, such as having no file descriptor left: what ends meanwhile frees some.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Between attempts for a stream while a limit is in the way: doubles from the first to the longest.
const BUSY_PAUSE: (Duration, Duration) = (Duration::from_millis(25), Duration::from_millis(800));

/// A service that is to be forwarded.
#[derive(Clone, Debug)]
pub(super) struct Forwarding {
    pub(super) peer: PeerId,
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
}

impl Forwarding {
    /// What the flags or a table of `forward` ask for. A ticket says what they leave out, and adds to
    /// the ways that they name. `finds`: peers may be found to which no way is named.
    pub(super) fn of(
        way: &cli::Way,
        relays: &[RelayLocator],
        myself: PeerId,
        names: &NamesFile,
        finds: bool,
    ) -> Result<Self, Unusable> {
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
        if addresses.is_empty() && said.is_empty() && !finds {
            let remedy = "say where the peer is: --relay <the relay it has a reservation with>, --addr, or --ticket; \
                          nothing looks for it, neither --mdns nor --peer-cache";
            return Err(Unusable(remedy.to_owned()));
        }
        let max_connections = way.max_connections.map(NonZeroUsize::get);
        let local = way.local.clone();
        let patience = None;
        Ok(Self { peer, service, local, addresses, said, proof, max_connections, patience })
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
        finds: bool,
    ) -> Result<Self, Unusable> {
        let relays = [cli::all(&table.relay), relays.to_vec()].concat();
        let patience = table.patience.map(Patience::duration);
        Ok(Self { patience, ..Self::of(&table.way, &relays, myself, names, finds)? })
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
        Self { forwarding, going: Mutex::default(), endpoint, finder, reporter, closing }
    }

    /// How it goes, for those who ask.
    pub(super) fn forwarded(&self) -> Forwarded {
        let Forwarding { peer, service, local, max_connections, .. } = &self.forwarding;
        let Going { local: real, connections, last_error } = &*self.going();
        Forwarded {
            peer: *peer,
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
        let Forwarding { peer, addresses, said, max_connections, .. } = &self.forwarding;
        let seats = max_connections.unwrap_or(usize::MAX);
        self.endpoint.add_addresses_of_peer(*peer, said.clone()).await;
        self.finder.seek(*peer, addresses.clone()).await;
        self.announce(&listener);
        let mut connections = JoinSet::new();
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
        let Forwarding { peer, service, .. } = &self.forwarding;
        let (peer, service) = (*peer, service.clone());
        self.reporter.report(GatewayEvent::ForwardFull { peer, service, limit });
    }

    fn announce(&self, listener: &Listener) {
        let Forwarding { peer, service, local, proof, .. } = &self.forwarding;
        let local = listener.name().unwrap_or_else(|_| local.clone());
        self.going().local = Some(local.clone());
        if proof.is_empty() {
            tracing::info!("the other side lets this node in with: --allow {}", self.endpoint.peer_id());
        }
        if let SocketName::Tcp { host, .. } = &local
            && !host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
        {
            tracing::warn!("everybody who reaches {local} can use `{service}` in this node's name");
        }
        let (peer, service, local) = (*peer, service.clone(), local.to_string());
        self.reporter.report(GatewayEvent::ForwardListening { peer, service, local });
    }

    /// One connection, from the stream to its end.
    async fn carry(self: Arc<Self>, mut socket: Socket) {
        let peer = self.forwarding.peer;
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
            End::Far(error) => tracing::debug!(%peer, %error, "the peer's stream broke"),
            End::Cut => {}
        }
    }

    /// A stream, or why there is none. A limit that was reached is tried again: others end meanwhile, and
    /// the far side may learn later than we do that one did. So is a peer that may still be found.
    async fn open(&self) -> Result<Stream, Failure> {
        let Forwarding { peer, service, proof, patience, .. } = &self.forwarding;
        let end = Instant::now() + OPEN_DEADLINE;
        let mut pause = BUSY_PAUSE.0;
        loop {
            let options = OpenOptions { ticket: proof.clone(), patience: *patience };
            let opening = self.endpoint.open_with(*peer, service.clone(), options);
            match timeout_at(end, opening).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) if self.may_pass(&error) && Instant::now() + pause < end => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(BUSY_PAUSE.1);
                }
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => return Err(self.late().await),
            }
        }
    }

    /// Whether it may be otherwise in a moment.
    fn may_pass(&self, error: &OpenError) -> bool {
        is_busy(error) || matches!(error, OpenError::NoAddress { .. }) && self.finder.finds()
    }

    /// Nothing came of it in time. The node knows what it waits for.
    async fn late(&self) -> Failure {
        let Forwarding { peer, .. } = &self.forwarding;
        let waits = self.endpoint.status().await.map(|status| status.waits).unwrap_or_default();
        let awaits = waits.into_iter().filter(|wait| wait.peer == *peer).flat_map(|wait| wait.awaits);
        let awaits: Vec<_> = awaits.collect();
        Failure::Late { deadline: OPEN_DEADLINE, awaits }
    }

    fn failed(&self, reason: Failure) {
        let Forwarding { peer, service, .. } = &self.forwarding;
        let (peer, service) = (*peer, service.clone());
        self.going().last_error = Some(reason.to_string());
        self.reporter.report(GatewayEvent::ForwardFailed { peer, service, reason });
    }
}

/// Whether a limit was in the way that others may make room under.
fn is_busy(error: &OpenError) -> bool {
    let refused = matches!(error, OpenError::Refused { reason: Refusal::Busy, .. });
    refused || matches!(error, OpenError::Busy { .. } | OpenError::StreamsOfPeer { .. })
}

/// What to do with a forward, ready to copy.
pub(crate) fn next_step(service: &Service, local: &str) -> String {
    match (service.as_str(), local.strip_prefix("unix:")) {
        ("kaspad" | "kaspa-p2p", None) => format!("run: kaspad --addpeer={local}"),
        ("grpc", None) => format!("run: grpcurl -plaintext {local} list"),
        ("grpc", Some(path)) => format!("run: grpcurl -plaintext -unix {path} list"),
        _ => format!("`{service}` is at {local}"),
    }
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
            false,
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

    #[test]
    fn the_next_step_suits_the_service() {
        for (service, local, wanted) in [
            ("kaspad", "127.0.0.1:26111", "run: kaspad --addpeer=127.0.0.1:26111"),
            ("kaspa-p2p", "[::1]:26111", "run: kaspad --addpeer=[::1]:26111"),
            ("grpc", "127.0.0.1:50051", "run: grpcurl -plaintext 127.0.0.1:50051 list"),
            ("grpc", "unix:/run/g", "run: grpcurl -plaintext -unix /run/g list"),
            ("ssh", "127.0.0.1:2222", "`ssh` is at 127.0.0.1:2222"),
        ] {
            assert_eq!(next_step(&service.parse().unwrap(), local), wanted);
        }
    }
}
