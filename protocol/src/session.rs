//! A session: the conversation after Ready, as its owner sees it.
//!
//! The owner polls [`Session::next`] and watches for the end; anyone may hold a
//! [`SessionHandle`] to send. The task behind them is in `conversation.rs`.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use thiserror::Error;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    flows::ANSWER_TIMEOUT,
    identity::{Direction, Remote},
    link::{Lanes, LinkEnd, TransportError},
    network::Network,
    reject::RejectReason,
    router::{Route, Router, SubscribeError},
    version::{ProtocolVersion, Version},
    wire::{KaspadMessage, Payload, PayloadKind, ProtocolError, proto::PingMessage},
};

/// Events an owner may leave unread: upstream's capacity of an incoming route. More would be
/// memory lent to a peer whose owner does not look.
pub const EVENTS_MAX: usize = 256;

/// Pings a session's holders may have outstanding at once; each is one entry in a map.
pub const PINGS_MAX: usize = 16;

/// Who the peer is and what was agreed. Never changes during a session.
#[derive(Debug, Clone)]
pub struct SessionFacts {
    /// Who dialled.
    pub direction: Direction,
    /// What the transport knows about the peer.
    pub remote: Remote,
    /// The peer's Kaspa id.
    pub kaspa_id: Uuid,
    /// The network both sides are on.
    pub network: Network,
    /// The protocol version both sides use.
    pub protocol_version: ProtocolVersion,
    /// What the peer said about itself.
    pub peer: Version,
}

/// Something the owner of a session may want to know.
#[derive(Debug, Clone, PartialEq)]
pub enum SessionEvent {
    /// A message that no route and no flow of the session took.
    Message(Box<KaspadMessage>),
    /// The peer answered our question for addresses; they are in the address book already.
    Addresses(Vec<SocketAddr>),
    /// The keepalive measured a round trip.
    RoundTrip(Duration),
}

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EndCause {
    /// The peer sent a Reject.
    #[error("the peer rejected us: {0}")]
    PeerRejected(RejectReason),
    /// We sent the peer a Reject.
    #[error("we rejected the peer: {0}")]
    Refused(RejectReason),
    /// The peer ended the call.
    #[error("the peer closed the session")]
    PeerClosed,
    /// The peer broke the protocol, or a queue was full; closed without a Reject.
    #[error("closed for a breach of the protocol: {0}")]
    Protocol(#[from] ProtocolError),
    /// The peer did not answer a keepalive Ping within [`ANSWER_TIMEOUT`].
    #[error("no pong within {} s", ANSWER_TIMEOUT.as_secs())]
    PingTimeout,
    /// We closed it: the owner did, dropped it, or the node shuts down.
    #[error("closed by us")]
    LocalClose,
    /// The connection failed, or carried something that is no message.
    #[error("the connection failed: {0}")]
    Transport(TransportError),
}

impl EndCause {
    /// What the peer is to be told, if anything.
    pub(crate) fn reject_reason(&self) -> Option<RejectReason> {
        match self {
            Self::Refused(reason) => Some(reason.clone()),
            Self::PingTimeout => {
                Some(RejectReason::AnswerTimeout { awaited: PayloadKind::Pong, after: ANSWER_TIMEOUT })
            }
            _ => None,
        }
    }
}

impl From<LinkEnd> for EndCause {
    fn from(end: LinkEnd) -> Self {
        match end {
            LinkEnd::Closed => Self::PeerClosed,
            LinkEnd::Transport(error) => Self::Transport(error),
        }
    }
}

/// The session ended before the message was queued.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the session has ended: {0}")]
pub struct SendError(pub EndCause);

/// A Ping was not answered.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PingError {
    /// The session ended first.
    #[error("the session has ended: {0}")]
    Ended(EndCause),
    /// No Pong came in time.
    #[error("no pong within {} s", .after.as_secs())]
    Timeout {
        /// How long we waited.
        after: Duration,
    },
    /// As many Pings are outstanding as may be.
    #[error("{limit} pings are outstanding")]
    TooMany {
        /// The bound.
        limit: usize,
    },
}

/// A live conversation with one peer.
///
/// # Drop
/// Closes the session.
#[derive(Debug)]
pub struct Session {
    handle: SessionHandle,
    events: mpsc::Receiver<SessionEvent>,
}

impl Session {
    pub(crate) fn new(handle: SessionHandle, events: mpsc::Receiver<SessionEvent>) -> Self {
        Self { handle, events }
    }

    /// Who the peer is and what was agreed.
    pub fn facts(&self) -> &SessionFacts {
        self.handle.facts()
    }

    /// A handle to send by, which may outlive this value but does not keep the session alive.
    pub fn handle(&self) -> SessionHandle {
        self.handle.clone()
    }

    /// The next event, or `None` once the session has ended; then [`Self::ended`] tells why.
    /// An owner that leaves [`EVENTS_MAX`] events unread loses announcements first, and the
    /// session with the next other event. Cancel-safe.
    pub async fn next(&mut self) -> Option<SessionEvent> {
        self.events.recv().await
    }

    /// Waits for the end. Cancel-safe.
    pub async fn ended(&self) -> EndCause {
        self.handle.ended().await
    }

