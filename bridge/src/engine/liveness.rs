//! What speaks for and against the life of a path, and of a peer; how long each is waited for.
//!
//! | evidence | wait | verdict | what follows |
//! |---|---|---|---|
//! | neither a ping nor an answer to ours comes, nothing else is heard | [`PING_INTERVAL`], or [`QUIET_PING_INTERVAL`] where streams are quiet, + [`PING_PATIENCE`] + twice what pings took | the connection is *suspect* | our streams leave it; the peer is dialled by every way |
//! | a stream meets silence (its own patience: `stream`, `silence_max`) | none | suspect | the same |
//! | a question to a peer is answered over one relay and not over another, where nothing else is heard | [`BEAT`](beats::BEAT) + twice what pings took | suspect | the same |
//! | a stream meets silence twice, soon after it came | none | connections of this kind are *demoted* | others are taken, for a while |
//! | anything is heard on a suspect connection | none | it lives | streams may come back |
//! | the peer's system closed or reset a direct connection that had answered within [`FRESH`] (25 s where streams are quiet) | `Deadlines::absence` for any new connection; where other direct ones are left, also what they take to fall silent | the peer's process is gone | its streams without a path end |
//! | the peer said that it closes a direct connection (Yamux's GO_AWAY, QUIC's code 0) | 30 s ([`PARTED`](departures)), likewise | it is not coming back | the same |
//! | our host changed its network within [`FRESH`] of one of these two | 30 s | it may have been that | the same |
//! | a relay says that the peer closed its link in order, or fell silent there | until that would have ended the streams | it lives, whatever its system did to our connection | nothing |
//! | a relay says that the peer's system closed its link | the same | the same | the same, for streams whose path is lost |
//! | a stream's path is lost, and nothing explains it | none | none | relays are asked about the peer: see the row above |
//! | a circuit ends | none | nothing: limits, the relay's restart and the peer's death look alike | the peer is dialled |
//! | a peer is back and does not move its stream | [`ORPHANED`] | it was restarted | the stream ends |
//! | no path | the stream's patience | the peer is away | the stream ends |
//! | a ping has no answer | 18 s in all ([`GIVEN_UP`]) | the connection is dead | it is closed |
//! | our host or process slept for as long | none | all direct connections are dead | they are closed, relays dialled |
//! | what goes to a peer leaves from another address of ours | none | the connection is dead | it is closed |
//!
//! So the death of a process is known over TCP after `Deadlines::absence`, 1.5 s, and over QUIC, where its silence is
//! noticed after 2.4 s and a relay is asked then, after 3.9 s and a few round trips, if the relay had a TCP link to it. Over QUIC
//! a stream that said nothing for [`QUIET_AFTER`] learns of it within 13 s, or 1.5 s after it says something.
//!
//! Our process may have slept, or its host may have been too busy to run it: a verdict that comes more than
//! [`LATE`] after its time is put off.

pub(in crate::engine) mod beats;
pub(in crate::engine) mod departures;
pub(in crate::engine) mod pings;

use std::time::Duration;

/// On each connection that is in use a ping passes so often, from either end in turn. The other durations follow from it.
pub(crate) const PING_INTERVAL: Duration = Duration::from_millis(1500);

/// Likewise, on a direct one where no stream has heard anything for [`QUIET_AFTER`] and which leads to no relay of ours. Short enough for
/// routers that forget a way over UDP after 30 s or even 15 s.
pub(crate) const QUIET_PING_INTERVAL: Duration = Duration::from_secs(12);

/// A stream that heard nothing for so long loses little when it has to find out for itself that its path is dead.
pub(crate) const QUIET_AFTER: Duration = Duration::from_secs(10);

/// For an answer to a ping, beside twice what they took lately: with the interval and the way to another
/// connection, an idle stream leaves a dead path within 3 s.
pub(crate) const PING_PATIENCE: Duration = Duration::from_millis(800);

/// More than this, an answer did not take: its peer, or we, were asleep.
pub(crate) const TOOK_MAX: Duration = Duration::from_secs(4);

/// A host that runs us so much after a deadline was too busy for us to have listened.
pub(crate) const LATE: Duration = Duration::from_millis(250);

/// How long pings may fail until a connection is closed; QUIC waits for less.
pub(crate) const GIVEN_UP: Duration = Duration::from_secs(18);

/// An answer is fresh for two intervals and a second, where pings pass each [`PING_INTERVAL`].
pub(crate) const FRESH: Duration = fresh_for(PING_INTERVAL);

/// Likewise, where they pass at this interval.
pub(crate) const fn fresh_for(interval: Duration) -> Duration {
    interval.saturating_mul(2).saturating_add(Duration::from_secs(1))
}

/// For an opener that is connected to move its stream: a failed move or two included, on a busy machine.
pub(crate) const ORPHANED: Duration = PING_INTERVAL.saturating_mul(4);
