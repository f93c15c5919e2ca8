//! Why one side refuses the other, and how that reads on the wire.
//!
//! Upstream puts the error's text into the Reject message; only two texts are magic.

use std::time::Duration;

use thiserror::Error;
use uuid::Uuid;

use crate::{
    handshake::Deadline,
    version::cut,
    wire::{ConversionError, Payload, PayloadKind, proto::RejectMessage},
};

/// Longest reason we read, in bytes (upstream's number): a peer's text ends up in our logs.
pub const REASON_BYTES_MAX: usize = 2048;

/// A reason to refuse a peer. `Display` gives the text that goes over the wire.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RejectReason {
    /// The peer already has a session with us. Magic text; upstream treats it as harmless.
    #[error("DUPLICATE_CONNECTION")]
    Duplicate,
    /// We reached ourselves. Magic text; upstream treats it as harmless.
    #[error("LOOPBACK_CONNECTION")]
    Loopback,
    /// The peer is on another network.
    #[error("wrong network: ours is {local}, yours is {remote}")]
    WrongNetwork {
        /// Our network's name.
        local: String,
        /// The peer's, as it spells it.
        remote: String,
    },
    /// The peer's protocol version is too old.
    #[error("protocol version mismatch: ours is {local}, yours is {remote}")]
    VersionMismatch {
        /// What we advertise.
        local: u32,
        /// What the peer advertises.
        remote: u32,
    },
    /// A field of a message has an illegal shape.
    #[error(transparent)]
    Conversion(#[from] ConversionError),
    /// A node of ours claims a Kaspa id that does not follow from its authenticated identity.
    #[error("Kaspa id {claimed} does not belong to the authenticated peer")]
    IdentityMismatch {
        /// What the peer claims to be.
        claimed: Uuid,
    },
    /// A step of the handshake took too long.
    #[error("no {deadline} within {} s", .deadline.limit().as_secs())]
    HandshakeTimeout {
        /// The step.
        deadline: Deadline,
    },
    /// An answer took too long.
    #[error("no {awaited} within {} s", .after.as_secs())]
    AnswerTimeout {
        /// What did not come.
        awaited: PayloadKind,
        /// How long we waited.
        after: Duration,
    },
    /// A message at a moment where it makes no sense.
    #[error("unexpected {received}")]
    Unexpected {
        /// What came.
        received: PayloadKind,
    },
    /// A Pong whose nonce answers no Ping.
    #[error("pong with a nonce that no ping carried")]
    NonceMismatch,
    /// More entries in one message than the protocol allows.
    #[error("{count} entries in {kind}, at most {limit} are allowed")]
    TooMany {
        /// The message.
        kind: PayloadKind,
        /// How many came.
        count: usize,
        /// How many may come.
        limit: usize,
    },
    /// We have no room for another session.
    #[error("no room for another session")]
    Full,
    /// What a peer said, other than the magic texts.
    #[error("{0}")]
    Text(String),
}

impl RejectReason {
    /// The reason in a received Reject: a magic text, or the text itself cut to
    /// [`REASON_BYTES_MAX`].
    pub fn from_text(mut text: String) -> Self {
        match text.as_str() {
            "DUPLICATE_CONNECTION" => Self::Duplicate,
            "LOOPBACK_CONNECTION" => Self::Loopback,
            _ => {
                cut(&mut text, REASON_BYTES_MAX);
                Self::Text(text)
            }
        }
    }

    /// The Reject message that tells the peer this reason.
    pub fn to_payload(&self) -> Payload {
        let mut reason = self.to_string();
        cut(&mut reason, REASON_BYTES_MAX);
        Payload::Reject(RejectMessage { reason })
    }

    /// True for the two reasons that say nothing bad about either side.
    pub fn is_harmless(&self) -> bool {
        matches!(self, Self::Duplicate | Self::Loopback)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over_the_wire(reason: &RejectReason) -> RejectReason {
        match reason.to_payload() {
            Payload::Reject(message) => RejectReason::from_text(message.reason),
            other => panic!("not a reject: {other:?}"),
        }
    }

    #[test]
    fn the_magic_texts_survive_the_wire_as_reasons() {
        for reason in [RejectReason::Duplicate, RejectReason::Loopback] {
            assert_eq!(over_the_wire(&reason), reason);
            assert!(reason.is_harmless());
        }
    }

    #[test]
    fn any_other_reason_arrives_as_its_text() {
        let sent = RejectReason::VersionMismatch { local: 11, remote: 9 };
        assert_eq!(over_the_wire(&sent), RejectReason::Text(sent.to_string()));
    }

    #[test]
    fn a_reason_longer_than_2048_bytes_is_cut_between_characters() {
        let long = format!("{}ü", "x".repeat(REASON_BYTES_MAX - 1));
        let expected = RejectReason::Text("x".repeat(REASON_BYTES_MAX - 1));
        assert_eq!(RejectReason::from_text(long), expected);
    }
}
