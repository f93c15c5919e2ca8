//! What relays promise.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a relay forwards in one circuit, as it announces it. What is absent is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CircuitLimit {
    pub(crate) bytes: Option<u64>,
    pub(crate) duration: Option<Duration>,
}

impl CircuitLimit {
    /// Whether anything is limited.
    pub(crate) fn is_any(&self) -> bool {
        self.bytes.is_some() || self.duration.is_some()
    }
}

/// What a relay promised with a reservation, in its own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Grant {
    /// When it ends, in Unix seconds by the relay's clock.
    pub(crate) expire: u64,
    /// How long it lasts, if the relay says it.
    pub(crate) lasts: Option<Duration>,
    /// For each circuit that will come through it.
    pub(crate) limit: CircuitLimit,
}