    /// Starts closing: what is queued is still written, nothing more is read.
    pub fn close(&self) {
        self.handle.close();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.close();
    }
}

/// What every holder of a session shares with its task.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) facts: SessionFacts,
    pub(crate) lanes: Lanes,
    pub(crate) close: CancellationToken,
    pub(crate) ended: watch::Sender<Option<EndCause>>,
    router: Mutex<Router>,
    pongs: Mutex<HashMap<u64, oneshot::Sender<()>>>,
}

impl Shared {
    pub(crate) fn new(facts: SessionFacts, lanes: Lanes, close: CancellationToken) -> Self {
        Self {
            facts,
            lanes,
            close,
            ended: watch::Sender::new(None),
            router: Mutex::default(),
            pongs: Mutex::default(),
        }
    }

    pub(crate) fn router(&self) -> MutexGuard<'_, Router> {
        lock(&self.router)
    }

    /// Tells whoever pinged with `nonce`; `false` if nobody did.
    pub(crate) fn deliver_pong(&self, nonce: u64) -> bool {
        match lock(&self.pongs).remove(&nonce) {
            Some(waiter) => {
                // The waiter may have given up; the Pong was still its own.
                let _ = waiter.send(());
                true
            }
            None => false,
        }
    }

    fn expect_pong(&self, nonce: u64) -> Result<oneshot::Receiver<()>, PingError> {
        let mut pongs = lock(&self.pongs);
        if pongs.len() >= PINGS_MAX {
            return Err(PingError::TooMany { limit: PINGS_MAX });
        }
        let (waiter, pong) = oneshot::channel();
        pongs.insert(nonce, waiter);
        Ok(pong)
    }
}

/// Every critical section here is one change of a map; a panic leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A handle on a session, for as many tasks as want to send.
#[derive(Debug, Clone)]
pub struct SessionHandle {
    shared: Arc<Shared>,
}

impl SessionHandle {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Who the peer is and what was agreed.
    pub fn facts(&self) -> &SessionFacts {
        &self.shared.facts
    }

    /// Sends a message that is dispatched by kind, waiting while the peer reads too slowly.
    ///
    /// # Errors
    /// [`SendError`] if the session has ended.
    ///
    /// # Cancellation
    /// The message is queued whole or not at all.
    pub async fn send(&self, payload: Payload) -> Result<(), SendError> {
        self.send_message(KaspadMessage::new(payload)).await
    }

    /// Sends a request whose answers come to `route`.
    ///
    /// # Errors
    /// [`SendError`] if the session has ended.
    pub async fn request(&self, route: &Route, payload: Payload) -> Result<(), SendError> {
        self.send_message(KaspadMessage::request(payload, route.id())).await
    }

    /// Answers `request`, carrying its request id back.
    ///
    /// # Errors
    /// [`SendError`] if the session has ended.
    pub async fn answer(&self, request: &KaspadMessage, payload: Payload) -> Result<(), SendError> {
        self.send_message(KaspadMessage::answer(payload, request)).await
    }

    async fn send_message(&self, message: KaspadMessage) -> Result<(), SendError> {
        tokio::select! {
            biased;
            cause = self.ended() => Err(SendError(cause)),
            sent = self.shared.lanes.send(message) => match sent {
                true => Ok(()),
                // The call is over; the session's task is about to say why.
                false => Err(SendError(self.ended().await)),
            },
        }
    }

    /// Measures a round trip, in order behind everything sent before: when it returns, the
    /// peer has taken all of that.
    ///
    /// # Errors
    /// [`PingError`]; a timeout does not end the session.
    pub async fn ping(&self) -> Result<Duration, PingError> {
        let nonce = rand::random();
        let pong = self.shared.expect_pong(nonce)?;
        let sent_at = time::Instant::now();
        let round_trip = async {
            let ping = Payload::Ping(PingMessage { nonce });
            self.send(ping).await.map_err(|SendError(cause)| PingError::Ended(cause))?;
            tokio::select! {
                Ok(()) = pong => Ok(sent_at.elapsed()),
                cause = self.ended() => Err(PingError::Ended(cause)),
            }
        };
        let timeout = PingError::Timeout { after: ANSWER_TIMEOUT };
        time::timeout(ANSWER_TIMEOUT, round_trip).await.unwrap_or(Err(timeout))
    }

    /// Takes over the messages of `kinds` (possibly none) and the answers to the route's own
    /// requests, keeping at most `capacity` of them (cut to
    /// [`ROUTE_MESSAGES_MAX`](crate::ROUTE_MESSAGES_MAX)).
    ///
    /// # Errors
    /// [`SubscribeError`].
    pub fn subscribe(&self, kinds: &[PayloadKind], capacity: usize) -> Result<Route, SubscribeError> {
        self.shared.router().subscribe(kinds, capacity)
    }

    /// Starts closing: what is queued is still written, nothing more is read.
    pub fn close(&self) {
        self.shared.close.cancel();
    }

    /// Waits for the end. Cancel-safe.
    pub async fn ended(&self) -> EndCause {
        let mut ended = self.shared.ended.subscribe();
        match ended.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(cause)) => cause.clone(),
            // The sender lives in `shared`, which `self` holds, and `wait_for` saw a value.
            Ok(None) | Err(_) => EndCause::LocalClose,
        }
    }
}
