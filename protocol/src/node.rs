//! Our node: what it says about itself, whom it knows, and its two ways to a session.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use thiserror::Error;
use tokio::{sync::mpsc, time};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Extensions, Streaming, codec::CompressionEncoding, transport::Channel};
use tracing::debug;

use crate::{
    acceptor::Acceptor,
    address_book::AddressBook,
    admission::{LivePeer, LivePeers, PendingHandshakes},
    conversation::Conversation,
    establish::establish,
    handshake::{HandshakeError, Ready, Terms},
    identity::{Direction, Remote, kaspa_id},
    link::{Lanes, Link, TransportError, lanes},
    network::Network,
    reject::RejectReason,
    session::{EVENTS_MAX, Session, SessionFacts, SessionHandle, Shared},
    version::{ProtocolVersion, UserAgent, Version},
    wire::{KaspadMessage, MESSAGE_BYTES_MAX, proto::p2p_client::P2pClient},
};

/// How long a dialled peer may take to accept the call (upstream's number); the handshake's
/// deadlines start after it.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// What a node is told at its start.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// The network; peers of another one are rejected.
    pub network: Network,
    /// The bytes of our libp2p peer id, from which our Kaspa id follows.
    pub peer_id_bytes: Vec<u8>,
    /// The protocol version we advertise.
    pub protocol_version: ProtocolVersion,
    /// What we call ourselves. Without our mark in it, peers of ours do not check our id.
    pub user_agent: UserAgent,
    /// Where we tell peers that we can be reached, if anywhere.
    pub advertised: Option<SocketAddr>,
    /// How much we take on.
    pub limits: NodeLimits,
}

impl NodeConfig {
    /// Protocol 11, our own user agent, no advertised address, default limits.
    pub fn new(network: Network, peer_id_bytes: Vec<u8>) -> Self {
        Self {
            network,
            peer_id_bytes,
            protocol_version: ProtocolVersion::V11,
            user_agent: UserAgent::ours(None),
            advertised: None,
            limits: NodeLimits::default(),
        }
    }
}

/// How much a node takes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeLimits {
    /// Inbound handshakes in progress plus sessions the owner has not taken yet. Default 256:
    /// two hundred peers may come back at the same moment (upstream: 32). Each costs a task and
    /// at most 12 s. Further calls are answered `RESOURCE_EXHAUSTED`.
    pub pending_max: usize,
    /// Inbound handshakes in progress of one peer. Default 2, as upstream allows one ip.
    /// Further calls are answered `RESOURCE_EXHAUSTED`.
    pub pending_per_peer_max: usize,
    /// Live sessions, both directions together. Default 512; each costs a task and its queues.
    /// Further peers are rejected.
    pub sessions_max: usize,
}

impl Default for NodeLimits {
    fn default() -> Self {
        Self { pending_max: 256, pending_per_peer_max: 2, sessions_max: 512 }
    }
}

/// Why a dial did not end in a session.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DialError {
    /// The connection failed, or the peer refused the call.
    #[error("the call failed: {0}")]
    Call(TransportError),
    /// The peer did not accept the call within [`CALL_TIMEOUT`].
    #[error("the peer did not accept the call within {} s", CALL_TIMEOUT.as_secs())]
    CallTimeout,
    /// The call was accepted, but the handshake failed.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
}

impl DialError {
    /// True if dialling again, later, may help. A peer that refused us, or broke the protocol,
    /// will do so again; but one that holds a session of ours which we have lost, or which our
    /// process before its restart had, lets go of it in a while.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Call(_) | Self::CallTimeout => true,
            Self::Handshake(error) => {
                matches!(
                    error,
                    HandshakeError::Closed
                        | HandshakeError::Transport(_)
                        | HandshakeError::Rejected(RejectReason::Duplicate)
                )
            }
        }
    }
}

/// Our node. Clones are the same node.
#[derive(Debug, Clone)]
pub struct Node {
    shared: Arc<NodeShared>,
}

#[derive(Debug)]
struct NodeShared {
    config: NodeConfig,
    book: Arc<AddressBook>,
    live: Arc<LivePeers>,
    pending: Arc<PendingHandshakes>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

impl Node {
    /// A node that knows nobody yet.
    pub fn new(config: NodeConfig) -> Self {
        let shared = NodeShared {
            book: Arc::default(),
            live: LivePeers::new(config.limits.sessions_max),
            pending: PendingHandshakes::new(config.limits.pending_per_peer_max),
            shutdown: CancellationToken::new(),
            tasks: TaskTracker::new(),
            config,
        };
        Self { shared: Arc::new(shared) }
    }

    /// What the node was told at its start.
    pub fn config(&self) -> &NodeConfig {
        &self.shared.config
    }

