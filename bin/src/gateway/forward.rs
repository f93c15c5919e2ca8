//! Standing in for a peer's service: every local connection is one stream to it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use libp2p::PeerId;
use punchline_bridge::{
    Endpoint, OpenOptions, Stream,
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
    forwarding::Forwarding,
    local::Listener,
    socket::Socket,
    splice::{End, splice},
    whom::Candidates,
};
use crate::{
    cli::SocketName,
    control::Forwarded,
    finding::Finder,
    node::Node,
    report::{Failure, Reporter},
    stop,
};

/// After a failure to accept, such as having no file descriptor left: what ends meanwhile frees some.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Between attempts for a stream while a limit is in the way: doubles from the first to the longest.
const BUSY_PAUSE: (Duration, Duration) = (Duration::from_millis(25), Duration::from_millis(800));

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
    candidates: Arc<Candidates>,
    /// Whose of several it is; none: whoever answers.
    place: Option<usize>,
    going: Mutex<Going>,
    endpoint: Endpoint,
    finder: Finder,
    reporter: Reporter,
    closing: Closing,
}

impl Forward {
    pub(super) fn new(
        forwarding: Forwarding,
        (candidates, place): (Arc<Candidates>, Option<usize>),
        node: &Node,
        reporter: Reporter,
        closing: Closing,
    ) -> Self {
        let (endpoint, finder) = (node.endpoint.clone(), node.finder.clone());
        Self {
            forwarding,
            candidates,
            place,
            going: Mutex::default(),
            endpoint,
            finder,
            reporter,
            closing,
        }
    }

    /// How it goes, for those who ask.
    pub(super) fn forwarded(&self) -> Forwarded {
        let Forwarding { service, local, max_connections, .. } = &self.forwarding;
        let Going { local: real, connections, last_error } = &*self.going();
        Forwarded {
            peer: self.candidates.last(self.place),
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
        self.going().local = listener.name().ok();
        self.announce(whom.peer());
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
        let Some(peer) = self.candidates.last(self.place) else { return };
        let service = self.forwarding.service.clone();
        self.reporter.report(GatewayEvent::ForwardFull { peer, service, limit });
    }

    /// Where it listens, with the real port once it does.
    pub(super) fn local(&self) -> SocketName {
        self.going().local.clone().unwrap_or_else(|| self.forwarding.local.clone())
    }

    /// Whether it leads to whoever answers, and not to whoever is in one place.
    #[cfg(feature = "kad")]
    pub(super) fn is_shared(&self) -> bool {
        self.place.is_none()
    }

    /// Says to whom it leads; to nobody yet.
    pub(super) fn announce(&self, peer: Option<PeerId>) {
        let Forwarding { service, proof, .. } = &self.forwarding;
        let local = self.local();
        let Some(peer) = peer else {
            return match self.place {
                Some(1..) => {}
                _ => {
                    tracing::info!("looking for whoever answers for `{service}`; then it is at {local}")
                }
            };
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
            let candidates =
                self.candidates.in_order(self.place, status.as_ref(), std::time::Instant::now());
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
        let now = std::time::Instant::now();
        match &failure {
            Failure::Open(OpenError::Refused { reason: Refusal::NotServed, .. }) => {
                self.candidates.refused(peer, now);
            }
            _ => self.candidates.failed(peer, now),
        }
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
        let Some(peer) = self.candidates.last(self.place) else {
            return tracing::warn!(
                "a connection to `{service}` came to nothing: nobody is found yet who answers for it"
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
