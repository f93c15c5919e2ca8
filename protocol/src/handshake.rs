//! The handshake, decided: a pure machine per step, each consumed by the next.
//!
//! ```text
//! Greeting ──Version and Verack came──▶ Greeted ──checks hold──▶ Agreed ──Ready sent──▶
//!   ReadyExchange ──Ready came──▶ Ready
//! ```
//!
//! Both sides do the same and nobody goes first. In `Greeting` two things happen at once: our
//! Version waits for its Verack, and the peer's Version is answered by ours; doing them one
//! after the other would let two peers wait for each other. Only a [`Ready`] can become a
//! session, and only this file makes one. The driver is in `establish.rs`.

use std::{
    fmt,
    time::{Duration, Instant},
};

use thiserror::Error;

use crate::{
    identity::{Origin, PeerKey, Remote, kaspa_id},
    link::{LinkEnd, TransportError},
    reject::RejectReason,
    version::{ProtocolVersion, Version},
    wire::{
        KaspadMessage, Payload, PayloadKind, ProtocolError,
        proto::{ReadyMessage, VerackMessage, VersionMessage},
    },
};

/// A bounded wait of the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deadline {
    /// For the peer's Version, from the start.
    Version,
    /// For the peer's Verack, from the start.
    Verack,
    /// For the peer's Ready, from sending ours.
    Ready,
}

impl Deadline {
    /// How long we wait: upstream's numbers. Shorter refuses slow relayed paths, longer lets a
    /// silent peer hold a place among the pending handshakes.
    pub fn limit(self) -> Duration {
        match self {
            Self::Version | Self::Verack => Duration::from_secs(4),
            Self::Ready => Duration::from_secs(8),
        }
    }
}

/// The name of the message that is waited for.
impl fmt::Display for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Version => "version",
            Self::Verack => "verack",
            Self::Ready => "ready",
        })
    }
}

/// Why a handshake did not end in a session.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HandshakeError {
    /// The peer sent a Reject.
    #[error("the peer rejected us: {0}")]
    Rejected(RejectReason),
    /// We sent the peer a Reject.
    #[error("we rejected the peer: {0}")]
    Refused(RejectReason),
    /// The peer broke the protocol and was dropped without a Reject.
    #[error("the peer broke the protocol: {0}")]
    Protocol(#[from] ProtocolError),
    /// The peer ended the call.
    #[error("the peer closed the connection")]
    Closed,
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Transport(TransportError),
    /// Our node is shutting down.
    #[error("this node is shutting down")]
    ShutDown,
}

impl From<LinkEnd> for HandshakeError {
    fn from(end: LinkEnd) -> Self {
        match end {
            LinkEnd::Closed => Self::Closed,
            LinkEnd::Transport(error) => Self::Transport(error),
        }
    }
}

/// What the checks compare the peer's Version with.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// What we say about ourselves.
    pub ours: &'a Version,
    /// The protocol version we advertise.
    pub protocol: ProtocolVersion,
    /// What the transport knows about the peer.
    pub remote: &'a Remote,
}

/// Version sent; the peer's Version and Verack are awaited, in any order.
#[derive(Debug)]
pub struct Greeting {
    deadline_at: Instant,
    version: Option<VersionMessage>,
    verack: bool,
}

/// Both sub-flows succeeded; nothing has been checked.
#[derive(Debug)]
pub struct Greeted {
    version: VersionMessage,
}

/// What a message did to a [`Greeting`].
#[derive(Debug)]
pub enum Step {
    /// Something is still missing.
    Waiting(Greeting),
    /// Version and Verack are both here.
    Done(Greeted),
}

impl Greeting {
    /// Starts a handshake at `now`; the payload is to be sent at once.
    pub fn start(ours: Version, now: Instant) -> (Self, Payload) {
        let greeting =
            Self { deadline_at: now + Deadline::Version.limit(), version: None, verack: false };
        (greeting, Payload::Version(ours.into()))
    }

    /// Takes the next message of the peer; the payload, if any, is to be sent.
    ///
    /// # Errors
    /// The handshake is over; [`HandshakeError::Refused`] is to be told to the peer.
    pub fn receive(mut self, message: KaspadMessage) -> Result<(Step, Option<Payload>), HandshakeError> {
        let reply = match handshake_payload(message)? {
            Payload::Version(version) if self.version.is_none() => {
                self.version = Some(version);
                Some(Payload::Verack(VerackMessage {}))
            }
            Payload::Verack(_) if !self.verack => {
                self.verack = true;
                None
            }
            other => return Err(unexpected(&other)),
        };
        Ok((self.step(), reply))
    }

