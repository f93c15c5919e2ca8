//! Load made of valid messages: announcements of random transaction ids, counted and hashed
//! at both ends.
//!
//! No message of our own is needed. The sender ends a load with a Ping whose nonce has its top
//! bit set; the receiver processes a session's messages in order, so at that Ping everything
//! has arrived, and the Pong tells the sender so. Keepalive Pings have the bit clear, and only
//! announcements of nodes of ours are taken for load.

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::StdRng};
use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio::time;

use crate::{
    reject::RejectReason,
    session::{PingError, SendError, SessionHandle},
    wire::{
        ConversionError, Payload,
        proto::{InvTransactionsMessage, TransactionId},
    },
};

/// Bytes of a transaction id.
const ID_BYTES: usize = 32;

/// Ids in one message of a load: 32 KiB of ids, so that a mebibyte is 32 whole messages, and
/// well below the protocol's 131,072.
const IDS_PER_MESSAGE: usize = 1024;

/// Bytes of ids in one message of a load.
pub const MESSAGE_BYTES: u64 = (ID_BYTES * IDS_PER_MESSAGE) as u64;

/// Messages of a load that make one mebibyte of ids.
const MESSAGES_PER_MEBIBYTE: u64 = 1024 * 1024 / MESSAGE_BYTES;

/// The bit of a Ping's nonce that says: a load ends here.
const LOAD_MARK: u64 = 1 << 63;

/// The same nonce as a keepalive's.
pub(crate) fn unmarked(nonce: u64) -> u64 {
    nonce & !LOAD_MARK
}

/// True if the Ping with this nonce ends a load.
pub(crate) fn is_marked(nonce: u64) -> bool {
    nonce & LOAD_MARK != 0
}

/// What one end saw of a load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadReport {
    /// Bytes of ids, without any framing.
    pub bytes: u64,
    /// SHA-256 over the ids, in order.
    pub sha256: [u8; 32],
    /// From the first message to the end mark; for the sender, to the end mark's answer.
    pub took: Duration,
}

