//! The legs of a stream: which one carries it, which one is to, and which one did.

use std::time::Instant;

use super::{
    config::Config,
    error::LossCause,
    event::{LegId, Moved},
};

/// How often `answer_max` goes by before a leg that is not answered is lost although its connection lives.
const ANSWERS_BESIDE: u32 = 8;

/// The legs of one end.
///
/// ```text
/// opener:    HELLO leg ─────────► current        begin_move ► joining ─ATTACHED► current
/// acceptor:  HELLO, MOVE ► current ─ next MOVE ► draining ─ end, drain_max ► dropped
/// ```
#[derive(Debug, Default)]
pub(super) struct Legs {
    /// Carries the stream, both ways.
    pub(super) current: Option<Leg>,
    /// Opener: MOVE (or a repeated HELLO) is not yet answered.
    pub(super) joining: Option<Leg>,
    /// Acceptor: carried the stream before; what is in flight on it is still taken.
    pub(super) draining: Option<Draining>,
    /// The last leg was lost and no other carries the stream yet.
    pub(super) detached: Option<Detached>,
    /// A move is under way.
    pub(super) moving: Option<Moving>,
    /// Of the newest leg.
    pub(super) epoch: u32,
    /// Legs that died of silence since the last acknowledgement.
    pub(super) strikes: u32,
}

#[derive(Debug)]
pub(super) struct Leg {
    pub(super) id: LegId,
    pub(super) epoch: u32,
    /// HELLO, MOVE or ATTACHED, whichever is ours to say, was sent.
    pub(super) greeted: bool,
    /// Opener: ATTACHED came.
    pub(super) answered: bool,
    pub(super) reset_sent: bool,
    /// Since when the peer owes us something here.
    pub(super) waiting: Option<Instant>,
    /// Opener: when to ask whether the leg is alive, unless something comes before.
    pub(super) ask: Option<Instant>,
    /// PING is to be sent, or was and nothing has come since.
    pub(super) asking: Option<Asking>,
    /// PONG is to be sent.
    pub(super) pong_owed: bool,
    opened: Instant,
    heard: Instant,
}

/// How far the question for life is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asking {
    Due,
    Asked,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Draining {
    pub(super) id: LegId,
    pub(super) until: Instant,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Detached {
    pub(super) since: Instant,
    pub(super) cause: LossCause,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Moving {
    from: LegId,
    /// Start of the gap.
    since: Instant,
    cause: Option<LossCause>,
}

/// Where a leg stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Current,
    Joining,
    Draining,
}

impl Leg {
    pub(super) fn new(id: LegId, epoch: u32, answered: bool, now: Instant) -> Self {
        Self {
            id,
            epoch,
            greeted: false,
            answered,
            reset_sent: false,
            waiting: None,
            ask: None,
            asking: None,
            pong_owed: false,
            opened: now,
            heard: now,
        }
    }

    /// Whether payload may come and go on it, and nothing else is owed.
    pub(super) fn is_plain(&self) -> bool {
        self.greeted && self.answered && !self.pong_owed && self.asking.is_none()
    }

    /// Whether anything came since then.
    pub(super) fn heard_since(&self, since: Instant) -> bool {
        self.heard >= since
    }

    /// Since when the leg is silent although the peer owes us something.
    fn silent_since(&self) -> Option<Instant> {
        self.waiting.map(|waiting| waiting.max(self.heard))
    }

    /// When the leg counts as lost, unless something is heard.
    pub(super) fn deadline(&self, config: &Config, strikes: u32) -> Option<Instant> {
        let limit = if self.answered { config.silence_max } else { config.answer_max };
        self.silent_since().map(|since| since + config.backed_off(limit, strikes))
    }

    /// How the leg was lost, if it was by `now`.
    pub(super) fn overdue(&self, now: Instant, config: &Config, strikes: u32) -> Option<LossCause> {
        self.deadline(config, strikes).filter(|deadline| *deadline <= now)?;
        let waited = now.saturating_duration_since(self.silent_since()?);
        Some(match self.answered {
            true => LossCause::Silent { waited },
            false => LossCause::Unanswered { waited },
        })
    }

    /// A frame came.
    fn heard_frame(&mut self, now: Instant) {
        self.heard = now;
        self.asking = None;
    }

    /// The connection under the leg is alive: something was heard on it beside the leg. An answer to
    /// HELLO or MOVE is not waited for without end for that.
    pub(super) fn heard_beside(&mut self, at: Instant, config: &Config) {
        let patient = self.answered || at < self.opened + config.answer_max * ANSWERS_BESIDE;
        if patient && at > self.heard {
            self.heard = at;
        }
    }

    /// Bytes came, perhaps not a whole frame.
    pub(super) fn heard_bytes(&mut self, now: Instant) {
        self.heard = now;
    }
}

impl Legs {
    pub(super) fn place(&self, id: LegId) -> Option<Place> {
        let is = |leg: &Option<Leg>| leg.as_ref().is_some_and(|leg| leg.id == id);
        if is(&self.current) {
            Some(Place::Current)
        } else if is(&self.joining) {
            Some(Place::Joining)
        } else {
            self.draining.filter(|draining| draining.id == id).map(|_| Place::Draining)
        }
    }

    /// A frame came on a leg.
    pub(super) fn heard_frame(&mut self, place: Place, now: Instant) {
        let leg = match place {
            Place::Current => self.current.as_mut(),
            Place::Joining => self.joining.as_mut(),
            Place::Draining => {
                if let Some(moving) = self.moving.as_mut().filter(|m| m.cause.is_none()) {
                    moving.since = now;
                }
                None
            }
        };
        if let Some(leg) = leg {
            leg.heard_frame(now);
        }
    }

    /// The current leg is lost. Patience and gap count from the first loss in a row.
    pub(super) fn lose_current(&mut self, cause: LossCause, now: Instant) {
        let Some(leg) = self.current.take() else {
            return;
        };
        self.detached.get_or_insert(Detached { since: now, cause });
        let silent = matches!(cause, LossCause::Silent { .. });
        let since = leg.silent_since().filter(|_| silent).unwrap_or(now);
        let moving = Moving { from: leg.id, since, cause: None };
        self.moving.get_or_insert(moving).cause.get_or_insert(cause);
    }

    /// The current leg is left for another. It may have died unnoticed: what was owed on it for long did
    /// not flow.
    pub(super) fn leave_current(&mut self, now: Instant, config: &Config) -> Option<Leg> {
        let leg = self.current.take()?;
        let long = |since: &Instant| now.saturating_duration_since(*since) >= config.silence_max / 4;
        let since = leg.silent_since().filter(long).unwrap_or(now);
        self.moving.get_or_insert(Moving { from: leg.id, since, cause: None });
        Some(leg)
    }

    /// The move that is complete at `now`, if one was under way.
    pub(super) fn arrive(&mut self, now: Instant) -> Option<Moved> {
        let to = self.current.as_ref()?.id;
        let Moving { from, since, cause } = self.moving.take()?;
        Some(Moved { from, to, gap: now.saturating_duration_since(since), cause })
    }
}
