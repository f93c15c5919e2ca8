//! One request and its answer on one substream: ours to a relay, and a relay's to us.

use std::{convert::Infallible, io, sync::Arc};

use futures::{FutureExt, future::BoxFuture};
use libp2p::{
    PeerId, Stream, StreamProtocol,
    core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo},
    swarm::{ConnectionId, StreamUpgradeError},
};
use tokio::sync::Semaphore;

use super::{
    HOP_DEADLINE,
    answer::{connected, is_malformed, offered, reserved},
    wire::{HOP_PROTOCOL, Hop, HopKind, Peer, STOP_PROTOCOL, Status, Stop, StopKind},
};
use crate::{
    engine::input::{CircuitLimit, Grant, ReserveId},
    error::{CircuitFault, CircuitRefusal, DialFailureReason, Malformed, ReserveFailure},
    net::delimited,
};

/// What we ask of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Reserve {
        request: ReserveId,
    },
    /// `circuit`: the connection that this is to become.
    Connect {
        circuit: ConnectionId,
        destination: PeerId,
    },
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Answer {
    Reserved { request: ReserveId, outcome: Result<Grant, ReserveFailure> },
    Connected { circuit: ConnectionId, outcome: Result<Circuit, DialFailureReason> },
}

/// A circuit, before the handshake with the peer.
#[derive(Debug)]
pub(crate) struct Circuit {
    pub(super) io: Stream,
    pub(super) limit: CircuitLimit,
}

/// A circuit that a relay brought and we took.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(super) source: PeerId,
    pub(super) circuit: Circuit,
}

impl Ask {
    fn message(self) -> Hop {
        match self {
            Self::Reserve { .. } => Hop { kind: HopKind::Reserve.into(), ..Hop::default() },
            Self::Connect { destination, .. } => {
                let peer = Some(Peer { id: destination.to_bytes(), addrs: Vec::new() });
                Hop { kind: HopKind::Connect.into(), peer, ..Hop::default() }
            }
        }
    }

    /// What came of it if there was no answer.
    pub(super) fn failed(self, error: StreamUpgradeError<Infallible>) -> Answer {
        let deadline = HOP_DEADLINE;
        match error {
            StreamUpgradeError::Timeout => self
                .unanswered(ReserveFailure::Deadline { deadline }, CircuitFault::Deadline { deadline }),
            StreamUpgradeError::NegotiationFailed => {
                self.refused(ReserveFailure::Unsupported, CircuitRefusal::Unsupported)
            }
            StreamUpgradeError::Apply(never) => match never {},
            StreamUpgradeError::Io(error) => self.hung_up(&error.to_string()),
        }
    }

    /// The link ended, or the relay closed the substream.
    pub(super) fn hung_up(self, cause: &str) -> Answer {
        let cause = cause.to_owned();
        self.unanswered(ReserveFailure::Link { cause: cause.clone() }, CircuitFault::Link { cause })
    }

    fn unanswered(self, failure: ReserveFailure, reason: CircuitFault) -> Answer {
        match self {
            Self::Reserve { request } => Answer::Reserved { request, outcome: Err(failure) },
            Self::Connect { circuit, .. } => {
                let outcome = Err(DialFailureReason::CircuitFailed { reason });
                Answer::Connected { circuit, outcome }
            }
        }
    }

    fn refused(self, failure: ReserveFailure, reason: CircuitRefusal) -> Answer {
        match self {
            Self::Reserve { request } => Answer::Reserved { request, outcome: Err(failure) },
            Self::Connect { circuit, .. } => {
                let outcome = Err(DialFailureReason::CircuitRefused { reason });
                Answer::Connected { circuit, outcome }
            }
        }
    }

    async fn put(self, mut io: Stream) -> Answer {
        let heard = match delimited::write(&mut io, &self.message()).await {
            Ok(()) => delimited::read::<Hop>(&mut io).await,
            Err(error) => Err(error),
        };
        match (heard, self) {
            (Ok(answer), Self::Reserve { request }) => {
                Answer::Reserved { request, outcome: reserved(&answer) }
            }
            (Ok(answer), Self::Connect { circuit, .. }) => {
                let outcome = connected(&answer).map(|limit| Circuit { io, limit });
                Answer::Connected { circuit, outcome }
            }
            (Err(error), _) if is_malformed(&error) => {
                let what = Malformed::Message;
                self.refused(ReserveFailure::Malformed(what), CircuitRefusal::Malformed(what))
            }
            (Err(error), _) => self.hung_up(&error.to_string()),
        }
    }
}

impl UpgradeInfo for Ask {
    type Info = StreamProtocol;
    type InfoIter = std::iter::Once<Self::Info>;

    fn protocol_info(&self) -> Self::InfoIter {
        std::iter::once(HOP_PROTOCOL)
    }
}

impl OutboundUpgrade<Stream> for Ask {
    type Output = Answer;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Answer, Infallible>>;

    fn upgrade_outbound(self, io: Stream, _: Self::Info) -> Self::Future {
        self.put(io).map(Ok).boxed()
    }
}

/// Hears which circuit a relay brings, and takes or refuses it.
#[derive(Debug)]
pub(crate) struct Hear {
    /// Whether anybody may bring circuits on this connection at all: not on one that is itself a circuit.
    pub(super) open: bool,
    /// Whether we hold a reservation there.
    pub(super) reserved: bool,
    pub(super) places: Arc<Semaphore>,
}

/// Why a circuit was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HearError {
    #[error("as many circuits are being taken as may be at once")]
    Full,
    #[error("the relay was told {0:?}")]
    Refused(Status),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Hear {
    async fn hear(self, mut io: Stream) -> Result<Offer, HearError> {
        // Given back when this is answered, or its deadline is over.
        let _place = self.places.try_acquire().map_err(|_| HearError::Full)?;
        let heard = match delimited::read::<Stop>(&mut io).await {
            Ok(message) => offered(&message),
            Err(error) if is_malformed(&error) => Err(Status::MalformedMessage),
            Err(error) => return Err(error.into()),
        };
        let heard =
            heard.and_then(|offer| if self.reserved { Ok(offer) } else { Err(Status::NoReservation) });
        let status = heard.err().unwrap_or(Status::Ok);
        let kind = StopKind::Status.into();
        let answer = Stop { kind, status: Some(status.into()), ..Stop::default() };
        delimited::write(&mut io, &answer).await?;
        let (source, limit) = heard.map_err(HearError::Refused)?;
        Ok(Offer { source, circuit: Circuit { io, limit } })
    }
}

impl UpgradeInfo for Hear {
    type Info = StreamProtocol;
    type InfoIter = std::option::IntoIter<Self::Info>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.open.then_some(STOP_PROTOCOL).into_iter()
    }
}

impl InboundUpgrade<Stream> for Hear {
    type Output = Offer;
    type Error = HearError;
    type Future = BoxFuture<'static, Result<Offer, HearError>>;

    fn upgrade_inbound(self, io: Stream, _: Self::Info) -> Self::Future {
        self.hear(io).boxed()
    }
}