    fn step(self) -> Step {
        match (self.version, self.verack) {
            (Some(version), true) => Step::Done(Greeted { version }),
            (version, verack) => Step::Waiting(Self { version, verack, ..self }),
        }
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Instant {
        self.deadline_at
    }

    /// Tells the machine the time.
    ///
    /// # Errors
    /// The deadline has passed; the error names what is missing.
    pub fn handle_timeout(&self, now: Instant) -> Result<(), HandshakeError> {
        let missing = match self.version {
            None => Deadline::Version,
            Some(_) => Deadline::Verack,
        };
        expired(self.deadline_at, now, missing)
    }
}

impl Greeted {
    /// Checks what the peer said, in upstream's order: well-formed, duplicate, loopback,
    /// network, (for nodes of ours) identity, protocol version.
    ///
    /// `claim` reserves the peer's place among the live ones and fails if it has one already;
    /// what it returns lives in the session, and is dropped when a later check fails.
    ///
    /// # Errors
    /// The reason to refuse the peer.
    pub fn check<C>(
        self,
        terms: Terms<'_>,
        claim: impl FnOnce(PeerClaim) -> Result<C, RejectReason>,
    ) -> Result<Agreed<C>, RejectReason> {
        let peer = Version::try_from(self.version)?;
        let claim = claim(PeerClaim::new(&peer, terms.remote))?;
        if peer.id == terms.ours.id {
            return Err(RejectReason::Loopback);
        }
        if peer.network != terms.ours.network {
            return Err(RejectReason::WrongNetwork {
                local: terms.ours.network.clone(),
                remote: peer.network,
            });
        }
        check_identity(&peer, terms.remote)?;
        let protocol =
            terms.protocol.agree(peer.protocol_version).ok_or(RejectReason::VersionMismatch {
                local: terms.protocol.number(),
                remote: peer.protocol_version,
            })?;
        Ok(Agreed { peer, protocol, claim })
    }
}

/// Whose place among the live peers is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PeerClaim(pub(crate) PeerKey);

impl PeerClaim {
    fn new(peer: &Version, remote: &Remote) -> Self {
        Self(PeerKey { id: peer.id, origin: remote.origin() })
    }
}

/// A node of ours must claim the id that follows from its authenticated identity: one node is
/// one peer, whichever path it came by. Of other nodes nothing can be checked.
fn check_identity(peer: &Version, remote: &Remote) -> Result<(), RejectReason> {
    match remote.origin() {
        Origin::Authenticated(bytes) if peer.user_agent.is_ours() && peer.id != kaspa_id(&bytes) => {
            Err(RejectReason::IdentityMismatch { claimed: peer.id })
        }
        _ => Ok(()),
    }
}

/// Every check held.
#[derive(Debug)]
pub struct Agreed<C> {
    peer: Version,
    protocol: ProtocolVersion,
    claim: C,
}

impl<C> Agreed<C> {
    /// Moves on at `now`; the payload is to be sent at once. Whatever the peer may send after
    /// its Ready must have a taker by then.
    pub fn exchange_ready(self, now: Instant) -> (ReadyExchange<C>, Payload) {
        let exchange = ReadyExchange { deadline_at: now + Deadline::Ready.limit(), agreed: self };
        (exchange, Payload::Ready(ReadyMessage {}))
    }
}

/// Ready sent; the peer's Ready is awaited.
#[derive(Debug)]
pub struct ReadyExchange<C> {
    deadline_at: Instant,
    agreed: Agreed<C>,
}

impl<C> ReadyExchange<C> {
    /// Takes the next message of the peer, which must be its Ready.
    ///
    /// # Errors
    /// The handshake is over; [`HandshakeError::Refused`] is to be told to the peer.
    pub fn receive(self, message: KaspadMessage) -> Result<Ready<C>, HandshakeError> {
        let Agreed { peer, protocol, claim } = self.agreed;
        match handshake_payload(message)? {
            Payload::Ready(_) => Ok(Ready { peer, protocol, claim }),
            other => Err(unexpected(&other)),
        }
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Instant {
        self.deadline_at
    }

    /// Tells the machine the time.
    ///
    /// # Errors
    /// The deadline has passed.
    pub fn handle_timeout(&self, now: Instant) -> Result<(), HandshakeError> {
        expired(self.deadline_at, now, Deadline::Ready)
    }
}

/// Proof that a handshake was completed: what a session is made of.
#[derive(Debug)]
pub struct Ready<C> {
    pub(crate) peer: Version,
    pub(crate) protocol: ProtocolVersion,
    pub(crate) claim: C,
}

/// The payload, if the handshake has a route for it; like upstream, what has no route ends the
/// connection without a Reject.
fn handshake_payload(message: KaspadMessage) -> Result<Payload, HandshakeError> {
    let response_id = message.response_id;
    let payload = message.payload.ok_or(ProtocolError::EmptyPayload)?;
    if response_id != crate::wire::BLANK_ROUTE_ID {
        return Err(ProtocolError::UnknownResponseId { response_id }.into());
    }
    match payload {
        Payload::Reject(reject) => Err(HandshakeError::Rejected(RejectReason::from_text(reject.reason))),
        payload if PayloadKind::of(&payload).is_handshake() => Ok(payload),
        other => Err(ProtocolError::NoRoute { kind: PayloadKind::of(&other) }.into()),
    }
}

/// A handshake message out of turn, such as a second Version. Upstream leaves it in a queue
/// that is dropped later; we say so at once.
fn unexpected(payload: &Payload) -> HandshakeError {
    HandshakeError::Refused(RejectReason::Unexpected { received: PayloadKind::of(payload) })
}

fn expired(at: Instant, now: Instant, deadline: Deadline) -> Result<(), HandshakeError> {
    if now < at {
        return Ok(());
    }
    let reason = RejectReason::HandshakeTimeout { deadline };
    Err(HandshakeError::Refused(reason))
}

#[cfg(test)]
mod tests;
