//! What can go wrong, one enum per operation, and whose fault it is.

mod circuit;
mod listen;
mod open;
mod upgrade;
mod way;

use std::{fmt, io, path::PathBuf, time::Duration};

use libp2p::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize, Serializer};

use crate::{addr::RefusedAddresses, service::Service};

pub use self::circuit::{
    CircuitFault, CircuitRefusal, LimitOwner, Malformed, RelayLimit, ReserveFailure,
};

pub use self::listen::{Family, ListenFailure, Occupant, Protocol, SystemError};

pub use self::open::OpenFailure;

pub use self::upgrade::{DialFailures, DialOutcome, PunchVerdict, SeenOver, Tried, UpgradeFailure};

pub use self::way::TriedWay;

/// Why a node could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A transport could not be set up.
    #[error("cannot set up {transport}: {cause}")]
    Transport {
        /// Which one.
        transport: &'static str,
        /// The cause.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An address that was asked for cannot be listened on.
    #[error("cannot listen on {address}: {cause}")]
    Listen {
        /// Which one.
        address: Multiaddr,
        /// Why.
        cause: ListenFailure,
    },
    /// Not one address can be listened on.
    #[error("nothing to listen on: {}", each(failed))]
    NoListener {
        /// Each that was tried, and why it failed.
        failed: Vec<(Multiaddr, ListenFailure)>,
    },
    /// The journal cannot be written.
    #[error("cannot write the journal {}: {cause}", path.display())]
    Journal {
        /// Where to.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// A setting is out of its range.
    #[error("{setting} must be {range}, not {value}")]
    Setting {
        /// Which one.
        setting: &'static str,
        /// What is allowed.
        range: &'static str,
        /// What was given.
        value: String,
    },
}

/// Why no stream to a peer could be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Nobody told us where the peer is, and nobody looks for it.
    #[error("no address is known for {peer}: give its address or a relay it has a reservation with")]
    NoAddress {
        /// Whom we looked for.
        peer: PeerId,
    },
    /// The peer is this node.
    #[error("{peer} is this node itself")]
    Myself {
        /// Our own id.
        peer: PeerId,
    },
    /// Every way to the peer failed: addresses and relays that were known, and what was looked up meanwhile.
    #[error("{peer} cannot be reached: {}", list(tried))]
    NoRouteToDestination {
        /// Whom we looked for.
        peer: PeerId,
        /// Each way that was tried, with its failure.
        tried: Vec<DialFailure>,
    },
    /// The peer answers, but nothing of ours does.
    #[error("{peer} does not speak {protocol}; does it run punchline?")]
    Unsupported {
        /// Who answered.
        peer: PeerId,
        /// What we asked for.
        protocol: &'static str,
    },
    /// The peer turned the stream away.
    #[error("{peer} refused a stream for `{service}`: {reason}")]
    Refused {
        /// Who refused.
        peer: PeerId,
        /// For what.
        service: Service,
        /// Why.
        reason: Refusal,
    },
    /// The connection ended before the stream was open.
    #[error("the connection to {peer} ended before the stream was open: {cause}")]
    ConnectionLost {
        /// The other end.
        peer: PeerId,
        /// What was seen.
        cause: String,
    },
    /// Nothing came of it in time.
    #[error(
        "connection timeout: no stream to {peer} within {} s ({stage}){}{}",
        deadline.as_secs_f32(), if tried.is_empty() { "" } else { ": " }, list(tried)
    )]
    Deadline {
        /// Whom we wanted.
        peer: PeerId,
        /// How long we waited in all.
        deadline: Duration,
        /// How far it got.
        stage: OpenStage,
        /// Each way that was tried: those that had failed, and those that had not answered by then.
        tried: Vec<DialFailure>,
    },
    /// Too many opens wait already.
    #[error("{limit} streams are being opened already; wait for one of them")]
    Busy {
        /// How many may.
        limit: usize,
    },
    /// The ticket does not fit.
    #[error("a ticket has at most {limit} bytes, this one has {length}")]
    Ticket {
        /// Its bytes.
        length: usize,
        /// How many it may have.
        limit: usize,
    },
    /// The peer has as many streams as one may have.
    #[error("{limit} streams to and from {peer} are open already; finish one of them")]
    StreamsOfPeer {
        /// Whom we wanted one more to.
        peer: PeerId,
        /// How many there may be, both directions.
        limit: usize,
    },
    /// The peer was reached, but only through a relay, and that is not to carry its streams.
    #[error(
        "{peer} was reached through a relay, but relay mode is coordination{} and no direct path came about: {}",
        if *there { " there" } else { "" },
        why.as_ref().map_or_else(|| "no attempt was over yet".to_owned(), ToString::to_string)
    )]
    NotDirect {
        /// Whom we wanted.
        peer: PeerId,
        /// Whether the peer's settings forbid it, or ours.
        there: bool,
        /// How the latest attempt failed.
        why: Option<UpgradeFailure>,
    },
    /// The node is shutting down, or has.
    #[error("the node is shut down")]
    Shutdown,
}

