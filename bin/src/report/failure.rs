//! Why something that a program wanted of a peer failed.

use punchline_bridge::error::{OpenError, OpenFailure};
use serde::{Serialize, Serializer};

/// In words, and as the bridge found it where it did.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No stream to the peer could be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl Failure {
    /// The kind of it, to count by, if it was an open.
    pub(crate) fn open(&self) -> Option<OpenFailure> {
        match self {
            Self::Open(error) => Some(error.kind()),
            Self::Other(_) => None,
        }
    }
}

impl Serialize for Failure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
