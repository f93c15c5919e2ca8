//! `punchline client`: dials a server, shakes hands, keeps the session.

mod load;

use std::{sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use libp2p::{Multiaddr, PeerId};
use punchline_bridge::{
    Endpoint, Service, Stream, StreamFacts,
    addr::{self, synthetic_socket_addr},
    error::OpenError,
    grpc,
};
#[cfg(feature = "kad")]
use punchline_discovery::kad;
use punchline_protocol::{DialError, NodeConfig, Remote, Session, SessionHandle};
#[cfg(feature = "kad")]
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tonic::transport::Channel;

use self::load::Load;
use crate::{
    Context, Unusable, cli, finding,
    load::Report,
    names::PeerRef,
    node::{self, KASPA_SERVICE, Node, Places, Wanted},
    rehearsal::Rehearsal,
    report::{Failure, Reporter, SessionEvent},
    session, stop,
};

/// Between attempts to get a session: doubles from the first to the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Runs a client until the process is told to stop, or the peer refuses for good.
///
/// # Errors
/// If the settings make no sense, the peer refuses, or it cannot be reached.
pub async fn run(settings: cli::Client, context: Context) -> anyhow::Result<()> {
    let authority = match &settings.peer {
        Some(PeerRef::Authority(authority)) => Some(*authority),
        _ => None,
    };
    let named = settings.peer.as_ref().filter(|_| authority.is_none());
    let named = named.map(|peer| context.names.resolve(peer)).transpose();
    let named = named.map_err(|error| Unusable(format!("--peer: {error}")))?;
    // What was remembered of the peer may be nothing.
    let asks = finding::sources(&settings.node, &context)?.asks();
    let myself = context.keypair.public().to_peer_id();
    let addresses = match named {
        Some(peer) => addresses(&settings, peer, myself, asks)?,
        None => nobody_named(&settings, authority.is_some())?,
    };
    let rehearsal = Rehearsal::new(settings.rehearse);
    let load = Load::of(&settings, rehearsal.end_load())?;
    if context.check {
        return node::check(&settings.node);
    }
    let within = Some(settings.connect_timeout.duration());
    let wanted = Wanted { peers: named.into_iter().collect(), within };
    let node = Node::start(&settings.node, &context, wanted).await?;
    rehearsal.prepare(&node.endpoint).await;
    let found = tokio::select! {
        found = whom(named, authority, &settings, &node) => found,
        () = stop::told() => None,
    };
    let Some(peer) = found else {
        stop::drain(node.shutdown()).await;
        return Ok(());
    };
    match addresses.is_empty() {
        true => node.finder.seek(peer, addresses).await,
        false => node.endpoint.add_addresses(peer, addresses).await,
    }
    let kaspa = punchline_protocol::Node::new(NodeConfig::new(
        settings.network,
        node.endpoint.peer_id().to_bytes(),
    ));
    let mut caller = Caller {
        peer,
        service: KASPA_SERVICE.parse()?,
        endpoint: node.endpoint.clone(),
        kaspa: kaspa.clone(),
        reporter: context.reporter.clone(),
        load,
        rehearsal: rehearsal.clone(),
        attempts_max: settings.dial_attempts,
        asks,
        #[cfg(feature = "kad")]
        authority: authority.map(|authority| (authority, node.finder.clone())),
    };
    context.reporter.knows([peer]);
    let outcome = tokio::select! {
        outcome = caller.keep_a_session() => outcome,
        () = rehearsal.follow(&node.endpoint, &context.reporter) => Ok(()),
        () = stop::told() => Ok(()),
    };
    drop(caller);
    stop::drain(async {
        kaspa.shutdown().await;
        node.shutdown().await;
    })
    .await;
    outcome
}

/// Without a peer there is a namespace, as the settings were read: its members say themselves where they are. So does
/// whoever answers for an authority.
#[cfg_attr(not(feature = "kad"), allow(unused_variables))]
fn nobody_named(settings: &cli::Client, authority: bool) -> Result<Vec<Multiaddr>, Unusable> {
    if !settings.addr.is_empty() {
        let remedy = "whoever is found in a namespace or by its authority says itself where it is; leave it out, or name the peer's id with --peer";
        return Err(Unusable(format!("--addr: {remedy}")));
    }
    #[cfg(feature = "kad")]
    if authority {
        let flags = &settings.node.finding.dht;
        if flags.bootstrap.is_empty() && flags.dht_listen.is_empty() {
            let remedy =
                "an authority is looked up in a DHT: say --bootstrap <the address of a node of it>";
            return Err(Unusable(format!("--peer: {remedy}")));
        }
    } else {
        finding::members::namespaces(&settings.node)?;
    }
    Ok(Vec::new())
}

/// The peer that is named, whoever answers for the authority, or the member that is found first.
#[cfg_attr(not(feature = "kad"), allow(clippy::unused_async, unused_variables))]
async fn whom(
    named: Option<PeerId>,
    authority: Option<PeerId>,
    settings: &cli::Client,
    node: &Node,
) -> Option<PeerId> {
    #[cfg(feature = "kad")]
    if let Some(authority) = authority {
        let dht = node.finder.dht()?;
        let mut wait = BACKOFF.0;
        loop {
            if let Some(peer) = dht.find_authority(authority).await {
                tracing::info!("authority:{authority} is {peer}");
                return Some(peer);
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(BACKOFF.1);
        }
    }
    #[cfg(feature = "kad")]
    if named.is_none() {
        let dht = node.finder.dht()?;
        let mut events = dht.events();
        for namespace in finding::members::namespaces(&settings.node).ok()? {
            dht.watch(namespace).await;
        }
        loop {
            match events.recv().await {
                Ok(kad::Event::MemberFound { peer, .. }) if peer != node.endpoint.peer_id() => {
                    return Some(peer);
                }
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    }
    named
}

/// Where the peer may be reached.
fn addresses(
    settings: &cli::Client,
    wanted: PeerId,
    myself: PeerId,
    asks: bool,
) -> Result<Vec<Multiaddr>, Unusable> {
    if wanted == myself {
        let remedy = "is this node's own id; give the id of another node, or another --identity";
        return Err(Unusable(format!("--peer {wanted} {remedy}")));
    }
    let mut addresses = cli::all(&settings.addr);
    for address in &addresses {
        if let Some(other) = addr::peer_of(address).filter(|other| *other != wanted) {
            return Err(Unusable(format!("--addr {address} leads to {other}, not to --peer {wanted}")));
        }
    }
    let relays = Places::of(&settings.node)?.relays;
    addresses.extend(relays.iter().map(|relay| relay.circuit_to(wanted)));
    if addresses.is_empty() && !asks {
        let remedy = "say where the peer is: --relay <the relay it has a reservation with>, or --addr";
        return Err(Unusable(remedy.to_owned()));
    }
    Ok(addresses)
}

struct Caller {
    peer: PeerId,
    service: Service,
    endpoint: Endpoint,
    kaspa: punchline_protocol::Node,
    reporter: Reporter,
    load: Option<Load>,
    rehearsal: Rehearsal,
    attempts_max: u32,
    /// Others are asked where the peer is.
    asks: bool,
    /// For whom the peer answers, if it was found by that.
    #[cfg(feature = "kad")]
    authority: Option<(PeerId, finding::Finder)>,
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("the gRPC connection failed: {0}")]
    Channel(#[from] tonic::transport::Error),
    #[error(transparent)]
    Handshake(#[from] DialError),
}

impl CallError {
    /// Whether the same call may succeed later.
    /// `asks`: somebody may say yet where the peer is.
    fn is_retryable(&self, asks: bool) -> bool {
        match self {
            Self::Open(OpenError::NoAddress { .. }) => asks,
            Self::Open(error) => error.is_retryable(),
            Self::Channel(_) => true,
            Self::Handshake(error) => error.is_retryable(),
        }
    }

    fn failure(&self) -> Failure {
        match self {
            Self::Open(error) => error.clone().into(),
            Self::Channel(_) | Self::Handshake(_) => Failure::Other(self.to_string()),
        }
    }

    /// What to do about it.
    fn remedy(&self) -> &'static str {
        match self {
            Self::Open(
                OpenError::NoRouteToDestination { .. }
                | OpenError::ConnectionLost { .. }
                | OpenError::Deadline { .. },
            ) => {
                "is `punchline server` running there, with a reservation at the relay that is named here? Then try again"
            }
            Self::Open(OpenError::Refused { .. } | OpenError::Unsupported { .. }) => {
                "name the id that a `punchline server` prints with --peer"
            }
            Self::Open(_) => "see `punchline client --help`",
            Self::Channel(_) | Self::Handshake(DialError::Call(_) | DialError::CallTimeout) => {
                "try again, or look into the log of the peer"
            }
            Self::Handshake(DialError::Handshake(_)) => {
                "is --network the same at both ends? The log of the peer says more"
            }
        }
    }
}

impl Caller {
    async fn keep_a_session(&mut self) -> anyhow::Result<()> {
        let mut failures = 0;
        let mut ever = false;
        loop {
            match self.call().await {
                Ok(live) => {
                    failures = 0;
                    ever = true;
                    self.attend(live).await;
                }
                Err(error) => {
                    let last = !error.is_retryable(self.asks)
                        || (!ever && self.attempts_max != 0 && failures + 1 >= self.attempts_max);
                    let wait = BACKOFF.0.saturating_mul(1 << failures.min(16)).min(BACKOFF.1);
                    self.report_failure(&error, (!last).then_some(wait));
                    if last {
                        anyhow::bail!("{error}; {}", error.remedy());
                    }
                    failures += 1;
                    tokio::time::sleep(wait).await;
                }
            }
            #[cfg(feature = "kad")]
            self.ask_authority().await;
        }
    }

    /// Another peer may answer for it by now.
    #[cfg(feature = "kad")]
    async fn ask_authority(&mut self) {
        let Some((authority, finder)) = &self.authority else { return };
        let Some(dht) = finder.dht() else { return };
        if let Some(peer) = dht.find_authority(*authority).await.filter(|peer| *peer != self.peer) {
            tracing::info!("authority:{authority} is {peer} now");
            finder.leave(self.peer).await;
            self.reporter.knows([peer]);
            finder.seek(peer, Vec::new()).await;
            self.peer = peer;
        }
    }

    async fn call(&self) -> Result<Live, CallError> {
        let stream = self.endpoint.open(self.peer, self.service.clone()).await?;
        let facts = stream.facts().clone();
        let channel = channel(&self.peer, stream).await?;
        let address = synthetic_socket_addr(&self.peer);
        let remote = Remote { peer_id_bytes: Some(self.peer.to_bytes()), address };
        let session = self.kaspa.dial(channel.clone(), remote).await?;
        self.reporter.report(session::ready(self.peer, &session, facts.path()));
        self.rehearsal.plays_on(&facts);
        Ok(Live { session, channel, facts })
    }

    fn report_failure(&self, error: &CallError, retry_in: Option<Duration>) {
        let peer = self.peer;
        self.reporter.report(match error {
            CallError::Handshake(error) => {
                let reason = error.to_string();
                SessionEvent::HandshakeFailed { peer, reason, last: retry_in.is_none() }
            }
            CallError::Open(_) | CallError::Channel(_) => {
                let retry_in_ms = retry_in.map(|wait| wait.as_millis() as u64);
                SessionEvent::DialFailed { peer, reason: error.failure(), retry_in_ms }
            }
        });
    }

    /// Stays with a session until it ends. Its stream moves by itself meanwhile.
    async fn attend(&mut self, live: Live) {
        let mut loading = self.start_load(&live);
        let Live { mut session, facts, .. } = live;
        loop {
            tokio::select! {
                // A client of ours only keeps the session: what its peer announces is not followed up.
                event = session.next() => if event.is_none() {
                    let cause = session.ended().await.to_string();
                    return self.reporter.report(SessionEvent::SessionEnded { peer: self.peer, cause });
                },
                done = wait_for(&mut loading) => {
                    loading = None;
                    if let Some(done) = done {
                        self.reporter.report(done.done(self.peer, facts.path()));
                    }
                }
            }
        }
    }

    fn start_load(&mut self, live: &Live) -> Option<Loading> {
        let load = self.load.take()?;
        let (channel, facts) = (live.channel.clone(), live.facts.clone());
        let (done, over) = watch::channel(());
        if self.rehearsal.is_on() {
            let talk = talk(live.session.handle(), over);
            let (peer, reporter) = (self.peer, self.reporter.clone());
            tokio::spawn(async move { reporter.report(talk.await.event(peer)) });
        }
        Some(tokio::spawn(async move {
            let sent = load.send(channel, &facts).await;
            drop(done);
            sent.inspect_err(|error| tracing::warn!(%error, "the load did not arrive")).ok()
        }))
    }
}

/// A session and what carries it.
struct Live {
    session: Session,
    channel: Channel,
    facts: Arc<StreamFacts>,
}

type Loading = tokio::task::JoinHandle<Option<Report>>;

async fn wait_for(loading: &mut Option<Loading>) -> Option<Report> {
    match loading {
        Some(task) => task.await.ok().flatten(),
        None => std::future::pending().await,
    }
}

/// What a session said of its own while a load ran beside it.
#[derive(Default)]
struct Talk {
    pings: u64,
    unanswered: u64,
    slowest: Duration,
}

/// Keeps the session talking until the load is `over`: a Ping is under way at every moment, so also
/// whenever the stream moves.
async fn talk(session: SessionHandle, mut over: watch::Receiver<()>) -> Talk {
    let mut talk = Talk::default();
    loop {
        let answered = tokio::select! {
            // Nobody changes it: it ends with the load.
            _ = over.changed() => return talk,
            answered = session.ping() => answered,
        };
        talk.pings += 1;
        match answered {
            Ok(round_trip) => talk.slowest = talk.slowest.max(round_trip),
            Err(error) => {
                tracing::warn!(%error, "the session did not answer beside the load");
                talk.unanswered += 1;
                return talk;
            }
        }
    }
}

impl Talk {
    fn event(&self, peer: PeerId) -> SessionEvent {
        let slowest_ms = (self.slowest.as_secs_f64() * 10_000.0).round() / 10.0;
        let (pings, unanswered) = (self.pings, self.unanswered);
        SessionEvent::SessionPinged { peer, pings, unanswered, slowest_ms }
    }
}

/// A channel over exactly this stream: whose path is known, and which no reconnect replaces unseen.
async fn channel(peer: &PeerId, stream: Stream) -> Result<Channel, tonic::transport::Error> {
    let mut stream = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_| {
        let once = stream.take().ok_or_else(|| std::io::Error::other("the stream ended"));
        std::future::ready(once)
    });
    grpc::client(peer).connect_with_connector(connector).await
}