impl LoadReport {
    /// The hash in lower-case hexadecimal.
    pub fn sha256_hex(&self) -> String {
        self.sha256.iter().fold(String::new(), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

/// A load did not arrive.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LoadError {
    /// The session ended while sending.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The end mark was not answered.
    #[error(transparent)]
    Ping(#[from] PingError),
}

/// Sends `mebibytes` MiB of ids drawn from `seed` and waits until the peer has processed all
/// of them. The same seed makes the same ids; they do not compress.
///
/// # Errors
/// [`LoadError`] if the session ends first or the end mark is not answered in time.
///
/// # Cancellation
/// Stops sending; the peer counts what arrived into its next load.
pub async fn send(session: &SessionHandle, mebibytes: u64, seed: u64) -> Result<LoadReport, LoadError> {
    let mut load = LoadSender::new(session, seed);
    load.send_mebibytes(mebibytes).await?;
    load.finish().await
}

/// A load under way, for senders who decide as they go when it is enough.
///
/// # Drop
/// Without [`finish`](Self::finish) the peer counts what was sent into its next load.
#[derive(Debug)]
pub struct LoadSender<'a> {
    session: &'a SessionHandle,
    ids: StdRng,
    count: LoadCount,
    started: Instant,
}

impl<'a> LoadSender<'a> {
    /// A load of ids drawn from `seed`; its time begins now.
    pub fn new(session: &'a SessionHandle, seed: u64) -> Self {
        let ids = StdRng::seed_from_u64(seed);
        Self { session, ids, count: LoadCount::default(), started: now() }
    }

    /// Bytes of ids so far, sent or on their way.
    pub fn bytes(&self) -> u64 {
        self.count.bytes
    }

    /// Sends `mebibytes` MiB more.
    ///
    /// # Errors
    /// [`LoadError::Send`] if the session ends first.
    ///
    /// # Cancellation
    /// The message that was waiting is counted but not sent: drop the load then.
    pub async fn send_mebibytes(&mut self, mebibytes: u64) -> Result<(), LoadError> {
        for _ in 0..mebibytes * MESSAGES_PER_MEBIBYTE {
            self.send_message().await?;
        }
        Ok(())
    }

    /// Sends one message of [`MESSAGE_BYTES`] bytes of ids. Returns when it is on its way, which
    /// a peer that reads slowly may delay.
    ///
    /// # Errors
    /// [`LoadError::Send`] if the session ends first.
    ///
    /// # Cancellation
    /// As for [`send_mebibytes`](Self::send_mebibytes).
    pub async fn send_message(&mut self) -> Result<(), LoadError> {
        let message = announcement(&mut self.ids);
        self.count.add(&message.ids, self.started);
        Ok(self.session.send(Payload::InvTransactions(message)).await?)
    }

    /// Ends the load and waits until the peer has processed all of it.
    ///
    /// # Errors
    /// [`LoadError`] if the session ends first or the end mark is not answered in time.
    pub async fn finish(self) -> Result<LoadReport, LoadError> {
        self.session.ping_with(rand::random::<u64>() | LOAD_MARK).await?;
        Ok(self.count.report(now() - self.started))
    }
}

fn announcement(ids: &mut StdRng) -> InvTransactionsMessage {
    let mut block = vec![0; ID_BYTES * IDS_PER_MESSAGE];
    ids.fill_bytes(&mut block);
    let block = Bytes::from(block);
    let id = |start| TransactionId { bytes: block.slice(start..start + ID_BYTES) };
    InvTransactionsMessage { ids: (0..block.len()).step_by(ID_BYTES).map(id).collect() }
}

fn now() -> Instant {
    time::Instant::now().into_std()
}

/// A running count of a load.
#[derive(Debug, Default)]
pub(crate) struct LoadCount {
    hash: Sha256,
    bytes: u64,
    started: Option<Instant>,
}

impl LoadCount {
    /// Takes an announcement that arrived at `now`.
    pub(crate) fn absorb(
        &mut self,
        message: &InvTransactionsMessage,
        now: Instant,
    ) -> Result<(), RejectReason> {
        let illegal = message.ids.iter().find(|id| id.bytes.len() != ID_BYTES);
        if let Some(id) = illegal {
            return Err(ConversionError::IllegalHashLength(id.bytes.len()).into());
        }
        self.add(&message.ids, now);
        Ok(())
    }

    fn add(&mut self, ids: &[TransactionId], now: Instant) {
        self.started.get_or_insert(now);
        for id in ids {
            self.hash.update(&id.bytes);
            self.bytes += id.bytes.len() as u64;
        }
    }

    /// The end mark came at `now`: what arrived since the last one, if anything did.
    pub(crate) fn boundary(&mut self, now: Instant) -> Option<LoadReport> {
        let started = self.started?;
        Some(std::mem::take(self).report(now - started))
    }

    fn report(self, took: Duration) -> LoadReport {
        LoadReport { bytes: self.bytes, sha256: self.hash.finalize().into(), took }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_mebibyte_is_a_whole_number_of_messages() {
        let message = announcement(&mut StdRng::seed_from_u64(1));
        let bytes: usize = message.ids.iter().map(|id| id.bytes.len()).sum();
        assert_eq!(bytes as u64 * MESSAGES_PER_MEBIBYTE, 1024 * 1024);
    }

    #[test]
    fn the_same_seed_makes_the_same_ids_and_another_seed_does_not() {
        let draw = |seed| announcement(&mut StdRng::seed_from_u64(seed));
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn a_boundary_reports_what_came_since_the_last_one() {
        let now = Instant::now();
        let mut count = LoadCount::default();
        assert_eq!(count.boundary(now), None);
        let message = announcement(&mut StdRng::seed_from_u64(1));
        count.absorb(&message, now).unwrap();
        let later = now + Duration::from_secs(2);
        let report = count.boundary(later).unwrap();
        let flat: Vec<u8> = message.ids.iter().flat_map(|id| id.bytes.to_vec()).collect();
        assert_eq!(report.bytes, flat.len() as u64);
        assert_eq!(report.sha256, <[u8; 32]>::from(Sha256::digest(&flat)));
        assert_eq!(report.took, Duration::from_secs(2));
        assert_eq!(count.boundary(later), None);
    }

    #[test]
    fn an_id_that_is_not_32_bytes_long_is_refused() {
        let message =
            InvTransactionsMessage { ids: vec![TransactionId { bytes: Bytes::from_static(b"short") }] };
        let refused = LoadCount::default().absorb(&message, Instant::now());
        assert_eq!(refused, Err(ConversionError::IllegalHashLength(5).into()));
    }

    #[test]
    fn a_hash_reads_as_64_hexadecimal_digits() {
        let report = LoadCount::default().report(Duration::ZERO);
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(report.sha256_hex(), empty);
    }
}