impl OpenError {
    /// Whether the same open may succeed later, without anybody changing what was asked for.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::ConnectionLost { .. }
            | Self::Deadline { .. }
            | Self::Busy { .. }
            | Self::NotDirect { .. }
            | Self::StreamsOfPeer { .. } => true,
            Self::NoRouteToDestination { tried, .. } => {
                tried.iter().any(|way| way.reason.is_retryable())
            }
            Self::Refused { reason, .. } => reason.is_retryable(),
            Self::NoAddress { .. }
            | Self::Myself { .. }
            | Self::Unsupported { .. }
            | Self::Ticket { .. }
            | Self::Shutdown => false,
        }
    }
}

/// How far an open got before its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenStage {
    /// No connection to the peer yet.
    Connecting,
    /// Connected; the peer has not answered for the stream.
    Negotiating,
}

impl fmt::Display for OpenStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connecting => "no connection to it yet",
            Self::Negotiating => "connected, but it did not answer",
        })
    }
}

/// Why the far side turned a stream away. It travels on the wire as one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// It does not answer for this service, or not to us; it does not say which.
    #[error("it does not answer for this service, or not to this peer")]
    NotServed,
    /// It has too many streams waiting already.
    #[error("it is busy; try again later")]
    Busy,
    /// It is shutting down.
    #[error("it is shutting down")]
    Shutdown,
    /// The program behind the service turned the connection away.
    #[error("connection refused by the target; is the program behind the service running there?")]
    TargetRefused,
    /// The program behind the service did not answer.
    #[error("the target behind the service cannot be reached from there")]
    TargetUnreachable,
    /// The ticket was for a time that is over.
    #[error("the ticket has expired; ask for a new one")]
    TicketExpired,
    /// The ticket was for one use.
    #[error("the ticket was for one use and has been used; ask for a new one")]
    TicketUsed,
    /// The ticket was taken back.
    #[error("the ticket was revoked")]
    TicketRevoked,
    /// It takes no streams through relays.
    #[error("it takes no streams through relays; a direct connection is needed")]
    DirectOnly,
}

impl Refusal {
    /// Whether the same request may be accepted later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NotServed
            | Self::Busy
            | Self::Shutdown
            | Self::DirectOnly
            | Self::TargetRefused
            | Self::TargetUnreachable => true,
            Self::TicketExpired | Self::TicketUsed | Self::TicketRevoked => false,
        }
    }
}

/// One way to a peer, and why it failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{way}: {reason}")]
pub struct DialFailure {
    /// What was tried.
    pub way: TriedWay,
    /// Why it failed.
    pub reason: DialFailureReason,
}

/// Why one way to a peer failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum DialFailureReason {
    /// Somebody else answered there.
    #[error("{obtained} answered there instead")]
    WrongPeer {
        /// Who answered.
        obtained: PeerId,
    },
    /// Somebody else answered there a while ago. Nothing was dialled.
    #[error("somebody else answered there a while ago; it is dialled again in {} min, or after `punchline retry`", again.as_secs().div_ceil(60))]
    Banned {
        /// After this.
        again: Duration,
    },
    /// Nobody who was asked knows where the peer is.
    #[error("nobody there knew where it is within {} s; is it running, and found there too?", within.as_secs_f32())]
    NotFound {
        /// How long it was looked for.
        within: Duration,
    },
    /// The relay knows no such peer at present.
    #[error("the relay holds no reservation of it; is it running, and does it use this relay?")]
    NoReservation,
    /// The relay turned the circuit away, and will do so again.
    #[error("the relay refused a circuit: {reason}")]
    CircuitRefused {
        /// Why.
        reason: CircuitRefusal,
    },
    /// The relay is at one of its limits, for now.
    #[error("the relay refused a circuit: {0}")]
    RelayFull(RelayLimit),
    /// The circuit did not come about this time.
    #[error("the relay could not make a circuit just now: {reason}")]
    CircuitFailed {
        /// Why.
        reason: CircuitFault,
    },
    /// None of the addresses may be dialled: others named them, and they are not public.
    #[error(
        "it may not be dialled: {refused}; if these are public in your network, say so with --assume-global <their range>"
    )]
    NotAllowed {
        /// How many, by reason.
        refused: RefusedAddresses,
    },
    /// Our settings.
    #[error("relay mode is off: this node uses no relay")]
    RelaysOff,
    /// A limit of ours.
    #[error("a limit of this node forbids it: {limit}")]
    Limit {
        /// Which one.
        limit: String,
    },
    /// The network said no.
    #[error("{cause}")]
    Network {
        /// What it said.
        cause: String,
    },
    /// No answer in time.
    #[error("no answer within {} s", deadline.as_secs_f32())]
    Deadline {
        /// How long we waited.
        deadline: Duration,
    },
}

