//! The numbers of a stream, each with its reason.

use std::time::Duration;

use super::super::frame::{DATA_BYTES_MAX, DATA_HEAD_BYTES, EARLY_DATA_BYTES_MAX};

/// Settings of one end of a stream. The ends need not agree on any of them. Durations are below a
/// year, so that a deadline is always a moment that an `Instant` can say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Largest DATA payload sent, 1 to 65,536 bytes; default 64 KiB less a head, so that frames end where
    /// Yamux's do. Larger saves calls, smaller lets acknowledgements pass sooner on a slow path.
    pub data_bytes: usize,
    /// Payload an opener sends before its HELLO is answered, at most 16 KiB (default): saves a
    /// round trip, is lost if the stream is refused.
    pub early_data_bytes: u64,
    /// Receive window and send buffer at the start; default 256 KiB: fills 20 Mbit/s × 100 ms,
    /// and a thousand streams fit in half a gigabyte. At least 16 KiB, or early data of a peer
    /// is a violation.
    pub window_initial: u64,
    /// Receive window and send buffer at most; default 16 MiB: fills 1 Gbit/s × 100 ms with a
    /// third to spare.
    pub window_max: u64,
    /// Send buffer at most on a path without distance, but never less than `window_initial`; default 2 MiB:
    /// what a fast machine sends while it waits for an ACK. A path that has some may fill more, by what 10
    /// Gbit/s carry in its shortest round trip. What is kept beyond that is sent no sooner, and has left the
    /// processor's cache by then.
    pub buffer_near: u64,
    /// Payload after which an ACK is due, at once unless the last was said less than `ack_pause`
    /// ago; default 64 KiB: a quarter of the initial window, so that a sender is never stopped by
    /// an acknowledgement that waits.
    pub ack_every_bytes: u64,
    /// Pause between two such ACKs; default 3 ms: a fast stream would say thousands a second, and over
    /// QUIC each of them wakes four tasks. Credit does not wait for it.
    pub ack_pause: Duration,
    /// Payload after which an ACK does not wait for `ack_pause`; default 1.5 MiB: three quarters of
    /// `buffer_near`, so that the fastest sender has the rest to send until it hears.
    pub unacknowledged_max: u64,
    /// Longest an acknowledgement waits; default 25 ms: far below `silence_max`, long enough
    /// that a conversation of small messages is not doubled in frames.
    pub ack_delay: Duration,
    /// Silence on a leg, with something unacknowledged on it, after which the leg is lost;
    /// default 1.5 s: death is noticed and a way around it found within 3 s, and a loss or two on a
    /// slow path survive.
    pub silence_max: Duration,
    /// Silence on a fresh leg, with HELLO or MOVE unanswered, after which it is lost; default
    /// 1.5 s, for the same reason.
    pub answer_max: Duration,
    /// After this pause in what comes, an opener asks whether the leg is alive; default 750 ms: with
    /// `silence_max` it notices within 3 s that what was in flight to it stopped with its path.
    pub ask_after: Duration,
    /// Bound on how often `silence_max` and `answer_max` double when legs die of silence with no acknowledgement
    /// between them; default 3 (to 12 s): a path with seconds of queue is slow, not dead, and
    /// must not be moved away from for ever.
    pub silence_doublings_max: u32,
    /// How long an acceptor reads on from the leg that was moved away from; default 2.5 s: what
    /// is in flight there may still arrive, and the opener closes it much sooner.
    pub drain_max: Duration,
    /// How long a stream without a leg waits for one; default 60 s: a router reboots in that
    /// time. Hours are fine, for a laptop that sleeps: a stream that waits keeps what was not acknowledged
    /// and not read, 64 KiB that may be written meanwhile, and nothing else. Also how long an opener lingers
    /// for DONE.
    pub patience: Duration,
    /// How long a reset tries to reach the peer; default 5 s. Longer, and cancelled calls make
    /// the endpoint redial for nothing.
    pub reset_linger: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_bytes: DATA_BYTES_MAX - DATA_HEAD_BYTES,
            early_data_bytes: EARLY_DATA_BYTES_MAX,
            window_initial: 256 << 10,
            window_max: 16 << 20,
            buffer_near: 2 << 20,
            ack_every_bytes: 64 << 10,
            ack_pause: Duration::from_millis(3),
            unacknowledged_max: 3 << 19,
            ack_delay: Duration::from_millis(25),
            silence_max: Duration::from_millis(1500),
            answer_max: Duration::from_millis(1500),
            ask_after: Duration::from_millis(750),
            silence_doublings_max: 3,
            drain_max: Duration::from_millis(2500),
            patience: Duration::from_secs(60),
            reset_linger: Duration::from_secs(5),
        }
    }
}

impl Config {
    /// `data_bytes`, within what a frame can say.
    pub(super) fn data_bytes(&self) -> usize {
        self.data_bytes.clamp(1, DATA_BYTES_MAX)
    }

    /// A silence limit after `strikes` legs died of silence in a row.
    pub(super) fn backed_off(&self, limit: Duration, strikes: u32) -> Duration {
        limit.saturating_mul(1 << strikes.min(self.silence_doublings_max).min(16))
    }
}
