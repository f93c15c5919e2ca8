//! Why something that a program wanted of a peer failed.

use std::{fmt::Display, time::Duration};

use punchline_bridge::{
    error::{OpenError, OpenFailure},
    event::Awaited,
};
use serde::{Serialize, Serializer};

/// In words, and as the bridge found it where it did.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No stream to the peer could be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There was none in time.
    #[error("connection timeout: no stream within {} s: {}", deadline.as_secs(), listed(awaits))]
    Late {
        /// How long it was waited for.
        deadline: Duration,
        /// What was still awaited then.
        awaits: Vec<Awaited>,
    },
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl Failure {
    /// The kind of it, to count by, if it was an open.
    pub(crate) fn open(&self) -> Option<OpenFailure> {
        match self {
            Self::Open(error) => Some(error.kind()),
            Self::Late { .. } | Self::Other(_) => None,
        }
    }
}

/// What was awaited, in words.
pub(super) fn listed(awaits: &[impl Display]) -> String {
    match awaits {
        [] => "the peer is not reached, or slow to answer".to_owned(),
        awaits => awaits.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
    }
}

impl Serialize for Failure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
