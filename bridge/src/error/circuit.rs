//! Why a relay keeps no place for us, or makes no circuit.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// A limit of a relay that a request of ours hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayLimit {
    /// Whose limit it is.
    pub owner: LimitOwner,
    /// The limit, as a count; none if the relay does not say.
    pub limit: Option<u64>,
    /// After which time the same request may succeed; none if the relay does not say.
    pub retry_after: Option<Duration>,
}

/// Whose limit a relay applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitOwner {
    /// The relay does not say.
    Unknown,
    /// The relay's own, for all its clients together.
    Relay,
    /// That of this node's IP address or network.
    Address,
    /// This node's.
    Peer,
    /// That of the peer which the circuit leads to.
    Destination,
}

impl RelayLimit {
    /// What a relay says that tells nothing but that a limit was hit.
    pub const UNKNOWN: Self = Self { owner: LimitOwner::Unknown, limit: None, retry_after: None };
}

impl fmt::Display for RelayLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.owner {
            LimitOwner::Unknown => "one of its limits is reached",
            LimitOwner::Relay => "its own limit for all clients is reached",
            LimitOwner::Address => "the limit for this node's IP address is reached",
            LimitOwner::Peer => "the limit for this node is reached",
            LimitOwner::Destination => "the limit for the peer it leads to is reached",
        })?;
        if let Some(limit) = self.limit {
            write!(f, " ({limit})")?;
        }
        match self.retry_after {
            Some(wait) => write!(f, "; it may work again in {:.1} s", wait.as_secs_f32()),
            None => f.write_str("; try again later, or use another relay"),
        }
    }
}

/// What was wrong with a relay's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Malformed {
    /// It is longer than allowed, or no message of the protocol.
    #[error("it is no message of the protocol")]
    Message,
    /// It is a message of another kind.
    #[error("it is a message of another kind")]
    Kind,
    /// It carries no status, or one that answers something else.
    #[error("its status does not answer the request")]
    Status {
        /// The status, if there was one.
        status: Option<i32>,
    },
    /// It grants a reservation and does not say which.
    #[error("it grants a reservation and does not say which")]
    Reservation,
}

/// Why a relay will not make a circuit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum CircuitRefusal {
    /// It does not let us.
    #[error("it does not permit it")]
    Denied,
    /// It is no relay.
    #[error("it is no relay")]
    Unsupported,
    /// Its answer makes no sense.
    #[error("its answer makes no sense: {0}")]
    Malformed(Malformed),
}

/// Why a circuit did not come about this time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum CircuitFault {
    /// The relay did not get through to the peer.
    #[error("it did not get through to the peer")]
    PeerUnreachable,
    /// The relay did not answer.
    #[error("it did not answer within {} s", deadline.as_secs_f32())]
    Deadline {
        /// How long we waited.
        deadline: Duration,
    },
    /// The link to the relay is gone, or the relay hung up.
    #[error("it hung up: {cause}")]
    Link {
        /// What was seen.
        cause: String,
    },
    /// The circuit was there, and the handshake with the peer failed on it.
    #[error("the handshake with the peer failed: {cause}")]
    Handshake {
        /// What was seen.
        cause: String,
    },
}

/// Why a relay keeps no place for us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ReserveFailure {
    /// One of its limits is reached.
    #[error("the relay refused it: {0}")]
    Full(RelayLimit),
    /// It does not say why.
    #[error("the relay refused it")]
    Refused,
    /// It does not let us.
    #[error("the relay does not permit it")]
    Denied,
    /// It is no relay.
    #[error("it is no relay, or does not know yet under which address it is reached")]
    Unsupported,
    /// Its answer makes no sense.
    #[error("the relay's answer makes no sense: {0}")]
    Malformed(Malformed),
    /// It did not answer.
    #[error("the relay did not answer within {} s", deadline.as_secs_f32())]
    Deadline {
        /// How long we waited.
        deadline: Duration,
    },
    /// The link to it is gone, or it hung up.
    #[error("the relay hung up: {cause}")]
    Link {
        /// What was seen.
        cause: String,
    },
}

impl ReserveFailure {
    /// After which time the relay says that the same request may succeed.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Full(limit) => limit.retry_after,
            _ => None,
        }
    }
}
