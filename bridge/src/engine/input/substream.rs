//! Substreams: which queue one is of, and why one did not come about.

use serde::{Deserialize, Serialize};

use crate::error::Refusal;

/// Whether a service's queue has a place for one more stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Queue {
    /// A place is taken. `ask`: the program decides on each stream. `services`: how many are served here.
    Free {
        ask: bool,
        services: usize,
    },
    Full {
        limit: usize,
    },
    NotServed,
}

/// Why a substream did not open.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum SubstreamFailure {
    Refused(Refusal),
    Unsupported,
    Deadline,
    /// This connection did not carry it to an answer; another one may.
    Lost(String),
    /// The stream ended before the peer accepted it: no connection will carry it.
    Over(String),
}