    /// The addresses that peers are told.
    pub fn addresses(&self) -> &AddressBook {
        &self.shared.book
    }

    /// Peers with a session, or about to have one.
    pub fn live_sessions(&self) -> usize {
        self.shared.live.len()
    }

    /// Calls the peer at the far end of `channel` and shakes hands. `remote` says what the
    /// transport knows about it.
    ///
    /// # Errors
    /// [`DialError`]; a peer that is to be rejected has been told so.
    ///
    /// # Cancellation
    /// Ends the call.
    pub async fn dial(&self, channel: Channel, remote: Remote) -> Result<Session, DialError> {
        let (lanes, outgoing) = lanes();
        let mut client = P2pClient::new(channel)
            .accept_compressed(CompressionEncoding::Gzip)
            .send_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(MESSAGE_BYTES_MAX);
        let call = time::timeout(CALL_TIMEOUT, client.message_stream(outgoing)).await;
        let response = call
            .map_err(|_elapsed| DialError::CallTimeout)?
            .map_err(|status| DialError::Call(status.into()))?;
        let direction = Direction::Outbound;
        Ok(self.converse(response.into_inner(), lanes, remote, direction).await?)
    }

    /// The accepting side, at most one per node. `remote_of` reads what the transport knows
    /// about the caller from the call's extensions; a call for which it returns `None` is
    /// answered `INVALID_ARGUMENT`.
    pub fn acceptor<F>(&self, remote_of: F) -> Acceptor
    where
        F: Fn(&Extensions) -> Option<Remote> + Send + Sync + 'static,
    {
        Acceptor::new(self.clone(), Arc::new(remote_of))
    }

    /// Closes every session, ends every handshake, and waits for their last words: at most
    /// about [`CLOSE_LINGER`](crate::CLOSE_LINGER).
    pub async fn shutdown(&self) {
        self.shared.shutdown.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    pub(crate) fn is_shut_down(&self) -> bool {
        self.shared.shutdown.is_cancelled()
    }

    pub(crate) fn pending(&self) -> &Arc<PendingHandshakes> {
        &self.shared.pending
    }

    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.shared.tasks
    }

    /// From an accepted call to a session.
    pub(crate) async fn converse(
        &self,
        incoming: Streaming<KaspadMessage>,
        lanes: Lanes,
        remote: Remote,
        direction: Direction,
    ) -> Result<Session, HandshakeError> {
        let mut link = Link::new(incoming, lanes);
        let outcome = tokio::select! {
            biased;
            () = self.shared.shutdown.cancelled() => Err(HandshakeError::ShutDown),
            outcome = self.shake_hands(&mut link, &remote) => outcome,
        };
        match outcome {
            Ok(ready) => Ok(self.open(link, ready, remote, direction)),
            Err(error) => {
                debug!(?direction, %error, "handshake failed");
                self.shared.tasks.spawn(link.linger());
                Err(error)
            }
        }
    }

    async fn shake_hands(
        &self,
        link: &mut Link,
        remote: &Remote,
    ) -> Result<Ready<LivePeer>, HandshakeError> {
        let terms =
            Terms { ours: &self.version(), protocol: self.shared.config.protocol_version, remote };
        establish(link, terms, |claim| self.shared.live.claim(claim)).await
    }

    fn version(&self) -> Version {
        let config = &self.shared.config;
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Version {
            protocol_version: config.protocol_version.number(),
            services: 0,
            // A clock before 1970 says nothing; neither does 0.
            timestamp_ms: since_epoch.map_or(0, |since| since.as_millis() as i64),
            address: config.advertised,
            id: kaspa_id(&config.peer_id_bytes),
            user_agent: config.user_agent.clone(),
            disable_relay_tx: false,
            subnetwork_id: None,
            network: config.network.to_string(),
        }
    }

    fn open(&self, link: Link, ready: Ready<LivePeer>, remote: Remote, direction: Direction) -> Session {
        let node = &self.shared;
        let Ready { peer, protocol, claim } = ready;
        peer.address.into_iter().for_each(|address| node.book.insert(address));
        let facts = SessionFacts {
            direction,
            remote,
            kaspa_id: peer.id,
            network: node.config.network,
            protocol_version: protocol,
            peer,
        };
        let close = node.shutdown.child_token();
        let shared = Arc::new(Shared::new(facts, link.lanes().clone(), close));
        let (events, unread) = mpsc::channel(EVENTS_MAX);
        let book = Arc::clone(&node.book);
        let conversation = Conversation::new(link, Arc::clone(&shared), events, book, claim);
        node.tasks.spawn(conversation.run());
        Session::new(SessionHandle::new(shared), unread)
    }
}