impl DialFailureReason {
    /// Whether the same dial may succeed later: not if somebody else lives there, or it may not be made.
    pub fn is_retryable(&self) -> bool {
        !matches!(
            self,
            Self::WrongPeer { .. } | Self::Banned { .. } | Self::NotAllowed { .. } | Self::RelaysOff
        )
    }

    /// Whether the same dial may well succeed in a moment.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::CircuitFailed { .. } | Self::RelayFull(_))
    }

    /// After which time the relay says that the same dial may succeed.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RelayFull(limit) => limit.retry_after,
            _ => None,
        }
    }
}

/// Why a relay is of no use at present.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RelayFailure {
    /// It is not reached.
    #[error(transparent)]
    Dial(#[from] DialFailureReason),
    /// It is reached, and keeps no place for this node.
    #[error(transparent)]
    Reserve(#[from] ReserveFailure),
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseCause {
    /// This node closed it: nothing used it any more.
    Unused,
    /// This program asked for it.
    Asked,
    /// This node is shutting down.
    Shutdown,
    /// This node closed it because the peer stopped answering.
    Unresponsive,
    /// This host does not have the address any more that the connection left from, or what goes to the peer leaves
    /// from another one.
    AddressGone,
    /// This host slept for longer than a peer waits.
    Slept,
    /// Its operator no longer lets this node speak with the address at the other end.
    Barred,
    /// The peer closed it, and said so.
    Peer,
    /// The peer's system closed it, and nobody said why: its process ended, most likely.
    System,
    /// The peer's system, or a router, reset it.
    Reset,
    /// The transport failed.
    Network {
        /// What it said.
        cause: String,
    },
}

impl fmt::Display for CloseCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unused => f.write_str("unused"),
            Self::Asked => f.write_str("asked"),
            Self::Shutdown => f.write_str("shutdown"),
            Self::Unresponsive => f.write_str("unresponsive"),
            Self::AddressGone => {
                f.write_str("this host lost the address that it left from, or the route from there")
            }
            Self::Slept => f.write_str("this host slept, and the other end has given it up"),
            Self::Barred => f.write_str("--deny-net and --allow-net keep its address away"),
            Self::Peer => f.write_str("closed by the peer"),
            Self::System => f.write_str("closed by the peer's system"),
            Self::Reset => f.write_str("reset by the peer"),
            Self::Network { cause } => f.write_str(cause),
        }
    }
}

impl Serialize for CloseCause {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Why a ping had no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PingError {
    /// There is no connection to the peer.
    #[error("there is no connection to the peer")]
    NotConnected,
    /// No answer came in time.
    #[error("no answer within {} s", deadline.as_secs())]
    Unanswered {
        /// That long.
        deadline: Duration,
    },
    /// The node has ended.
    #[error("the node has ended")]
    Shutdown,
}

/// Why a service cannot be answered for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServeError {
    /// Somebody in this process does already.
    #[error("`{service}` is answered for already")]
    Taken {
        /// Which one.
        service: Service,
    },
    /// The node is shutting down, or has.
    #[error("the node is shut down")]
    Shutdown,
}

/// Each way, with its failure.
pub(crate) fn list(causes: &[DialFailure]) -> String {
    causes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn each(failed: &[(Multiaddr, ListenFailure)]) -> String {
    failed.iter().map(|(address, cause)| format!("{address}: {cause}")).collect::<Vec<_>>().join("; ")
}
