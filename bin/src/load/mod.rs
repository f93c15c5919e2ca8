//! A load to measure with: bytes that one end of a session sends, counted and hashed at both ends.
//!
//! It is a gRPC service of its own, beside Kaspa's on the HTTP/2 connection of the session
//! (`proto/load.proto`). So Kaspa's protocol knows nothing of it, and yet it runs over the session's very
//! stream, which moves with the load in flight. `send` is the caller's end, `receive` the other;
//! `client/load.rs` says when the client sends how much.

mod receive;
mod send;

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use libp2p::PeerId;
use punchline_bridge::Path;
use sha2::{Digest as _, Sha256};

pub(crate) use self::{
    receive::service,
    send::{LoadError, Sender},
};
use crate::report::SessionEvent;

#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all, clippy::unwrap_used)]
mod proto {
    tonic::include_proto!("punchline.load.v1");
}

/// What one end saw of a load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// Without any framing.
    pub(crate) bytes: u64,
    /// Over all bytes, in order.
    pub(crate) sha256: [u8; 32],
    /// From the first piece to the end; for the sender, to the receipt.
    pub(crate) took: Duration,
}

impl Report {
    /// As an event.
    pub(crate) fn done(&self, peer: PeerId, path: Path) -> SessionEvent {
        let sha256 = self.sha256.iter().fold(String::new(), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        });
        SessionEvent::LoadDone {
            peer,
            bytes: self.bytes,
            sha256,
            ms: self.took.as_millis() as u64,
            path,
        }
    }
}

/// A running count of a load.
#[derive(Debug)]
struct Count {
    hash: Sha256,
    bytes: u64,
    began: Instant,
}

impl Count {
    fn new(now: Instant) -> Self {
        Self { hash: Sha256::new(), bytes: 0, began: now }
    }

    fn add(&mut self, piece: &[u8]) {
        self.hash.update(piece);
        self.bytes += piece.len() as u64;
    }

    fn report(self, now: Instant) -> Report {
        Report { bytes: self.bytes, sha256: self.hash.finalize().into(), took: now - self.began }
    }
}

#[cfg(test)]
mod tests;
